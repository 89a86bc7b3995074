"""One reverse step under autograd, vmap, compilation and opcheck."""

from __future__ import annotations

import pytest
import torch
from ops.ddpm_step_cases import BAR, draw

from medgen.maths import kept_steps
from medgen.ops.ddpm_step import ddpm_step, step_table
from medgen.ops.reference import ddpm_step as reference


class TestTransforms:
    def arguments(self, variance, clip, dtype=torch.float64):
        x, output, index = draw((3, 2, 3), dtype, learned=variance == "learned")
        table = step_table(BAR, kept_steps(1000, 20), variance=variance, clip=clip, dtype=dtype)
        return x.requires_grad_(), output.requires_grad_(), table, torch.tensor([0, 7, 19]), index

    @pytest.mark.parametrize("variance", ["posterior", "learned", 0.5])
    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_gradients(self, variance, clip):
        x, output, table, step, index = self.arguments(variance, clip)

        def f(x, output):
            return ddpm_step(x, output, table, step, seed=0, index=index)

        assert torch.autograd.gradcheck(f, (x, output))
        assert torch.autograd.gradgradcheck(f, (x, output))
        r = reference.ddpm_step(x, output, table.values, step, index, 0, 0, clip, variance == "learned")
        for ours, theirs in zip(
            torch.autograd.grad(f(x, output).sum(), (x, output)), torch.autograd.grad(r.sum(), (x, output)), strict=True
        ):
            torch.testing.assert_close(ours, theirs)

    @pytest.mark.parametrize("variance", ["posterior", "learned"])
    def test_opcheck(self, variance):
        x, output, table, step, index = self.arguments(variance, 1.0)
        rest = (table.values, step, index, 3, 4, 1.0, variance == "learned")
        torch.library.opcheck(torch.ops.medgen.ddpm_step.default, (x, output, *rest))
        with torch.no_grad():
            plain = (x.detach(), output.detach())
            torch.library.opcheck(torch.ops.medgen.ddpm_step_out.default, (torch.empty_like(plain[0]), *plain, *rest))

    def test_vmap(self):
        x, output, index = draw((12, 2, 3))
        table = step_table(BAR, dtype=torch.float64)
        x, output, index, step = x.view(4, 3, 2, 3), output.view(4, 3, 2, 3), index.view(4, 3), torch.arange(12).view(4, 3)

        def f(*tensors):
            x, output, step, index = (tensor.contiguous() for tensor in tensors)
            return torch.ops.medgen.ddpm_step.default(x, output, table.values, step, index, 0, 0, None, False)

        got = torch.vmap(f)(x, output, step, index)
        assert bool((got == torch.stack([f(x[i], output[i], step[i], index[i]) for i in range(4)])).all())
        shared = torch.vmap(f, in_dims=(0, None, None, None))(x, output[0], torch.tensor([7]), index[0])
        assert bool((shared == torch.stack([f(x[i], output[0], torch.tensor([7]), index[0]) for i in range(4)])).all())
        moved = torch.vmap(f, in_dims=(1, 1, 1, 1), out_dims=1)(x, output, step, index)
        assert bool((moved == torch.stack([f(x[:, i], output[:, i], step[:, i], index[:, i]) for i in range(3)], 1)).all())

    def test_compile(self):
        x, output, table, step, index = self.arguments("posterior", 1.0, torch.float32)

        def f(x, output):
            return ddpm_step(x * 2, output, table, step, seed=0, index=index).sin()

        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x, output), f(x, output))
        grads = [torch.autograd.grad(g(x, output).sum(), (x, output)) for g in (compiled, f)]
        torch.testing.assert_close(grads[0], grads[1])

    def test_autocast(self):
        x, output, table, step, index = self.arguments("posterior", None, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            got = torch.ops.medgen.ddpm_step.default(x.bfloat16(), output.bfloat16(), table.values, step, index, 0, 0, None, False)
        assert got.dtype == torch.float32

    def test_fake_on_cuda(self):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            x = torch.empty(2, 3, device="cuda")
            table, one = torch.empty(9, 8, device="cuda"), torch.empty(2, dtype=torch.int64, device="cuda")
            assert torch.ops.medgen.ddpm_step.default(x, x, table, one, one, 0, 0, None, False).device.type == "cuda"
