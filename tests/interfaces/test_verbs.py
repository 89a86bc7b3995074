"""The final verbs, on models small enough to know every answer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from medgen.errors import ConditionError, DataError
from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Translator, evaluating
from medgen.registry import ConditionSpec, ImageSpec
from medgen.registry.config import Config

SPEC = ImageSpec(channels=2, shape=(3,))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
SOURCE = ConditionSpec(name="source", kind="image", image=ImageSpec(channels=1, shape=(3,)))


class Affine(Generator, DensityModel, LatentModel):
    """x = scale * z + label, z ~ N(0, 1): a generator, an exact density and a latent space at once."""

    log_prob_kind = "exact"

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Dropout()
        self.calls = []

    def phases(self):
        return ()

    @property
    def latent_shape(self):
        return SPEC.size

    def _shift(self, condition, n):
        return condition.values["label"].view(-1, 1, 1).to(self.dtype) if "label" in condition else torch.zeros(n, 1, 1, dtype=self.dtype)

    def _sample(self, n, condition, noise):
        self.calls.append((n, len(noise), self.training, torch.is_grad_enabled()))
        return self.log_scale.exp() * noise.normal(*SPEC.size, dtype=self.dtype) + self._shift(condition, n)

    def _log_prob(self, x, condition, noise, importance_samples):
        z = (x - self._shift(condition, len(x))) / self.log_scale.exp()
        return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - self.log_scale).flatten(1).sum(1)

    def _encode(self, x, condition):
        z = (x - self._shift(condition, len(x))) / self.log_scale.exp()
        return Independent(Normal(z, torch.ones_like(z)), 2)

    def _decode(self, z, condition):
        return self.log_scale.exp() * z + self._shift(condition, len(z))


class Double(Translator):
    """Two channels, each twice the source plus noise."""

    def __init__(self, conditions=(SOURCE,)):
        super().__init__(Config(), SPEC, conditions)
        self.gain = nn.Parameter(torch.tensor(2.0))
        self.seen = None

    def phases(self):
        return ()

    def _translate(self, x, condition, noise):
        self.seen = (self.training, torch.is_grad_enabled(), sorted(condition.values))
        extra = 0 if noise is None else noise.normal(2, 3)
        return self.gain * x.expand(-1, 2, -1) + extra


@pytest.fixture
def model():
    model = Affine(Config(), SPEC, (LABEL,)).train()
    model.frozen.eval()  # as a pretrained part would be
    return model


class TestSample:
    @pytest.mark.parametrize(("n", "micro_batch", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 64, [3]), (2, 1, [1, 1]), (0, 4, [])])
    def test_micro_batches(self, model, n, micro_batch, sizes):
        assert model.sample(n, micro_batch=micro_batch).shape == (n, 2, 3)
        assert [call[:2] for call in model.calls] == [(size, size) for size in sizes]

    def test_evaluation_mode_without_gradients_and_back(self, model):
        modes = {name: module.training for name, module in model.named_modules()}
        assert model.frozen.training is False
        samples = model.sample(3)
        assert model.calls == [(3, 3, False, False)]
        assert {name: module.training for name, module in model.named_modules()} == modes
        assert torch.is_grad_enabled()
        assert not samples.requires_grad

    def test_modes_come_back_after_an_error(self, model):
        def fails():
            with evaluating(model):
                assert not model.training
                raise RuntimeError("inside")

        with pytest.raises(RuntimeError, match="inside"):
            fails()
        assert model.training
        assert torch.is_grad_enabled()

    @pytest.mark.parametrize("micro_batch", [1, 7, 64])
    def test_sample_i_depends_on_seed_i_and_condition_i_only(self, model, micro_batch):
        label = torch.arange(20) % 2
        whole = model.sample(20, condition=Condition({"label": label}), noise=3)
        assert torch.equal(model.sample(20, condition=Condition({"label": label}), noise=3, micro_batch=micro_batch), whole)
        chosen = [11, 2, 17]
        part = model.sample(3, condition=Condition({"label": label[chosen]}), noise=Noise.of(3, chosen), micro_batch=micro_batch)
        assert torch.equal(part, whole[chosen])

    def test_condition_and_noise_are_used(self, model):
        ones, noughts = (Condition({"label": torch.full((4,), value)}) for value in (1, 0))
        assert torch.equal(model.sample(4, condition=ones), model.sample(4, condition=noughts) + 1)
        assert not torch.equal(model.sample(4, noise=1), model.sample(4, noise=2))

    def test_global_state_is_untouched(self, model):
        before = torch.get_rng_state()
        model.sample(4)
        assert torch.equal(torch.get_rng_state(), before)

    def test_dtype_of_the_model(self, model):
        assert model.double().sample(2).dtype == torch.float64
        assert model.sample(0).dtype == torch.float64

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n": -1}, "`n` must not be negative; got -1"),
            ({"n": 3, "micro_batch": 0}, "`micro_batch` must be at least 1; got 0"),
            ({"n": 3, "noise": Noise.of(0, [1])}, "`noise` must be for 3 samples; got noise for 1"),
        ],
    )
    def test_wrong_numbers(self, model, arguments, message):
        with pytest.raises(ValueError, match=message):
            model.sample(**arguments)

    def test_condition_that_does_not_fit(self, model):
        for values in ({"label": torch.zeros(2, dtype=torch.int64)}, {"label": torch.full((3,), 2)}, {"age": torch.zeros(3)}):
            with pytest.raises(ConditionError):
                model.sample(3, condition=Condition(values))


class TestLogProb:
    def test_closed_form_gradient_and_bits(self, model):
        x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
        log_prob = model.log_prob(x, condition=Condition({"label": torch.ones(5, dtype=torch.int64)}))
        assert torch.allclose(log_prob, Normal(1.0, 1.0).log_prob(x).flatten(1).sum(1))
        assert torch.allclose(model.bits_per_dim(log_prob), -log_prob / (6 * math.log(2)))
        log_prob.sum().backward()
        assert torch.allclose(model.log_scale.grad, ((x - 1) ** 2 - 1).sum(), rtol=1e-4)

    def test_training_mode_is_the_callers(self, model):
        model.log_prob(torch.zeros(1, 2, 3))
        assert model.training

    @pytest.mark.parametrize("shape", [(2, 3), (5, 3, 2), (5, 2, 3, 1), (5, 6)])
    def test_wrong_shape(self, model, shape):
        with pytest.raises(DataError, match=r"`x` must have shape \[B, 2, 3\]; got"):
            model.log_prob(torch.zeros(shape))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
    def test_stored_units_are_refused(self, model, dtype):
        with pytest.raises(DataError, match="`x` must be floating, in model units"):
            model.log_prob(torch.zeros(5, 2, 3, dtype=dtype))

    def test_other_arguments(self, model):
        with pytest.raises(ValueError, match="`importance_samples` must be at least 1; got 0"):
            model.log_prob(torch.zeros(5, 2, 3), importance_samples=0)
        with pytest.raises(ConditionError, match="must be for 5 samples; got 4"):
            model.log_prob(torch.zeros(5, 2, 3), condition=Condition({"label": torch.zeros(4, dtype=torch.int64)}))


class TestLatent:
    def test_reconstruct_is_decode_of_the_mean(self, model):
        x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
        condition = Condition({"label": torch.ones(5, dtype=torch.int64)})
        rebuilt = model.reconstruct(x, condition=condition)
        assert torch.allclose(rebuilt, x)
        assert not rebuilt.requires_grad
        assert model.training
        posterior = model.encode(x, condition=condition)
        assert (posterior.batch_shape, posterior.event_shape) == ((5,), model.latent_shape)
        assert model.decode(posterior.mean, condition=condition).requires_grad

    def test_wrong_shapes(self, model):
        with pytest.raises(DataError, match=r"`z` must have shape \[B, 2, 3\]; got \(5, 4\)"):
            model.decode(torch.zeros(5, 4))
        with pytest.raises(DataError, match=r"`x` must have shape"):
            model.encode(torch.zeros(5, 4))
        with pytest.raises(DataError, match=r"`x` must have shape"):
            model.reconstruct(torch.zeros(5, 4))


class TestTranslate:
    def test_deterministic_and_random(self):
        model, x = Double().train(), torch.arange(12.0).reshape(4, 1, 3)
        assert torch.equal(model.translate(x), 2 * x.expand(-1, 2, -1))
        assert model.seen == (False, False, ["source"])
        assert model.training
        assert not model.translate(x).requires_grad
        assert torch.equal(model.translate(x, noise=5), model.translate(x) + Noise.of(5, range(4)).normal(2, 3))

    def test_other_conditions_come_along(self):
        model = Double((SOURCE, LABEL))
        model.translate(torch.zeros(2, 1, 3), condition=Condition({"label": torch.tensor([0, 1])}))
        assert model.seen[2] == ["label", "source"]

    def test_the_source_has_its_own_shape(self):
        with pytest.raises(DataError, match=r"`x` must have shape \[B, 1, 3\]; got \(4, 2, 3\)"):
            Double().translate(torch.zeros(4, 2, 3))

    def test_without_a_source_slot(self):
        with pytest.raises(DataError, match="must be created with a condition slot 'source'"):
            Double(()).translate(torch.zeros(4, 1, 3))


def test_model_knows_itself(model):
    assert model.condition_spec("label") is LABEL
    assert model.condition_spec("age") is None
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)


def test_select_keeps_the_slots_of_the_model_in_its_dtype(model):
    values = {"label": torch.tensor([0, 1]), "age": torch.zeros(2, 1)}
    batch = Batch(torch.zeros(2, 2, 3), Condition(values, {"label": torch.tensor([True, False])}), torch.tensor([7, 9]))
    selected = model.double().select(batch)
    assert (selected.x.dtype, list(selected.condition.values), selected.index.tolist()) == (torch.float64, ["label"], [7, 9])
    assert selected.condition.mask("label").tolist() == [True, False]
    assert selected.condition.values["label"].dtype == torch.int64
    assert len(selected[1:]) == 1


@pytest.mark.parametrize("interface", [Generator, DensityModel, LatentModel, Translator])
def test_abstract_until_the_hook_is_written(interface):
    with pytest.raises(TypeError, match="abstract"):
        interface(Config(), SPEC)
