"""Gradients of coupling, and what torch makes of the ops: opcheck, vmap, compile."""

from __future__ import annotations

import pytest
import torch
from ops.coupling_cases import make

from medgen.ops import additive_coupling, affine_coupling
from medgen.ops.reference import affine_coupling as reference

OP = torch.ops.medgen.affine_coupling.default
BACKWARD = torch.ops.medgen.affine_coupling_backward.default


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
