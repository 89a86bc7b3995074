"""eps, x0, v and the score say the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.maths import from_x0, to_x0, x0_coefficients

PREDICTIONS = ("eps", "x0", "v", "score")
levels = st.floats(0.05, 1.5)


def t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.05, math.pi / 2 - 0.05))
def test_the_definitions_on_the_circle(x0, eps, angle):
    signal, noise = t(angle).cos(), t(angle).sin()
    x = signal * x0 + noise * eps
    outputs = {"eps": t(eps), "x0": t(x0), "v": signal * eps - noise * x0, "score": (signal * x0 - x) / noise.square()}
    for prediction, output in outputs.items():
        torch.testing.assert_close(to_x0(output, x, signal, noise, prediction), t(x0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(from_x0(t(x0), x, signal, noise, prediction), output, rtol=1e-9, atol=1e-9)


@given(st.sampled_from(PREDICTIONS), st.floats(-3, 3), st.floats(-3, 3), levels, levels)
def test_to_and_from_are_inverse_at_any_levels(prediction, output, x, signal, noise):
    signal, noise = t(signal), t(noise)
    back = from_x0(to_x0(t(output), t(x), signal, noise, prediction), t(x), signal, noise, prediction)
    torch.testing.assert_close(back, t(output), rtol=1e-8, atol=1e-8)


def test_v_off_the_circle():
    """signal eps - noise x0 with sigma = 2 beside a whole signal."""
    x0, eps, signal, noise = t(0.7), t(-1.2), t(1.0), t(2.0)
    torch.testing.assert_close(to_x0(signal * eps - noise * x0, signal * x0 + noise * eps, signal, noise, "v"), x0)


def test_the_score_is_the_gradient_of_the_log_density():
    x = t(0.4).requires_grad_()
    signal, noise, x0 = t(0.8), t(0.6), t(-0.5)
    (-0.5 * ((x - signal * x0) / noise).square()).backward()
    torch.testing.assert_close(from_x0(x0, x.detach(), signal, noise, "score"), x.grad)


def test_refusal():
    with pytest.raises(ConfigError, match="prediction"):
        x0_coefficients(t(1.0), t(1.0), "velocity")  # type: ignore[arg-type]
