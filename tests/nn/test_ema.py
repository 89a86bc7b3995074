"""The moving average against its closed form; swapping in and out is exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medgen.nn import EMA


def one(value: float = 0.0) -> nn.Module:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))
    return model


@given(st.floats(0.0, 0.9999), st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_the_average_is_the_weighted_sum_of_all_values(decay, values):
    """average_T = sum_t (1 - d_t) prod_{s > t} d_s w_t + prod_t d_t w_0, with d_t = min(decay, (1 + t) / (10 + t))."""
    model = one(3.0)
    ema = EMA(model, decay)
    for value in values:
        model.w.data.fill_(value)
        ema.update()
    d = [min(decay, (1 + t) / (10 + t)) for t in range(1, len(values) + 1)]
    expected, rest = 0.0, 1.0
    for factor, value in zip(reversed(d), reversed(values), strict=True):
        expected += rest * (1 - factor) * value
        rest *= factor
    assert ema.averages["w"].item() == pytest.approx(expected + rest * 3.0, rel=1e-9, abs=1e-9)
    assert ema.steps == len(values)


def test_warm_up_forgets_the_initial_weights_quickly():
    model = one(1000.0)
    ema = EMA(model, 0.9999)
    model.w.data.zero_()
    for _ in range(100):
        ema.update()
    assert ema.averages["w"].item() < 1e-6 * 1000, "a fixed decay of 0.9999 would still hold 990"


def test_a_constant_model_is_its_own_average():
    model = nn.Linear(3, 2)
    ema = EMA(model, 0.99)
    for _ in range(5):
        ema.update()
    for name, parameter in model.named_parameters():
        assert torch.equal(ema.averages[name], parameter)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_within_the_block_the_model_holds_the_averages_and_after_it_its_own_bits(error):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = EMA(model, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    ema.update()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    averages = {k: v.clone() for k, v in ema.averages.items()}
    identities = [id(p) for p in model.parameters()]

    def block() -> None:
        with ema.applied():
            for name, parameter in model.named_parameters():
                assert torch.equal(parameter, averages[name])
                assert not torch.equal(parameter, state[name])
            if error is not None:
                raise error

    if error is None:
        block()
    else:
        with pytest.raises(error):
            block()
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(averages[k], v) for k, v in ema.averages.items())
    assert [id(p) for p in model.parameters()] == identities, "optimizers keep their parameters"


def test_frozen_parameters_and_buffers_are_not_averaged():
    model = nn.BatchNorm1d(2)
    model.bias.requires_grad_(False)
    assert set(EMA(model, 0.9).averages) == {"weight"}


def test_updates_leave_no_graph():
    model = nn.Linear(2, 2)
    ema = EMA(model, 0.9)
    ema.update()
    assert not any(a.requires_grad for a in ema.averages.values())
