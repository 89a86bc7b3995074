"""Couplings and steps as the families of this distribution build them: by number of axes, channels and configuration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from torch import nn

from medgen.nn.flow import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    ConvConditioner,
    InvertibleConv,
    MlpConditioner,
    MultiScale,
    Transform,
    coupling_sizes,
)
from medgen.ops.affine_coupling import Mask
from medgen.registry import ImageSpec
from medgen_flows.config import CouplingConfig

__all__ = ["Coupling", "additive", "affine", "conditioner", "stack_of_steps"]

Coupling = Callable[[CouplingConfig, int, int, int, Mask], Transform]
"""(config, number of axes, channels, size of the context, mask) -> a coupling."""


def conditioner(config: CouplingConfig, dim: int, seen: int, emitted: int, context: int) -> nn.Module:
    """[B, seen, *S] -> [B, emitted, *S] with `dim` axes."""
    if dim == 0:
        return MlpConditioner(seen, emitted, width=config.width, depth=config.depth, context=context)
    return ConvConditioner(dim, seen, emitted, width=config.width, blocks=config.depth, context=context)


def affine(config: CouplingConfig, dim: int, channels: int, context: int, mask: Mask) -> AffineCoupling:
    """An affine coupling of [B, channels, *S] with `dim` axes."""
    seen, changed = coupling_sizes(channels, mask)
    return AffineCoupling(conditioner(config, dim, seen, 2 * changed, context), mask=mask, s_max=config.s_max)


def additive(config: CouplingConfig, dim: int, channels: int, context: int, mask: Mask) -> AdditiveCoupling:
    """An additive one."""
    seen, changed = coupling_sizes(channels, mask)
    return AdditiveCoupling(conditioner(config, dim, seen, changed, context), mask=mask)


def stack_of_steps(config: CouplingConfig, coupling: Coupling, spec: ImageSpec, steps: int, context: int) -> Transform:
    """Steps of `ActNorm`, `InvertibleConv` and a coupling: one stack for vectors, one per resolution for images.

    A single channel has nothing to mix: couplings then alternate between the colours of a checkerboard.
    """
    dim = spec.dim

    def step(channels: int, number: int) -> list[Transform]:
        if channels > 1:
            return [ActNorm(channels), InvertibleConv(channels), coupling(config, dim, channels, context, "second")]
        mask: Mask = "second" if dim == 0 else "checkerboard_even" if number % 2 == 0 else "checkerboard_odd"
        return [ActNorm(channels), coupling(config, dim, channels, context, mask)]

    def stack(channels: int, _shape: tuple[int, ...] = ()) -> list[Transform]:
        return [*chain.from_iterable(step(channels, number) for number in range(steps)), ActNorm(channels)]

    if dim == 0:
        return Chain(stack(spec.channels), reversible=config.reversible)
    return MultiScale(
        spec.channels,
        spec.shape,
        config.levels,
        after=stack,
        prior=lambda channels, _: [affine(config, dim, channels, context, "second")],
        reversible=config.reversible,
    )
