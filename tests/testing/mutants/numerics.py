"""Faults of numerics and integration."""

from __future__ import annotations

import torch
from testing.mutants.flow import COUPLINGS, GAUSSIAN, Affine, Couplings, Gaussian
from testing.mutants.others import LINEAR_VAE, SAMPLER, LinearVae, Sampler


@SAMPLER.mutant("float64_agrees_with_float32", "log_prob_gradient_is_its_slope")
class ScoresInSinglePrecision(Sampler):
    """A model in float64 gives float32."""

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x, condition, noise, importance_samples).float()


@LINEAR_VAE.mutant("a_batch_of_one_is_enough")
class EncodesByBatchStatistics(LinearVae):
    """Encoding in training mode of batch normalisation."""

    def _encode(self, x, condition):
        return super()._encode(x - 0.01 * x.mean(0), condition)


@COUPLINGS.mutant("layout_in_memory_does_not_matter")
class AssumesContiguousInput(Couplings):
    """Reads x as if its values lay one after the other."""

    def _encode(self, x, condition):
        return super()._encode(x.as_strided(x.shape, torch.empty(x.shape).stride()), condition)


@LINEAR_VAE.mutant("layout_in_memory_does_not_matter")
class ViewsItsInput(LinearVae):
    """`view` where `reshape` is meant: an error for input that is not contiguous."""

    def _decode(self, z, condition):
        return super()._decode(z.view(-1).view(z.shape), condition)


@COUPLINGS.mutant("autocast_keeps_log_densities")
class ScoresInHalfPrecision(Couplings):
    """Under autocast the density is a bfloat16, with three digits for hundreds of nats."""

    def _log_prob(self, x, condition, noise, importance_samples):
        found = super()._log_prob(x, condition, noise, importance_samples)
        return found.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else found


class Single(Affine):
    """Casts its input to float32."""

    def forward(self, x, context=None):
        return super().forward(x.float().to(x.dtype), context)


@GAUSSIAN.mutant("decode_inverts_encode", "log_det_is_that_of_the_jacobian", "log_prob_gradient_is_its_slope")
class RoundsToSinglePrecision(Gaussian):
    """Computes in float32 whatever the model's type."""

    def make(self, size, context):
        return Single(size, context)


@GAUSSIAN.mutant("compiles")
class BranchesOnValues(Gaussian):
    """Computes one thing or another by the value of x."""

    def _log_prob(self, x, condition, noise, importance_samples):
        x = x + 0.0 if x.sum() > 0 else x
        return super()._log_prob(x, condition, noise, importance_samples)


@LINEAR_VAE.mutant("tensors_stay_on_their_device")
class StaysOnTheCpu(LinearVae):
    """A constant is made on the CPU, wherever the model is."""

    def _decode(self, z, condition):
        return super()._decode(z * torch.ones(z.shape[1]), condition)
