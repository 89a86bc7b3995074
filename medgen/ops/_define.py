"""Registering an op: schema, reference, fake, autograd, vmap and autocast in Python; C++ only implements dispatch keys.

Until a native library is loaded, the reference runs on every device. Loading one registers the key CPU or CUDA, which the dispatcher
prefers, so that no Python branch chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from medgen import native

__all__ = ["NAMES", "define", "ensure_native"]

_LIBRARY = torch.library.Library("medgen", "DEF")

NAMES: list[str] = []
"""Every op, in order of definition; `medgen doctor` lists them."""


def define(
    schema: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
    vmap: Callable[..., Any] | None = None,
    autocast: torch.dtype | None = None,
) -> Any:
    """Define op `medgen::name` and return what calls it.

    Args:
        schema: "name(Tensor x, ...) -> Tensor".
        reference: readable PyTorch, for every device and every floating type.
        fake: shapes, strides and types of the outputs.
        backward, setup_context: as in `torch.library.register_autograd`.
        vmap: as in `torch.library.register_vmap`.
        autocast: floating inputs are cast to this type under autocast.
    """
    _LIBRARY.define(schema)
    name = schema.partition("(")[0]
    qualified = f"medgen::{name}"
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=_LIBRARY)
    if vmap is not None:
        torch.library.register_vmap(qualified, vmap, lib=_LIBRARY)
    if autocast is not None:
        for device in ("cpu", "cuda"):
            torch.library.register_autocast(qualified, device, autocast, lib=_LIBRARY)
    NAMES.append(name)
    return getattr(torch.ops.medgen, name).default


def ensure_native(device: torch.device) -> None:
    """Load the native ops of a device before an op's first use; afterwards a dictionary look-up."""
    if device.type in ("cpu", "cuda"):
        native.load(device.type)  # type: ignore[arg-type]
