"""Faults of persistence."""

from __future__ import annotations

import torch
from testing.mutants.flow import COUPLINGS, GAUSSIAN, Affine, Couplings, Gaussian
from testing.mutants.others import LINEAR_VAE, LinearVae
from torch import nn

from medgen.interfaces import PreparesOnData


@COUPLINGS.mutant("comes_back_from_file")
class LosesABuffer(Couplings):
    """A random projection, drawn once, is not part of the state dict."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.register_buffer("shift", torch.randn(image_spec.size), persistent=False)

    def _encode(self, x, condition):
        return super()._encode(x - self.shift, condition)

    def _decode(self, z, condition):
        return super()._decode(z, condition) + self.shift

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x - self.shift, condition, noise, importance_samples)


@GAUSSIAN.mutant("comes_back_from_file")
class ForgetsWhatItSaw(Gaussian, PreparesOnData):
    """What was fitted to the data is kept in a plain attribute."""

    shift = 0.0

    def prepare(self, batches):
        self.shift = float(torch.cat([batch.x for batch in batches()]).mean())

    def _encode(self, x, condition):
        return super()._encode(x - self.shift, condition)

    def _decode(self, z, condition):
        return super()._decode(z, condition) + self.shift

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x - self.shift, condition, noise, importance_samples)


@LINEAR_VAE.mutant("comes_back_from_file")
class RewritesItsConfig(LinearVae):
    """Doubles the width that it was given, and again when it is rebuilt."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config.model_copy(update={"width": 2 * config.width}), image_spec, conditions)


@GAUSSIAN.mutant("state_is_tensors", "comes_back_from_file")
class StoresMoreThanTensors(Gaussian):
    """Extra state that safetensors cannot hold."""

    def get_extra_state(self):
        return {"mode": "fitted"}

    def set_extra_state(self, state):
        self.mode = state["mode"]


@GAUSSIAN.mutant("copies_are_independent")
class KeepsABoundMethod(Gaussian):
    """A function that was stored at construction holds on to the original's weights."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.offset = lambda: 0.1 * self.transform.base.sum()

    def _encode(self, x, condition):
        return super()._encode(x - self.offset(), condition)

    def _decode(self, z, condition):
        return super()._decode(z, condition) + self.offset()

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x - self.offset(), condition, noise, importance_samples)


class Uncopied(nn.Linear):
    """A layer that is its own deep copy."""

    def __deepcopy__(self, memo):
        return self


@LINEAR_VAE.mutant("copies_are_independent")
class SharesALayerWithItsCopy(LinearVae):
    """A layer cached outside of the model."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.decoder.__class__ = Uncopied


@GAUSSIAN.mutant("golden_file_holds", name="gaussian")
class RenamesItsWeights(Gaussian):
    """A newer version that calls its weights otherwise, without a migration."""

    transform = property(lambda self: self.map)

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.map = self._modules.pop("transform")


class Retuned(Affine):
    """Another bound of the log-scale."""

    def moments(self, context):
        mean, log_sd = super().moments(context)
        return mean, 0.9 * log_sd


@GAUSSIAN.mutant("golden_file_holds", name="gaussian")
class MeansSomethingElseByItsWeights(Gaussian):
    """A newer version in which the same weights give other results."""

    def make(self, size, context):
        return Retuned(size, context)
