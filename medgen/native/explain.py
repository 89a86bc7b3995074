"""Why a call of an op runs the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medgen.errors import UnknownNameError
from medgen.native.loader import load

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["why_not_native"]


def why_not_native(op: str, *tensors: Tensor, device: str = "cpu") -> str:
    """Why an op would run its PyTorch reference on these tensors; empty where the native kernel runs.

    Loads the native ops first, as the op itself does.

    Args:
        op: name, as `medgen doctor --ops` lists it: medgen's own bare, a plugin's as "extension::op".
        tensors: arguments of the call.
        device: where there are no tensors, the device in question.

    Raises:
        UnknownNameError: there is no such op.
    """
    import torch

    namespace, _, bare = op.rpartition("::")
    qualified, extension = f"{namespace or 'medgen'}::{bare}", "" if namespace == "medgen" else namespace
    if not torch._C._dispatch_has_kernel(qualified):
        raise UnknownNameError(f"no op is called {op!r}; import the module that defines it (medgen.ops), and see medgen doctor --ops")
    kinds = {tensor.device.type for tensor in tensors} or {device}
    if len(kinds) > 1:
        return f"the tensors are on different devices ({', '.join(sorted(kinds))})"
    kind = kinds.pop()
    if kind not in ("cpu", "cuda"):
        return f"there are no native ops for the device {kind}"
    if (outcome := load(kind, extension=extension)).library is None:  # type: ignore[arg-type]
        return outcome.reason
    if not torch._C._dispatch_has_kernel_for_dispatch_key(qualified, kind.upper()):
        return f"the library has no {kind} kernel for {op}"
    if any(type(tensor) not in (torch.Tensor, torch.nn.Parameter) for tensor in tensors):
        return "a tensor is of a subclass, which decides by itself"
    return ""
