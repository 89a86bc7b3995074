"""The whole reverse chain of a small MLP in one op."""

from __future__ import annotations

import math

import pytest
import torch
from ops.gaussian_oracle import BAR, MEAN, SD, oracle

from medgen import native
from medgen.errors import ConfigError
from medgen.maths import kept_steps
from medgen.ops import philox_normal
from medgen.ops.ddpm_sample import ddpm_sample, ddpm_sample_mlp
from medgen.ops.ddpm_step import step_table
from medgen.ops.reference import ddpm_sample as reference


def mlp(widths, seed=0):
    """Weights and biases."""
    generator = torch.Generator().manual_seed(seed)
    sizes = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [torch.randn(o, i, generator=generator) / i**0.5 for o, i in sizes]
    return weights, [torch.randn(o, generator=generator) * 0.1 for o, _ in sizes]


class TestMlp:
    @pytest.mark.parametrize("widths", [(32, 128, 128, 32), (5, 7, 5), (33, 40, 33), (4, 4), (1, 3, 1), (32, 64, 32, 64, 32), (8, 300, 8)])
    @pytest.mark.parametrize("rows", [1, 3, 65, 130])
    @pytest.mark.parametrize(("precision", "tolerance"), [("float32", 3e-6), ("bfloat16", 1.5e-2)])
    @pytest.mark.parametrize(("variance", "clip"), [("posterior", 1.0), (0.0, None)])
    def test_reference(self, widths, rows, precision, tolerance, variance, clip):
        weights, biases = mlp(widths)
        embedding = torch.randn(6, widths[1], generator=torch.Generator().manual_seed(1)) * 0.2
        table = step_table(BAR, kept_steps(1000, 6), prediction="x0", variance=variance, clip=clip)
        index = torch.arange(rows) + 2**33
        x = philox_normal(5, index, (widths[0],))
        got = ddpm_sample_mlp(weights, biases, embedding, x, table, seed=5, index=index, stream=2**32 - 2, precision=precision)
        rest = (table.values, index, 5, 2**32 - 1, clip, precision == "bfloat16")
        expected = reference.ddpm_sample_mlp(x, weights, biases, embedding, *rest)
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)

    def test_is_ddpm_sample(self):
        weights, biases = mlp((6, 20, 6))
        table = step_table(BAR, kept_steps(1000, 10), prediction="v")
        embedding, index = torch.randn(10, 20), torch.arange(9)

        def network(x, t):
            return reference.mlp(x, weights, biases, embedding[t // 100])

        got = ddpm_sample_mlp(weights, biases, embedding, (6,), table, seed=3, index=index, stream=4)
        torch.testing.assert_close(got, ddpm_sample(network, (6,), table, seed=3, index=index, stream=4), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_bit_equal_alone_and_at_any_thread_count(self, precision):
        weights, biases = mlp((16, 48, 16))
        table = step_table(BAR, kept_steps(1000, 8), prediction="x0")
        embedding, index = torch.randn(8, 48), torch.arange(200)
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(ddpm_sample_mlp(weights, biases, embedding, (16,), table, seed=0, index=index, precision=precision))
        torch.set_num_threads(1)
        assert all(bool((r == results[0]).all()) for r in results)
        for i in (0, 63, 64, 199):
            alone = ddpm_sample_mlp(weights, biases, embedding, (16,), table, seed=0, index=index[i : i + 1], precision=precision)
            if native.load("cpu").library is None:  # the reference's matrix products depend on the batch
                torch.testing.assert_close(alone[0], results[0][i], rtol=1e-2, atol=1e-2)
            else:
                assert bool((alone[0] == results[0][i]).all())

    def test_gaussian_oracle(self):
        """A linear network is exact where its gain is the oracle's: at one noise level, DDIM's single step."""
        at = float(BAR[999])
        gain = math.sqrt(1 - at) / (at * SD**2 + 1 - at)
        table = step_table(BAR, torch.tensor([999]), variance=0.0)
        weight, bias = torch.eye(3) * gain, torch.full((3,), -gain * math.sqrt(at) * MEAN)
        got = ddpm_sample_mlp([weight], [bias], torch.zeros(1, 3), (3,), table, seed=0, index=torch.arange(4))
        expected = ddpm_sample(oracle, (3,), table, seed=0, index=torch.arange(4))
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)  # x0 = (x - .99998 eps) / .006: rounding times 157

    def test_huge_activations_stay_finite(self):
        weights, biases = mlp((8, 32, 8))
        table = step_table(BAR, kept_steps(1000, 5), prediction="x0", clip=1.0)
        for precision in ("float32", "bfloat16"):
            embedding = torch.full((5, 32), -3e4)
            embedding[:, ::2] = 3e4
            got = ddpm_sample_mlp(weights, biases, embedding, (8,), table, seed=0, index=torch.arange(5), precision=precision)
            assert bool(got.isfinite().all())

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("widths", [(32, 128, 128, 32), (5, 7, 5), (33, 200, 33), (8, 300, 8)])
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_cuda(self, widths, precision):
        weights, biases = mlp(widths)
        table = step_table(BAR, kept_steps(1000, 20), prediction="x0", clip=1.0)
        embedding, index = torch.randn(20, widths[1]), torch.arange(100)
        on_cpu = ddpm_sample_mlp(weights, biases, embedding, (widths[0],), table, seed=0, index=index, precision=precision)
        there = [[t.cuda() for t in tensors] for tensors in (weights, biases)]
        x = philox_normal(0, index.cuda(), (widths[0],))
        got = ddpm_sample_mlp(*there, embedding.cuda(), x, table, seed=0, index=index.cuda(), precision=precision)
        torch.testing.assert_close(got.cpu(), on_cpu, rtol=2e-2, atol=2e-2 if precision == "bfloat16" else 1e-4)

    def test_empty(self):
        weights, biases = mlp((4, 8, 4))
        table = step_table(BAR, kept_steps(1000, 5))
        got = ddpm_sample_mlp(weights, biases, torch.zeros(5, 8), (4,), table, seed=0, index=torch.arange(0))
        assert got.shape == (0, 4)

    def test_opcheck(self):
        weights, biases = mlp((4, 8, 4))
        table = step_table(BAR, kept_steps(1000, 3))
        rest = (torch.zeros(3, 8), table.values, torch.arange(2), 0, 1, None, False)
        checks = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(torch.ops.medgen.ddpm_sample_mlp.default, (torch.randn(2, 4), weights, biases, *rest), test_utils=checks)

    def test_refusals(self):
        weights, biases = mlp((4, 8, 4))
        table, index, embedding = step_table(BAR, kept_steps(1000, 3)), torch.arange(2), torch.zeros(3, 8)

        def call(weights=weights, biases=biases, embedding=embedding, x=(4,), table=table, index=index, **rest):
            return ddpm_sample_mlp(weights, biases, embedding, x, table, seed=0, index=index, **rest)

        with pytest.raises(ConfigError, match="precision"):
            call(precision="float16")
        with pytest.raises(ConfigError, match="learned"):
            call(table=step_table(BAR, kept_steps(1000, 3), variance="learned"))
        with pytest.raises(ConfigError, match="layers"):
            call(weights=[])
        with pytest.raises(ConfigError, match="float32"):
            call(embedding=embedding.double())
        with pytest.raises(ConfigError, match="lead from"):
            call(x=(5,))
        with pytest.raises(ConfigError, match="biases"):
            call(biases=[biases[1], biases[0]])
        with pytest.raises(ConfigError, match="embedding"):
            call(embedding=torch.zeros(4, 8))
        with pytest.raises(ConfigError, match="x"):
            call(x=torch.zeros(3, 4))
