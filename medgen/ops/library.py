"""`OpLibrary`: the ops of a plugin, registered as medgen's own are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from medgen.errors import ConfigError
from medgen.ops._define import define

__all__ = ["OpLibrary", "op_libraries"]

_LIBRARIES: dict[str, OpLibrary] = {}


class OpLibrary:
    """Ops in `torch.ops.NAME`: schema, reference, fake and gradients in Python; C++ and CUDA only implement dispatch keys.

    Args:
        name: of the extension that the plugin declares by `medgen_extensions`; also the namespace of its ops.

    Raises:
        ConfigError: the name is taken in this process.

    The first call of an op on a device looks for the extension's library, and builds it where that is needed. Where there is none, the
    reference runs.

    >>> ops = OpLibrary("example_ops")
    >>> double = ops.define("double(Tensor x) -> Tensor", reference=lambda x: 2 * x, fake=torch.empty_like)
    >>> double(torch.ones(2)), ops.ops
    (tensor([2., 2.]), ['double'])
    """

    def __init__(self, name: str) -> None:
        if name in _LIBRARIES:
            raise ConfigError(f"the ops of {name!r} are defined already; define them once, in a module of their own.")
        try:
            self._library = torch.library.Library(name, "DEF")
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"{name!r} cannot be the namespace of ops: {str(error).splitlines()[0]}") from error
        self.name = name
        self.ops: list[str] = []
        _LIBRARIES[name] = self

    def define(
        self,
        schema: str,
        *,
        reference: Callable[..., Any],
        fake: Callable[..., Any],
        backward: Callable[..., Any] | None = None,
        setup_context: Callable[..., Any] | None = None,
        vmap: Callable[..., Any] | None = None,
        autocast: torch.dtype | None = None,
    ) -> Any:
        """Define one op and return what calls it, positional arguments only.

        Args:
            schema: "op(Tensor x, ...) -> Tensor".
            reference: readable PyTorch, for every device and every floating type.
            fake: shapes, strides and types of the outputs.
            backward, setup_context: as in `torch.library.register_autograd`, without keyword-only arguments.
            vmap: as in `torch.library.register_vmap`.
            autocast: floating inputs are cast to this type under autocast.
        """
        call = define(
            schema,
            reference=reference,
            fake=fake,
            backward=backward,
            setup_context=setup_context,
            vmap=vmap,
            autocast=autocast,
            library=self._library,
        )
        self.ops.append(schema.partition("(")[0])
        return call


def op_libraries() -> dict[str, OpLibrary]:
    """Those defined so far in this process, by name."""
    return dict(_LIBRARIES)
