"""Faults of sampling."""

from __future__ import annotations

import torch
from testing.mutants.flow import COUPLINGS, GAUSSIAN, MAF, Autoregressive, Couplings, Gaussian, Maf
from testing.mutants.others import LINEAR_TRANSLATOR, LINEAR_VAE, SAMPLER, LinearTranslator, LinearVae, Sampler
from torch import nn

from medgen.interfaces import Condition, Noise
from medgen.nn import ConditionEmbedding

IRREPRODUCIBLE = (
    "same_seed_same_bits",
    "independent_of_batch",
    "independent_of_ranks",
    "global_rng_is_untouched",
    "verbs_change_nothing",
    "missing_values_are_never_looked_at",
    "comes_back_from_file",
    "copies_are_independent",
    "float64_agrees_with_float32",
    "a_batch_of_one_is_enough",
    "layout_in_memory_does_not_matter",
)
"""Nothing that compares two samples can hold where two calls give two samples."""


@GAUSSIAN.mutant(*IRREPRODUCIBLE)
class DrawsFromTheGlobalGenerator(Gaussian):
    """Samples come from torch.randn."""

    def draw(self, noise):
        return torch.randn(len(noise), *self.latent_shape, dtype=self.dtype, device=self.device)


@GAUSSIAN.mutant("independent_of_batch", "global_rng_is_untouched", "seeds_and_samples_differ", "a_batch_of_one_is_enough")
class SeedsItselfFromTheGlobalGenerator(Gaussian):
    """Reads the global state and puts it back."""

    def draw(self, noise):
        with torch.random.fork_rng(devices=[]):
            return torch.randn(len(noise), *self.latent_shape, dtype=self.dtype, device=self.device)


@GAUSSIAN.mutant("global_rng_is_untouched")
class AdvancesTheGlobalGenerator(Gaussian):
    """Draws a number that nothing needs."""

    def _encode(self, x, condition):
        torch.rand(())
        return super()._encode(x, condition)


@GAUSSIAN.mutant("independent_of_batch", "a_batch_of_one_is_enough")
class NumbersSamplesByTheirPlaceInTheBatch(Gaussian):
    """Sample i is the i-th of its batch, whatever its number."""

    def draw(self, noise):
        return super().draw(Noise(noise.seed, torch.arange(len(noise), device=self.device)))


@GAUSSIAN.mutant("independent_of_batch", "a_batch_of_one_is_enough", "missing_values_are_never_looked_at")
class CentresTheBatch(Gaussian):
    """Sampling in training mode of batch normalisation."""

    def _sample(self, n, condition, noise):
        x = super()._sample(n, condition, noise)
        return x - 0.01 * x.mean(0)


@GAUSSIAN.mutant("seeds_and_samples_differ")
class IgnoresTheSeed(Gaussian):
    """Every seed gives the same samples."""

    def draw(self, noise):
        return super().draw(Noise(0, noise.index))


@GAUSSIAN.mutant("seeds_and_samples_differ", "samples_follow_the_density", "density_integrates_to_one")
class OneDrawForAll(Gaussian):
    """All samples share one latent."""

    def draw(self, noise):
        return super().draw(Noise(noise.seed, torch.zeros_like(noise.index)))


@GAUSSIAN.mutant("samples_have_shape_and_range", "density_integrates_to_one")
class SamplesBeyondTheRange(Gaussian):
    """Declares a bounded output and has none."""

    output_range = (-1.0, 1.0)


@GAUSSIAN.mutant("samples_have_shape_and_range")
class SamplesInDoublePrecision(Gaussian):
    """A model in float32 gives float64."""

    def _sample(self, n, condition, noise):
        return super()._sample(n, condition, noise).double()


@GAUSSIAN.mutant("every_output_reacts_to_the_condition", "samples_follow_the_density")
class SamplesWithoutTheCondition(Gaussian):
    """The condition is accepted and dropped."""

    def _sample(self, n, condition, noise):
        return super()._sample(n, Condition(), noise)


@SAMPLER.mutant("samples_follow_the_density")
class StepsByOneWhateverTheStride(Sampler):
    """A strided sampler that goes from t to t - 1 instead of to the kept step before t."""

    @staticmethod
    def previous(bars, kept):
        return bars[kept], torch.cat((bars.new_ones(1), bars))[kept]


class DeafAtTheFirst(Autoregressive):
    """Without the short cut from the context to the outputs."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.to_output = None

    def heard(self, found, context):
        return found


@MAF.mutant("every_output_reacts_to_the_condition", "every_transformed_dimension_reacts_to_the_context")
class FirstDimensionIgnoresTheContext(Maf):
    """The context of a MADE enters its hidden units only, and the first output has none."""

    layer = DeafAtTheFirst


@COUPLINGS.mutant(*IRREPRODUCIBLE, "samples_follow_the_density")
class DropsOutWhileItSamples(Couplings):
    """Dropout that evaluation mode does not switch off."""

    def draw(self, noise):
        return nn.functional.dropout(super().draw(noise), 0.1, training=True)


@LINEAR_VAE.mutant("missing_values_are_never_looked_at")
class MultipliesByTheMask(LinearVae):
    """What stands where a value is missing is multiplied by 0, and NaN stays NaN."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.embedding.__class__ = MaskedEmbedding


class MaskedEmbedding(ConditionEmbedding):
    """mask * embed(value) + (1 - mask) * missing."""

    def _slot(self, name, condition, n):
        missing = self.missing[name].expand(n, -1)
        if name not in condition:
            return missing
        value, mask = condition.values[name], condition.mask(name)[:, None]
        known = self.embed[name](value if value.is_floating_point() else value.clamp(min=0))
        return mask * known + ~mask * missing


@LINEAR_VAE.mutant("missing_values_are_never_looked_at", "gradient_reaches_every_parameter")
class MissingForOneIsMissingForAll(LinearVae):
    """A slot is taken from all samples as soon as one lacks it."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.embedding.__class__ = AllOrNothing


class AllOrNothing(ConditionEmbedding):
    """Looks at slots as a whole."""

    def _slot(self, name, condition, n):
        here = name in condition and bool(condition.mask(name).all())
        return self.embed[name](condition.values[name]) if here else self.missing[name].expand(n, -1)


@GAUSSIAN.mutant("verbs_change_nothing")
class CountsItsCalls(Gaussian):
    """A buffer that every encoding changes."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.register_buffer("calls", torch.zeros(()))

    def _encode(self, x, condition):
        self.calls += 1
        return super()._encode(x, condition)


@GAUSSIAN.mutant("verbs_change_nothing", "decode_inverts_encode", "copies_are_independent", "layout_in_memory_does_not_matter")
class WritesIntoItsInput(Gaussian):
    """Rounds x to sixteenths, in place."""

    def _encode(self, x, condition):
        with torch.no_grad():
            x.mul_(16).round_().div_(16)
        return super()._encode(x, condition)


@LINEAR_TRANSLATOR.mutant("verbs_change_nothing")
class TranslatesInPlace(LinearTranslator):
    """Clamps the source before it looks at it."""

    def _translate(self, x, condition, noise):
        x.clamp_(max=0.5)
        return super()._translate(x, condition, noise)
