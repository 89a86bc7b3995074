"""Coupling: closed forms, the two directions, gradients of both orders, parity of native and reference, memory, determinism."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from medgen import native
from medgen.errors import ConfigError
from medgen.ops import CouplingLayer, additive_coupling, affine_coupling, coupling_chain
from medgen.ops.reference import affine_coupling as reference

OP = torch.ops.medgen.affine_coupling.default
BACKWARD = torch.ops.medgen.affine_coupling_backward.default
IS_NATIVE = native.load("cpu").library is not None

SHAPES = [
    (1, 1),
    (3, 7),
    (2, 64),
    (5, 67),
    (2, 3, 5),
    (3, 4, 5, 6),
    (2, 5, 3, 4, 5),
    (1, 2, 3, 7),
    (0, 4),
    (2, 0),
    (3, 1, 2, 2),
    (2, 2, 0, 3),
]


def make(shape, mask, *, full=False, dtype=torch.float32, seed=0, scale=1.0):
    """x, log_scale, shift."""
    generator = torch.Generator().manual_seed(seed)
    number, channels = reference.MASKS.index(mask), shape[1]
    p = channels if full else reference.transformed(channels, number, channels // 2)
    size = (shape[0], p, *shape[2:])
    return (
        torch.randn(shape, generator=generator, dtype=dtype),
        scale * torch.randn(size, generator=generator, dtype=dtype),
        torch.randn(size, generator=generator, dtype=dtype),
    )


def is_transformed(mask, index, channels):
    """The definition, for one element's index (c, *s)."""
    number = reference.MASKS.index(mask)
    c = index[0]
    if number >= 4:
        return sum(index[1:]) % 2 == number % 2
    return (c < channels // 2, c >= channels // 2, c % 2 == 0, c % 2 == 1)[number]


def by_hand(x, s, t, mask, b, inverse):
    """One element after another, on Python floats."""
    y, log_det, full = x.clone(), [0.0] * len(x), s.shape[1] == x.shape[1]
    for index in torch.cartesian_prod(*(torch.arange(n) for n in x.shape)).reshape(-1, x.dim()).tolist():
        if not is_transformed(mask, index[1:], x.shape[1]):
            continue
        at = list(index)
        if not full:
            at[1] = {"first": at[1], "second": at[1] - x.shape[1] // 2}.get(mask, at[1] // 2)
        scale, shift, value = b(float(s[tuple(at)])), float(t[tuple(at)]), float(x[tuple(index)])
        y[tuple(index)] = (value - shift) * math.exp(-scale) if inverse else value * math.exp(scale) + shift
        log_det[index[0]] += -scale if inverse else scale
    return y, torch.tensor(log_det, dtype=x.dtype)


FORMULAS = {"none": lambda s: s, "tanh": lambda s: 1.5 * math.tanh(s / 1.5), "soft": lambda s: s / (1 + abs(s) / 1.5)}


def fits(shape, mask):
    return not mask.startswith("checker") or 3 <= len(shape) <= 5


shapes_and_masks = pytest.mark.parametrize(("shape", "mask"), [(s, m) for s in SHAPES for m in reference.MASKS if fits(s, m)])


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


class TestParity:
    """The op, native where it can be had, against the reference."""

    @given(
        st.integers(0, 2**31),
        st.sampled_from([*SHAPES, (2, 1009), (1, 3, 131, 257)]),
        st.sampled_from(range(6)),
        st.sampled_from(range(3)),
        st.booleans(),
        st.booleans(),
        st.sampled_from([torch.float32, torch.float64]),
        st.sampled_from(["contiguous", "transposed", "unaligned", "strided rows", "expanded"]),
        st.sampled_from([1.0, 1e-30, 80.0]),
    )
    @settings(max_examples=120)
    def test_values_and_gradients(self, seed, shape, mask, bound, full, inverse, dtype, storage, scale):
        assume(fits(shape, reference.MASKS[mask]))
        x, s, t = (arranged(v, storage) for v in make(shape, reference.MASKS[mask], full=full, dtype=dtype, seed=seed, scale=scale))
        form = (mask, shape[1] // 2, bound, 3.0, inverse)
        y, log_det = OP(x, s, t, *form)
        want, want_log_det = reference.affine_coupling(x, s, t, *form)
        eps = torch.finfo(dtype).eps
        assert_relative(y, want, 60 * eps)
        terms = s.abs().flatten(1).sum(1)
        assert ((log_det - want_log_det).abs() <= 40 * eps * (terms + 1e-30)).all()
        g, h, side = torch.randn_like(x), torch.randn_like(log_det), want if inverse else x
        for got, expected in zip(
            BACKWARD(g, h, side, s, False, *form), reference.affine_gradients(g, h, side, s, False, *form), strict=True
        ):
            assert_relative(got, expected, 300 * eps)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("which", [0, 1, 2])
    @pytest.mark.parametrize("inverse", [False, True])
    def test_nan_and_infinity_go_where_the_reference_sends_them(self, bad, which, inverse):
        for bound in range(3):
            inputs = make((3, 70), "odd", seed=1)
            inputs[which][1, 3] = bad
            got, want = OP(*inputs, 3, 35, bound, 2.0, inverse), reference.affine_coupling(*inputs, 3, 35, bound, 2.0, inverse)
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, equal_nan=True)

    @given(st.integers(1, 80), st.integers(0, 15), st.sampled_from(range(4)), st.sampled_from([torch.float32, torch.float64]))
    def test_nothing_outside_the_output_is_written(self, channels, offset, mask, dtype):
        """Unaligned views between sentinels; the output is poisoned before."""
        n = 3 * channels
        buffer = torch.full((n + 64,), 777.0, dtype=dtype)
        out = buffer[offset : offset + n].view(3, channels)
        out.fill_(math.nan)
        x, s, t = make((3, channels), reference.MASKS[mask], dtype=dtype)
        y, _ = affine_coupling(x, s, t, mask=reference.MASKS[mask], out=out)
        assert y is out
        assert (buffer[:offset] == 777).all()
        assert (buffer[offset + n :] == 777).all()
        assert torch.equal(out, affine_coupling(x, s, t, mask=reference.MASKS[mask])[0])

    def test_the_large_output_path(self):
        """Streaming stores take over at 32 MB."""
        x, p = torch.randn(130, 8, 100, 101), torch.randn(130, 8, 100, 101)
        out = torch.full_like(x, math.nan)
        _, log_det = affine_coupling(x, p, out=out)
        y, want = affine_coupling(x, p)
        assert torch.equal(out, y)
        assert torch.equal(log_det, want)


def arranged(v, storage):
    """The same values in another storage."""
    if storage == "transposed":
        return v.transpose(0, -1).contiguous().transpose(0, -1)
    if storage == "unaligned":
        return torch.cat([v.new_zeros(1), v.flatten()])[1:].view(v.shape)
    if storage == "strided rows":
        return torch.cat([v, v], 1)[:, : v.shape[1]]
    return v[:1].expand_as(v) if storage == "expanded" and len(v) else v


def assert_relative(got, want, tolerance):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    finite = want.isfinite()
    assert torch.equal(finite, got.isfinite())
    assert ((got - want).abs() <= tolerance * (want.abs() + 1))[finite].all()


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


class TestGradients:
    @pytest.mark.parametrize("inverse", [False, True])
    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("bound", reference.BOUNDS)
    @pytest.mark.parametrize(
        ("shape", "mask"), [((2, 5), "second"), ((2, 5), "even"), ((1, 3, 2, 3), "odd"), ((1, 2, 3, 2), "checkerboard_even")]
    )
    def test_first_and_second_order(self, shape, mask, bound, packed, inverse):
        x, s, t = (v.requires_grad_() for v in make(shape, mask, dtype=torch.float64))
        inputs = (x, torch.cat([s, t], 1).detach().requires_grad_()) if packed else (x, s, t)
        f = lambda *args: affine_coupling(*args, mask=mask, bound=bound, inverse=inverse)  # noqa: E731
        assert torch.autograd.gradcheck(f, inputs)
        assert torch.autograd.gradgradcheck(f, inputs)

    def test_additive(self):
        for mask in reference.MASKS:
            x, _, t = (v.requires_grad_() for v in make((2, 3, 2, 3), mask, dtype=torch.float64))
            f = lambda *args, m=mask: additive_coupling(*args, mask=m, inverse=True)[0]  # noqa: E731
            assert torch.autograd.gradcheck(f, (x, t))
            assert torch.autograd.gradgradcheck(f, (x, t))

    @pytest.mark.parametrize("use", [0, 1])
    def test_only_one_output_is_used(self, use):
        x, s, t = (v.requires_grad_() for v in make((3, 6), "second"))
        torch.autograd.grad(affine_coupling(x, s, t)[use].sum(), (x, s, t))
        want = torch.autograd.grad(reference.affine_coupling(x, s, t, 1, 3, 1, 2.0, False)[use].sum(), (x, s, t), allow_unused=True)
        got = torch.autograd.grad(affine_coupling(x, s, t)[use].sum(), (x, s, t))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)

    def test_what_is_kept_for_backward(self):
        """The log-scale and one side: nothing of x's size beside the inputs."""
        x, p = torch.randn(8, 64, requires_grad=True), torch.randn(8, 64, requires_grad=True)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda v: kept.append(v.data_ptr()) or v, lambda v: v):
            affine_coupling(x, p)
        assert set(kept) <= {x.data_ptr(), p.data_ptr()}

    def test_registered_autograd_equals_the_short_way(self):
        x, s, t = (v.requires_grad_() for v in make((3, 9), "odd"))
        for inverse in (False, True):
            short = torch.autograd.grad([v.sum() for v in affine_coupling(x, s, t, mask="odd", inverse=inverse)], (x, s, t))
            long = torch.autograd.grad([v.sum() for v in OP(x, s, t, 3, 4, 1, 2.0, inverse)], (x, s, t))
            assert all(torch.equal(a, b) for a, b in zip(short, long, strict=True))


class TestOut:
    @shapes_and_masks
    def test_in_place_equals_out_of_place(self, shape, mask):
        for inverse in (False, True):
            x, s, t = make(shape, mask)
            want = affine_coupling(x, s, t, mask=mask, inverse=inverse)
            y, log_det = affine_coupling(x, s, t, mask=mask, inverse=inverse, out=x)
            assert y is x
            assert torch.equal(y, want[0])
            assert torch.equal(log_det, want[1])

    def test_gradients_are_refused(self):
        x = torch.randn(2, 4, requires_grad=True)
        with pytest.raises(ConfigError, match="`out` must be None where gradients are needed"):
            affine_coupling(x, torch.randn(2, 4), out=torch.empty(2, 4))

    @pytest.mark.skipif(not IS_NATIVE, reason="the reference copies and may overlap")
    def test_overlap_is_refused(self):
        buffer = torch.randn(20)
        with pytest.raises(RuntimeError, match="must not overlap"):
            affine_coupling(buffer[:16].view(2, 8), torch.randn(2, 8), out=buffer[2:18].view(2, 8))

    def test_a_saved_tensor_that_is_overwritten_is_noticed(self):
        w = torch.ones(2, 4, requires_grad=True)
        x = torch.randn(2, 4)
        product = w * x
        with torch.no_grad():
            affine_coupling(x, torch.randn(2, 4), out=x)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()

    def test_additive(self):
        x, _, t = make((3, 8), "even")
        want = additive_coupling(x, t, mask="even")[0]
        assert torch.equal(additive_coupling(x, t, mask="even", out=x)[0], want)


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


class TestTransforms:
    @pytest.mark.parametrize("packed", [False, True])
    def test_opcheck(self, packed):
        x, s, t = (v.requires_grad_() for v in make((2, 6, 3), "second"))
        args = (x, torch.cat([s, t], 1).detach().requires_grad_() if packed else s, None if packed else t, 1, 3, 1, 2.0, False)
        torch.library.opcheck(OP, args)
        side, g, h = x.detach(), torch.randn(2, 6, 3), torch.randn(2)
        torch.library.opcheck(BACKWARD, (g, h, side, args[1].detach(), packed, 1, 3, 1, 2.0, False))
        out = torch.empty(2, 6, 3)
        plain = tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in args)
        torch.library.opcheck(torch.ops.medgen.affine_coupling_out.default, (*plain, out))
        torch.library.opcheck(torch.ops.medgen.additive_coupling.default, (x, t, 1, 3, False))
        torch.library.opcheck(torch.ops.medgen.additive_coupling_out.default, (x.detach(), t.detach(), 1, 3, False, out))

    @pytest.mark.parametrize("in_dims", [(0, 0), (1, None), (None, 2)])
    def test_vmap(self, in_dims):
        x, p = torch.randn(4, 2, 6), torch.randn(4, 2, 6)
        moved = [v[0] if d is None else v.movedim(0, d) for v, d in zip((x, p), in_dims, strict=True)]
        y, log_det = torch.func.vmap(affine_coupling, in_dims=in_dims)(*moved)
        for i in range(4):
            want, want_log_det = affine_coupling(*(v[0] if d is None else v[i] for v, d in zip((x, p), in_dims, strict=True)))
            torch.testing.assert_close(y[i], want)
            torch.testing.assert_close(log_det[i], want_log_det)

    def test_gradients_per_sample(self):
        x, p = torch.randn(3, 6), torch.randn(3, 6)
        loss = lambda a, b: sum(v.sum() for v in affine_coupling(a[None], b[None]))  # noqa: E731
        got = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))(x, p)
        xs, ps = x.clone().requires_grad_(), p.clone().requires_grad_()
        want = torch.autograd.grad(sum(v.sum() for v in affine_coupling(xs, ps)), (xs, ps))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("mask", ["second", "checkerboard_odd"])
    def test_compile(self, mask):
        x, s, t = (v.requires_grad_() for v in make((2, 6, 3), mask))
        f = lambda *args: affine_coupling(*args, mask=mask, inverse=True)  # noqa: E731
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        for a, b in zip(compiled(x, s, t), f(x, s, t), strict=True):
            torch.testing.assert_close(a, b)
        got, want = (torch.autograd.grad([v.sum() for v in g(x, s, t)], (x, s, t)) for g in (compiled, f))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)

    def test_compile_in_place(self):
        @torch.compile(fullgraph=True, backend="aot_eager")
        def f(x, p):
            y, log_det = affine_coupling(x, p, out=x)
            return y + 1, log_det

        x, p = torch.randn(2, 6), torch.randn(2, 6)
        want, mine = affine_coupling(x, p), x.clone()
        y, log_det = f(mine, p)
        torch.testing.assert_close(mine, want[0])
        torch.testing.assert_close(y, want[0] + 1)
        torch.testing.assert_close(log_det, want[1])


class TestDeterminism:
    @pytest.mark.parametrize("shape", [(1, 4, 100, 101), (300, 64), (3, 2, 70, 71), (2, 66_000)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_bit_equal_at_any_thread_count_and_address(self, shape, dtype):
        masks = [m for m in reference.MASKS if fits(shape, m)]
        try:
            for mask in masks:
                inputs = make(shape, mask, dtype=dtype)
                results = []
                for threads in (1, 2):
                    torch.set_num_threads(threads)
                    results.append(affine_coupling(*inputs, mask=mask))
                    results.append(affine_coupling(*(arranged(v, "unaligned") for v in inputs), mask=mask))
                assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(results[0], result, strict=True))
        finally:
            torch.set_num_threads(1)

    def test_a_sample_does_not_depend_on_its_batch(self):
        x, s, t = make((50, 64), "second")
        y, log_det = affine_coupling(x, s, t)
        alone = affine_coupling(x[7:8], s[7:8], t[7:8])
        assert torch.equal(alone[0][0], y[7])
        assert torch.equal(alone[1][0], log_det[7])


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


class Conditioner(nn.Module):
    """Two layers, so that there are activations to save."""

    def __init__(self, inputs, outputs, dtype=torch.float64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 16, dtype=dtype), nn.SiLU(), nn.Linear(16, outputs, dtype=dtype))

    def forward(self, x):
        return self.net(x)


def layers_of(count, dtype=torch.float64):
    torch.manual_seed(0)
    return [CouplingLayer(Conditioner(3, 6, dtype), mask=("first", "second", "even", "odd")[i % 4]) for i in range(count)]


def plain(x, layers):
    total = 0.0
    for layer in layers:
        x, log_det = affine_coupling(x, layer.parameters_of(x), mask=layer.mask)
        total = total + log_det
    return x, total


class TestChain:
    @pytest.mark.parametrize("inverse", [False, True])
    def test_equals_the_layers_one_by_one_with_gradients(self, inverse):
        layers = layers_of(5)
        parameters = [p for layer in layers for p in layer.conditioner.parameters()]
        x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
        if inverse:
            y = plain(x, layers)[0].detach().requires_grad_()
            back, log_det = coupling_chain(y, layers, inverse=True)
            torch.testing.assert_close(back, x)
            torch.testing.assert_close(log_det, -plain(x, layers)[1])
            gradient = torch.autograd.grad(back.square().sum(), y)[0]
            jacobian = torch.autograd.functional.jacobian(lambda v: plain(v, layers)[0][0], x)[:, 0]
            torch.testing.assert_close(gradient[0], torch.linalg.solve(jacobian.T, 2 * x[0]))
            return
        got, want = coupling_chain(x, layers), plain(x, layers)
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)
        first, second = (torch.autograd.grad(y.square().sum() + h.sum(), [x, *parameters]) for y, h in (got, want))
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b)

    def test_a_shared_conditioner_and_a_checkerboard(self):
        network = nn.Conv2d(2, 4, 3, padding=1, dtype=torch.float64)
        layers = [CouplingLayer(network, mask=m) for m in ("checkerboard_even", "checkerboard_odd", "checkerboard_even")]
        x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
        for a, b in zip(
            *(torch.autograd.grad(f(x, layers)[0].square().sum(), list(network.parameters())) for f in (coupling_chain, plain)), strict=True
        ):
            torch.testing.assert_close(a, b)

    def test_activation_memory_does_not_grow_with_the_layers(self):
        """Bytes that autograd keeps between forward and backward, counted at the storages it saves."""

        def kept(call, count):
            layers, seen = layers_of(count, torch.float32), {}
            x = torch.randn(64, 6, requires_grad=True)
            own = {x.untyped_storage().data_ptr()} | {p.untyped_storage().data_ptr() for la in layers for p in la.conditioner.parameters()}

            def pack(v):
                storage = v.untyped_storage()
                if storage.data_ptr() not in own:
                    seen[storage.data_ptr()] = (storage.nbytes(), v)  # alive, so that no address is used twice
                return v

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda v: v):
                y, log_det = call(x, layers)
            (y.sum() + log_det.sum()).backward()
            return sum(size for size, _ in seen.values())

        assert kept(coupling_chain, 4) == kept(coupling_chain, 32) == 64 * 6 * 4
        assert kept(plain, 32) > 6 * kept(plain, 4) > 0  # the judge is judged too

    def test_without_gradients_one_buffer(self):
        layers, x = layers_of(6, torch.float32), torch.randn(8, 6)
        before = x.clone()
        with torch.no_grad():
            y, log_det = coupling_chain(x, layers)
            assert torch.equal(x, before)
            out = torch.empty_like(x)
            assert coupling_chain(x, layers, out=out)[0] is out
            assert torch.equal(out, y)
            back, minus = coupling_chain(out, layers, inverse=True, out=out)
        assert back is out
        torch.testing.assert_close(back, x, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(minus, -log_det, atol=1e-5, rtol=1e-5)

    def test_errors(self):
        with pytest.raises(ConfigError, match="`layers` must hold"):
            coupling_chain(torch.zeros(1, 6), [])
        with pytest.raises(ConfigError, match="`out` must be None"):
            coupling_chain(torch.zeros(1, 6), layers_of(1), out=torch.zeros(1, 6))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestCuda:
    @shapes_and_masks
    def test_parity_with_the_cpu(self, shape, mask):
        for inverse in (False, True):
            x, s, t = make(shape, mask)
            got = affine_coupling(x.cuda(), s.cuda(), t.cuda(), mask=mask, inverse=inverse)
            for a, b in zip(got, affine_coupling(x, s, t, mask=mask, inverse=inverse), strict=True):
                torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-5)

    def test_graph_replay_on_another_stream(self):
        x, p = torch.randn(64, 64, device="cuda"), torch.randn(64, 64, device="cuda")
        out = torch.empty_like(x)
        affine_coupling(x, p, out=out)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            _, log_det = affine_coupling(x, p, out=out)
        x.normal_()
        graph.replay()
        torch.cuda.synchronize()
        want = affine_coupling(x, p)
        assert torch.equal(out, want[0])
        assert torch.equal(log_det, want[1])
