"""The Parzen density against long-double sums, and the native kernels against the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from densities import F64, arguments, cholesky, excess, normal, oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.ops import parzen_log_density, parzen_topk
from medgen.ops.reference import parzen as reference

OP = torch.ops.medgen


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
