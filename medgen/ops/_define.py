"""Registering an op: schema, reference, fake, autograd, vmap and autocast in Python; C++ only implements dispatch keys.

Until a native library is loaded, the reference runs on every device. Loading one registers the key CPU or CUDA, which the dispatcher
prefers, so that no Python branch chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import _SingleLevelFunction

from medgen import native

__all__ = ["NAMES", "define", "ensure_native", "under_func"]

_LIBRARY = torch.library.Library("medgen", "DEF")

NAMES: list[str] = []
"""Every op, in order of definition; `medgen doctor` lists them."""

_READY: set[tuple[str, str]] = set()  # types of devices, and extensions, whose native ops were looked for


def define(
    schema: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
    vmap: Callable[..., Any] | None = None,
    autocast: torch.dtype | None = None,
    library: torch.library.Library = _LIBRARY,
) -> Any:
    """Define op `medgen::name` and return what calls it: torch.ops.medgen.name in every respect, at less than half its cost per call.

    Overwritten arguments (`Tensor(a!)`) have their version counted, so that autograd notices.

    Args:
        schema: "name(Tensor x, ...) -> Tensor".
        reference: readable PyTorch, for every device and every floating type.
        fake: shapes, strides and types of the outputs.
        backward, setup_context: as in `torch.library.register_autograd`, without keyword-only arguments.
        vmap: as in `torch.library.register_vmap`.
        autocast: floating inputs are cast to this type under autocast.
        library: of another namespace than medgen's.
    """
    library.define(schema)
    name = schema.partition("(")[0]
    qualified, extension = f"{library.ns}::{name}", "" if library is _LIBRARY else library.ns
    overload = getattr(getattr(torch.ops, library.ns), name).default
    library.impl(name, _until_native(overload, reference, extension), "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, fake, lib=library)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=library)
    if vmap is not None:
        torch.library.register_vmap(qualified, vmap, lib=library)
    if autocast is not None:
        for device in ("cpu", "cuda"):
            torch.library.register_autocast(qualified, device, autocast, lib=library)
    if library is _LIBRARY:
        NAMES.append(name)
    if any(str(a.type) == "List[Tensor]" for a in overload._schema.arguments):
        return overload  # torch.library looks into lists, an autograd.Function does not
    if backward is not None and setup_context is not None:
        return _differentiable(overload, backward, setup_context)
    written = [i for i, a in enumerate(overload._schema.arguments) if a.alias_info is not None and a.alias_info.is_write]
    return _plain(overload, written)


def _until_native(overload: Any, reference: Callable[..., Any], extension: str) -> Callable[..., Any]:
    """The reference, which looks for the native op at its first call on a device: once that is loaded, nobody comes here any more."""
    first = _tensors(overload)[0]

    def run(*args: Any) -> Any:
        return overload(*args) if ensure_native(args[first].device, extension) else reference(*args)

    return run


def _tensors(overload: Any) -> list[int]:
    return [i for i, a in enumerate(overload._schema.arguments) if str(a.type) in ("Tensor", "Optional[Tensor]")]


def _plain(overload: Any, written: list[int]) -> Callable[..., Any]:
    short = overload._op  # below OpOverload.__call__, which costs half a microsecond

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return overload(*args)
        result = short(*args)
        if written and not torch._C._are_functorch_transforms_active():
            torch._C._increment_version([args[i] for i in written])
        return result

    return call


def _differentiable(overload: Any, backward: Callable[..., Any], setup_context: Callable[..., Any]) -> Callable[..., Any]:
    short, below, func_active = overload._op, torch._C._AutoDispatchBelowAutograd, torch._C._are_functorch_transforms_active
    tensors = _tensors(overload)

    class Ordinary(_SingleLevelFunction):
        """What torch.library's autograd does, at half its cost; `Function.apply` would look for torch.func once more."""

        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            with below():
                output = short(*args)
            setup_context(ctx, args, output)
            return output

    class OfFunc(torch.autograd.Function):
        """The same for torch.func, which torch.library's autograd does not serve."""

        generate_vmap_rule = True

        @staticmethod
        def forward(*args: Any) -> Any:
            return overload(*args)

    for kind in (Ordinary, OfFunc):
        kind.backward = staticmethod(backward)  # type: ignore[method-assign]
    OfFunc.setup_context = staticmethod(setup_context)  # type: ignore[method-assign]
    ordinary, of_func = Ordinary.apply, OfFunc.apply  # type: ignore[attr-defined]

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return overload(*args)
        if func_active():
            return of_func(*args)
        if torch.is_grad_enabled():
            for i in tensors:
                if args[i] is not None and args[i].requires_grad:
                    return ordinary(*args)
        with below():
            return short(*args)

    return call


def under_func() -> bool:
    """Whether torch.func transforms this call, and torch.compile does not trace it."""
    return torch._C._are_functorch_transforms_active() and not torch.compiler.is_compiling()


def ensure_native(device: torch.device, extension: str = "") -> bool:
    """Load the native ops of a device before its first use: whether that happened now. Afterwards a look-up."""
    key = device.type, extension
    if key in _READY:
        return False
    if device.type in ("cpu", "cuda"):
        _look(device.type, extension)
    _READY.add(key)
    return True


@torch.compiler.assume_constant_result  # a compiler that meets it runs it, and does not follow it into locks and files
def _look(device: Any, extension: str) -> None:
    native.load(device, extension=extension)
