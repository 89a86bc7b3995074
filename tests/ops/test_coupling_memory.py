"""Coupling in place, and chains of it in the memory of one layer."""

from __future__ import annotations

import pytest
import torch
from ops.coupling_cases import make, shapes_and_masks
from torch import nn

from medgen import native
from medgen.errors import ConfigError
from medgen.ops import CouplingLayer, additive_coupling, affine_coupling, coupling_chain

IS_NATIVE = native.load("cpu").library is not None


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
