"""Gaussian data: every sampler is a linear recursion, and agrees with it; the deterministic ones converge at their order."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from sampling.oracles import (
    BAR,
    MEAN,
    SD,
    ancestral_steps,
    chain_denoiser,
    ddim_steps,
    dpm_solver_chain,
    edm_denoiser,
    edm_steps,
    exact_flow,
    gaussian_x0,
    ode_steps,
    straight_velocity,
    through,
)

from medgen.interfaces import Noise
from medgen.maths import alpha_bars, karras_sigmas, kept_steps, linear_betas, log_snr_steps
from medgen.sampling import ancestral, ddim, dpm_solver, heun, ode

STEPS = (1000, 250, 100, 50, 10)
NOISE = Noise.of(7, range(512))
SHAPE = (16,)
PROBE = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]


def agrees(x, mean, sd, sigmas=4.5):
    n = x.numel()
    off = abs(float(x.double().mean()) - mean) / (sd / math.sqrt(n)), abs(float(x.double().std()) - sd) / (sd / math.sqrt(2 * n))
    return max(off) < sigmas


def affine(f, x=PROBE):
    """f at the probes, for f affine in Python numbers."""
    return f(0.0) + (f(1.0) - f(0.0)) * x


def composed(steps):
    steps = list(steps)

    def f(x):
        for step, _ in steps:
            x = step(x)
        return x

    return f


class TestClosedForm:
    @pytest.mark.parametrize("steps", STEPS)
    @pytest.mark.parametrize("variance", ["beta", "posterior"])
    def test_ancestral(self, steps, variance):
        kept = kept_steps(1000, steps, "trailing")
        x = ancestral(chain_denoiser(), SHAPE, BAR, noise=NOISE, kept=kept, variance=variance)
        assert agrees(x, *through(ancestral_steps(BAR, kept, variance)))

    @pytest.mark.parametrize("steps", STEPS)
    @pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
    def test_ddim(self, steps, eta):
        kept = kept_steps(1000, steps)
        x = ddim(chain_denoiser(), SHAPE, BAR, noise=NOISE, kept=kept, eta=eta)
        assert agrees(x, *through(ddim_steps(BAR, kept, eta)))

    @pytest.mark.parametrize("steps", STEPS)
    def test_ddim_deterministic_to_rounding(self, steps):
        kept = kept_steps(1000, steps)
        x = ddim(chain_denoiser(), PROBE, BAR, noise=Noise.of(0, range(5)), kept=kept)
        torch.testing.assert_close(x, affine(composed(ddim_steps(BAR, kept, 0.0))), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("steps", STEPS)
    @pytest.mark.parametrize("spacing", ["linspace", "log_snr"])
    def test_dpm_solver(self, steps, spacing):
        kept = log_snr_steps(BAR, steps) if spacing == "log_snr" else kept_steps(1000, steps, spacing)

        def by_hand(x):
            return dpm_solver_chain(x, BAR, kept)

        x = dpm_solver(chain_denoiser(), PROBE, BAR, kept=kept)
        torch.testing.assert_close(x, affine(by_hand), rtol=1e-9, atol=1e-9)
        x = dpm_solver(chain_denoiser(), SHAPE, BAR, noise=NOISE, kept=kept)
        assert agrees(x, by_hand(0.0), abs(by_hand(1.0) - by_hand(0.0)))

    @pytest.mark.parametrize("steps", STEPS)
    def test_heun(self, steps):
        sigmas = karras_sigmas(steps)
        x = heun(edm_denoiser, 80 * PROBE, sigmas)
        torch.testing.assert_close(x, affine(composed(edm_steps(sigmas)), 80 * PROBE), rtol=1e-9, atol=1e-9)
        assert agrees(heun(edm_denoiser, SHAPE, sigmas, noise=NOISE), *through(edm_steps(sigmas), 80.0))

    @pytest.mark.parametrize("steps", STEPS)
    def test_heun_with_churn(self, steps):
        """EDM's own settings for ImageNet."""
        sigmas = karras_sigmas(steps)
        options = {"churn": 40.0, "churn_range": (0.05, 50.0), "churn_noise": 1.003}
        x = heun(edm_denoiser, SHAPE, sigmas, noise=NOISE, **options)
        assert agrees(x, *through(edm_steps(sigmas, *options.values()), 80.0))

    @pytest.mark.parametrize("steps", STEPS)
    @pytest.mark.parametrize("method", ["euler", "midpoint", "heun"])
    def test_ode(self, steps, method):
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        x = ode(straight_velocity, PROBE, times, method=method)
        torch.testing.assert_close(x, affine(composed(ode_steps(times, method))), rtol=1e-9, atol=1e-9)
        assert agrees(ode(straight_velocity, SHAPE, times, method=method, noise=NOISE), *through(ode_steps(times, method)))

    def test_the_check_can_fail(self):
        """A recursion of 50 steps is told apart from one of 100, for every sampler that is checked by moments."""
        other = kept_steps(1000, 100, "trailing")
        x = ancestral(chain_denoiser(), SHAPE, BAR, noise=NOISE, kept=kept_steps(1000, 50, "trailing"))
        assert not agrees(x, *through(ancestral_steps(BAR, other, "posterior")))
        x = heun(edm_denoiser, SHAPE, karras_sigmas(10), noise=NOISE, churn=40.0)
        assert not agrees(x, *through(edm_steps(karras_sigmas(10)), 80.0))


class TestPublished:
    @pytest.mark.parametrize(("steps", "sd"), [(1000, 0.498), (250, 0.484), (100, 0.466), (50, 0.442)])
    def test_strided_ancestral_stays_near_the_data(self, steps, sd):
        """With t - 1 for the kept step before, 50 steps end at sd 0.94."""
        kept = kept_steps(1000, steps, "trailing")
        mean, found = through(ancestral_steps(BAR, kept, "posterior"))
        assert found == pytest.approx(sd, abs=0.006)
        assert mean == pytest.approx(MEAN, abs=0.01)
        x = ancestral(chain_denoiser(), (64,), BAR, noise=NOISE, kept=kept)
        assert float(x.std()) == pytest.approx(sd, abs=0.01)

    @pytest.mark.parametrize("steps", [1000, 50])
    def test_ddim_at_eta_1_is_ancestral(self, steps):
        kept = kept_steps(1000, steps)
        found = ddim(chain_denoiser(), SHAPE, BAR, noise=NOISE, kept=kept, eta=1.0)
        torch.testing.assert_close(found, ancestral(chain_denoiser(), SHAPE, BAR, noise=NOISE, kept=kept), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("clip", [None, 0.5])
    def test_every_prediction_gives_the_same_samples(self, clip):
        kept = kept_steps(1000, 20)
        start = NOISE.normal(*SHAPE, dtype=torch.float64)

        def samplers(prediction):
            network, shared = chain_denoiser(prediction), {"kept": kept, "prediction": prediction, "clip": clip}
            yield ancestral(network, start, BAR, noise=NOISE, **shared)
            yield ddim(network, start, BAR, noise=NOISE, eta=0.3, **shared)
            yield dpm_solver(network, start, BAR, **shared)

        expected = list(samplers("x0"))
        for prediction in ("eps", "v", "score"):
            for found, x in zip(samplers(prediction), expected, strict=True):
                torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)

    def test_learned_variance(self):
        kept = kept_steps(1000, 20)

        def network(x, t):
            return torch.cat((chain_denoiser()(x, t), torch.ones_like(x)), 1)

        beta = ancestral(chain_denoiser(), (2, 4), BAR, noise=NOISE, kept=kept, variance="beta")
        learned = ancestral(network, (2, 4), BAR, noise=NOISE, kept=kept, variance="learned")
        torch.testing.assert_close(learned, beta, rtol=1e-4, atol=1e-4)
        for sampler in (ancestral, ddim, dpm_solver):  # which have no use for the variance
            plain, found = (sampler(f, (2, 4), BAR, noise=NOISE, kept=kept) for f in (chain_denoiser(), network))
            assert bool((plain == found).all())


def slopes(errors):
    return [math.log2(a / b) for a, b in pairwise(errors)]


class TestOrder:
    """log2 of the ratio of errors as the steps double."""

    FINE = alpha_bars(linear_betas(50_000))
    COUNTS = (20, 40, 80, 160)

    def chain_errors(self, sampler):
        levels = [(math.sqrt(bar), math.sqrt(1 - bar)) for bar in self.FINE[[-1, 0]].tolist()]
        expected = gaussian_x0(exact_flow(PROBE, *levels), *levels[1])
        return [float((sampler(log_snr_steps(self.FINE, n)) - expected).abs().max()) for n in self.COUNTS]

    def test_ddim(self):
        noise, network = Noise.of(0, range(5)), chain_denoiser(bar=self.FINE)
        found = slopes(self.chain_errors(lambda kept: ddim(network, PROBE, self.FINE, noise=noise, kept=kept)))
        assert found == pytest.approx([1.0] * 3, abs=0.15)

    def test_dpm_solver(self):
        network = chain_denoiser(bar=self.FINE)
        found = slopes(self.chain_errors(lambda kept: dpm_solver(network, PROBE, self.FINE, kept=kept)))
        assert found == pytest.approx([2.0] * 3, abs=0.3)

    def test_heun(self):
        expected = gaussian_x0(exact_flow(80 * PROBE, (1.0, 80.0), (1.0, 0.002)), 1.0, 0.002)
        found = [float((heun(edm_denoiser, 80 * PROBE, karras_sigmas(n)) - expected).abs().max()) for n in self.COUNTS]
        assert slopes(found) == pytest.approx([2.0] * 3, abs=0.3)

    @pytest.mark.parametrize(("method", "order"), [("euler", 1.0), ("midpoint", 2.0), ("heun", 2.0)])
    @pytest.mark.parametrize("backwards", [False, True])
    def test_ode(self, method, order, backwards):
        """dx / dt = x cos t, x = exp(sin t). (For Gaussian data on straight paths midpoint's second-order term happens to vanish.)"""
        ends = (1.5, -0.5) if backwards else (-0.5, 1.5)

        def velocity(x, t):
            return x * t.cos()[:, None]

        expected = PROBE * math.exp(math.sin(ends[1]) - math.sin(ends[0]))
        times = [torch.linspace(*ends, n + 1, dtype=torch.float64) for n in self.COUNTS]
        assert slopes([float((ode(velocity, PROBE, t, method=method) - expected).abs().max()) for t in times]) == pytest.approx(
            [order] * 3, abs=0.3
        )

    def test_deterministic_samplers_tend_to_the_data(self):
        """At 1000 steps: (m, s) to the errors that are left of their order."""
        kept = log_snr_steps(BAR, 1000)
        ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # mean, and mean + sd
        found = {
            "ddim": ddim(chain_denoiser(), ends, BAR, noise=Noise.of(0, range(2)), kept=kept),
            "dpm_solver": dpm_solver(chain_denoiser(), ends, BAR, kept=kept),
            "heun": heun(edm_denoiser, 80 * ends, karras_sigmas(1000)),
            "ode": ode(straight_velocity, ends, torch.linspace(0, 1, 1001)),
        }
        for name, x in found.items():
            assert float(x[0]) == pytest.approx(MEAN, abs=0.01), name  # x_T of a chain is not quite N(0, 1)
            assert float(x[1] - x[0]) == pytest.approx(SD, abs=0.002), name
