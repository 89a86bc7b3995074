"""One reverse step: the formulas written out, the native kernel against the reference, autograd, and where the noise comes from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.ddpm_step_cases import BAR, TOLERANCE, VARIANCES, by_hand, draw

from medgen.errors import ConfigError
from medgen.maths import alpha_bars, cosine_betas, kept_steps, linear_betas
from medgen.ops import philox_normal
from medgen.ops.ddpm_step import ddpm_step, step_table
from medgen.ops.reference import ddpm_step as reference


class TestFormula:
    @pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
    @pytest.mark.parametrize("variance", VARIANCES)
    @pytest.mark.parametrize("clip", [None, 0.8])
    @pytest.mark.parametrize("row", [0, 1, 6])
    def test_papers(self, prediction, variance, clip, row):
        kept = kept_steps(1000, 7)
        x, output, index = draw((3, 2, 5), learned=variance == "learned")
        table = step_table(BAR, kept, prediction=prediction, variance=variance, clip=clip, dtype=torch.float64)
        got = ddpm_step(x, output, table, row, seed=11, index=index, stream=9)
        at, before = float(BAR[kept[row]]), 1.0 if row == 0 else float(BAR[kept[row - 1]])
        z = philox_normal(11, index, (2, 5), stream=9 + row, dtype=torch.float64)
        expected = by_hand(x, output, z, at, before, prediction=prediction, variance=variance, clip=clip)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
        if variance != "learned":
            pair = {"prediction": prediction, "variance": variance, "clip": clip}
            alone = ddpm_step(x, output, (at, before), seed=11, index=index, stream=9 + row, **pair)
            torch.testing.assert_close(alone, got, rtol=1e-12, atol=1e-12)

    def test_eps_form_of_the_mean(self):
        """mu = (x - beta / sqrt(1 - abar) eps) / sqrt(alpha) on neighbouring steps."""
        x, eps, index = draw((4, 3))
        beta = float(linear_betas()[500])
        table = step_table(BAR, variance="beta", dtype=torch.float64)
        z = philox_normal(0, index, (3,), stream=500, dtype=torch.float64)
        got = ddpm_step(x, eps, table, 500, seed=0, index=index)
        expected = (x - beta / math.sqrt(1 - float(BAR[500])) * eps) / math.sqrt(1 - beta) + math.sqrt(beta) * z
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_eta_one_is_the_posterior(self, clip):
        kept = kept_steps(1000, 13, "linspace")
        ddim = step_table(BAR, kept, variance=1.0, clip=clip, dtype=torch.float64).values
        ddpm = step_table(BAR, kept, variance="posterior", clip=clip, dtype=torch.float64).values
        torch.testing.assert_close(ddim, ddpm, rtol=1e-9, atol=1e-12)

    def test_step_before_is_the_kept_one(self):
        """A table that steps to t - 1 instead differs: sd at the noisiest of 10 kept steps is 15 times smaller."""
        kept = kept_steps(1000, 10)
        right = step_table(BAR, kept, variance="beta", dtype=torch.float64).values
        mutant = step_table(BAR, variance="beta", dtype=torch.float64).values[kept]
        assert float(right[-1, 6] / mutant[-1, 6]) > 5

    @given(st.sampled_from(VARIANCES), st.integers(2, 60), st.sampled_from(["eps", "x0", "v"]))
    def test_coefficients_are_finite_at_any_schedule(self, variance, steps, prediction):
        table = step_table(alpha_bars(cosine_betas(steps)), prediction=prediction, variance=variance)
        noisy = table.values[1:]
        assert bool(noisy.isfinite().all())
        assert bool(table.values[0, [0, 1, 2, 3, 4, 5, 7]].isfinite().all())


class TestNative:
    """The kernel that runs (native where it could be built) against the reference called directly."""

    @given(st.data())
    @settings(max_examples=80)
    def test_reference(self, data):
        dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
        variance = data.draw(st.sampled_from(VARIANCES))
        clip = data.draw(st.sampled_from([None, 1.0, 1e-20]))
        rows = data.draw(st.sampled_from([0, 1, 2, 3, 17, 64, 131]))
        rest = data.draw(st.sampled_from([(1,), (2,), (3,), (4,), (32,), (1, 7), (3, 5, 2), (1, 257), (2, 0)]))
        scale = data.draw(st.sampled_from([1.0, 1e-30, 1e15]))
        x, output, index = draw((rows, *rest), dtype, learned=variance == "learned", seed=rows, scale=1.0)
        x, output = x * scale, (output if variance == "learned" else output * scale)
        table = step_table(BAR, kept_steps(1000, 25), variance=variance, clip=clip, dtype=dtype)
        step = data.draw(st.sampled_from([torch.tensor([0]), torch.tensor([24]), torch.arange(rows) % 25]))
        if len(step) not in (1, rows):
            return
        got = ddpm_step(x, output, table, step, seed=2**64 - 5, index=index, stream=2**32 - 3)
        expected = reference.ddpm_step(x, output, table.values, step, index, 2**64 - 5, 2**32 - 3, clip, variance == "learned")
        size = max(1.0, scale) * (1 if clip else 40)
        torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * size)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("variance", ["posterior", "learned", 0.0])
    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_nan_and_infinity(self, bad, variance, clip):
        x, output, index = draw((2, 3), torch.float32, learned=variance == "learned")
        x[0, 1], output[1, 2] = bad, bad
        for row in (0, 500):
            table = step_table(BAR, variance=variance, clip=clip)
            got = ddpm_step(x, output, table, row, seed=0, index=index)
            step = torch.tensor([row])
            expected = reference.ddpm_step(x, output, table.values, step, index, 0, 0, clip, variance == "learned")
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5, equal_nan=True)

    def test_views_and_sentinels(self):
        """Unaligned, non-contiguous inputs; an unaligned `out` between sentinels, poisoned before."""
        base = torch.full((1 + 5 * 7 + 1,), 777.0)
        out = base[1:-1].view(5, 7)
        out.fill_(math.nan)
        x, output, index = draw((7, 5), torch.float32)
        table = step_table(BAR)
        got = ddpm_step(x.t(), output.t(), table, 10, seed=0, index=index[:5], out=out)
        assert got is out
        assert base[0] == base[-1] == 777
        expected = ddpm_step(x.t().contiguous(), output.t().contiguous(), table, 10, seed=0, index=index[:5])
        assert bool((out == expected).all())
        strided = torch.full((5, 14), math.nan)[:, ::2]
        assert bool((ddpm_step(x.t(), output.t(), table, 10, seed=0, index=index[:5], out=strided) == expected).all())

    @pytest.mark.parametrize("variance", ["posterior", "learned", 0.0])
    def test_in_place(self, variance):
        x, output, index = draw((9, 2, 33), torch.float32, learned=variance == "learned")
        table = step_table(BAR, variance=variance)
        expected = ddpm_step(x, output, table, 300, seed=0, index=index)
        ddpm_step(x, output, table, 300, seed=0, index=index, out=x)
        assert bool((x == expected).all())

    @pytest.mark.parametrize("shape", [(4096, 32), (8, 1, 64, 80), (1000, 33)])
    def test_bit_equal_at_any_thread_count(self, shape):
        x, output, index = draw(shape, torch.float32)
        table = step_table(BAR)
        step = torch.arange(shape[0]) % 1000
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(ddpm_step(x, output, table, step, seed=0, index=index, out=torch.full_like(x, math.nan)))
        torch.set_num_threads(1)
        assert all(bool((r == results[0]).all()) for r in results)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_through_float32(self, dtype):
        x, output, index = draw((3, 8), dtype)
        table = step_table(BAR)
        got = ddpm_step(x, output, table, 100, seed=0, index=index)
        expected = ddpm_step(x.float(), output.float(), table, 100, seed=0, index=index)
        assert got.dtype == dtype
        assert bool((got == expected.to(dtype)).all())
        out = torch.empty_like(x)
        assert bool((ddpm_step(x, output, table, 100, seed=0, index=index, out=out) == got).all())


class TestNoise:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_philox_normal(self, dtype):
        """With x = output = 0 only sd z is left."""
        zero, index = torch.zeros(5, 3, 7, dtype=dtype), torch.tensor([0, 1, 2**40, 7, 7])
        step = torch.tensor([1, 999, 3, 0, 500])
        table = step_table(BAR, dtype=dtype)
        got = ddpm_step(zero, zero, table, step, seed=5, index=index, stream=2**32 - 2)
        for i in range(5):
            z = philox_normal(5, index[i : i + 1], (3, 7), stream=(2**32 - 2 + int(step[i])) % 2**32, dtype=dtype)[0]
            torch.testing.assert_close(got[i], table.values[step[i], 6] * z, rtol=1e-6, atol=1e-30)
        assert bool((got[3] == 0).all())  # the last step

    def test_a_sample_does_not_know_its_batch(self):
        x, output, index = draw((37, 5), torch.float32)
        table = step_table(BAR, variance="beta", clip=1.0)
        step = torch.arange(37) * 20
        batch = ddpm_step(x, output, table, step, seed=0, index=index)
        for i in (0, 5, 36):
            alone = ddpm_step(x[i : i + 1], output[i : i + 1], table, step[i : i + 1], seed=0, index=index[i : i + 1])
            assert bool((alone[0] == batch[i]).all())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCuda:
    @pytest.mark.parametrize("shape", [(5, 3), (64, 32), (3, 2, 7), (1, 1), (0, 4), (7, 1, 33)])
    @pytest.mark.parametrize("variance", VARIANCES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_the_cpu(self, shape, variance, dtype):
        x, output, index = draw(shape, dtype, learned=variance == "learned")
        table = step_table(BAR, variance=variance, clip=1.0, dtype=dtype)
        step = torch.arange(shape[0]) * 100
        expected = ddpm_step(x, output, table, step, seed=3, index=index, stream=2**32 - 1)
        got = ddpm_step(x.cuda(), output.cuda(), table.to("cuda"), step.cuda(), seed=3, index=index.cuda(), stream=2**32 - 1)
        torch.testing.assert_close(got.cpu(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    def test_rows_outside_the_table_make_nan(self):
        x, output, index = (t.cuda() for t in draw((3, 4), torch.float32))
        got = ddpm_step(x, output, step_table(BAR, device="cuda"), torch.tensor([0, 1000, -1]).cuda(), seed=0, index=index)
        assert got.isnan().any(1).tolist() == [False, True, True]


class TestRefusals:
    def test_arguments(self):
        x, output, index = draw((3, 4), torch.float32)
        table = step_table(BAR)
        good = {"seed": 0, "index": index}
        with pytest.raises(ConfigError, match="output"):
            ddpm_step(x, output[:2], table, 1, **good)
        with pytest.raises(ConfigError, match="output"):
            ddpm_step(x, output, step_table(BAR, variance="learned"), 1, **good)
        with pytest.raises(ConfigError, match="dtype"):
            ddpm_step(x, output.double(), table, 1, **good)
        with pytest.raises(ConfigError, match="index"):
            ddpm_step(x, output, table, 1, seed=0, index=index[:2])
        with pytest.raises(ConfigError, match="row of the table"):
            ddpm_step(x, output, table, 1000, **good)
        with pytest.raises(ConfigError, match="step"):
            ddpm_step(x, output, table, torch.tensor([1, 2]), **good)
        with pytest.raises(ConfigError, match="out"):
            ddpm_step(x, output, table, 1, **good, out=x.double())
        with pytest.raises(ConfigError, match="gradients"):
            ddpm_step(x.requires_grad_(), output, table, 1, **good, out=torch.empty(3, 4))

    def test_rows_outside_the_table(self):
        x, output, index = draw((3, 4), torch.float32)
        with pytest.raises((RuntimeError, IndexError)):
            ddpm_step(x, output, step_table(BAR), torch.tensor([0, 1000, 2]), seed=0, index=index)

    def test_tables(self):
        with pytest.raises(ConfigError, match="kept"):
            step_table(BAR, torch.tensor([5, 5]))
        with pytest.raises(ConfigError, match="clip"):
            step_table(BAR, clip=0.0)
        with pytest.raises(ConfigError, match="prediction"):
            step_table(BAR, prediction="noise")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="variance"):
            step_table(BAR, variance=2.0)
        with pytest.raises(ConfigError, match="variance"):
            step_table(BAR, variance="small")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="decrease"):
            step_table(BAR.flip(0))
