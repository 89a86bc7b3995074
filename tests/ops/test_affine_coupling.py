"""Coupling: closed forms, the two directions, accuracy, half precision, errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from ops.coupling_cases import FORMULAS, by_hand, fits, make, shapes_and_masks
from torch import nn

from medgen import native
from medgen.errors import ConfigError
from medgen.ops import additive_coupling, affine_coupling
from medgen.ops.reference import affine_coupling as reference

OP = torch.ops.medgen.affine_coupling.default
IS_NATIVE = native.load("cpu").library is not None


class TestDefinition:
    @pytest.mark.parametrize("inverse", [False, True])
    @pytest.mark.parametrize("full", [False, True])
    @shapes_and_masks
    def test_equals_the_formula_element_by_element(self, shape, mask, full, inverse):
        for bound, formula in FORMULAS.items():
            x, s, t = make(shape, mask, full=full, dtype=torch.float64)
            want, want_log_det = by_hand(x, s, t, mask, formula, inverse)
            for y, log_det in (
                affine_coupling(x, s, t, mask=mask, bound=bound, s_max=1.5, inverse=inverse),
                affine_coupling(x, torch.cat([s, t], 1), mask=mask, bound=bound, s_max=1.5, inverse=inverse),
                reference.affine_coupling(x, s, t, reference.MASKS.index(mask), shape[1] // 2, reference.BOUNDS.index(bound), 1.5, inverse),
            ):
                torch.testing.assert_close(y, want, rtol=1e-13, atol=1e-13)
                torch.testing.assert_close(log_det, want_log_det, rtol=1e-12, atol=1e-12)

    @shapes_and_masks
    def test_additive(self, shape, mask):
        x, _, t = make(shape, mask)
        y, log_det = additive_coupling(x, t, mask=mask)
        want, _ = by_hand(x, torch.zeros_like(t), t, mask, FORMULAS["none"], False)
        torch.testing.assert_close(y, want)
        assert torch.equal(log_det, torch.zeros(shape[0]))
        torch.testing.assert_close(additive_coupling(y, t, mask=mask, inverse=True)[0], x)

    @given(st.integers(0, 5), st.integers(1, 40), st.integers(0, 40), st.booleans())
    def test_any_split(self, batch, channels, split, second):
        assume(split <= channels)
        n = channels - split if second else split
        x, p = torch.randn(batch, channels, dtype=torch.float64), torch.randn(batch, 2 * n, dtype=torch.float64)
        y, log_det = affine_coupling(x, p, mask="second" if second else "first", split=split, bound="none")
        part = slice(split, None) if second else slice(None, split)
        want = x.clone()
        want[:, part] = x[:, part] * p[:, :n].exp() + p[:, n:]
        torch.testing.assert_close(y, want)
        torch.testing.assert_close(log_det, p[:, :n].sum(1))

    @pytest.mark.parametrize("bound", reference.BOUNDS)
    def test_log_det_is_that_of_the_jacobian(self, bound):
        x, s, t = make((1, 4, 2, 3), "checkerboard_odd", dtype=torch.float64)
        f = lambda v: affine_coupling(v.reshape(x.shape), s, t, mask="checkerboard_odd", bound=bound)[0].flatten()  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(f, x.flatten())
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], affine_coupling(x, s, t, mask="checkerboard_odd", bound=bound)[1][0])

    @given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(0.01, 10), st.sampled_from(["tanh", "soft"]))
    def test_the_log_scale_stays_within_its_bound(self, s, s_max, bound):
        log_det = affine_coupling(torch.ones(1, 2), torch.tensor([[s, 0.0]]), bound=bound, s_max=s_max)[1]
        assert abs(log_det.item()) <= s_max * (1 + 1e-6)


class TestInverse:
    @given(
        st.integers(0, 2**31),
        st.sampled_from([(3, 7), (2, 70), (2, 3, 4, 5), (1, 2, 3, 3, 3)]),
        st.sampled_from(reference.MASKS),
        st.sampled_from(reference.BOUNDS),
        st.sampled_from([torch.float32, torch.float64]),
        st.sampled_from([1e-6, 1.0, 3.0]),
    )
    def test_within_rounding(self, seed, shape, mask, bound, dtype, scale):
        """|x' - x| <= 6 eps (|x| + (|y| + |t|) exp(-b)): the roundings of y, y - t, two exponentials and the product."""
        assume(fits(shape, mask))
        x, s, t = make(shape, mask, full=True, dtype=dtype, seed=seed, scale=scale)
        s = s.clamp(-20, 20)
        y, log_det = affine_coupling(x, s, t, mask=mask, bound=bound)
        back, minus = affine_coupling(y, s, t, mask=mask, bound=bound, inverse=True)
        b = reference.bounded(s, reference.BOUNDS.index(bound), 2.0)
        allowed = 6 * torch.finfo(dtype).eps * (x.abs() + (y.abs() + t.abs()) * torch.exp(-b) + b.abs() * x.abs())
        assert ((back - x).abs() <= allowed).all()
        assert torch.equal(minus, -log_det)


class TestAccuracy:
    def test_log_det_of_25000_terms(self):
        """Eager's pairwise float32 sum is off by 1.9e-5 here; float64 lanes leave the rounding of each term and of the result."""
        s = torch.randn(4, 25_000)
        x = torch.randn(4, 50_000)
        log_det = affine_coupling(x, s, torch.zeros_like(s), bound="none")[1]
        exact = s.double().sum(1)
        assert ((log_det.double() - exact).abs() <= 6e-8 * exact.abs() + 1e-12).all()

    @pytest.mark.parametrize("bound", reference.BOUNDS)
    def test_y_against_float64(self, bound):
        x, s, t = make((64, 64), "second")
        y = affine_coupling(x, s, t, bound=bound)[0]
        want = affine_coupling(x.double(), s.double(), t.double(), bound=bound)[0]
        assert ((y.double() - want).abs() <= 4e-7 * (want.abs() + t.abs().max())).all()


class TestHalf:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_computed_in_float32(self, dtype):
        x, s, t = (v.to(dtype) for v in make((3, 64), "second"))
        y, log_det = affine_coupling(x, s, t)
        want, want_log_det = affine_coupling(x.float(), s.float(), t.float())
        assert y.dtype == dtype
        assert log_det.dtype == torch.float32
        assert torch.equal(y, want.to(dtype))
        assert torch.equal(log_det, want_log_det)
        out = torch.empty_like(x)
        assert torch.equal(affine_coupling(x, s, t, out=out)[0], y)
        assert torch.equal(additive_coupling(x, t)[0], additive_coupling(x.float(), t.float())[0].to(dtype))

    def test_float32_x_with_the_parameters_of_an_autocast_network(self):
        network, x = nn.Linear(4, 8), torch.randn(3, 8)
        with torch.autocast("cpu", torch.bfloat16):
            p = network(x[:, :4])
            y, log_det = affine_coupling(x, p)
        assert p.dtype == torch.bfloat16
        assert y.dtype == log_det.dtype == torch.float32
        (y.sum() + log_det.sum()).backward()
        assert network.weight.grad.isfinite().all()

    def test_autocast_of_the_op(self):
        x, s, t = (v.bfloat16() for v in make((3, 64), "second"))
        with torch.autocast("cpu", torch.bfloat16):
            assert OP(x, s, t, 1, 32, 1, 2.0, False)[0].dtype == torch.float32


class TestErrors:
    @pytest.mark.parametrize(
        ("shape", "parameters", "options", "match"),
        [
            ((2, 6), (2, 5), {}, "even|log_scale"),
            ((2, 6), (2, 8), {}, "`log_scale` must be"),
            ((2, 6), (3, 6), {}, "`log_scale` must be"),
            ((2, 6, 3), (2, 6, 4), {}, "`log_scale` must be"),
            ((2, 6), (2, 12), {"mask": "checkerboard_even"}, "`x` must be .* checkerboard"),
            ((2, 6), (2, 6), {"mask": "third"}, "`mask` must be one of first, second"),
            ((2, 6), (2, 6), {"bound": "sigmoid"}, "`bound` must be one of none, tanh, soft"),
            ((2, 6), (2, 6), {"s_max": 0.0}, "`s_max` must be > 0"),
            ((2, 6), (2, 6), {"split": 7}, "`split` must be in"),
        ],
    )
    @pytest.mark.parametrize("out", [False, True])
    def test_house_form(self, shape, parameters, options, match, out):
        with pytest.raises(ConfigError, match=match):
            affine_coupling(torch.zeros(shape), torch.zeros(parameters), **options, out=torch.zeros(shape) if out else None)

    def test_out_that_does_not_fit(self):
        for out in (torch.zeros(2, 7), torch.zeros(2, 6).double(), torch.zeros(2, 12)[:, ::2]):
            if IS_NATIVE:
                with pytest.raises(ConfigError, match="`out` must be"):
                    affine_coupling(torch.zeros(2, 6), torch.zeros(2, 6), out=out)

    def test_shift_of_another_shape(self):
        with pytest.raises(ConfigError, match="`shift` must have the shape"):
            affine_coupling(torch.zeros(2, 6), torch.zeros(2, 3), torch.zeros(2, 6))
        with pytest.raises(ConfigError, match="`shift` must be"):
            additive_coupling(torch.zeros(2, 6), torch.zeros(2, 4))
