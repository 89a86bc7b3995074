"""Spline coupling: the spline's definition, the two directions, gradients of both orders, parity of native and reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medgen import native
from medgen.errors import ConfigError
from medgen.ops import rq_spline_coupling
from medgen.ops.reference import affine_coupling as masks
from medgen.ops.reference import rq_spline as reference

OP = torch.ops.medgen.rq_spline_coupling.default
BACKWARD = torch.ops.medgen.rq_spline_coupling_backward.default
IS_NATIVE = native.load("cpu").library is not None
SHAPES = [(1, 1), (3, 7), (2, 130), (2, 3, 5), (3, 4, 5, 6), (2, 3, 3, 4, 5), (1, 2, 67, 67), (0, 4), (2, 0), (3, 1, 2, 2), (2, 2, 0, 3)]


def make(shape, mask, bins, *, full=False, dtype=torch.float32, seed=0, scale=1.0):
    """x, parameters."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[1]
    p = channels if full else masks.transformed(channels, masks.MASKS.index(mask), channels // 2)
    size = (shape[0], p * (3 * bins - 1), *shape[2:])
    return 1.5 * torch.randn(shape, generator=generator, dtype=dtype), scale * torch.randn(size, generator=generator, dtype=dtype)


def fits(shape, mask):
    return not mask.startswith("checker") or 3 <= len(shape) <= 5


def by_hand(x, raw, bins, tail):
    """One element by the paper's equations 4 and 5, in NumPy."""
    if not -tail <= x <= tail:
        return x, 0.0
    softmax = lambda u: np.exp(u - u.max()) / np.exp(u - u.max()).sum()  # noqa: E731
    knots = [
        np.concatenate([[0.0], np.cumsum(1e-3 + (1 - 1e-3 * bins) * softmax(u))]) * 2 * tail - tail
        for u in (raw[:bins], raw[bins : 2 * bins])
    ]
    slopes = np.concatenate([[1.0], 1e-3 + np.log1p(np.exp(raw[2 * bins :])), [1.0]])
    k = min(max(int(np.searchsorted(knots[0], x, side="right")) - 1, 0), bins - 1)
    (x0, x1), (y0, y1), (d0, d1) = (v[k : k + 2] for v in (*knots, slopes))
    s, t = (y1 - y0) / (x1 - x0), (x - x0) / (x1 - x0)
    den = s + (d1 + d0 - 2 * s) * t * (1 - t)
    y = y0 + (y1 - y0) * (s * t**2 + d0 * t * (1 - t)) / den
    return y, math.log(s**2 * (d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2) / den**2)


class TestDefinition:
    @given(st.integers(0, 2**31), st.integers(1, 9), st.floats(0.5, 5), st.sampled_from([0.1, 1.0, 5.0]))
    def test_equals_the_paper(self, seed, bins, tail, scale):
        x, p = make((2, 6), "second", bins, dtype=torch.float64, seed=seed, scale=scale)
        y, log_det = rq_spline_coupling(x, p, bins=bins, tail=tail)
        for b in range(2):
            want = [by_hand(x[b, 3 + i].item(), p[b].view(3, -1)[i].numpy(), bins, tail) for i in range(3)]
            np.testing.assert_allclose(y[b, 3:].numpy(), [v for v, _ in want], rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(log_det[b].item(), sum(v for _, v in want), rtol=1e-9, atol=1e-9)
        assert torch.equal(y[:, :3], x[:, :3])

    @pytest.mark.parametrize("bins", [1, 2, 5, 8])
    def test_identity_at_the_ends_and_beyond(self, bins):
        x = torch.tensor([[-3.0, 3.0, -3.0001, 1e30, 3.5, -math.inf]], dtype=torch.float64)
        p = torch.randn(1, 6 * (3 * bins - 1), dtype=torch.float64)
        for inverse in (False, True):
            y, _ = rq_spline_coupling(x, p, bins=bins, mask="first", split=6, inverse=inverse)
            torch.testing.assert_close(y, x, rtol=1e-12, atol=1e-12)

    def test_monotone(self):
        x = torch.linspace(-4, 4, 2001, dtype=torch.float64)[:, None]
        p = (5 * torch.randn(1, 23, dtype=torch.float64)).expand(2001, 23)
        y, log_det = rq_spline_coupling(x, p, bins=8, mask="first", split=1)
        assert (y.diff(dim=0) > 0).all()
        numeric = torch.autograd.functional.jacobian(
            lambda v: rq_spline_coupling(v, p[:7], bins=8, mask="first", split=1)[0].sum(0), x[900:907]
        )
        torch.testing.assert_close(numeric[0, :, 0].log(), log_det[900:907])


class TestInverse:
    @given(
        st.integers(0, 2**31),
        st.sampled_from([(3, 7), (2, 3, 4, 5)]),
        st.sampled_from(masks.MASKS),
        st.sampled_from([1, 4, 8]),
        st.sampled_from([0.3, 3.0]),
    )
    def test_back_to_x(self, seed, shape, mask, bins, scale):
        assume(fits(shape, mask))
        x, p = make(shape, mask, bins, full=True, dtype=torch.float64, seed=seed, scale=scale)
        y, log_det = rq_spline_coupling(x, p, bins=bins, mask=mask)
        back, minus = rq_spline_coupling(y, p, bins=bins, mask=mask, inverse=True)
        # the rounding of y over the least slope, 1e-3, and what the difference in the quadratic loses
        torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
        torch.testing.assert_close(minus, -log_det, rtol=1e-6, atol=1e-6)

    @given(st.integers(0, 2**31), st.sampled_from([1.0, 10.0, 100.0, 1e4]))
    def test_extreme_parameters_stay_finite(self, seed, scale):
        """nflows #87: a discriminant a rounding below 0 must not stop a batch."""
        x, p = make((64, 6), "second", 8, seed=seed, scale=scale)
        for inverse in (False, True):
            y, log_det = rq_spline_coupling(x, p, bins=8, inverse=inverse)
            assert y.isfinite().all()
            assert log_det.isfinite().all()


def relative(got, want, tolerance):
    """Relative to the largest value: a gradient is a sum of terms of that size."""
    assert got.shape == want.shape
    assert ((got - want).abs() <= tolerance * (want.abs().max() if want.numel() else 1.0) + tolerance).all()


class TestParity:
    @given(
        st.integers(0, 2**31),
        st.sampled_from(SHAPES),
        st.sampled_from(range(6)),
        st.sampled_from([1, 2, 5, 8]),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["contiguous", "transposed", "unaligned"]),
        st.sampled_from([1.0, 1e-20, 4.0]),
    )
    @settings(max_examples=80)
    def test_values_and_gradients_in_float64(self, seed, shape, mask, bins, full, inverse, storage, scale):
        assume(fits(shape, masks.MASKS[mask]))
        x, p = make(shape, masks.MASKS[mask], bins, full=full, dtype=torch.float64, seed=seed, scale=scale)
        if storage == "transposed":
            x, p = (v.transpose(0, -1).contiguous().transpose(0, -1) for v in (x, p))
        elif storage == "unaligned":
            x, p = (torch.cat([v.new_zeros(1), v.flatten()])[1:].view(v.shape) for v in (x, p))
        form = (bins, 3.0, mask, shape[1] // 2, inverse)
        (y, log_det), (want, want_log_det) = OP(x, p, *form), reference.rq_spline_coupling(x, p, *form)
        relative(y, want, 1e-10)
        relative(log_det, want_log_det, 1e-8)
        g, h = torch.randn_like(x), torch.randn_like(log_det)
        for a, b in zip(BACKWARD(g, h, x, p, *form), reference.rq_spline_gradients(g, h, x, p, *form), strict=True):
            relative(a, b, 1e-7)

    @pytest.mark.parametrize("inverse", [False, True])
    def test_float32_against_float64(self, inverse):
        x, p = make((500, 8), "second", 8, seed=3)
        y, log_det = rq_spline_coupling(x, p, bins=8, inverse=inverse)
        want, want_log_det = rq_spline_coupling(x.double(), p.double(), bins=8, inverse=inverse)
        assert (y - want).abs().max() < 2e-5
        assert (log_det - want_log_det).abs().max() < 2e-4

    @pytest.mark.parametrize("inverse", [False, True])
    def test_nan_stays_where_it_is(self, inverse):
        x, p = make((3, 70), "second", 4)
        x[1, 40], p[2, 5] = math.nan, math.nan
        got, want = OP(x, p, 4, 3.0, 1, 35, inverse), reference.rq_spline_coupling(x, p, 4, 3.0, 1, 35, inverse)
        assert torch.equal(got[0].isnan(), want[0].isnan())
        assert torch.equal(got[1].isnan(), want[1].isnan())

    @pytest.mark.parametrize("mask", masks.MASKS)
    def test_out_and_in_place(self, mask):
        x, p = make((2, 5, 3, 4), mask, 4)
        want, want_log_det = rq_spline_coupling(x, p, bins=4, mask=mask)
        buffer = torch.full((140,), 777.0)
        out = buffer[7 : 7 + 120].view(2, 5, 3, 4).fill_(math.nan)
        y, log_det = rq_spline_coupling(x, p, bins=4, mask=mask, out=out)
        assert y is out
        assert (buffer[:7] == 777).all()
        assert (buffer[127:] == 777).all()
        assert torch.equal(out, want)
        assert torch.equal(log_det, want_log_det)
        rq_spline_coupling(x, p, bins=4, mask=mask, out=x)
        assert torch.equal(x, want)

    @pytest.mark.parametrize("shape", [(1, 2, 130, 131), (200, 16)])
    def test_bit_equal_at_any_thread_count(self, shape):
        x, p = make(shape, "second", 5)
        try:
            results = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                results.append(rq_spline_coupling(x, p, bins=5))
        finally:
            torch.set_num_threads(1)
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class TestGradients:
    @pytest.mark.parametrize("inverse", [False, True])
    @pytest.mark.parametrize(("shape", "mask"), [((2, 5), "second"), ((1, 3, 2, 2), "odd"), ((1, 1, 2, 3), "checkerboard_even")])
    def test_first_and_second_order(self, shape, mask, inverse):
        inputs = tuple(v.requires_grad_() for v in make(shape, mask, 3, dtype=torch.float64))
        f = lambda x, p: rq_spline_coupling(x, p, bins=3, mask=mask, inverse=inverse)  # noqa: E731
        assert torch.autograd.gradcheck(f, inputs)
        assert torch.autograd.gradgradcheck(f, inputs)

    def test_only_one_output_is_used(self):
        x, p = (v.requires_grad_() for v in make((3, 6), "second", 4))
        for use in (0, 1):
            got, want = (
                torch.autograd.grad(f(x, p)[use].sum(), (x, p))
                for f in (
                    lambda a, b: rq_spline_coupling(a, b, bins=4),
                    lambda a, b: reference.rq_spline_coupling(a, b, 4, 3.0, 1, 3, False),
                )
            )
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


class TestTransforms:
    def test_opcheck(self):
        x, p = (v.requires_grad_() for v in make((2, 6, 3), "second", 4))
        form = (4, 3.0, 1, 3, False)
        torch.library.opcheck(OP, (x, p, *form))
        if IS_NATIVE:  # the reference differentiates by autograd, which the modes of opcheck switch off
            torch.library.opcheck(BACKWARD, (torch.randn(2, 6, 3), torch.randn(2), x.detach(), p.detach(), *form))
        torch.library.opcheck(torch.ops.medgen.rq_spline_coupling_out.default, (x.detach(), p.detach(), *form, torch.empty(2, 6, 3)))

    def test_vmap_and_gradients_per_sample(self):
        x, p = make((4, 6), "second", 4)
        y, log_det = torch.func.vmap(lambda a, b: OP(a[None], b[None], 4, 3.0, 1, 3, False))(x, p)
        want, want_log_det = rq_spline_coupling(x, p, bins=4)
        torch.testing.assert_close(y[:, 0], want)
        torch.testing.assert_close(log_det[:, 0], want_log_det)
        loss = lambda a, b: rq_spline_coupling(a[None], b[None], bins=4)[1].sum()  # noqa: E731
        got = torch.func.vmap(torch.func.grad(loss))(x, p)
        xs = x.clone().requires_grad_()
        torch.testing.assert_close(got, torch.autograd.grad(rq_spline_coupling(xs, p, bins=4)[1].sum(), xs)[0], rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("inverse", [False, True])
    def test_compile(self, inverse):
        x, p = (v.requires_grad_() for v in make((2, 6, 3), "second", 4))
        f = lambda a, b: rq_spline_coupling(a, b, bins=4, inverse=inverse)  # noqa: E731
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        for a, b in zip(compiled(x, p), f(x, p), strict=True):
            torch.testing.assert_close(a, b)
        got, want = (torch.autograd.grad([v.sum() for v in g(x, p)], (x, p)) for g in (compiled, f))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)

    def test_half_and_autocast(self):
        x, p = (v.bfloat16() for v in make((3, 8), "second", 4))
        y, log_det = rq_spline_coupling(x, p, bins=4)
        want, want_log_det = rq_spline_coupling(x.float(), p.float(), bins=4)
        assert y.dtype == torch.bfloat16
        assert log_det.dtype == torch.float32
        assert torch.equal(y, want.bfloat16())
        assert torch.equal(log_det, want_log_det)
        with torch.autocast("cpu", torch.bfloat16):
            assert OP(x, p, 4, 3.0, 1, 4, False)[0].dtype == torch.float32


class TestErrors:
    @pytest.mark.parametrize(
        ("parameters", "options", "match"),
        [
            ((2, 32), {"bins": 4}, "`parameters` must be"),
            ((2, 33), {"bins": 0}, "`bins` must be in"),
            ((2, 33), {"bins": 4, "tail": 0.0}, "`tail` must be > 0"),
            ((2, 33), {"bins": 4, "mask": "checkerboard_odd"}, "`x` must be .* checkerboard"),
            ((2, 33), {"bins": 4, "mask": "third"}, "`mask` must be one of"),
        ],
    )
    def test_house_form(self, parameters, options, match):
        with pytest.raises(ConfigError, match=match):
            rq_spline_coupling(torch.zeros(2, 6), torch.zeros(parameters), **options)
        assert rq_spline_coupling(torch.zeros(2, 6), torch.zeros(2, 33), bins=4)[0].shape == (2, 6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    @pytest.mark.parametrize("mask", masks.MASKS)
    @pytest.mark.parametrize("inverse", [False, True])
    def test_parity_with_the_cpu(self, mask, inverse):
        x, p = make((3, 4, 5, 6), mask, 5)
        got = rq_spline_coupling(x.cuda(), p.cuda(), bins=5, mask=mask, inverse=inverse)
        for a, b in zip(got, rq_spline_coupling(x, p, bins=5, mask=mask, inverse=inverse), strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-4)
