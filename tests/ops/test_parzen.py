"""The Parzen density against long-double sums, the native kernels against the reference, gradients, and the laws of a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen import native
from medgen.errors import ConfigError
from medgen.ops import parzen_log_density, parzen_topk
from medgen.ops.reference import parzen as reference

F64 = torch.float64
OP = torch.ops.medgen


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def oracle(queries, points, bandwidth, weights=None, own=None):
    """The definition, in long double; bandwidth a number or [D]; own: leave point i out of query i."""
    q, x = (t.double().numpy().astype(np.longdouble) for t in (queries, points))
    h = np.broadcast_to(np.asarray(bandwidth, dtype=np.float64), x.shape[1:]).astype(np.longdouble)
    w = np.ones(len(x), dtype=np.longdouble) if weights is None else weights.double().numpy().astype(np.longdouble)
    with np.errstate(divide="ignore"):
        log_w = np.log(w)
    out = []
    for i, y in enumerate(q):
        s = log_w - (((y - x) / h) ** 2).sum(1) / 2
        total = w.sum()
        if own:
            s[i], total = -np.inf, total - w[i]
        m = s.max()
        out.append(m + np.log(np.exp(s - m).sum()) - np.log(total))
    return np.array(out) - np.log(h).sum() - q.shape[1] * np.log(2 * np.longdouble(math.pi)) / 2


def excess(values, exact):
    """Error as a share of what the op promises."""
    wide = values.dtype == F64
    error = np.abs(values.numpy().astype(np.longdouble) - exact)
    return float((error / ((1e-11 if wide else 3e-5) + (1e-14 if wide else 2e-7) * np.abs(exact))).max())


def arguments(queries, points, log_weights=None, factor=None, own=None):
    """Of the ops."""
    dim = points.shape[1]
    log_weights = torch.zeros(len(points), dtype=F64) if log_weights is None else log_weights
    factor = torch.ones(dim, dtype=F64) if factor is None else factor
    centre = points.to(F64).mean(0) if len(points) else torch.zeros(dim, dtype=F64)
    return queries, points, log_weights, centre, factor, own is not None, own or 0


def cholesky(dim, seed=0):
    a = normal(dim, dim, seed=seed)
    return torch.linalg.cholesky(a @ a.mT / dim + 0.3 * torch.eye(dim, dtype=F64)).contiguous()


class TestAccuracy:
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    @pytest.mark.parametrize(("mean", "bandwidth"), [(0, 0.74), (0, 0.1), (10, 0.74), (10, 0.1), (100, 0.1)])
    @pytest.mark.parametrize("dim", [1, 2, 5, 16, 32, 64])
    def test_near_and_far(self, dtype, mean, bandwidth, dim):
        points = (mean + normal(1500, dim)).to(dtype)
        near = (points[:60].double() + bandwidth * normal(60, dim, seed=1)).to(dtype)
        away = (mean + normal(20, dim, seed=2)).to(dtype)
        far = (points[:4].double() + 1000 * bandwidth).to(dtype)
        for queries in (near, torch.cat([near, away, far])):
            values = parzen_log_density(queries, points, bandwidth)
            assert values.isfinite().all()
            assert excess(values, oracle(queries, points, bandwidth)) < 1
        error = np.abs(parzen_log_density(near, points, bandwidth).double().numpy() - oracle(near, points, bandwidth).astype(float))
        assert error.max() < (1e-11 if dtype == F64 else 2.5e-5)

    def test_far_apart_clusters_keep_their_fine_structure(self):
        points = torch.cat([normal(50, 8, dtype=torch.float32), normal(50, 8, seed=1, dtype=torch.float32) + 3000])
        assert excess(parzen_log_density(points, points, 0.5), oracle(points, points, 0.5)) < 1

    def test_reference_is_as_accurate(self):
        for mean, h, dim in [(0, 0.74, 32), (100, 0.1, 32), (0, 0.1, 1)]:
            points = (mean + normal(500, dim)).float()
            queries = (points[:50].double() + h * normal(50, dim, seed=1)).float()
            factor = torch.full((dim,), h, dtype=F64)
            values = (
                reference.log_sum(*arguments(queries, points, factor=factor)) - math.log(500) - dim * math.log(h * math.sqrt(2 * math.pi))
            )
            assert excess(values.float(), oracle(queries, points, h)) < 1

    @pytest.mark.parametrize("dim", [2, 32])
    def test_per_dimension_and_weights(self, dim):
        points, queries, weights = normal(300, dim), normal(40, dim, seed=1), torch.rand(300, dtype=F64)
        weights[::7] = 0
        h = 0.3 + torch.rand(dim, dtype=F64)
        for dtype in (torch.float32, F64):
            args = queries.to(dtype), points.to(dtype)
            assert excess(parzen_log_density(*args, h, weights), oracle(*args, h.numpy(), weights)) < 1

    @pytest.mark.parametrize("dim", [1, 3, 20])
    def test_cholesky_is_whitening(self, dim):
        points, queries, factor = normal(200, dim), normal(30, dim, seed=1), cholesky(dim)
        white = [torch.linalg.solve_triangular(factor, t.mT, upper=False).mT for t in (queries, points)]
        expected = oracle(*white, 1.0) - float(factor.diagonal().log().sum())
        np.testing.assert_allclose(parzen_log_density(queries, points, factor).numpy(), expected.astype(float), atol=1e-11)
        full = factor + torch.ones(dim, dim, dtype=F64).triu(1)  # what is above the diagonal is not read
        assert torch.equal(parzen_log_density(queries, points, full), parzen_log_density(queries, points, factor))

    def test_is_a_density(self):
        points = torch.tensor([[-1.0], [0.5], [2.0]], dtype=F64)
        grid = torch.linspace(-12, 12, 4001, dtype=F64)[:, None]
        total = torch.trapezoid(parzen_log_density(grid, points, 0.7, torch.tensor([1.0, 2.0, 5.0])).exp(), grid[:, 0])
        assert float(total) == pytest.approx(1, abs=1e-9)


class TestReferenceParity:
    @given(
        st.sampled_from([0, 1, 2, 63, 64, 65, 131]),
        st.sampled_from([0, 1, 2, 5, 6, 7, 97, 400]),
        st.sampled_from([1, 2, 3, 4, 5, 7, 16, 33]),
        st.sampled_from([torch.float32, F64]),
        st.sampled_from([1e-4, 0.03, 1.0, 40.0]),
        st.booleans(),
        st.integers(0, 10**6),
    )
    @settings(max_examples=60)
    def test_log_sum_and_weigh(self, m, n, dim, dtype, scale, dense, seed):
        queries, points = (scale * normal(m, dim, seed=seed)).to(dtype), (scale * normal(n, dim, seed=seed + 1)).to(dtype)
        args = arguments(queries, points, normal(n, seed=seed), cholesky(dim, seed) if dense else None)
        value, expected = OP.parzen_log_sum(*args), reference.log_sum(*args)
        tolerance = {"rtol": 1e-12, "atol": 1e-11} if dtype == F64 else {"rtol": 4e-7, "atol": 5e-5}
        torch.testing.assert_close(value, expected, **tolerance)
        top, total = OP.parzen_partial(*args)
        torch.testing.assert_close(top + total.log(), value, rtol=1e-14, atol=1e-13, equal_nan=True)
        grad = normal(m, seed=seed + 2)
        loose = {"rtol": 1e-9, "atol": 1e-9 * (1 + scale)} if dtype == F64 else {"rtol": 2e-3, "atol": 2e-3 * (1 + scale)}
        for found, right in zip(OP.parzen_weigh(grad, expected, *args, True), reference.weigh(grad, expected, *args, True), strict=True):
            torch.testing.assert_close(found, right, **loose)
        none = OP.parzen_weigh(grad, expected, *args, False)
        assert not none[1].any()
        assert not none[2].any()

    @given(
        st.sampled_from([1, 2, 64, 70]),
        st.sampled_from([1, 5, 50, 300]),
        st.sampled_from([1, 2, 9]),
        st.integers(0, 50),
        st.integers(0, 10**6),
    )
    @settings(max_examples=40)
    def test_nearest(self, m, n, dim, k, seed):
        points = normal(n, dim, seed=seed, dtype=torch.float32)
        points[n // 2 :] = points[: n - n // 2].clone()  # ties
        queries = torch.cat([normal(m, dim, seed=seed + 1, dtype=torch.float32), points[:1]])
        k = min(k, n)
        args = queries, points, points.double().mean(0), torch.full((dim,), 0.7, dtype=F64), k
        found, right = OP.parzen_nearest(*args), reference.nearest(*args)
        torch.testing.assert_close(found[0], right[0], rtol=1e-14, atol=1e-14)
        assert torch.equal(found[1], right[1])


class TestNearest:
    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_near_ties_are_told_apart_in_double(self, dtype):
        points = torch.tensor([[1.0 + 2.0**-22], [1.0], [-1.0], [1.0 + 2.0**-23]], dtype=dtype) + 7
        _, numbers = parzen_topk(torch.full((1, 1), 7.0, dtype=dtype), points, 4, 0.01)
        differences = (points - 7).abs().flatten()
        assert numbers[0].tolist() == sorted(range(4), key=lambda j: (float(differences[j]), j))

    def test_nan_and_infinity(self):
        points = normal(10, 2, dtype=torch.float32)
        queries = torch.tensor([[math.nan, 0.0], [math.inf, 0.0], [0.0, 0.0]])
        distances, numbers = parzen_topk(queries, points, 3)
        assert distances[0].isnan().all()
        assert (distances[1] == math.inf).all()
        assert numbers[:2].tolist() == [[0, 1, 2]] * 2
        assert distances[2].isfinite().all()

    @pytest.mark.parametrize("k", [-1, 4])
    def test_k_out_of_range(self, k):
        with pytest.raises(ConfigError, match="`k` must be in"):
            parzen_topk(torch.zeros(1, 2), torch.zeros(3, 2), k)


class TestEnds:
    def test_no_points_no_queries(self):
        assert parzen_log_density(torch.zeros(2, 3), torch.zeros(0, 3), 1.0).tolist() == [-math.inf] * 2
        assert parzen_log_density(torch.zeros(0, 3), torch.zeros(4, 3), 1.0).shape == (0,)
        assert parzen_log_density(torch.zeros(1, 3), torch.zeros(1, 3), 1.0, leave_one_out=True).tolist() == [-math.inf]

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_nan_and_infinity(self, dtype):
        points = normal(20, 6, dtype=dtype)
        queries = normal(4, 6, seed=1, dtype=dtype)
        alone = parzen_log_density(queries, points, 1.0)
        queries[1, 2], queries[2, 0] = math.nan, -math.inf
        values = parzen_log_density(queries, points, 1.0)
        assert values[1].isnan()
        assert values[2] == -math.inf
        assert torch.equal(values[[0, 3]], alone[[0, 3]])
        for bad in (math.nan, math.inf):
            broken = points.clone()
            broken[7, 3] = bad
            assert parzen_log_density(queries, broken, 1.0).isnan().all()

    def test_a_weight_of_zero_is_no_point(self):
        points, weights = normal(30, 5), torch.rand(30, dtype=F64)
        weights[10:] = 0
        torch.testing.assert_close(
            parzen_log_density(points, points, 0.5, weights), parzen_log_density(points, points[:10], 0.5, weights[:10])
        )
        assert parzen_log_density(points[:1], points, 0.5, torch.zeros(30)).isnan().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_accumulates_in_float32(self, dtype):
        points = normal(100, 8).to(dtype)
        values = parzen_log_density(points, points, 0.5)
        assert values.dtype == torch.float32
        assert excess(values, oracle(points, points, 0.5)) < 1

    @pytest.mark.parametrize("dtype", [torch.float32, F64])
    def test_views(self, dtype):
        """Strided and unaligned inputs, and nothing written around them."""
        block = torch.full((2 * 9 * 6 + 1,), 77.0, dtype=dtype)
        points = block[1 : 1 + 54].view(9, 6)
        points.copy_(normal(9, 6))
        strided = normal(6, 22, dtype=dtype).mT[::2]
        expected = oracle(strided, points, 0.9)
        assert excess(parzen_log_density(strided, points, 0.9), expected) < 1
        assert (block[55:] == 77).all()
        assert block[0] == 77

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"queries": torch.zeros(2, 4)}, "`queries` and `points` must be"),
            ({"queries": torch.zeros(3)}, "`queries` and `points` must be"),
            ({"bandwidth": 0.0}, "`bandwidth` must be positive"),
            ({"bandwidth": math.nan}, "`bandwidth` must be positive"),
            ({"bandwidth": torch.ones(4)}, "`bandwidth` must be a number"),
            ({"bandwidth": torch.ones(3, 4)}, "`bandwidth` must be a number"),
            ({"weights": torch.ones(4)}, "`weights` must be one per point"),
            ({"queries": torch.zeros(6, 3), "leave_one_out": True}, "`queries` must be points"),
        ],
    )
    def test_wrong_arguments(self, change, message):
        with pytest.raises(ConfigError, match=message):
            parzen_log_density(**({"queries": torch.zeros(2, 3), "points": torch.zeros(5, 3), "bandwidth": 1.0} | change))


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
