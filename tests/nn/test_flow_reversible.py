"""Chains that keep no activations: the same gradients, in memory that does not grow with depth."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from medgen.errors import MedgenError
from medgen.nn.flow import ActNorm, AffineCoupling, Chain, ConvConditioner, InvertibleConv, MlpConditioner, MultiScale, coupling_sizes


def step(channels: int, dim: int, context: int = 0) -> list:
    seen, changed = coupling_sizes(channels)
    net = MlpConditioner(seen, 2 * changed, width=8, context=context)
    if dim:
        net = ConvConditioner(dim, seen, 2 * changed, width=8, context=context)
    return [ActNorm(channels), InvertibleConv(channels), AffineCoupling(net)]


def chain(depth: int, *, context: int = 0, reversible: bool) -> Chain:
    return Chain([part for _ in range(depth) for part in step(6, 0, context)], reversible=reversible)


def pyramid(*, reversible: bool) -> MultiScale:
    return MultiScale(1, (8, 12), 2, after=lambda channels, _: [*step(channels, 2), *step(channels, 2)], reversible=reversible)


def randomise(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def gradients(module, x, context=None, dtype=None):
    x, context = x.clone().requires_grad_(), None if context is None else context.clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        z, log_det = module(x, context)
    (z.float().square().sum() - (log_det * torch.arange(1, len(x) + 1)).sum()).backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters()} | {"x": x.grad}
    module.zero_grad()
    return z.detach(), log_det.detach(), found | ({} if context is None else {"context": context.grad})


@pytest.mark.parametrize("kind", ["vector", "conditional", "pyramid"])
def test_gradients_are_those_of_the_ordinary_chain(kind):
    width = 3 if kind == "conditional" else 0
    modules = [pyramid(reversible=r) if kind == "pyramid" else chain(4, context=width, reversible=r) for r in (False, True)]
    for module in modules:
        randomise(module.double())
    modules[1].load_state_dict(modules[0].state_dict())
    x = torch.randn(5, 1, 8, 12, dtype=torch.float64) if kind == "pyramid" else torch.randn(5, 6, dtype=torch.float64)
    context = torch.randn(5, 3, dtype=torch.float64) if kind == "conditional" else None
    (z, log_det, plain), (z2, log_det2, found) = (gradients(module, x, context) for module in modules)
    torch.testing.assert_close(z2, z)  # convolutions round differently where nothing is recorded
    torch.testing.assert_close(log_det2, log_det)
    assert plain.keys() == found.keys()
    for name, grad in plain.items():
        torch.testing.assert_close(found[name], grad, atol=1e-9, rtol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
    assert all(bool(grad.abs().sum() > 0) for grad in found.values())


def test_gradients_under_autocast():
    modules = [pyramid(reversible=r) for r in (False, True)]
    randomise(modules[0])
    modules[1].load_state_dict(modules[0].state_dict())
    x = torch.randn(5, 1, 8, 12)
    plain, found = (gradients(module, x, dtype=torch.bfloat16)[2] for module in modules)
    for name, grad in plain.items():
        assert (found[name] - grad).norm() < 0.05 * grad.norm() + 1e-3, name


def saved_bytes(module, x) -> int:
    """Of activations, each storage once; weights are there anyway."""
    weights, seen = {p.untyped_storage().data_ptr() for p in module.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = module(x)  # the graph must live while storages are counted
    del result
    return sum(seen.values())


def test_memory_does_not_grow_with_depth():
    x = torch.randn(64, 6)
    assert saved_bytes(chain(32, reversible=True), x) == saved_bytes(chain(4, reversible=True), x) == x.nbytes
    assert saved_bytes(chain(32, reversible=False), x) > 6 * saved_bytes(chain(4, reversible=False), x)


def test_without_gradients_and_when_empty():
    x = torch.randn(3, 6)
    with torch.no_grad():
        z, log_det = chain(2, reversible=True)(x)
    assert not z.requires_grad
    assert log_det.shape == (3,)
    assert torch.equal(Chain([], reversible=True)(x)[0], x)


def test_second_derivatives_are_refused():
    x = torch.randn(3, 6, requires_grad=True)
    log_det = chain(2, reversible=True)(x)[1].sum()
    with pytest.raises(MedgenError, match="reversible=False"):
        torch.autograd.grad(log_det, x, create_graph=True)
