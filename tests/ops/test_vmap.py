"""vmap is a stack of calls, to the bit, over whichever arguments are mapped; those that draw noise included."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from medgen.errors import ConfigError
from medgen.maths import alpha_bars, cosine_betas
from medgen.ops import (
    ddpm_sample,
    ddpm_sample_mlp,
    ddpm_step,
    parzen_draw,
    parzen_topk,
    philox_integers,
    philox_normal,
    philox_uniform,
    rejection_step,
    step_table,
)

F64 = torch.float64
TABLE = step_table(alpha_bars(cosine_betas(9)), clip=1.0, dtype=F64)
NARROW = TABLE.to("cpu", torch.float32)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


INDEX = torch.arange(12).view(4, 3) + 2**33
X, OUTPUT, POINTS, MANY = normal(4, 3, 2), normal(4, 3, 2, seed=1), normal(7, 2), normal(4, 7, 2)
WEIGHTS = [normal(4, 8, 2, dtype=torch.float32), normal(4, 2, 8, seed=1, dtype=torch.float32)]
BIASES, EMBEDDING = [torch.zeros(4, 8), torch.ones(4, 2)], normal(9, 8, dtype=torch.float32)


def mlp(x, index, weights, biases):
    return ddpm_sample_mlp(weights, biases, EMBEDDING, x, NARROW, seed=3, index=index)


CASES = {
    "philox_normal": (lambda i: philox_normal(3, i, (5, 2)), [INDEX]),
    "philox_uniform": (lambda i: philox_uniform(3, i, (5,), dtype=F64), [INDEX]),
    "philox_integers": (lambda i: philox_integers(3, i, (5,), high=100), [INDEX]),
    "ddpm_step": (lambda x, o, i: ddpm_step(x, o, TABLE, 4, seed=3, index=i), [X, OUTPUT, INDEX]),
    "ddpm_step, rows": (lambda x, k, i: ddpm_step(x, OUTPUT[0], TABLE, k, seed=3, index=i), [X, INDEX % 9, INDEX]),
    "ddpm_step, row for all": (lambda k: ddpm_step(X[0], OUTPUT[0], TABLE, k, seed=3, index=INDEX[0]), [torch.tensor([[0], [4], [8]])]),
    "ddpm_step, tables": (
        lambda v: ddpm_step(X[0], OUTPUT[0], dataclasses.replace(TABLE, values=v), 4, seed=3, index=INDEX[0]),
        [torch.stack([TABLE.values, 1.1 * TABLE.values])],
    ),
    "ddpm_step, out": (lambda x, o, i: ddpm_step(x, o, TABLE, 4, seed=3, index=i, out=torch.empty_like(x)), [X, OUTPUT, INDEX]),
    "ddpm_sample": (lambda x, i: ddpm_sample(lambda x, t: x / 2, x, TABLE, seed=3, index=i), [X, INDEX]),
    "ddpm_sample, x_T drawn": (lambda i: ddpm_sample(lambda x, t: x / 2, (2,), TABLE, seed=3, index=i), [INDEX]),
    "ddpm_sample_mlp": (lambda x, i: mlp(x, i, [w[0] for w in WEIGHTS], [b[0] for b in BIASES]), [X.float(), INDEX]),
    "ddpm_sample_mlp, networks": (lambda a, b, *biases: mlp(X[0].float(), INDEX[0], [a, b], list(biases)), [*WEIGHTS, *BIASES]),
    "parzen_draw": (lambda i: parzen_draw(3, i, POINTS, 0.5, weights=torch.arange(7.0)), [INDEX]),
    "parzen_draw, points": (lambda p: parzen_draw(3, INDEX[0], p, 0.5), [MANY]),
    "parzen_draw, bandwidths": (lambda h: parzen_draw(3, INDEX[0], POINTS, h), [torch.tensor([[0.5, 1.0], [1.0, 2.0]])]),
    "rejection_step": (lambda i: tuple(rejection_step(3, i, POINTS, 0.5, log_k=1.0, proposal=1.0)), [INDEX]),
    "rejection_step, points and index": (lambda p, i: tuple(rejection_step(3, i, p, 0.5, log_k=1.0, proposal=1.0)), [MANY, INDEX]),
    "rejection_step, means": (
        lambda m: tuple(rejection_step(3, INDEX[0], POINTS, 0.5, log_k=1.0, mean=m, proposal=1.0)),
        [normal(4, 2)],
    ),
    "parzen_topk": (lambda q: parzen_topk(q, POINTS, 3), [X]),
    "parzen_topk, points": (lambda q, p: parzen_topk(q, p, 3), [X, MANY]),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_is_a_stack_of_calls(name, last):
    call, arguments = CASES[name]
    dim = -1 if last else 0
    got = torch.vmap(call, in_dims=dim)(*(a.movedim(0, dim) for a in arguments))
    each = [call(*(a[n] for a in arguments)) for n in range(len(arguments[0]))]
    if isinstance(got, torch.Tensor):
        got, each = (got,), [(e,) for e in each]
    for place, part in enumerate(got):
        assert torch.equal(part, torch.stack([e[place] for e in each]))


def test_nested():
    index = torch.arange(24).view(2, 4, 3)
    got = torch.vmap(torch.vmap(lambda i: parzen_draw(3, i, POINTS, 0.5)))(index)
    assert torch.equal(got.flatten(0, 2), parzen_draw(3, index.flatten(), POINTS, 0.5))


def test_gradients_flow_through_it():
    x = X.clone().requires_grad_()
    got = torch.vmap(lambda x, i: ddpm_step(x, x.sin(), TABLE, 4, seed=3, index=i))(x, INDEX)
    flat = x.flatten(0, 1)
    expected = ddpm_step(flat, flat.sin(), TABLE, 4, seed=3, index=INDEX.flatten())
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), x, retain_graph=True) for y in (got, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_one_output_for_all_is_refused():
    with pytest.raises(ConfigError, match="`out` must be mapped as well"):
        torch.vmap(lambda x: ddpm_step(x, OUTPUT[0], TABLE, 4, seed=3, index=INDEX[0], out=torch.empty(3, 2, dtype=F64)))(X)
