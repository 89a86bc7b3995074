"""Guards that stop a training with a diagnosis instead of a NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from medgen.errors import DataError, NonFiniteError
from medgen.interfaces import Batch, Model

__all__ = ["check_range", "diagnose"]


def check_range(model: Model, batch: Batch) -> None:
    """Data outside what the decoder can produce is an error before step 1, not a bad model at step 100000.

    Raises:
        DataError: naming both intervals and the option that mends it.
    """
    if model.output_range is None:
        return
    low, high = model.output_range
    least, most = batch.x.min().item(), batch.x.max().item()
    slack = 1e-3 * (high - low)
    if least < low - slack or most > high + slack:
        raise DataError(
            f"the data lies in [{least:.4g}, {most:.4g}], but this model can only produce [{low:g}, {high:g}]. "
            f"Map the data there: --range {low:g} {high:g} (see also --window), or choose another likelihood."
        )


def diagnose(model: nn.Module, batch: Batch, loss: Callable[[], Any], *, what: str, step: int, phase: str) -> NonFiniteError:
    """Repeat the loss that went wrong, and name the first thing that is not finite: data, parameter, module output, or the loss itself.

    Args:
        model: with the weights that gave the bad number.
        batch: what it saw.
        loss: repeats the computation, with the same random numbers.
        what: "loss" or "gradient".
        step, phase: where it happened.
    """
    cause = (
        _bad_input(batch)
        or _bad_parameter(model)
        or _bad_module(model, loss)
        or "every module's output is finite: the loss itself is at fault"
    )
    advice = "Lower --lr, set --clip 1, or train in float32"
    return NonFiniteError(f"the {what} is not finite at step {step}, phase {phase!r}: {cause}. {advice}; the last checkpoint is kept.")


def _bad_input(batch: Batch) -> str:
    for name, tensor in {"x": batch.x, **batch.condition.values}.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = batch.index[(~torch.isfinite(tensor)).flatten(1).any(1).cpu()].tolist()
            return f"the data is not finite (`{name}` of samples {rows[:5]})"
    return ""


def _bad_parameter(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"parameter {name!r} is not finite, so an earlier update was"
    return ""


def _bad_module(model: nn.Module, loss: Callable[[], Any]) -> str:
    found: list[str] = []
    with _watching(model, found), torch.no_grad():
        loss()
    return found[0] if found else ""


@contextmanager
def _watching(model: nn.Module, found: list[str]) -> Iterator[None]:
    def hook(name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        def check(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(f"the first output that is not finite is that of {name!r} ({type(module).__name__})")

        return check

    handles = [module.register_forward_hook(hook(name, module)) for name, module in model.named_modules() if name]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
