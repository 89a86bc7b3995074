"""dx / dt = velocity(x, t) by fixed steps: flow matching, either way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.sampling.known import Known, Replacement
from medgen.sampling.start import Callback, first, told

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
        times: [S + 1], ascending or descending.
        method: of integration.
        noise: where x is a shape, or something is known.
        path: t -> (signal, noise) of x_t = signal data + noise eps, used for `known` alone.
        known: values to keep, for inpainting; without resampling.
        callback: called with (k, x), k the steps left.

    Raises:
        ConfigError: a shape or range does not fit.

    >>> print(ode(lambda x, t: x, torch.ones(1, 1), torch.linspace(0, 1, 11)))  # e
    tensor([[2.7141]])
    """
    ends = torch.as_tensor(times, dtype=torch.float64, device="cpu").detach()
    h = ends.diff()
    if ends.dim() != 1 or len(ends) < 2 or not (bool((h > 0).all()) or bool((h < 0).all())):
        raise ConfigError(f"`times` must be [S + 1], ascending or descending; got {ends.tolist()[:8]}.")
    if method not in ("euler", "midpoint", "heun"):
        raise ConfigError(f"`method` must be euler, midpoint or heun; got {method!r}.")
    x = first(x, noise)
    replacement = None if known is None else Replacement(known.once("ode"), x, noise, *(level.flip(0) for level in path(ends)))
    second = ends[:-1] + h / 2 if method == "midpoint" else ends[1:]
    at_first, at_second, steps = told(ends[:-1], x), told(second, x), h.tolist()
    buffer = x if method == "euler" else torch.empty_like(x)
    for i, step in enumerate(steps):
        slope = velocity(x, at_first[i])
        if slope.shape != x.shape:
            raise ConfigError(f"`velocity` must return {tuple(x.shape)}; got {tuple(slope.shape)}.")
        if method == "euler":
            x.add_(slope, alpha=step)
        elif method == "midpoint":
            torch.add(x, slope, alpha=step / 2, out=buffer)
            x.add_(velocity(buffer, at_second[i]), alpha=step)
        else:
            torch.add(x, slope, alpha=step, out=buffer)
            x.add_(slope, alpha=step / 2)
            x.add_(velocity(buffer, at_second[i]), alpha=step / 2)
        k = len(steps) - 1 - i
        if replacement is not None:
            replacement(k, x)
        if callback is not None:
            callback(k, x)
    return x
