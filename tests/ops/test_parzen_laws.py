"""The Parzen density under splitting, batching, threads and shifts; its gradients and its registration with torch."""

from __future__ import annotations

import math

import pytest
import torch
from densities import F64, arguments, cholesky, excess, normal, oracle

from medgen import native
from medgen.ops import parzen_log_density, parzen_topk

OP = torch.ops.medgen


class TestLeaveOneOut:
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    @pytest.mark.parametrize("dim", [2, 16])
    def test_is_the_density_of_the_others(self, dtype, dim):
        points, weights = normal(150, dim, dtype=dtype), torch.rand(150, dtype=F64)
        for w in (None, weights):
            values = parzen_log_density(points, points, 0.8, w, leave_one_out=True)
            assert excess(values, oracle(points, points, 0.8, w, own=True)) < 1

    def test_shards(self):
        points = normal(90, 4)
        whole = parzen_log_density(points, points, 0.5, leave_one_out=True)
        torch.testing.assert_close(parzen_log_density(points[30:70], points, 0.5, leave_one_out=True, own_offset=30), whole[30:70])
        parts = [
            parzen_log_density(points, points[a:b], 0.5, leave_one_out=True, partial=True, own_offset=-a)
            for a, b in ((0, 40), (40, 41), (41, 90))
        ]
        merged = parts[0].merge(parts[1]).merge(parts[2])
        torch.testing.assert_close(merged.value - math.log(89), whole, rtol=1e-13, atol=1e-12)


class TestLaws:
    def test_shards_of_points_merge(self):
        points, queries, weights = normal(200, 6), normal(30, 6, seed=1), torch.rand(200, dtype=F64)
        whole = parzen_log_density(queries, points, 0.6, weights)
        a = parzen_log_density(queries, points[:71], 0.6, weights[:71], partial=True)
        b = parzen_log_density(queries, points[71:], 0.6, weights[71:], partial=True)
        torch.testing.assert_close(a.merge(b).value - weights.sum().log(), whole, rtol=1e-13, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_a_query_does_not_depend_on_the_batch(self, dtype):
        points = normal(13000, 5, dtype=dtype)  # more than one pass over the points
        queries = torch.cat([normal(290, 5, seed=1), 8 * normal(10, 5, seed=2), 300 + normal(5, 5, seed=3)]).to(dtype)
        values = parzen_log_density(queries, points, 0.3)
        for rows in (slice(0, 1), slice(289, 301), slice(5, 200), slice(304, 305)):
            alone = parzen_log_density(queries[rows], points, 0.3)
            if native.load("cpu").library is None:  # the matrix products of the reference round by their shape
                torch.testing.assert_close(alone, values[rows], rtol=4e-7, atol=3e-5)
            else:
                assert torch.equal(alone, values[rows])

    def test_threads_do_not_change_a_bit(self):
        points, queries, grad = normal(13000, 6, dtype=torch.float32), normal(700, 6, seed=1, dtype=torch.float32), normal(700)
        args = arguments(queries, points)
        before, found = torch.get_num_threads(), []
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                value = OP.parzen_log_sum(*args)
                few = OP.parzen_log_sum(queries[:3], *args[1:])
                small = arguments(queries, points[:500])
                found.append((value, few, *OP.parzen_weigh(grad, value, *small, True), *OP.parzen_nearest(*args[:2], *args[3:5], 4)))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))

    def test_a_common_shift_changes_nothing(self):
        points, queries = normal(100, 7, dtype=torch.float32), normal(20, 7, seed=1, dtype=torch.float32)
        shift = 1024.0  # exact for these after rounding to its grid
        grid = [(t * 2**12).round() / 2**12 for t in (queries, points)]
        torch.testing.assert_close(
            parzen_log_density(grid[0] + shift, grid[1] + shift, 0.4), parzen_log_density(*grid, 0.4), rtol=0, atol=2e-5
        )


class TestGradients:
    @pytest.mark.parametrize("own", [False, True])
    @pytest.mark.parametrize("kind", ["scalar", "diagonal", "cholesky"])
    def test_first_and_second(self, own, kind):
        m, dim = 7 if own else 4, 3
        points = normal(7, dim).requires_grad_()
        queries = normal(m, dim, seed=1).requires_grad_()
        weights = torch.rand(7, generator=torch.Generator().manual_seed(3), dtype=F64).requires_grad_()
        bandwidth = {
            "scalar": torch.tensor(0.8, dtype=F64),
            "diagonal": torch.tensor([0.5, 1.0, 1.4], dtype=F64),
            "cholesky": cholesky(dim),
        }[kind]
        bandwidth.requires_grad_()

        def density(q, x, b, w):
            return parzen_log_density(q, x, b, w, own)

        inputs = (queries, points, bandwidth, weights)
        assert torch.autograd.gradcheck(density, inputs)
        assert torch.autograd.gradgradcheck(density, inputs)

    def test_float32_against_autograd_in_float64(self):
        points, queries = normal(400, 16, dtype=torch.float32), normal(100, 16, seed=1, dtype=torch.float32)
        log_h = torch.tensor(-0.3, requires_grad=True)
        inputs = [queries.requires_grad_(), points.requires_grad_(), log_h]
        found = torch.autograd.grad(parzen_log_density(queries, points, log_h.exp()).sum(), inputs)
        q, x, b = (t.detach().double().requires_grad_() for t in inputs)
        scores = -((q[:, None] - x) / b.exp()).square().sum(-1) / 2
        right = torch.autograd.grad(scores.logsumexp(1).sum() - 100 * 16 * b, (q, x, b))
        for a, e in zip(found, right, strict=True):
            torch.testing.assert_close(a.double(), e, rtol=1e-4, atol=1e-4)

    def test_far_queries_have_the_gradient_of_their_nearest_point(self):
        points = torch.tensor([[0.0, 0.0], [0.0, 5.0]])
        query = torch.tensor([[1000.0, 5.0]], requires_grad=True)
        parzen_log_density(query, points, 1.0).sum().backward()
        torch.testing.assert_close(query.grad, torch.tensor([[-1000.0, 0.0]]), rtol=1e-5, atol=1e-3)


class TestRegistration:
    def test_opcheck(self):
        queries, points = normal(4, 3).requires_grad_(), normal(6, 3).requires_grad_()
        args = arguments(queries, points, normal(6).requires_grad_(), torch.ones(3, dtype=F64).requires_grad_(), own=1)
        torch.library.opcheck(OP.parzen_log_sum.default, args)
        plain = tuple(a.detach() if isinstance(a, torch.Tensor) else a for a in args)
        torch.library.opcheck(OP.parzen_partial.default, plain)
        value = OP.parzen_log_sum(*plain)
        torch.library.opcheck(OP.parzen_weigh.default, (torch.ones(4, dtype=F64, requires_grad=True), value, *args, True))
        torch.library.opcheck(OP.parzen_nearest.default, (*plain[:2], *plain[3:5], 2))

    def test_vmap(self):
        queries, points = normal(3, 5, 2), normal(7, 2)
        stacked = torch.vmap(lambda q: parzen_log_density(q, points, 0.5))(queries)
        torch.testing.assert_close(stacked, torch.stack([parzen_log_density(q, points, 0.5) for q in queries]))
        distances, numbers = torch.vmap(lambda q: parzen_topk(q, points, 2))(queries)
        assert torch.equal(numbers[1], parzen_topk(queries[1], points, 2)[1])
        assert distances.shape == (3, 5, 2)

    def test_compiles_as_one_graph(self):
        calls = []

        def density(q, x):
            calls.append(1)
            return parzen_log_density(q, x, 0.5).exp()

        compiled = torch.compile(density, fullgraph=True, backend="aot_eager")
        queries, points = normal(5, 3).requires_grad_(), normal(7, 3)
        found = compiled(queries, points)
        torch.testing.assert_close(found, density(queries, points))
        (gradient,) = torch.autograd.grad(found.sum(), queries)
        torch.testing.assert_close(gradient, torch.autograd.grad(density(queries, points).sum(), queries)[0])

    def test_autocast(self):
        points = normal(50, 8, dtype=torch.float32)
        expected = parzen_log_density(points, points, 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(parzen_log_density(points, points, 0.5), expected)

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_cuda(self, dtype):
        points, queries = normal(3000, 16, dtype=dtype), normal(500, 16, seed=1, dtype=dtype)
        values = parzen_log_density(queries.cuda(), points.cuda(), 0.5).cpu()
        assert excess(values, oracle(queries, points, 0.5)) < 1
