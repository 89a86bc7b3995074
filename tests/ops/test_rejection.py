"""Draws and rejection steps: the noise they use, the law they follow, native kernels against the reference, and the laws of a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medgen.errors import ConfigError
from medgen.ops import parzen_draw, parzen_log_density, philox_integers, philox_normal, rejection_step
from medgen.ops.reference import rejection as reference

F64 = torch.float64
OP = torch.ops.medgen


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def factor_of(kind, dim):
    if kind == "cholesky":
        a = normal(dim, dim)
        return torch.linalg.cholesky(a @ a.mT / dim + 0.3 * torch.eye(dim, dtype=F64)).contiguous()
    return torch.linspace(0.4, 1.1, dim, dtype=F64) if kind == "diagonal" else torch.full((dim,), 0.7, dtype=F64)


class TestDraw:
    def test_is_centre_plus_noise(self):
        points, index = normal(9, 3), torch.tensor([5, 2**40, 7])
        chosen = philox_integers(11, index, (), high=9, stream=5)
        noise = philox_normal(11, index, (3,), stream=4, dtype=F64)
        torch.testing.assert_close(parzen_draw(11, index, points, 0.3, stream=4), points[chosen] + 0.3 * noise)

    @pytest.mark.parametrize("kind", ["scalar", "diagonal", "cholesky"])
    def test_moments(self, kind):
        n, dim = 40_000, 3
        points, weights, factor = normal(20, dim), torch.rand(20, dtype=F64), factor_of(kind, dim)
        draws = parzen_draw(1, torch.arange(n), points, factor, weights=weights)
        w = weights / weights.sum()
        mean = w @ points
        spread = (points - mean).mT @ (w[:, None] * (points - mean))
        full = spread + (factor @ factor.mT if factor.dim() == 2 else factor.square().diag())
        torch.testing.assert_close(draws.mean(0), mean, atol=5 * float(full.diagonal().max().sqrt()) / math.sqrt(n), rtol=0)
        torch.testing.assert_close(draws.mT.cov(), full, atol=12 * float(full.diagonal().max()) / math.sqrt(n), rtol=0)

    def test_weights_choose(self):
        points = torch.tensor([[0.0], [100.0], [200.0], [300.0]])
        weights = torch.tensor([0.0, 1.0, 3.0, 0.0])
        centres = (parzen_draw(2, torch.arange(8000), points, 0.1, weights=weights)[:, 0] / 100).round()
        counts = torch.bincount(centres.long(), minlength=4)
        assert counts[0] == counts[3] == 0
        assert stats.chisquare(counts[1:3].numpy(), [2000, 6000]).pvalue > 0.01

    @given(
        st.sampled_from([0, 1, 63, 64, 65, 1025, 1100]),
        st.sampled_from([1, 2, 50]),
        st.sampled_from([1, 2, 3, 7, 32]),
        st.sampled_from([torch.float32, F64]),
        st.sampled_from(["scalar", "diagonal", "cholesky"]),
        st.booleans(),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 2),
    )
    @settings(max_examples=40)
    def test_native_is_reference(self, n, count, dim, dtype, kind, weighted, seed, stream):
        points, index = normal(count, dim, dtype=dtype), torch.arange(n) + 2**35
        cumulative = torch.rand(count, dtype=F64).cumsum(0) if weighted else torch.empty(0, dtype=F64)
        signed = seed - 2**64 if seed >= 2**63 else seed
        args = points, cumulative, factor_of(kind, dim), index, signed, stream
        torch.testing.assert_close(OP.parzen_draw(*args), reference.draw(*args), atol=4e-6 if dtype == torch.float32 else 1e-13, rtol=1e-6)


class TestStep:
    @given(
        st.sampled_from([0, 1, 65, 700]),
        st.sampled_from([1, 7, 200]),
        st.sampled_from([1, 3, 16]),
        st.sampled_from([torch.float32, F64]),
        st.sampled_from(["scalar", "diagonal", "cholesky"]),
        st.sampled_from(["gaussian", "wider"]),
        st.booleans(),
        st.integers(0, 2**63 - 1),
    )
    @settings(max_examples=40)
    def test_native_is_reference(self, n, count, dim, dtype, kind, proposal, weighted, seed):
        points, weights = normal(count, dim, dtype=dtype), torch.rand(count, dtype=F64) + 1e-3
        weights = weights / weights.sum() if weighted else torch.full((count,), 1 / count, dtype=F64)
        mean = normal(dim) if proposal == "gaussian" else torch.empty(0, dtype=F64)
        cumulative = weights.cumsum(0) if weighted else torch.empty(0, dtype=F64)
        factor = factor_of(kind, dim)
        args = torch.arange(n), points, weights.log(), cumulative, points.double().mean(0), factor, mean, 1.3 * factor, 0.4, seed, 3
        found, right = OP.rejection_step(*args), reference.step(*args)
        tolerance = {"atol": 1e-4, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-9, "rtol": 1e-12}
        for a, b in zip(found[1:], right[1:], strict=True):
            torch.testing.assert_close(a, b, **tolerance)
        assert (found[0] != right[0]).sum() <= n * 2e-3

    def test_densities_are_those_of_the_public_functions(self):
        points, index = normal(60, 4), torch.arange(300)
        step = rejection_step(0, index, points, 0.5, log_k=1.0, proposal=1.0)
        torch.testing.assert_close(step.log_p, parzen_log_density(step.proposals, points, 0.5), atol=1e-11, rtol=0)
        torch.testing.assert_close(step.log_q, parzen_log_density(step.proposals, points, 1.0), atol=1e-11, rtol=0)
        assert torch.equal(step.proposals, parzen_draw(0, index, points, 1.0))
        gaussian = rejection_step(0, index, points, 0.5, log_k=1.0, mean=torch.ones(4), proposal=2.0)
        expected = torch.distributions.Normal(torch.ones(4, dtype=F64), 2.0).log_prob(gaussian.proposals).sum(1)
        torch.testing.assert_close(gaussian.log_q, expected, atol=1e-10, rtol=0)

    @pytest.mark.parametrize("mean", [None, torch.tensor([0.2])])
    def test_accepted_follow_the_target(self, mean):
        """Kolmogorov-Smirnov against the mixture's distribution function."""
        points, h = torch.tensor([[-1.0], [0.0], [1.5]], dtype=F64), 0.3
        log_k = math.log(2.0 / h) if mean is None else 2.5
        step = rejection_step(5, torch.arange(60_000), points, h, log_k=log_k, mean=mean, proposal=1.0)
        assert (step.log_p <= log_k + step.log_q).all()  # it is an envelope
        accepted = step.proposals[step.accepted, 0].numpy()
        assert len(accepted) / 60_000 == pytest.approx(math.exp(-log_k), rel=0.05)
        assert stats.kstest(accepted, lambda y: np.mean([stats.norm.cdf(y, c, h) for c in (-1.0, 0.0, 1.5)], axis=0)).pvalue > 0.01

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    @pytest.mark.parametrize("mean", [None, torch.zeros(6)])
    def test_batch_and_threads_change_nothing(self, dtype, mean):
        points, index = normal(500, 6, dtype=dtype), torch.arange(2100) + 2**33
        before = torch.get_num_threads()

        def run(index):
            return rejection_step(9, index, points, 0.4, log_k=2.0, mean=mean, proposal=1.0)

        try:
            torch.set_num_threads(1)
            whole = run(index)
            torch.set_num_threads(2)
            again = run(index)
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
        some = torch.tensor([2099, 3, 1024])
        part = run(index[some])
        assert torch.equal(part.proposals, whole.proposals[some])
        assert torch.equal(part.accepted, whole.accepted[some])
        torch.testing.assert_close(part.log_p, whole.log_p[some], rtol=1e-6, atol=3e-5)

    def test_a_broken_point_accepts_nothing(self):
        points = normal(20, 3)
        points[4, 1] = math.nan
        step = rejection_step(0, torch.arange(50), points, 0.5, log_k=0.0, mean=torch.zeros(3), proposal=1.0)
        assert step.log_p.isnan().all()
        assert not step.accepted.any()


class TestRegistration:
    def test_opcheck(self):
        points = normal(6, 3)
        empty = torch.empty(0, dtype=F64)
        factor, log_weights = torch.ones(3, dtype=F64), torch.zeros(6, dtype=F64)
        torch.library.opcheck(OP.parzen_draw.default, (points, empty, factor, torch.arange(4), 0, 0))
        args = torch.arange(4), points, log_weights, empty, points.mean(0), factor, empty, 2 * factor, 0.5, 0, 0
        torch.library.opcheck(OP.rejection_step.default, args)

    def test_compiles_as_one_graph(self):
        points = normal(6, 3)

        def draw(index):
            return parzen_draw(0, index, points, 0.5), rejection_step(0, index, points, 0.5, log_k=1.0, proposal=1.0).log_p

        found = torch.compile(draw, fullgraph=True, backend="aot_eager")(torch.arange(5))
        for a, b in zip(found, draw(torch.arange(5)), strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"points": torch.zeros(0, 2)}, "`points` must be"),
            ({"points": torch.zeros(3)}, "`points` must be"),
            ({"stream": 2**32 - 1}, "`stream` must be below"),
            ({"seed": -1}, "`seed` must be"),
            ({"index": torch.zeros(2)}, "`index` must be int64"),
            ({"bandwidth": 0.0}, "`bandwidth` must be positive"),
            ({"weights": torch.ones(4)}, "`weights` must be"),
        ],
    )
    def test_wrong_arguments(self, change, message):
        arguments = {"seed": 0, "index": torch.arange(2), "points": torch.zeros(3, 2), "bandwidth": 1.0} | change
        with pytest.raises(ConfigError, match=message):
            parzen_draw(**arguments)
        with pytest.raises(ConfigError, match=message):
            rejection_step(**arguments, log_k=0.0, proposal=1.0)

    def test_wrong_mean(self):
        with pytest.raises(ConfigError, match="`mean` must be"):
            rejection_step(0, torch.arange(2), torch.zeros(3, 2), 1.0, log_k=0.0, mean=torch.zeros(3), proposal=1.0)
