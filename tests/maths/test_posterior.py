"""The posterior of a step against Bayes' rule, and the terms of the bound against closed forms and published values."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from medgen.maths import (
    alpha_bars,
    cosine_betas,
    kept_steps,
    kl_prior,
    kl_step,
    linear_betas,
    log_variances,
    posterior,
    posterior_coefficients,
    previous_alpha_bars,
)

BAR = alpha_bars(linear_betas())
shares = st.floats(0.02, 0.98)


def t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(shares, shares, st.floats(-3, 3), st.floats(-3, 3))
def test_posterior_is_bayes_rule(before, ratio, x0, x):
    """q(x_s | x_0) q(x_t | x_s) as a function of x_s, by completing the square."""
    at = before * ratio
    precision = 1 / (1 - before) + ratio / (1 - ratio)
    mean = (math.sqrt(before) * x0 / (1 - before) + math.sqrt(ratio) * x / (1 - ratio)) / precision
    found = posterior(t(x0), t(x), t(at), t(before))
    torch.testing.assert_close(found[0], t(mean), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1], t(1 / precision), rtol=1e-9, atol=1e-12)


def test_the_first_step_ends_at_the_data():
    on_x0, on_x, variance = posterior_coefficients(BAR[0], t(1.0))
    torch.testing.assert_close(torch.stack((on_x0, on_x, variance)), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))


@given(st.integers(1, 1000))
def test_marginals_are_kept(kept):
    """x_0 ~ N(0, 1) stays N(0, 1) through q(x_s | x_t, x_0): c_0^2 + c_t^2 + 2 c_0 c_t sqrt(abar_t) + btilde = 1."""
    at, before = previous_alpha_bars(BAR, kept_steps(1000, kept))
    on_x0, on_x, variance = posterior_coefficients(at, before)
    total = on_x0**2 + on_x**2 + 2 * on_x0 * on_x * at.sqrt() + variance
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-9, atol=1e-9)


class TestLogVariances:
    def test_published(self):
        """B.11.1: the second step's btilde, 5.4532e-5, stands for the first's too."""
        low, high = log_variances(*previous_alpha_bars(BAR, torch.arange(1000)))
        torch.testing.assert_close(low[:2].exp(), torch.full((2,), 5.4532e-5, dtype=torch.float64), rtol=1e-5, atol=0)
        torch.testing.assert_close(high.exp(), linear_betas(), rtol=1e-9, atol=0)
        assert bool((low[1:] < high[1:]).all())

    def test_one_step(self):
        low, high = log_variances(*previous_alpha_bars(BAR, torch.tensor([999])))
        torch.testing.assert_close(low, high)


class TestBound:
    def test_published_prior_term(self):
        """B.11.4: 2.9e-5 bits per dimension for data of unit variance."""
        x0 = torch.tensor([1.0, -1.0], dtype=torch.float64)  # mean square 1
        assert f"{float(kl_prior(x0, BAR[-1]).mean()) / math.log(2):.1e}" == "2.9e-05"

    @given(st.floats(-3, 3), st.floats(1e-6, 0.9))
    def test_prior_term(self, x0, last):
        q = Normal(t(math.sqrt(last) * x0), t(math.sqrt(1 - last)))
        torch.testing.assert_close(kl_prior(t(x0), last), kl_divergence(q, Normal(t(0.0), t(1.0))), rtol=1e-7, atol=1e-12)

    @given(shares, shares, st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
    def test_step_term(self, before, ratio, x0, predicted, x, log_var):
        at = t(before * ratio)
        mean, variance = posterior(t(x0), t(x), at, t(before))
        other = posterior(t(predicted), t(x), at, t(before))[0]
        for chosen in (None, t(log_var)):
            p = Normal(other, (variance.log() if chosen is None else chosen).div(2).exp())
            expected = kl_divergence(Normal(mean, variance.sqrt()), p)
            torch.testing.assert_close(kl_step(t(x0), t(predicted), at, t(before), chosen), expected, rtol=1e-7, atol=1e-9)

    @given(shares, shares, st.floats(-3, 3), st.floats(-3, 3))
    def test_step_term_by_the_signal_to_noise_ratio(self, before, ratio, x0, predicted):
        at = before * ratio
        expected = (before / (1 - before) - at / (1 - at)) * (x0 - predicted) ** 2 / 2
        torch.testing.assert_close(kl_step(t(x0), t(predicted), t(at), t(before)), t(expected), rtol=1e-7, atol=1e-9)

    def test_the_terms_sum_to_the_elbo(self):
        """A Gaussian chain in closed form: L_T + sum L_t + L_0 of the exact denoiser, against -E log p by Monte Carlo over whole paths."""
        bar, sd = alpha_bars(cosine_betas(20)), 0.5
        at, before = previous_alpha_bars(bar, torch.arange(20))
        generator = torch.Generator().manual_seed(0)
        x0 = torch.randn(20_000, dtype=torch.float64, generator=generator) * sd

        def predict(x, k):
            return at[k].sqrt() * sd**2 / (at[k] * sd**2 + 1 - at[k]) * x

        low, _ = log_variances(at, before)
        step_sd = low.div(2).exp()
        terms = kl_prior(x0, bar[-1]).mean()
        for k in range(20):
            x = at[k].sqrt() * x0 + (1 - at[k]).sqrt() * torch.randn(len(x0), dtype=torch.float64, generator=generator)
            decoder = Normal(predict(x, k), step_sd[0]) if k == 0 else None
            terms += kl_step(x0, predict(x, k), at[k], before[k]).mean() if decoder is None else -decoder.log_prob(x0).mean()
        path = [x0]
        for k in range(20):
            ratio = at[k] / before[k]
            path.append(ratio.sqrt() * path[-1] + (1 - ratio).sqrt() * torch.randn(len(x0), dtype=torch.float64, generator=generator))
        elbo = Normal(t(0.0), t(1.0)).log_prob(path[-1])
        for k in range(20):
            ratio = at[k] / before[k]
            elbo -= Normal(ratio.sqrt() * path[k], (1 - ratio).sqrt()).log_prob(path[k + 1])
            mean = posterior(predict(path[k + 1], k), path[k + 1], at[k], before[k])[0]
            elbo += Normal(mean, step_sd[k]).log_prob(path[k])
        error = float(elbo.std()) / math.sqrt(len(x0))
        assert abs(float(terms + elbo.mean())) < 5 * error
        assert error < 0.1
