"""Faults of densities and of flows."""

from __future__ import annotations

import math

import torch
from testing.mutants.flow import COUPLINGS, GAUSSIAN, Affine, Coupling, Couplings, Gaussian, Split, summed
from testing.mutants.others import CATEGORICAL, LINEAR_VAE, Categorical, LinearVae
from torch import nn

from medgen.interfaces import Condition

# -------------------------------------------------------------------------------------------------------- densities


@GAUSSIAN.mutant(
    "log_prob_is_one_number_per_sample",
    "missing_values_are_never_looked_at",
    "density_integrates_to_one",
    "samples_follow_the_density",
    "a_batch_of_one_is_enough",
)
class ScoresTheBatchAsOne(Gaussian):
    """The mean over the batch, for every sample."""

    def _log_prob(self, x, condition, noise, importance_samples):
        found = super()._log_prob(x, condition, noise, importance_samples)
        return found.mean().expand_as(found)


@GAUSSIAN.mutant("density_integrates_to_one", "samples_follow_the_density")
class AveragesOverDimensions(Gaussian):
    """The mean over dimensions in the place of the sum."""

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x, condition, noise, importance_samples) / self.image_spec.numel


@GAUSSIAN.mutant("density_integrates_to_one", "samples_follow_the_density")
class LeavesOutTheConstant(Gaussian):
    """A density but for the factor (2 pi)^(-D/2)."""

    def _log_prob(self, x, condition, noise, importance_samples):
        constant = 0.5 * self.image_spec.numel * math.log(2 * math.pi)
        return super()._log_prob(x, condition, noise, importance_samples) + constant


@GAUSSIAN.mutant("every_input_moves_log_prob", "density_integrates_to_one", "samples_follow_the_density")
class IgnoresTheLastDimension(Gaussian):
    """Scores all dimensions but one."""

    def _log_prob(self, x, condition, noise, importance_samples):
        kept = torch.arange(x.shape[1], device=x.device) < x.shape[1] - 1
        return super()._log_prob(torch.where(kept, x, 0), condition, noise, importance_samples)


@GAUSSIAN.mutant("every_input_moves_log_prob", "log_prob_stays_finite_far_out", "log_prob_gradient_is_its_slope")
class HasNoGradientInX(Gaussian):
    """log_prob cuts x off from the graph."""

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x.detach(), condition, noise, importance_samples)


@COUPLINGS.mutant("log_prob_gradient_is_its_slope")
class HasNoGradientThroughLogDets(Couplings):
    """Log-determinants are cut off from the graph: a right value with a wrong gradient."""

    def _log_prob(self, x, condition, noise, importance_samples):
        found = super()._log_prob(x, condition, noise, importance_samples)
        log_det = self.transform(x.flatten(1), self.context(condition, len(x)))[1]
        return found - log_det + log_det.detach()


@GAUSSIAN.mutant("log_prob_gradient_reaches_every_parameter", "gradient_reaches_every_parameter", "log_prob_gradient_is_its_slope")
class NeverTrainsItsEmbedding(Gaussian):
    """The embedding of the condition is cut off from the graph."""

    def context(self, condition, n):
        found = super().context(condition, n)
        return None if found is None else found.detach()


@GAUSSIAN.mutant(
    "log_prob_reacts_to_the_condition",
    "log_prob_gradient_reaches_every_parameter",
    "gradient_reaches_every_parameter",
    "samples_follow_the_density",
)
class ScoresWithoutTheCondition(Gaussian):
    """The condition steers samples, and is dropped by log_prob."""

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x, Condition(), noise, importance_samples)


@LINEAR_VAE.mutant("bound_tightens", "density_integrates_to_one")
class LeavesOutThePenalty(LinearVae):
    """The reconstruction term alone, above the log-density that it is said to bound."""

    def penalty(self, mean, log_var):
        return 0 * super().penalty(mean, log_var)


@LINEAR_VAE.mutant("density_integrates_to_one")
class SumsImportanceWeights(LinearVae):
    """ln sum_k w_k in the place of ln mean_k w_k."""

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x, condition, noise, importance_samples) + math.log(importance_samples)


@LINEAR_VAE.mutant("bound_tightens")
class DividesWeightsTwice(LinearVae):
    """ln mean_k w_k / K."""

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x, condition, noise, importance_samples) - math.log(importance_samples)


@GAUSSIAN.mutant("samples_follow_the_density")
class SamplesAtALowTemperature(Gaussian):
    """The base distribution is narrower when sampling than when scoring."""

    def draw(self, noise):
        return 0.7 * super().draw(noise)


@CATEGORICAL.mutant("label_samples_are_distributions", "samples_follow_the_density")
class SamplesLogits(Categorical):
    """Log-probabilities in the place of a label map."""

    def _sample(self, n, condition, noise):
        return self.log_shares(condition, n) + super()._sample(n, condition, noise)


@CATEGORICAL.mutant("density_integrates_to_one", "samples_follow_the_density")
class ScoresEachClassByItself(Categorical):
    """Sigmoids in the place of a softmax: probabilities of classes that do not add up to 1."""

    def _log_prob(self, x, condition, noise, importance_samples):
        shares = nn.functional.logsigmoid(self.log_shares(condition, len(x)))
        return (x * shares.to(x.dtype)).flatten(1).sum(1)


# ------------------------------------------------------------------------------------------------------------ flows


class Unbounded(Coupling):
    """Scales exp(s) for any s."""

    def parameters_of(self, x, context):
        s, t = self.raw(x, context)
        return torch.where(self.mask, 0, s), torch.where(self.mask, 0, t)


@COUPLINGS.mutant("log_prob_stays_finite_far_out", "decode_stays_finite_far_out", "configs_work_or_are_refused")
class ExponentiatesWithoutBound(Couplings):
    """A coupling whose log-scale has no bound."""

    coupling = Unbounded


class Sigmoid(Coupling):
    """z = sigmoid(s + 2) x + t."""

    def forward(self, x, context=None):
        s, t = self.raw(x, context)
        scale = torch.where(self.mask, 1, torch.sigmoid(s + 2))
        return scale * x + torch.where(self.mask, 0, t), summed(scale.log(), x)

    def inverse(self, z, context=None):
        s, t = self.raw(z, context)
        scale = torch.where(self.mask, 1, torch.sigmoid(s + 2))
        return (z - torch.where(self.mask, 0, t)) / scale, -summed(scale.log(), z)


@COUPLINGS.mutant("log_prob_stays_finite_far_out", "decode_stays_finite_far_out")
class DividesByASigmoid(Couplings):
    """Sampling divides by sigmoid(s + 2), which is 0 for s < -105."""

    coupling = Sigmoid


class Forgetful(Split):
    """The half that leaves early is not kept."""

    def left(self, z):
        return torch.zeros_like(super().left(z))


@COUPLINGS.mutant(
    "decode_inverts_encode",
    "log_det_is_that_of_the_jacobian",
    "density_integrates_to_one",  # over the box that its samples, too narrow, span
    "samples_follow_the_density",
    tiny={"width": 2, "layers": 2},
)
class DropsItsSplitLatents(Couplings):
    """The way back puts zeros where the split latents were."""

    split = Forgetful


class WrongSign(Affine):
    """ln |det| with the sign of the other direction."""

    def forward(self, x, context=None):
        z, log_det = super().forward(x, context)
        return z, -log_det


@GAUSSIAN.mutant("log_det_is_that_of_the_jacobian", "density_integrates_to_one", "samples_follow_the_density")
class HasTheLogDetOfTheInverse(Gaussian):
    """The sign of the log-determinant."""

    def make(self, size, context):
        return WrongSign(size, context)


class Careless(Affine):
    """No log-determinant on the way back."""

    def inverse(self, z, context=None):
        x, log_det = super().inverse(z, context)
        return x, torch.zeros_like(log_det)


@GAUSSIAN.mutant("log_det_is_that_of_the_jacobian")
class HasNoLogDetOnTheWayBack(Gaussian):
    """The inverse forgets its log-determinant."""

    def make(self, size, context):
        return Careless(size, context)


class Guarded(Affine):
    """Divides by sd + 0.001, multiplies by sd."""

    def forward(self, x, context=None):
        mean, log_sd = self.moments(context)
        return (x - mean) / (torch.exp(log_sd) + 1e-3), -summed(log_sd, x)


@GAUSSIAN.mutant("decode_inverts_encode", "log_det_is_that_of_the_jacobian")
class GuardsOneDirectionOnly(Gaussian):
    """A small number against division by zero, in one of the directions."""

    def make(self, size, context):
        return Guarded(size, context)
