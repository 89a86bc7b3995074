"""The Parzen ops on a GPU against the definition, the CPU and themselves. None of this has run yet: it waits for a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from densities import F64, normal, oracle

from medgen.ops import parzen_draw, parzen_log_density, parzen_topk, philox_normal, rejection_step

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def error(values, exact):
    return float(np.abs(values.cpu().double().numpy() - exact.astype(float)).max())


class TestLogDensity:
    @pytest.mark.parametrize(("mean", "bandwidth"), [(0, 0.74), (0, 0.1), (10, 0.74), (10, 0.1), (100, 0.1)])
    @pytest.mark.parametrize("dim", [2, 4, 5, 15, 16, 17, 32, 33, 48, 64, 65, 80])
    def test_stress(self, mean, bandwidth, dim):
        points = (mean + normal(1500, dim)).float()
        queries = (points[:300].double() + bandwidth * normal(300, dim, seed=1)).float()
        assert error(parzen_log_density(queries.cuda(), points.cuda(), bandwidth), oracle(queries, points, bandwidth)) < 1e-4

    @pytest.mark.parametrize("dim", [16, 40])
    @pytest.mark.parametrize("n", [1, 7, 8, 127, 128, 129, 12288, 12289])
    def test_every_end_of_a_tile(self, n, dim):
        points, weights = normal(n, dim).float(), torch.rand(n, dtype=F64)
        weights[1::5] = 0
        for m in (1, 31, 257):
            queries = (points[torch.arange(m) % n].double() + 0.7 * normal(m, dim, seed=1)).float()
            values = parzen_log_density(queries.cuda(), points.cuda(), 0.7, weights.cuda())
            assert values.isfinite().all()
            assert error(values[-31:], oracle(queries[-31:], points, 0.7, weights)) < 1e-4

    def test_leave_one_out(self):
        points = normal(400, 16).float()
        values = parzen_log_density(points.cuda(), points.cuda(), 0.8, leave_one_out=True)
        assert error(values, oracle(points, points, 0.8, own=True)) < 1e-4
        shard = parzen_log_density(points[130:170].cuda(), points.cuda(), 0.8, leave_one_out=True, own_offset=130)
        assert torch.equal(shard, values[130:170])

    def test_a_query_does_not_depend_on_the_batch_and_shards_merge(self):
        points, queries = normal(30000, 16).float().cuda(), normal(20000, 16, seed=1).float().cuda()
        values = parzen_log_density(queries, points, 0.8)
        for rows in (slice(0, 1), slice(255, 258), slice(100, 5000)):
            assert torch.equal(parzen_log_density(queries[rows], points, 0.8), values[rows])
        parts = [parzen_log_density(queries[:500], half, 0.8, partial=True) for half in (points[:12345], points[12345:])]
        merged = parts[0].merge(parts[1]).value - np.log(30000)
        torch.testing.assert_close(merged.float(), values[:500], rtol=0, atol=2e-5)

    def test_far_apart_and_broken(self):
        points = torch.cat([normal(50, 8), normal(50, 8, seed=1) + 1e6]).float()
        queries = torch.cat([points, torch.full((1, 8), torch.nan), torch.full((1, 8), torch.inf)])
        values = parzen_log_density(queries.cuda(), points.cuda(), 0.5).cpu()
        assert error(values[:100], oracle(points, points, 0.5)) < 1e-4
        assert values[100].isnan()
        assert values[101] == -torch.inf
        points[3, 3] = torch.nan
        assert parzen_log_density(queries.cuda(), points.cuda(), 0.5).isnan().all()

    def test_in_a_graph(self):
        points, queries = normal(2000, 16).float().cuda(), normal(100, 16, seed=1).float().cuda()
        args = queries, points, torch.zeros(2000, dtype=F64).cuda(), points.double().mean(0), torch.ones(16, dtype=F64).cuda(), False, 0
        expected = torch.ops.medgen.parzen_log_sum(*args)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = torch.ops.medgen.parzen_log_sum(*args)
        found.zero_()
        graph.replay()
        assert torch.equal(found, expected)


class TestNearest:
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    @pytest.mark.parametrize(("n", "dim", "k"), [(1, 3, 1), (70, 2, 70), (1000, 20, 33), (5000, 16, 5)])
    def test_as_on_the_cpu(self, dtype, n, dim, k):
        points = normal(n, dim, dtype=dtype)
        points[n // 2 :] = points[: n - n // 2].clone()  # ties
        queries = torch.cat([normal(67, dim, seed=1, dtype=dtype), points[:1], torch.full((1, dim), torch.nan, dtype=dtype)])
        expected, found = parzen_topk(queries, points, k, 0.7), parzen_topk(queries.cuda(), points.cuda(), k, 0.7)
        torch.testing.assert_close(found[0].cpu(), expected[0], rtol=1e-6, atol=1e-12, equal_nan=True)
        assert torch.equal(found[1].cpu(), expected[1])


class TestSampling:
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("dim", [1, 6, 32])
    def test_draws_as_on_the_cpu(self, dtype, weighted, dim):
        points, weights = 100 * normal(50, dim, dtype=dtype), torch.rand(50, dtype=F64) if weighted else None
        factor = torch.linalg.cholesky(torch.eye(dim, dtype=F64) + 0.5)
        index = torch.tensor([0, 1, 2**40, -1, 7]).repeat(300) + 5 * torch.arange(1500)
        for bandwidth in (0.1, factor):
            on = [a.cuda() if isinstance(a, torch.Tensor) else a for a in (index, points, bandwidth, weights)]
            expected = parzen_draw(3, index, points, bandwidth, weights=weights, stream=9)
            found = parzen_draw(3, on[0], on[1], on[2], weights=on[3], stream=9)
            torch.testing.assert_close(found.cpu(), expected, rtol=2e-7 if dtype == torch.float32 else 1e-14, atol=5e-6)

    @pytest.mark.parametrize("gaussian", [False, True])
    def test_rejection_as_on_the_cpu(self, gaussian):
        points, index = normal(300, 6, dtype=torch.float32), torch.arange(20000)
        mean = points.double().mean(0) if gaussian else None
        options = {"log_k": 1.0, "proposal": 1.2}
        expected = rejection_step(1, index, points, 0.6, mean=mean, **options)
        found = rejection_step(1, index.cuda(), points.cuda(), 0.6, mean=mean.cuda() if gaussian else None, **options)
        torch.testing.assert_close(found.proposals.cpu(), expected.proposals, rtol=1e-6, atol=5e-6)
        torch.testing.assert_close(found.log_p.cpu(), expected.log_p, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(found.log_q.cpu(), expected.log_q, rtol=1e-5, atol=1e-4)
        assert (found.accepted.cpu() != expected.accepted).sum() <= 5  # at the edge of a float's rounding

    def test_noise_is_philox_normal(self):
        index, points = torch.arange(9).cuda(), torch.zeros(1, 7).cuda()
        assert torch.equal(parzen_draw(5, index, points, 1.0, stream=2), philox_normal(5, index, (7,), stream=2))
