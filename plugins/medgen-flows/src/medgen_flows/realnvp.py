"""`realnvp`: affine couplings; vectors, and signals, images and volumes at several resolutions.

Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medgen.nn.flow import ActNorm, Chain, MultiScale, Transform
from medgen.ops.affine_coupling import Mask
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import RealNvpConfig
from medgen_flows.flow import Flow
from medgen_flows.steps import affine

__all__ = ["RealNvp"]

_FEATURES: tuple[Mask, Mask] = ("even", "odd")
_POSITIONS: tuple[Mask, Mask] = ("checkerboard_even", "checkerboard_odd")
_CHANNELS: tuple[Mask, Mask] = ("second", "first")


class RealNvp(Flow):
    """z = x exp(b(s)) + t by turns on one and the other half of the values.

    Vectors: couplings on even and odd features. Images: at each resolution couplings on the two colours of a checkerboard, a squeeze,
    couplings on the two halves of the channels, and half of the channels leave. `ActNorm` takes the place of the paper's batch
    normalisation, so that no sample depends on its batch.

    >>> import medgen
    >>> model = medgen.create("realnvp", medgen.ImageSpec(channels=1, shape=(12, 12)), width=8, couplings_per_mask=1)
    >>> model.log_prob(model.sample(3, noise=0)).shape
    torch.Size([3])
    """

    config: RealNvpConfig

    def __init__(self, config: RealNvpConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        channels, shape = image_spec.channels, image_spec.shape
        if not shape:
            masks = _FEATURES if channels > 1 else _FEATURES[:1]
            parts = [*self._alternate(channels, 0, masks, config.couplings), ActNorm(channels)]
            self.transform: Transform = Chain(parts, reversible=config.reversible)
            return
        dim, count = image_spec.dim, config.couplings_per_mask
        self.transform = MultiScale(
            channels,
            shape,
            config.levels,
            before=lambda channels, _: self._alternate(channels, dim, _POSITIONS, count),
            after=lambda channels, _: [*self._alternate(channels, dim, _CHANNELS, count if channels > 1 else 0), ActNorm(channels)],
            prior=lambda channels, _: [affine(config, dim, channels, self.embedding.size, "second")],
            reversible=config.reversible,
        )

    def _alternate(self, channels: int, dim: int, masks: Sequence[Mask], count: int) -> Iterator[Transform]:
        for number in range(count):
            yield ActNorm(channels)
            yield affine(self.config, dim, channels, self.embedding.size, masks[number % len(masks)])
