"""`latent_diffusion`: denoising diffusion of the latents of a trained model.

Paper: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022) | https://arxiv.org/abs/2112.10752
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from medgen.errors import ConfigError, WeightsError
from medgen.interfaces import Batch, ChoosesArithmetic, Condition, Generator, LatentModel, Noise, Phase, PreparesOnData, Step, evaluating
from medgen.nn import forward_bytes
from medgen.parts import open_part
from medgen.registry import ConditionSpec, ImageSpec, Intensity
from medgen_diffusion.config import ChainConfig, DdpmConfig, LatentDiffusionConfig
from medgen_diffusion.ddpm import Ddpm
from medgen_diffusion.memory import fitting

__all__ = ["LatentDiffusion"]

_LATENT = 3  # noise stream of the latents trained on; the chain draws from 0 to 2

_POOL: dict[int, Callable[..., Tensor]] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class LatentDiffusion(Generator, ChoosesArithmetic, PreparesOnData):
    """x = decode(z), z from a `ddpm` on the latents of a first stage, which is part of this model, frozen.

    It trains on draws of q(z | x) where that is Gaussian, else on its mean, each channel (each value of a vector) brought to mean 0 and
    standard deviation 1 as measured over the training data. Vectors go through a residual network, latents with axes through a U-Net.

    Args:
        config, image_spec, conditions: as in `medgen.Model`.

    Raises:
        ConfigError: the first stage has no latents, or is of other arrays or conditions.
        WeightsError: it cannot be read.

    >>> import medgen
    >>> stage = {"family": "vae", "config": {"latent_dim": 4}}  # untrained; in earnest the folder of a run
    >>> model = medgen.create("latent_diffusion", medgen.ImageSpec(channels=1, shape=(12, 12)), first_stage=stage)
    >>> model.sample(3, noise=0).shape
    torch.Size([3, 1, 12, 12])
    """

    config: LatentDiffusionConfig
    first_stage: LatentModel

    def __init__(self, config: LatentDiffusionConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        try:
            stage, description = open_part(config.first_stage, image_spec)
        except WeightsError as error:
            raise WeightsError(f"`first_stage`: {error}") from error
        super().__init__(config.model_copy(update={"first_stage": description}), image_spec, conditions)
        self.first_stage = _checked(stage, image_spec, conditions)
        latent = _latent_spec(self.first_stage.latent_shape)
        slots = [_on_grid(spec, latent) for spec in conditions]
        values = {name: value for name, value in config.to_json().items() if name in ChainConfig.model_fields}
        self.prior = Ddpm(DdpmConfig.parse(values), latent, slots)
        self.required_conditions = tuple(dict.fromkeys((*self.prior.required_conditions, *stage.required_conditions)))
        self.output_range = stage.output_range
        self._pooled = [old.name for old, new in zip(conditions, slots, strict=True) if old != new]

    # sampling

    def arithmetic(self) -> str:
        """Of the chain; the first stage decodes in that of its weights."""
        return self.prior.arithmetic()

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        z = self.prior._sample(n, self._of_prior(condition), noise)
        given = self._of_stage(condition)
        parts = [self._finished(self.first_stage.decode(z[rows], condition=given[rows])) for rows in self._turns(z, given)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _turns(self, z: Tensor, condition: Condition) -> Iterator[slice]:
        """Rows that are decoded at once."""
        n, size = len(z), max(len(z), 1)
        if self.config.sampling_memory is not None and n:
            each = forward_bytes(lambda z: self.first_stage.decode(z, condition=condition[:1]), z[:1])
            size = fitting(self.config.sampling_memory, n, each, self.image_spec.numel * z.element_size())
        return (slice(start, min(start + size, n)) for start in range(0, max(n, 1), size))

    def _finished(self, x: Tensor) -> Tensor:
        """Label maps one-hot; all else as the first stage has it."""
        if self.image_spec.content != "labels":
            return x
        return F.one_hot(x.argmax(1), self.image_spec.channels).movedim(-1, 1).to(x.dtype)

    # training

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Measure the scale of the latents."""

        def latents() -> Iterator[Batch]:
            seen = 0
            for batch in batches():
                noise = Noise(0, torch.arange(seen, seen + len(batch), device=batch.x.device))
                seen += len(batch)
                yield self._encoded(batch, noise)

        self.prior.prepare(latents)

    def phases(self) -> Sequence[Phase]:
        """That of the chain; the first stage learns no more."""
        (chain,) = self.prior.phases()

        def loss(batch: Batch, step: Step) -> Mapping[str, Tensor]:
            return chain.loss(self._encoded(batch, step.noise), step)

        return [replace(chain, loss=loss)]

    def _encoded(self, batch: Batch, noise: Noise) -> Batch:
        with evaluating(self.first_stage):
            z = _draw(self.first_stage.encode(batch.x, condition=self._of_stage(batch.condition)), noise)
        return Batch(z.to(batch.x.dtype), self._of_prior(batch.condition), batch.index, batch.targets)

    # conditions

    def _of_stage(self, condition: Condition) -> Condition:
        """Those that the first stage takes."""
        return condition.only(spec.name for spec in self.first_stage.conditions)

    def _of_prior(self, condition: Condition) -> Condition:
        """Images on the grid of the data go onto that of the latents."""
        shape = self.prior.image_spec.shape
        values = {k: _POOL[len(shape)](v, shape) if k in self._pooled else v for k, v in condition.values.items()}
        return Condition(values, condition.present)


def _checked(stage: object, image_spec: ImageSpec, conditions: Sequence[ConditionSpec]) -> LatentModel:
    if not isinstance(stage, LatentModel):
        raise ConfigError(f"`first_stage` must be a model with latents, as vae is; got {getattr(stage, 'family', stage)}.")
    ours, theirs = (_arrays(spec) for spec in (image_spec, stage.image_spec))
    if ours != theirs:
        wrong = "; ".join(f"{name} {theirs[name]}, here {ours[name]}" for name in ours if ours[name] != theirs[name])
        raise ConfigError(f"`first_stage` was trained on other arrays: {wrong}. Open the data with the options of its run.")
    if unknown := [spec.name for spec in stage.conditions if spec not in conditions]:
        raise ConfigError(
            f"`first_stage` was trained with the conditions {unknown}, which the data must have, with the same names and scale."
        )
    return stage


def _arrays(spec: ImageSpec) -> dict[str, object]:
    """What two specs must have in common for their arrays to mean the same."""
    rule = spec.intensity
    windows = [f"{low:.6g} to {high:.6g}" for low, high in zip(rule.low, rule.high, strict=True)]
    return {"shape": spec.size, "content": spec.content, "windows": windows, "range": rule.range, "clip": rule.clip}


def _latent_spec(shape: tuple[int, ...]) -> ImageSpec:
    """[d] are d features, [c, *s] c channels on a grid; without bounds."""
    content = "intensity" if shape[1:] else "features"
    return ImageSpec(channels=shape[0], shape=shape[1:], content=content, intensity=Intensity(clip=False))  # type: ignore[arg-type]


def _on_grid(spec: ConditionSpec, latent: ImageSpec) -> ConditionSpec:
    if spec.image is None or not latent.dim or spec.image.dim != latent.dim:
        return spec
    return replace(spec, image=replace(spec.image, shape=latent.shape, spacing=None, affine=None))


def _draw(q: Distribution, noise: Noise) -> Tensor:
    base = q.base_dist if isinstance(q, Independent) else q
    if not isinstance(base, Normal):
        return q.mean
    return q.mean + q.stddev * noise.normal(*q.event_shape, stream=_LATENT, dtype=q.mean.dtype)
