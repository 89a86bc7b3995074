"""The reverse chain: exact answers for Gaussian data, samples that do not know their batch, and the native MLP loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.gaussian_oracle import BAR, MEAN, SD, oracle

from medgen.errors import ConfigError
from medgen.maths import alpha_bars, cosine_betas, kept_steps
from medgen.ops import philox_normal
from medgen.ops.ddpm_sample import ddpm_sample
from medgen.ops.ddpm_step import ddpm_step, step_table

SAMPLERS = ("beta", "posterior", 0.0, 0.5, 1.0)


def closed_form(bar, steps, variance):
    """Mean and sd that the chain over (abar_t, abar_s) pairs ends with: every step is linear in x and Gaussian. Independent of medgen."""
    mean, var = 0.0, 1.0
    for at, before in steps:
        gain = math.sqrt(1 - at) / (at * SD**2 + 1 - at)  # eps = gain x + offset
        offset = -gain * math.sqrt(at) * MEAN
        x0 = ((1 - math.sqrt(1 - at) * gain) / math.sqrt(at), -math.sqrt(1 - at) * offset / math.sqrt(at))
        beta = 1 - at / before
        btilde = beta * (1 - before) / (1 - at)
        if isinstance(variance, str):
            scale = 0.0 if before == 1 else math.sqrt(beta if variance == "beta" else btilde)
            c0, cx = beta * math.sqrt(before) / (1 - at), (1 - before) * math.sqrt(1 - beta) / (1 - at)
            slope, shift = c0 * x0[0] + cx, c0 * x0[1]
        else:
            scale = variance * math.sqrt(btilde)
            rest = math.sqrt(1 - before - scale**2)
            slope, shift = math.sqrt(before) * x0[0] + rest * gain, math.sqrt(before) * x0[1] + rest * offset
        mean, var = slope * mean + shift, slope**2 * var + scale**2
    return mean, math.sqrt(var)


def pairs(kept):
    """(abar_t, abar_s) from the noisiest kept step down."""
    at = BAR[kept].tolist()
    return list(zip(at, [1.0, *at[:-1]], strict=True))[::-1]


class TestGaussianOracle:
    @pytest.mark.parametrize("steps", [1000, 250, 100, 50])
    @pytest.mark.parametrize("variance", SAMPLERS)
    def test_mean_and_sd(self, steps, variance):
        kept = kept_steps(1000, steps, "trailing")
        x = ddpm_sample(oracle, (16,), step_table(BAR, kept, variance=variance), seed=7, index=torch.arange(512))
        mean, sd = closed_form(BAR, pairs(kept), variance)
        assert abs(mean - MEAN) < 0.01
        assert abs(sd - SD) < 0.06
        n = x.numel()
        assert abs(float(x.mean()) - mean) < 4.5 * sd / math.sqrt(n)
        assert abs(float(x.std()) - sd) < 4.5 * sd / math.sqrt(2 * n)

    @pytest.mark.parametrize("variance", ["beta", "posterior", 1.0])
    def test_mutant_that_steps_to_t_minus_one_fails(self, variance):
        """Coefficients of t -> t - 1 on a chain of 50 steps: what the tolerance above must not let pass."""
        kept = kept_steps(1000, 50, "trailing")
        table = step_table(BAR, kept, variance=variance)
        mutant = step_table(BAR, variance=variance).values[kept]
        table.values.copy_(mutant)
        x = ddpm_sample(oracle, (16,), table, seed=7, index=torch.arange(512))
        mean, sd = closed_form(BAR, pairs(kept), variance)
        n = x.numel()
        assert abs(float(x.mean()) - mean) > 10 * sd / math.sqrt(n) or abs(float(x.std()) - sd) > 10 * sd / math.sqrt(2 * n)

    def test_published(self):
        """1,500 samples over 1000 steps gave 0.311 / 0.492 (beta) and 0.318 / 0.500 (posterior): ours agree within Monte Carlo error."""
        for variance in ("beta", "posterior"):
            x = ddpm_sample(oracle, (1,), step_table(BAR, variance=variance), seed=0, index=torch.arange(1500))
            assert abs(float(x.mean()) - MEAN) < 0.05
            assert abs(float(x.std()) - SD) < 0.035

    def test_ddim_with_the_exact_denoiser_of_a_point_is_exact(self):
        bar = alpha_bars(cosine_betas(100))

        def point(x, t):
            at = bar.to(x.dtype)[t][:, None]
            return (x - at.sqrt() * 2.5) / (1 - at).sqrt()

        x = ddpm_sample(point, (5,), step_table(bar, variance=0.0, dtype=torch.float64), seed=0, index=torch.arange(3))
        torch.testing.assert_close(x, torch.full_like(x, 2.5), rtol=1e-9, atol=1e-9)


class TestLoop:
    def test_is_the_steps_one_by_one(self):
        table = step_table(BAR, kept_steps(1000, 12), variance="beta", clip=1.0)
        index = torch.tensor([3, 2**40])
        got = ddpm_sample(oracle, (2, 3), table, seed=1, index=index, stream=8)
        x = philox_normal(1, index, (2, 3), stream=8)
        for k in reversed(range(12)):
            x = ddpm_step(x, oracle(x, table.t[k].expand(2)), table, k, seed=1, index=index, stream=9)
        assert bool((got == x).all())

    @given(st.integers(1, 9), st.data())
    @settings(max_examples=15)
    def test_a_sample_does_not_know_its_batch(self, rows, data):
        i = data.draw(st.integers(0, rows - 1))
        table = step_table(BAR, kept_steps(1000, 5), variance=data.draw(st.sampled_from(SAMPLERS)))
        index = torch.arange(rows) + 100
        batch = ddpm_sample(oracle, (3, 2), table, seed=1, index=index)
        alone = ddpm_sample(oracle, (3, 2), table, seed=1, index=index[i : i + 1])
        assert bool((alone[0] == batch[i]).all())

    def test_first_x_is_left_alone(self):
        table = step_table(BAR, kept_steps(1000, 5))
        first = torch.randn(4, 3)
        before = first.clone()
        ddpm_sample(oracle, first, table, seed=0, index=torch.arange(4))
        assert bool((first == before).all())
        drawn = philox_normal(0, torch.arange(4), (3,), stream=0)
        got, expected = (ddpm_sample(oracle, x, table, seed=0, index=torch.arange(4)) for x in ((3,), drawn))
        assert bool((got == expected).all())

    def test_callback_and_network_see_every_step(self):
        table = step_table(BAR, kept_steps(1000, 4))
        seen, times = [], []

        def network(x, t):
            times.append(t.tolist())
            return oracle(x, t)

        got = ddpm_sample(network, (2,), table, seed=0, index=torch.arange(3), callback=lambda k, x: seen.append((k, x.clone())))
        assert [k for k, _ in seen] == [3, 2, 1, 0]
        assert bool((seen[-1][1] == got).all())
        assert times == [[t] * 3 for t in (750, 500, 250, 0)]

    def test_one_working_buffer(self):
        """The loop allocates nothing of its own: x stays at one address."""
        addresses = set()

        def network(x, t):
            addresses.add(x.data_ptr())
            return oracle(x, t)

        ddpm_sample(network, (2,), step_table(BAR, kept_steps(1000, 6)), seed=0, index=torch.arange(3))
        assert len(addresses) == 1

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_dtypes(self, dtype):
        table = step_table(BAR, kept_steps(1000, 6), dtype=torch.float64)
        x = philox_normal(0, torch.arange(5), (3,), dtype=dtype)
        got = ddpm_sample(oracle, x, table, seed=0, index=torch.arange(5))
        assert got.dtype == dtype
        wide = ddpm_sample(oracle, x.double(), table, seed=0, index=torch.arange(5))
        torch.testing.assert_close(got.double(), wide, rtol=0.1, atol=0.1 if dtype == torch.bfloat16 else 1e-9)

    def test_learned_variance(self):
        """v = 1 is beta_t, v = -1 the posterior variance."""
        kept = kept_steps(1000, 20)
        for v, name in ((1.0, "beta"), (-1.0, "posterior")):

            def network(x, t, v=v):
                return torch.cat((oracle(x, t), torch.full_like(x, v)), 1)

            learned = ddpm_sample(network, (3, 4), step_table(BAR, kept, variance="learned"), seed=0, index=torch.arange(6))
            fixed = ddpm_sample(oracle, (3, 4), step_table(BAR, kept, variance=name), seed=0, index=torch.arange(6))
            torch.testing.assert_close(learned, fixed, rtol=1e-4, atol=1e-4)

    def test_refusals(self):
        table = step_table(BAR)
        with pytest.raises(ConfigError, match="index"):
            ddpm_sample(oracle, torch.zeros(3, 2), table, seed=0, index=torch.arange(2))
        with pytest.raises(ConfigError, match="CUDA"):
            ddpm_sample(oracle, (2,), table, seed=0, index=torch.arange(2), graph=True)

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_graph_replay(self):
        table = step_table(BAR, kept_steps(1000, 20), device="cuda")
        bar = BAR.float().cuda()

        def network(x, t):
            at = bar[t][:, None]
            return (1 - at).sqrt() * (x - at.sqrt() * MEAN) / (at * SD**2 + 1 - at)

        index = torch.arange(64, device="cuda")
        eager = ddpm_sample(network, (8,), table, seed=0, index=index)
        assert bool((ddpm_sample(network, (8,), table, seed=0, index=index, graph=True) == eager).all())
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            other = ddpm_sample(network, (8,), table, seed=0, index=index)
        stream.synchronize()
        assert bool((other == eager).all())
