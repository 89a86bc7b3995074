"""Noise schedules: the published values, and what a shorter chain keeps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.maths import alpha_bars, cosine_betas, kept_steps, linear_betas, log_snr_steps, previous_alpha_bars


class TestLinear:
    @pytest.mark.parametrize(("t", "value"), [(1, 0.9999), (250, 0.524085), (500, 0.078587), (750, 0.0033506), (1000, 4.0358e-5)])
    def test_published_alpha_bars(self, t, value):
        assert float(alpha_bars(linear_betas())[t - 1]) == pytest.approx(value, rel=2e-5)

    def test_published_posterior_variance(self):
        beta = linear_betas()
        bar = alpha_bars(beta)
        assert float(beta[1] * (1 - bar[0]) / (1 - bar[1])) == pytest.approx(5.4532e-5, rel=1e-5)

    def test_end_hardly_depends_on_the_length(self):
        ends = [math.log(alpha_bars(linear_betas(steps))[-1]) for steps in (250, 500, 1000, 4000)]
        assert max(ends) - min(ends) < 0.5

    def test_too_short(self):
        with pytest.raises(ConfigError, match="more steps"):
            linear_betas(10)
        with pytest.raises(ConfigError, match="at least 1"):
            linear_betas(0)


class TestCosine:
    def test_published_values(self):
        beta = cosine_betas()
        bar = alpha_bars(beta)
        assert float(beta[0]) == pytest.approx(4.1284e-5, rel=1e-4)
        assert float(bar[499]) == pytest.approx(0.493844, rel=1e-5)
        assert float(beta[-1]) == pytest.approx(0.999)
        assert float(bar[-1]) == pytest.approx(2.4288e-9, rel=1e-4)

    @given(st.integers(1, 300))
    def test_float64_inside_bounds(self, steps):
        beta = cosine_betas(steps)
        assert beta.dtype == torch.float64
        assert len(beta) == steps
        assert bool(((beta > 0) & (beta <= 0.999)).all())


class TestKeptSteps:
    @given(st.data())
    def test_ascending_inside_the_chain(self, data):
        total = data.draw(st.integers(1, 1000))
        kept = data.draw(st.integers(1, total))
        spacing = data.draw(st.sampled_from(["uniform", "linspace", "trailing"]))
        steps = kept_steps(total, kept, spacing)
        assert len(steps) == kept
        assert steps.dtype == torch.int64
        assert int(steps[0]) >= 0
        assert int(steps[-1]) < total
        assert bool((steps.diff() > 0).all())

    @pytest.mark.parametrize("spacing", ["uniform", "linspace", "trailing"])
    def test_all_of_them(self, spacing):
        assert kept_steps(37, 37, spacing).tolist() == list(range(37))

    def test_as_published(self):
        assert kept_steps(1000, 50).tolist() == list(range(0, 1000, 20))  # DDIM
        assert kept_steps(1000, 100, "linspace")[[0, -1]].tolist() == [0, 999]  # Improved DDPM
        assert kept_steps(1000, 10, "trailing")[[0, -1]].tolist() == [99, 999]

    def test_refusals(self):
        with pytest.raises(ConfigError, match="kept"):
            kept_steps(10, 11)
        with pytest.raises(ConfigError, match="fall on each other"):
            kept_steps(1000, 600, "quadratic")
        with pytest.raises(ConfigError, match="spacing"):
            kept_steps(10, 5, "cubic")  # type: ignore[arg-type]


class TestLogSnrSteps:
    @given(st.integers(1, 400), st.data())
    def test_ascending_from_end_to_end(self, total, data):
        kept = data.draw(st.integers(1, total))
        steps = log_snr_steps(alpha_bars(cosine_betas(total)), kept)
        assert len(steps) == kept
        assert steps.dtype == torch.int64
        assert bool((steps.diff() > 0).all())
        assert int(steps[-1]) == total - 1
        assert kept == 1 or int(steps[0]) == 0

    def test_even(self):
        """Of a fine chain, away from the data, where single steps are longer than the gap."""
        bar = alpha_bars(linear_betas(100_000))
        gaps = torch.logit(bar[log_snr_steps(bar, 30)]).diff()[5:]
        assert float(gaps.max() / gaps.min()) == pytest.approx(1.0, abs=0.03)

    def test_refusal(self):
        with pytest.raises(ConfigError, match="kept"):
            log_snr_steps(alpha_bars(linear_betas()), 1001)


def test_previous_is_the_kept_one():
    bar = alpha_bars(linear_betas())
    kept = kept_steps(1000, 4)
    at, before = previous_alpha_bars(bar, kept)
    assert at.tolist() == bar[[0, 250, 500, 750]].tolist()
    assert before.tolist() == [1.0, *bar[[0, 250, 500]].tolist()]
