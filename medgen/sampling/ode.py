"""dx / dt = velocity(x, t) by fixed steps: flow matching, either way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.sampling.known import Known, Replacement
from medgen.sampling.start import Callback, first, float64, numbers, told

__all__ = ["Method", "ode", "straight_path"]

Method = Literal["euler", "midpoint", "heun"]


def straight_path(t: Tensor) -> tuple[Tensor, Tensor]:
    """(signal, noise) = (t, 1 - t): x_t = t data + (1 - t) noise, from noise at t = 0 to data at t = 1; its velocity is data - noise.

    Papers: Flow Straight and Fast (Liu, Gong, Liu, 2023) | https://arxiv.org/abs/2209.03003; Flow Matching (Lipman et al., 2023) |
    https://arxiv.org/abs/2210.02747

    >>> straight_path(torch.tensor(0.25))
    (tensor(0.2500), tensor(0.7500))
    """
    return t, 1 - t


@torch.no_grad()
def ode(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Tensor | Sequence[int],
    times: Tensor | Sequence[float],
    *,
    method: Method = "heun",
    noise: Noise | None = None,
    path: Callable[[Tensor], tuple[Tensor, Tensor]] = straight_path,
    known: Known | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """x(t_S) of dx / dt = velocity(x, t) from x(t_0) = x: [B, *S].

    - "euler": x + h v(x, t); first order, S calls.
    - "midpoint": x + h v(x + h/2 v(x, t), t + h/2); second order, 2 S calls, none at the end.
    - "heun": x + h/2 (v(x, t) + v(x + h v(x, t), t + h)); second order, 2 S calls.

    One buffer beside x, none for "euler".

    Args:
        velocity: (x [B, *S], t [B]) -> dx / dt [B, *S]; it must not change x.
        x: x(t_0), left as it is, or the shape of one sample, drawn as standard normals.
        times: [S + 1], ascending or descending; as numbers, a compiler knows them.
        method: of integration.
        noise: where x is a shape, or something is known.
        path: t -> (signal, noise) of x_t = signal data + noise eps, used for `known` alone.
        known: values to keep, for inpainting.
        callback: called with (k, x), k the steps left.

    Raises:
        ConfigError: a shape or range does not fit.

    >>> print(ode(lambda x, t: x, torch.ones(1, 1), torch.linspace(0, 1, 11)))  # e
    tensor([[2.7141]])
    """
    ends = numbers(times, "times")
    steps = [stop - start for start, stop in pairwise(ends)]
    if not steps or not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        raise ConfigError(f"`times` must be [S + 1], ascending or descending; got {ends[:8]}.")
    if method not in ("euler", "midpoint", "heun"):
        raise ConfigError(f"`method` must be euler, midpoint or heun; got {method!r}.")
    x = first(x, noise)
    replacement = None if known is None else Replacement(known, x, noise, *(level.flip(0) for level in path(float64(ends))))
    second = [start + step / 2 for start, step in zip(ends, steps, strict=False)] if method == "midpoint" else ends[1:]
    at_first, at_second = told(float64(ends[:-1]), x), told(float64(second), x)
    buffer = x if method == "euler" else torch.empty_like(x)
    for i, step in enumerate(steps):
        k = len(steps) - 1 - i
        for visit in range(replacement.rounds if replacement is not None and k else 1):
            if visit and replacement is not None:
                replacement.back(k, x, visit)
            _step(velocity, x, buffer, step, (at_first[i], at_second[i]), method)
            if replacement is not None:
                replacement(k, x, visit)
        if callback is not None:
            callback(k, x)
    return x


def _step(
    velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, buffer: Tensor, step: float, at: tuple[Tensor, Tensor], method: Method
) -> None:
    """One step of x in place. What the network returned is used up before the next call, which may write to the same memory."""
    slope = velocity(x, at[0])
    if slope.shape != x.shape:
        raise ConfigError(f"`velocity` must return {tuple(x.shape)}; got {tuple(slope.shape)}.")
    if method == "euler":
        x.add_(slope, alpha=step)
    elif method == "midpoint":
        torch.add(x, slope, alpha=step / 2, out=buffer)
        x.add_(velocity(buffer, at[1]), alpha=step)
    else:
        torch.add(x, slope, alpha=step, out=buffer)
        x.add_(slope, alpha=step / 2)
        x.add_(velocity(buffer, at[1]), alpha=step / 2)
