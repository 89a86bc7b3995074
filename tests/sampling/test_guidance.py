"""Classifier-free guidance and dynamic thresholds against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampling.oracles import BAR, chain_denoiser, column, gaussian_x0, output_of
from sampling.samplers import KEPT, SIGMAS

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.maths import from_x0
from medgen.sampling import ancestral, ddim, dpm_solver, dynamic_threshold, guided, heun

NOISE = Noise.of(0, range(6))
CLASSES = torch.tensor([-1.0, 0.5, 2.0, -1.0, 0.5, 2.0], dtype=torch.float64)  # mean of each sample's class; 0.2 without a class
NONE = 0.2


def conditional(prediction="eps", means=None):
    """The exact network of 2 B samples, whose second half is unconditional."""
    means = torch.cat((CLASSES, torch.full((6,), NONE, dtype=torch.float64))) if means is None else means

    def network(x, t):
        at = column(BAR[t], x)
        signal, noise = at.sqrt(), (1 - at).sqrt()
        return output_of(gaussian_x0(x, signal, noise, mean=column(means, x)), x, signal, noise, prediction)

    return network


class TestGuided:
    @pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, -0.5])
    @pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
    def test_of_gaussians_of_one_width_is_a_gaussian_elsewhere(self, scale, prediction):
        """x_0 is linear in the mean: guidance samples N(u + scale (c - u), sd^2) exactly."""
        x = NOISE.normal(3, dtype=torch.float64)
        moved = NONE + scale * (CLASSES - NONE)
        for sampler, rest in ((ancestral, {"noise": NOISE}), (ddim, {"noise": NOISE}), (dpm_solver, {})):
            found = sampler(guided(conditional(prediction), scale), x, BAR, kept=KEPT, prediction=prediction, **rest)
            expected = sampler(conditional(prediction, moved), x, BAR, kept=KEPT, prediction=prediction, **rest)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)

    def test_heun(self):
        def network(means):
            return lambda x, sigma: gaussian_x0(x, 1.0, column(sigma, x), mean=column(means, x))

        both = torch.cat((CLASSES, torch.full((6,), NONE, dtype=torch.float64)))
        found = heun(guided(network(both), 2.0), (3,), SIGMAS, noise=NOISE)
        torch.testing.assert_close(found, heun(network(2 * CLASSES - NONE), (3,), SIGMAS, noise=NOISE), rtol=1e-4, atol=1e-4)

    def test_one_call_of_two_batches_into_one_buffer(self):
        shapes, addresses = [], set()

        def network(x, t):
            shapes.append((tuple(x.shape), tuple(t.shape)))
            addresses.add((x.data_ptr(), t.data_ptr()))
            assert bool((x[:6] == x[6:]).all())
            return x

        ancestral(guided(network, 2.0), (3,), BAR, noise=NOISE, kept=KEPT)
        assert shapes == [((12, 3), (12,))] * len(KEPT)
        assert len(addresses) == 1

    def test_another_batch_another_buffer(self):
        call = guided(lambda x, t: x, 2.0)
        first = call(torch.ones(2, 3), torch.zeros(2))
        second = call(torch.full((1, 5), 4.0, dtype=torch.float64), torch.zeros(1))
        assert second.shape == (1, 5)
        assert second.dtype == torch.float64
        assert bool((first == 1).all())

    def test_learned_variance_is_the_conditional_one(self):
        output = torch.arange(12.0).reshape(2, 6, 1)  # B = 1, C = 3
        found = guided(lambda x, t: output, 2.0)(torch.zeros(1, 3, 1), torch.zeros(1))
        assert found.flatten().tolist() == [-6.0, -5.0, -4.0, 3.0, 4.0, 5.0]

    def test_alone_is_as_in_a_batch(self):
        def run(rows):
            means = torch.cat((CLASSES[rows], torch.full((len(rows),), NONE, dtype=torch.float64)))
            return ancestral(guided(conditional(means=means), 2.0), (3,), BAR, noise=Noise.of(0, rows), kept=KEPT)

        assert bool((run([4])[0] == run([0, 1, 2, 3, 4, 5])[4]).all())

    def test_refusals(self):
        with pytest.raises(ConfigError, match="finite"):
            guided(chain_denoiser(), float("inf"))
        with pytest.raises(ConfigError, match="rows"):
            guided(lambda x, t: x[:1], 2.0)(torch.zeros(2, 3), torch.zeros(2))


class TestDynamicThreshold:
    @given(st.integers(1, 40), st.floats(0.05, 1.0), st.floats(0.5, 3.0), st.integers(0, 1000))
    def test_formula(self, count, quantile, bound, seed):
        x0 = torch.randn(3, count, generator=torch.Generator().manual_seed(seed)) * torch.tensor([[0.1], [1.0], [9.0]])
        found = dynamic_threshold(lambda x, t: x0, quantile=quantile, bound=bound)(torch.zeros_like(x0), torch.zeros(3))
        for row, got in zip(x0, found, strict=True):
            ordered = sorted(abs(v) for v in row.tolist())
            rank = next(i for i in range(count) if (i + 1) / count >= quantile - 1e-9)
            limit = max(ordered[rank], bound)
            torch.testing.assert_close(got, row.clamp(-limit, limit) * (bound / limit))
        assert float(found.abs().max()) <= bound * (1 + 1e-6)

    @pytest.mark.parametrize("prediction", ["eps", "v", "score"])
    def test_any_prediction(self, prediction):
        """The samples are those of a network that predicts x_0."""
        x, shared = NOISE.normal(2, 3, dtype=torch.float64), {"noise": NOISE, "kept": KEPT}

        def wide(x, signal, noise):
            return 3 * gaussian_x0(x, signal, noise)

        plain = dynamic_threshold(chain_denoiser("x0", x0=wide), quantile=0.8)
        other = dynamic_threshold(chain_denoiser(prediction, x0=wide), alpha_bar=BAR, prediction=prediction, quantile=0.8)
        expected = ancestral(plain, x, BAR, prediction="x0", **shared)
        torch.testing.assert_close(ancestral(other, x, BAR, prediction=prediction, **shared), expected, rtol=1e-8, atol=1e-8)
        assert float(expected.abs().max()) <= 1 + 1e-9

    def test_small_samples_are_left_alone(self):
        x0 = torch.tensor([[0.1, -0.9, 0.3]])
        assert bool((dynamic_threshold(lambda x, t: x0)(x0, torch.zeros(1)) == x0).all())

    def test_variance_passes(self):
        t = torch.tensor([500, 20])
        x0, variance = torch.full((2, 2, 3), 4.0), torch.full((2, 2, 3), 0.25)
        x = torch.zeros(2, 2, 3)
        at = BAR[t].float().view(2, 1, 1)
        output = torch.cat((from_x0(x0, x, at.sqrt(), (1 - at).sqrt(), "eps"), variance), 1)
        found = dynamic_threshold(lambda x, t: output, alpha_bar=BAR, prediction="eps")(x, t)
        torch.testing.assert_close(found[:, :2], output[:, :2] / 4)
        assert bool((found[:, 2:] == 0.25).all())

    def test_refusals(self):
        with pytest.raises(ConfigError, match="alpha_bar"):
            dynamic_threshold(chain_denoiser(), prediction="eps")
        for wrong in ({"quantile": 0.0}, {"quantile": 1.1}, {"bound": 0.0}):
            with pytest.raises(ConfigError, match="quantile"):
                dynamic_threshold(chain_denoiser(), **wrong)
