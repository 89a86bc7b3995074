"""Inpainting by replacement: what holds exactly, and how near resampling comes to the conditional distribution."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from sampling.oracles import (
    BAR,
    ancestral_steps,
    chain_denoiser,
    column,
    ddim_steps,
    edm_denoiser,
    edm_steps,
    gaussian_x0,
    straight_velocity,
    through,
)
from sampling.samplers import KEPT, SAMPLERS, SIGMAS, TIMES

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.maths import karras_sigmas, kept_steps
from medgen.sampling import Known, ancestral, ddim, dpm_solver, heun, ode

every_sampler = pytest.mark.parametrize("name", SAMPLERS)
NOISE = Noise.of(2, range(6))
MASK = torch.tensor([[True, False, True], [False, False, True]])  # [C, S]
VALUES = torch.tensor([[0.1, torch.nan, -0.7], [torch.inf, 0.0, 2.5]])


@every_sampler
def test_known_values_come_out_exactly_and_the_rest_is_untouched(name):
    """Of independent components the unknown ones are, to the bit, those of an unconditional sample: their streams are their own."""
    found, plain = SAMPLERS[name]((2, 3), NOISE, known=Known(VALUES, MASK)), SAMPLERS[name]((2, 3), NOISE)
    assert bool((found[:, MASK] == VALUES[MASK]).all())
    assert bool((found[:, ~MASK] == plain[:, ~MASK]).all())


def again(steps, levels, rounds):
    """Each step, and then so many times back by the forward process and forth: a recursion like any other. `levels`: (signal, noise)."""
    for (step, scale), (start, end) in zip(steps, pairwise(levels), strict=True):
        yield step, scale
        ratio = start[0] / end[0]
        back = (lambda x, ratio=ratio: ratio * x), math.sqrt(start[1] ** 2 - (ratio * end[1]) ** 2)
        for _ in range(rounds - 1 if end[1] else 0):
            yield back
            yield step, scale


@pytest.mark.parametrize("name", ["ancestral", "ddim", "heun"])
@pytest.mark.parametrize("rounds", [2, 5])
def test_resampling_against_its_closed_form(name, rounds):
    """The unknown part, independent of the known one, is a linear recursion with more steps."""
    noise, known, kept = Noise.of(2, range(4000)), Known(VALUES, MASK, resample=rounds), kept_steps(1000, 20)
    levels = [(math.sqrt(bar), math.sqrt(1 - bar)) for bar in [*BAR[kept].flip(0).tolist(), 1.0]]
    if name == "heun":
        sigmas = karras_sigmas(20)
        x = heun(edm_denoiser, (2, 3), sigmas, noise=noise, known=known)
        levels = [(1.0, sigma) for sigma in sigmas.tolist()]
        mean, sd = through(again(list(edm_steps(sigmas))[1::2], levels, rounds), 80.0)
    elif name == "ddim":
        x = ddim(chain_denoiser(), (2, 3), BAR, noise=noise, kept=kept, eta=0.5, known=known)
        mean, sd = through(again(ddim_steps(BAR, kept, 0.5), levels, rounds))
    else:
        x = ancestral(chain_denoiser(), (2, 3), BAR, noise=noise, kept=kept, known=known)
        mean, sd = through(again(ancestral_steps(BAR, kept, "posterior"), levels, rounds))
    assert bool((x[:, MASK] == VALUES[MASK]).all())
    rest = x[:, ~MASK]
    assert abs(float(rest.mean()) - mean) < 4.5 * sd / math.sqrt(rest.numel())
    assert abs(float(rest.std()) - sd) < 4.5 * sd / math.sqrt(2 * rest.numel())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@every_sampler
def test_dtypes(name, dtype):
    x = NOISE.normal(2, 3, dtype=dtype)

    def network(x, t):
        return x * 0.5

    found = SAMPLERS[name](x, NOISE, network, known=Known(VALUES, MASK))
    assert found.dtype == dtype
    assert bool((found[:, MASK] == VALUES[MASK].to(dtype)).all())


@pytest.mark.parametrize(("values", "mask"), [((), (2, 3)), ((6, 1, 1), (3,)), ((6, 2, 3), (6, 2, 3)), ((1, 3), (6, 1, 1))])
def test_broadcasting(values, mask):
    known = Known(torch.randn(values, generator=torch.Generator().manual_seed(0)), torch.arange(math.prod(mask)).reshape(mask) % 2 == 0)
    mask, values = known.mask.expand(6, 2, 3), known.values.expand(6, 2, 3)
    assert 0 < int(mask.sum()) < mask.numel()
    for sampler in (SAMPLERS["ancestral"], SAMPLERS["heun"], SAMPLERS["euler"]):
        found = sampler((2, 3), NOISE, known=known)
        assert bool((found[mask] == values[mask]).all())


@pytest.mark.parametrize("name", ["ancestral", "dpm_solver", "heun", "euler"])
def test_networks_see_known_values_at_the_level_of_their_step(name):
    """mean signal v and sd noise, at every call that begins a step; independent from step to step."""
    noise, value, seen = Noise.of(0, range(4000)), 1.5, []

    def network(x, t):
        seen.append((float(t[0]), x[:, 0].clone()))
        return torch.zeros_like(x)

    SAMPLERS[name]((2,), noise, network, known=Known(torch.tensor([value, 0.0]), torch.tensor([True, False])))
    if name == "heun":
        seen = seen[::2]
    previous = None
    for t, x in seen:
        if name == "heun":
            signal, level = 1.0, t
        elif name == "euler":
            signal, level = t, 1 - t
        else:
            bar = float(BAR[int(t)])
            signal, level = math.sqrt(bar), math.sqrt(1 - bar)
        z = (x - signal * value) / level
        assert abs(float(z.mean())) < 4.5 / math.sqrt(4000)
        assert abs(float(z.std()) - 1) < 4.5 / math.sqrt(8000)
        if previous is not None:
            assert abs(float((z * previous).mean())) < 4.5 / math.sqrt(4000)
        previous = z
    assert len(seen) == 8


class TestCorrelated:
    """Two standard normals of correlation 0.9, one known to be 1.5: the other is N(1.35, 0.19)."""

    RHO, VALUE = 0.9, 1.5
    NOISE = Noise.of(0, range(4000))

    def x0(self, x, signal, noise):
        covariance = torch.tensor([[1.0, self.RHO], [self.RHO, 1.0]], dtype=x.dtype)
        signal, noise = (torch.as_tensor(v, dtype=x.dtype).reshape(-1)[0] for v in (signal, noise))
        gain = signal * covariance @ torch.linalg.inv(signal**2 * covariance + noise**2 * torch.eye(2, dtype=x.dtype))
        return x @ gain.T

    def fill(self, name, resample):
        known = Known(torch.tensor([self.VALUE, 0.0]), torch.tensor([True, False]), resample=resample)
        if name == "heun":

            def denoise(x, sigma):
                return self.x0(x, 1.0, column(sigma, x))

            x = heun(denoise, (2,), karras_sigmas(25), noise=self.NOISE, known=known)
        elif name == "ode":

            def velocity(x, t):
                at = column(t, x).clamp(max=1 - 1e-6)
                return (self.x0(x, at, 1 - at) - x) / (1 - at)

            x = ode(velocity, (2,), torch.linspace(0, 1, 51), method="midpoint", noise=self.NOISE, known=known)
        else:
            chains = {"ancestral": ancestral, "ddim": ddim}
            kept = kept_steps(1000, 50, "trailing")
            x = chains[name](chain_denoiser(x0=self.x0), (2,), BAR, noise=self.NOISE, kept=kept, known=known)
        return float(x[:, 1].mean()), float(x[:, 1].std())

    @pytest.mark.parametrize("name", ["ancestral", "ddim", "heun", "ode"])
    def test_resampling_comes_near_the_conditional_distribution(self, name):
        means, sds = zip(*(self.fill(name, rounds) for rounds in (1, 4, 12)), strict=True)
        assert means[0] < 1.0  # replacement alone
        assert means[0] < means[1] < means[2]
        assert means[2] == pytest.approx(1.35, abs=0.1)
        assert abs(sds[2] - math.sqrt(0.19)) < 0.09

    def test_as_documented(self):
        found = [self.fill("ancestral", rounds)[0] for rounds in (1, 5, 10)]
        assert found == pytest.approx([0.90, 1.26, 1.29], abs=0.03)


class TestRefusals:
    def test_the_mask(self):
        with pytest.raises(ConfigError, match="bool"):
            Known(VALUES, MASK.float())
        with pytest.raises(ConfigError, match="resample"):
            Known(VALUES, MASK, resample=0)

    @every_sampler
    def test_shapes_and_values(self, name):
        with pytest.raises(ConfigError, match="`values` must broadcast"):
            SAMPLERS[name]((2, 3), NOISE, known=Known(torch.zeros(4), MASK))
        with pytest.raises(ConfigError, match="`mask` must broadcast"):
            SAMPLERS[name]((2, 3), NOISE, known=Known(VALUES, torch.ones(3, 2, dtype=torch.bool)))
        with pytest.raises(ConfigError, match="finite"):
            SAMPLERS[name]((2, 3), NOISE, known=Known(VALUES, torch.ones_like(MASK)))

    def test_no_way_back(self):
        with pytest.raises(ConfigError, match="resample"):
            SAMPLERS["dpm_solver"]((2, 3), NOISE, known=Known(VALUES, MASK, resample=2))

    def test_no_noise(self):
        x, known = torch.zeros(6, 2, 3), Known(VALUES, MASK)
        with pytest.raises(ConfigError, match="noise"):
            dpm_solver(chain_denoiser(), x, BAR, kept=KEPT, known=known)
        with pytest.raises(ConfigError, match="noise"):
            heun(lambda x, sigma: gaussian_x0(x, 1.0, column(sigma, x)), x, SIGMAS, known=known)
        with pytest.raises(ConfigError, match="noise"):
            ode(straight_velocity, x, TIMES, known=known)
