"""Faults of translators."""

from __future__ import annotations

import torch
from testing.mutants.others import LINEAR_TRANSLATOR, LinearTranslator
from testing.mutants.sampling import IRREPRODUCIBLE


@LINEAR_TRANSLATOR.mutant("translations_have_the_shape_of_the_target")
class TranslatesInDoublePrecision(LinearTranslator):
    """A model in float32 gives float64."""

    def _translate(self, x, condition, noise):
        return super()._translate(x, condition, noise).double()


@LINEAR_TRANSLATOR.mutant(
    "translations_have_the_shape_of_the_target", "translations_stay_in_place", "configs_work_or_are_refused", "sizes_work_or_are_refused"
)
class CropsTheGrid(LinearTranslator):
    """Half the resolution, as a network without its last upsampling."""

    def _translate(self, x, condition, noise):
        return super()._translate(x, condition, noise)[..., ::2]


@LINEAR_TRANSLATOR.mutant("translations_have_the_shape_of_the_target")
class TranslatesBeyondTheRange(LinearTranslator):
    """Declares a bounded output and has none."""

    output_range = (0.4, 0.6)


@LINEAR_TRANSLATOR.mutant(
    "translations_are_repeatable",
    "translations_are_independent_of_the_batch",
    *(set(IRREPRODUCIBLE) - {"same_seed_same_bits", "independent_of_batch", "independent_of_ranks"}),
)
class TranslatesAtRandom(LinearTranslator):
    """Dropout that evaluation mode does not switch off, as in pix2pix."""

    def _translate(self, x, condition, noise):
        return super()._translate(torch.nn.functional.dropout(x, 0.1, training=True), condition, noise)


@LINEAR_TRANSLATOR.mutant("translations_are_independent_of_the_batch", "a_batch_of_one_is_enough")
class NormalisesTheBatch(LinearTranslator):
    """Batch normalisation with the statistics of the batch."""

    def _translate(self, x, condition, noise):
        return super()._translate(x - 0.5 * x.mean(0), condition, noise)


@LINEAR_TRANSLATOR.mutant("every_output_follows_the_source")
class LeavesTheBorderEmpty(LinearTranslator):
    """The last column is no function of the source."""

    def _translate(self, x, condition, noise):
        y = super()._translate(x, condition, noise).clone()
        y[..., -1] = 0
        return y


@LINEAR_TRANSLATOR.mutant("every_output_follows_the_source")
class SeesOneChannelOnly(LinearTranslator):
    """Of the channels of the source, the first is looked at."""

    def mean(self, x, condition):
        return super().mean(torch.cat((x[:, :1], torch.zeros_like(x[:, 1:])), 1), condition)


@LINEAR_TRANSLATOR.mutant("translations_stay_in_place")
class FlipsTheAnatomy(LinearTranslator):
    """Left is right."""

    def _translate(self, x, condition, noise):
        return super()._translate(x, condition, noise).flip(-1)


@LINEAR_TRANSLATOR.mutant("translations_stay_in_place")
class ShiftsTheAnatomy(LinearTranslator):
    """Everything moves by a third of the image."""

    def _translate(self, x, condition, noise):
        return super()._translate(x, condition, noise).roll(x.shape[-1] // 3, -1)


@LINEAR_TRANSLATOR.mutant("translations_are_independent_of_the_batch")
class NumbersTranslationsByTheirPlace(LinearTranslator):
    """The noise of a translation belongs to its place in the batch."""

    def _translate(self, x, condition, noise):
        return super()._translate(x, condition, None if noise is None else type(noise)(noise.seed, torch.arange(len(x))))


@LINEAR_TRANSLATOR.mutant("translations_are_random_where_they_say_so")
class DrawsWithoutSayingSo(LinearTranslator):
    """Noise changes its translations, and nobody is told that there is more than one."""

    stochastic = False


@LINEAR_TRANSLATOR.mutant("translations_are_random_where_they_say_so")
class PromisesDraws(LinearTranslator):
    """Says that it draws, and gives one translation whatever the seed."""

    def _translate(self, x, condition, noise):
        return super()._translate(x, condition, None)


@LINEAR_TRANSLATOR.mutant("sizes_work_or_are_refused")
class WantsEvenSizes(LinearTranslator):
    """Halves and doubles the grid, and loses a row of an odd one."""

    def _translate(self, x, condition, noise):
        half = torch.nn.functional.avg_pool2d(x, 2) if min(x.shape[2:]) > 1 else x[..., ::2, ::2]
        return super()._translate(torch.nn.functional.interpolate(half, scale_factor=2), condition, noise)
