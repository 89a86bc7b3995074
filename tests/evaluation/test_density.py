"""Nats and bits: the transform between units, on a density known in both."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.evaluation import evaluate_density
from medgen.evaluation.density import bits_per_dim, bits_per_dim_model, log_likelihood
from medgen.ops import philox_normal
from medgen.registry import ImageSpec, Intensity


@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_stored_bits_are_those_of_the_density_of_stored_values(width, low, channels):
    """y ~ N(m, s^2) per value; the model sees x = scale y + offset and knows its density exactly."""
    lows = tuple(low + c for c in range(channels))
    intensity = Intensity(low=lows, high=tuple(v + width * (c + 1) for c, v in enumerate(lows)), range=(-1.0, 1.0), clip=False)
    spec = ImageSpec(channels=channels, shape=(5,), intensity=intensity)
    y = 2.0 + 3.0 * philox_normal(0, torch.arange(4), (channels, 5), dtype=torch.float64)
    two, three = torch.tensor([2.0, 3.0], dtype=torch.float64)
    stored = torch.distributions.Normal(two, three).log_prob(y).flatten(1).sum(1)
    scale = torch.tensor([intensity.scale(c) for c in range(channels)], dtype=torch.float64)[:, None]
    offset = torch.tensor([intensity.offset(c) for c in range(channels)], dtype=torch.float64)[:, None]
    model = torch.distributions.Normal(2.0 * scale + offset, 3.0 * scale).log_prob(scale * y + offset).flatten(1).sum(1)
    assert torch.allclose(bits_per_dim(model, spec), -stored / (5 * channels * math.log(2)), rtol=1e-9)


def test_eight_bit_images_add_log2_255():
    spec = ImageSpec(channels=1, shape=(4, 4), intensity=Intensity(high=(255.0,)))
    log_prob = torch.tensor([3.0, -40.0])
    assert torch.allclose(bits_per_dim(log_prob, spec) - bits_per_dim_model(log_prob, spec), torch.full((2,), math.log2(255)).double())


def test_uniform_density_on_256_levels_is_eight_bits():
    spec = ImageSpec(channels=1, shape=(3,), intensity=Intensity(low=(0.0,), high=(256.0,), range=(0.0, 1.0)))
    assert bits_per_dim(torch.zeros(1), spec).tolist() == pytest.approx([8.0])


def test_scores_have_two_standard_errors_and_say_what_the_number_is():
    log_prob = philox_normal(0, torch.arange(100), (), dtype=torch.float64) * 4 - 100
    spec = ImageSpec(channels=1, shape=(10,))
    nats, bits, model_bits = evaluate_density(log_prob, spec, kind="bound")
    assert nats.value == pytest.approx(float(log_prob.mean()))
    assert nats.details["two_se"] == pytest.approx(2 * float(log_prob.std()) / 10)
    assert nats.low < nats.value < nats.high
    assert nats.better == "higher"
    assert bits.value == model_bits.value == pytest.approx(-nats.value / (10 * math.log(2)))
    assert bits.recipe["log_prob"] == "bound"
    assert "lower bound" in bits.note
    assert evaluate_density(log_prob, spec, kind="exact")[0].note == ""


@pytest.mark.parametrize("bad", [torch.zeros(2, 2), torch.tensor([math.nan]), torch.zeros(0)])
def test_bad_log_probs_are_refused(bad):
    for metric in (log_likelihood, bits_per_dim, bits_per_dim_model):
        with pytest.raises(DataError, match="`log_prob`"):
            metric(bad, ImageSpec(channels=1, shape=(2,)))
