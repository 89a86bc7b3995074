"""Couplings and conditioners as the families of this distribution build them: by number of axes, channels and configuration."""

from __future__ import annotations

from torch import nn

from medgen.nn.flow import AffineCoupling, ConvConditioner, MlpConditioner, coupling_sizes
from medgen.ops.affine_coupling import Mask
from medgen_flows.config import CouplingConfig

__all__ = ["affine", "conditioner", "prior"]


def conditioner(config: CouplingConfig, dim: int, seen: int, emitted: int, context: int) -> nn.Module:
    """[B, seen, *S] -> [B, emitted, *S] with `dim` axes."""
    if dim == 0:
        return MlpConditioner(seen, emitted, width=config.width, depth=config.depth, context=context)
    return ConvConditioner(dim, seen, emitted, width=config.width, blocks=config.depth, context=context)


def affine(config: CouplingConfig, dim: int, channels: int, context: int, mask: Mask) -> AffineCoupling:
    """An affine coupling of [B, channels, *S] with `dim` axes."""
    seen, changed = coupling_sizes(channels, mask)
    return AffineCoupling(conditioner(config, dim, seen, 2 * changed, context), mask=mask, s_max=config.s_max)


def prior(config: CouplingConfig, dim: int, channels: int, context: int) -> AffineCoupling:
    """Gaussian of the second half of the channels given the first, as the coupling that standardises them."""
    return affine(config, dim, channels, context, "second")
