"""Inverse of a masked autoregressive transform: what D passes compute, gradients of both orders, parity of native and reference."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen import native
from medgen.errors import ConfigError
from medgen.ops import made_invert
from medgen.ops.reference import made as reference

OP = torch.ops.medgen.made_invert.default
BACKWARD = torch.ops.medgen.made_invert_backward.default
IS_NATIVE = native.load("cpu").library is not None
HIDDEN = ((), (1,), (7,), (6, 4), (40, 30, 20))


def make(rows, features, hidden, *, context=False, dtype=torch.float64, seed=0):
    """z, weights, biases, degrees, context; weights are random where the degrees forbid them, too."""
    g = torch.Generator().manual_seed(seed)
    degrees = [torch.randperm(features, generator=g) + 1, *(torch.randint(0, features + 2, (h,), generator=g) for h in hidden)]
    widths = [features, *hidden, 2 * features]
    weights = [torch.randn(o, i, generator=g, dtype=dtype) / math.sqrt(max(i, 1)) for i, o in pairwise(widths)]
    biases = [0.3 * torch.randn(o, generator=g, dtype=dtype) for o in widths[1:]]
    terms = torch.randn(rows, reference.context_size(degrees), generator=g, dtype=dtype) if context else None
    return torch.randn(rows, features, generator=g, dtype=dtype), weights, biases, degrees, terms


def forward(x, weights, biases, degrees, terms, activation, form, s_max):
    """z of x by the definition."""
    s, t = reference.network(x, weights, biases, degrees, terms, activation)[1].chunk(2, 1)
    b = reference.log_scale(s, form, s_max)
    return (x - t) * torch.exp(-b) if form == 0 else torch.exp(b) * x + (1 - torch.exp(b)) * t


def flat(problem):
    """Leaves that need gradients, and how to put them back."""
    z, weights, biases, degrees, terms = problem
    leaves = [z, *weights, *biases, *([] if terms is None else [terms])]
    n = len(weights)

    def call(*v, **options):
        return made_invert(v[0], v[1 : n + 1], v[n + 1 : 2 * n + 1], degrees, context=v[-1] if terms is not None else None, **options)

    return [v.detach().clone().requires_grad_() for v in leaves], call


class TestInverse:
    @given(
        st.integers(0, 2**31),
        st.sampled_from([1, 3, 17, 70]),
        st.integers(1, 24),
        st.sampled_from(HIDDEN),
        st.integers(0, 2),
        st.integers(0, 1),
        st.booleans(),
    )
    @settings(max_examples=80, deadline=None)
    def test_parity_with_d_passes(self, seed, rows, features, hidden, activation, form, context):
        problem = make(rows, features, hidden, context=context, seed=seed)
        shape = (activation, form, 2.0)
        (x, log_det), (want, want_log_det) = OP(*problem, *shape), reference.made_invert(*problem, *shape)
        torch.testing.assert_close(x, want, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(log_det, want_log_det, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(forward(x, *problem[1:], *shape), problem[0], rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("form", ["affine", "gated"])
    def test_float32_against_float64(self, form):
        z, weights, biases, degrees, terms = make(500, 20, (64, 64), context=True, dtype=torch.float32)
        options = {"form": form, "activation": "silu"}
        x, log_det = made_invert(z, weights, biases, degrees, context=terms, **options)
        want, want_log_det = made_invert(
            z.double(), [w.double() for w in weights], [b.double() for b in biases], degrees, context=terms.double(), **options
        )
        assert ((x - want).abs() / (1 + want.abs())).max() < 2e-4  # errors of the first features are fed to the last
        assert (log_det - want_log_det).abs().max() < 1e-3
        assert ((x - want).abs() / (1 + want.abs())).median() < 1e-6

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_row_is_the_same_to_the_bit_in_any_batch_and_number_of_threads(self, dtype):
        if not IS_NATIVE:
            pytest.skip("torch's matrix product, which the reference uses, sums in another order for other sizes")
        z, weights, biases, degrees, terms = make(200, 9, (30, 20), context=True, dtype=dtype)
        every = OP(z, weights, biases, degrees, terms, 2, 0, 2.0)
        for rows in (slice(0, 1), slice(5, 22), slice(60, 131)):
            part = OP(z[rows], weights, biases, degrees, terms[rows], 2, 0, 2.0)
            assert torch.equal(part[0], every[0][rows])
            assert torch.equal(part[1], every[1][rows])
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            again = OP(z, weights, biases, degrees, terms, 2, 0, 2.0)
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(again, every, strict=True))

    def test_forbidden_weights_are_never_read(self):
        if not IS_NATIVE:
            pytest.skip("the reference multiplies by masks")
        z, weights, biases, degrees, terms = make(5, 6, (9, 8))
        want = OP(z, weights, biases, degrees, terms, 0, 0, 2.0)
        poisoned = [torch.where(mask, w, math.nan) for w, mask in zip(weights, reference.made_masks(degrees), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(OP(z, poisoned, biases, degrees, terms, 0, 0, 2.0), want, strict=True))

    def test_nan_spoils_its_row_alone_and_only_what_follows(self):
        z, weights, biases, _, _ = make(4, 5, (12,))
        degrees = [torch.arange(1, 6), torch.arange(12) % 4 + 1]
        z[2, 3] = math.nan
        x, log_det = made_invert(z, weights, biases, degrees, activation="tanh")
        assert x.isnan().nonzero().tolist() == [[2, 3], [2, 4]]
        assert log_det.isnan().tolist() == [False, False, True, False]

    def test_empty_and_strided(self):
        z, weights, biases, degrees, _ = make(6, 4, (5,))
        assert made_invert(z[:0], weights, biases, degrees)[0].shape == (0, 4)
        want = made_invert(z, weights, biases, degrees)[0]
        strided = made_invert(z.T.contiguous().T, [w.T.contiguous().T for w in weights], biases, degrees)[0]
        assert torch.equal(strided, want)

    def test_the_log_scale_is_that_of_the_coupling(self):
        """One feature and no hidden layer: a lone affine coupling."""
        from medgen.ops import affine_coupling

        z, p = torch.randn(5, 1), torch.tensor([3.0, 0.5])
        x, log_det = made_invert(z, [torch.zeros(2, 1)], [p], [torch.tensor([1])], s_max=2.0)
        want, want_log_det = affine_coupling(z, p.expand(5, 2).contiguous(), mask="first", split=1, s_max=2.0)
        torch.testing.assert_close(x, want)
        torch.testing.assert_close(log_det, want_log_det)


class TestGradients:
    @pytest.mark.parametrize("hidden", [(), (5,), (4, 6)], ids=str)
    @pytest.mark.parametrize("form", ["affine", "gated"])
    @pytest.mark.parametrize("activation", ["tanh", "silu", "relu"])
    def test_first_order(self, hidden, form, activation):
        leaves, call = flat(make(3, 4, hidden, context=True))
        assert torch.autograd.gradcheck(lambda *v: call(*v, activation=activation, form=form), leaves)

    @pytest.mark.parametrize("form", ["affine", "gated"])
    def test_second_order(self, form):
        leaves, call = flat(make(2, 3, (4,), context=True))
        assert torch.autograd.gradgradcheck(lambda *v: call(*v, activation="tanh", form=form), leaves)

    @given(
        st.integers(0, 2**31),
        st.sampled_from([1, 17, 70]),
        st.integers(1, 12),
        st.sampled_from(HIDDEN),
        st.integers(0, 2),
        st.integers(0, 1),
        st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_parity(self, seed, rows, features, hidden, activation, form, context):
        z, weights, biases, degrees, terms = make(rows, features, hidden, context=context, seed=seed)
        x, _ = reference.made_invert(z, weights, biases, degrees, terms, activation, form, 2.0)
        before, parameters = reference.network(x, weights, biases, degrees, terms, activation)
        args = (torch.randn_like(x), torch.randn_like(x[:, 0]), x, before, parameters, weights, degrees, activation, form, 2.0)
        (grad, deltas), (want, want_deltas) = BACKWARD(*args), reference.made_invert_backward(*args)
        for a, b in zip([grad, *deltas], [want, *want_deltas], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * (1 + b.abs().max().item() if b.numel() else 1))

    def test_as_autograd_through_d_passes(self):
        problem = make(6, 5, (9, 7), context=True)
        leaves, call = flat(problem)
        n = len(problem[1])
        got = torch.autograd.grad([v.square().sum() for v in call(*leaves, activation="silu")], leaves)
        passes = reference.made_invert(leaves[0], leaves[1 : n + 1], leaves[n + 1 : 2 * n + 1], problem[3], leaves[-1], 2, 0, 2.0)
        for a, b in zip(got, torch.autograd.grad([v.square().sum() for v in passes], leaves), strict=True):
            torch.testing.assert_close(a, b)


class TestTransforms:
    def test_opcheck(self):
        z, weights, biases, degrees, terms = make(3, 4, (5,), context=True)
        grads = [v.requires_grad_() for v in (z, *weights, *biases, terms)]
        torch.library.opcheck(OP, (z, weights, biases, degrees, terms, 2, 0, 2.0))
        torch.library.opcheck(OP, (z, weights, biases, degrees, None, 1, 1, 2.0))
        before, parameters = reference.network(z, weights, biases, degrees, terms, 2)
        detached = [v.detach() for v in (z, *before, parameters)]
        args = (torch.randn(3, 4).double(), torch.randn(3).double(), detached[0], detached[1:2], detached[2], [w.detach() for w in weights])
        torch.library.opcheck(BACKWARD, (*args, degrees, 2, 0, 2.0))
        assert grads

    @pytest.mark.parametrize("context", [False, True])
    def test_vmap(self, context):
        problem = make(8, 4, (5,), context=context)
        z, weights, biases, degrees, terms = problem
        want, want_log_det = OP(*problem, 0, 0, 2.0)
        folded = terms.view(2, 4, -1) if context else None
        rows = torch.func.vmap(lambda a, c: OP(a, weights, biases, degrees, c, 0, 0, 2.0), in_dims=(0, 0 if context else None))
        x, log_det = rows(z.view(2, 4, 4), folded)
        assert torch.equal(x.flatten(0, 1), want)
        assert torch.equal(log_det.flatten(), want_log_det)
        networks = torch.func.vmap(lambda w: OP(z, [w, *weights[1:]], biases, degrees, terms, 0, 0, 2.0)[0])(
            torch.stack([weights[0], -weights[0]])
        )
        assert torch.equal(networks[0], want)

    def test_gradient_per_sample(self):
        z, weights, biases, degrees, _ = make(4, 3, (5,))
        loss = lambda v: made_invert(v[None], weights, biases, degrees, activation="tanh")[1].sum()  # noqa: E731
        leaf = z.clone().requires_grad_()
        want = torch.autograd.grad(made_invert(leaf, weights, biases, degrees, activation="tanh")[1].sum(), leaf)[0]
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(z), want)

    def test_compile(self):
        leaves, call = flat(make(3, 4, (5,), context=True))
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        for a, b in zip(compiled(*leaves), call(*leaves), strict=True):
            torch.testing.assert_close(a, b)
        got, want = (torch.autograd.grad([v.sum() for v in f(*leaves)], leaves) for f in (compiled, call))
        for a, b in zip(got, want, strict=True):
            torch.testing.assert_close(a, b)

    def test_half_and_autocast(self):
        z, weights, biases, degrees, _ = make(3, 4, (5,), dtype=torch.float32)
        x, log_det = made_invert(z.bfloat16(), [w.bfloat16() for w in weights], [b.bfloat16() for b in biases], degrees)
        assert x.dtype == torch.bfloat16
        assert log_det.dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert made_invert(z, weights, biases, degrees)[0].dtype == torch.float32


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"z": torch.zeros(2, 3, 1)}, r"`z` must be \[B, D\]"),
            ({"z": torch.zeros(2, 4)}, "`degrees` must begin with those of 4 inputs"),
            ({"weights": [torch.zeros(5, 3), torch.zeros(6, 4)]}, "`weights` must be"),
            ({"biases": [torch.zeros(5)]}, "`weights` and `biases` must be of every layer"),
            ({"degrees": [torch.tensor([1, 1, 2]), torch.zeros(5).long()]}, r"`degrees` must begin with a permutation of 1..3"),
            ({"degrees": [torch.tensor([1, 3, 2]), torch.full((5,), -1)]}, "`degrees` of hidden units must not be negative"),
            ({"context": torch.zeros(2, 6)}, r"`context` must be \(2, 11\)"),
            ({"activation": "gelu"}, "`activation` must be one of relu, tanh, silu"),
            ({"form": "spline"}, "`form` must be one of affine, gated"),
            ({"s_max": 0.0}, "`s_max` must be > 0"),
        ],
    )
    def test_house_form(self, change, match):
        good = {
            "z": torch.zeros(2, 3),
            "weights": [torch.zeros(5, 3), torch.zeros(6, 5)],
            "biases": [torch.zeros(5), torch.zeros(6)],
            "degrees": [torch.tensor([1, 3, 2]), torch.zeros(5).long()],
        }
        assert made_invert(**good)[0].shape == (2, 3)
        with pytest.raises(ConfigError, match=match):
            made_invert(**{**good, **change})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("form", [0, 1])
def test_cuda_agrees_with_the_cpu(form):
    z, weights, biases, degrees, terms = make(40, 7, (20, 10), context=True)
    moved = [[v.cuda() for v in part] for part in (weights, biases, degrees)]
    for a, b in zip(OP(z.cuda(), *moved, terms.cuda(), 2, form, 2.0), OP(z, weights, biases, degrees, terms, 2, form, 2.0), strict=True):
        torch.testing.assert_close(a.cpu(), b)
