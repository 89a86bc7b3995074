"""Inverse of a masked autoregressive layer (sampling from MAF): B rows, D features, two hidden layers, ReLU, float32.

The baseline is what everyone does: D passes through the network, here without the masks' products. nflows and zuko invert their own
layers of the same widths the same way. One dense pass, for comparison, reads twice the weights that are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Calls, Result, compare, here, missing, sweep
from medgen.nn.flow import MaskedAffineAutoregressive

BASELINE = "torch, D passes"
SIZES = ((4096, 6, 128), (256, 64, 512), (16, 784, 512))


def weights_of(layer: MaskedAffineAutoregressive) -> tuple[list[Tensor], list[Tensor]]:
    """Masked once, in advance."""
    weights, biases = layer.made.weights()
    return [w * m.mask for w, m in zip(weights, layer.made.layers, strict=True)], biases


def one_pass(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """The network."""
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.relu(F.linear(x, w, b))
    return F.linear(x, weights[-1], biases[-1])


def passes(z: Tensor, weights: list[Tensor], biases: list[Tensor], s_max: float) -> Tensor:
    """x by D passes, which find all features at once and keep one more each time."""
    x = torch.zeros_like(z)
    for _ in range(z.shape[1]):
        s, t = one_pass(x, weights, biases).chunk(2, 1)
        x = z * torch.exp(s_max * torch.tanh(s / s_max)) + t
    return x


def nflows(features: int, hidden: int) -> Callable[[Tensor], Any]:
    from nflows.transforms.autoregressive import MaskedAffineAutoregressiveTransform

    layer = MaskedAffineAutoregressiveTransform(features, hidden, num_blocks=1, use_residual_blocks=False)
    return layer.inverse


def zuko(features: int, hidden: int) -> Callable[[Tensor], Any]:
    from zuko.flows import MaskedAutoregressiveTransform

    layer = MaskedAutoregressiveTransform(features, hidden_features=(hidden, hidden))
    return lambda z: layer().inv(z)


def one_size(rows: int, features: int, hidden: int, rounds: int, quick: bool) -> list[Result]:
    """All rivals."""
    torch.manual_seed(0)
    layer = MaskedAffineAutoregressive(features, (hidden, hidden)).to(here())
    z, (weights, biases) = torch.randn(rows, features, device=here()), weights_of(layer)
    want = layer.double().inverse(z.double())[0]
    layer.float()
    calls: dict[str, Callable[[], Any]] = {
        BASELINE: lambda: passes(z, weights, biases, layer.s_max),
        "medgen": lambda: layer.inverse(z),
        "torch, one dense pass": lambda: one_pass(z, weights, biases),
    }
    notes = {
        name: f"error {(found - want).abs().max():.0e}" for name, found in ((BASELINE, calls[BASELINE]()), ("medgen", calls["medgen"]()[0]))
    }
    absent = {}
    for make in () if quick or features > 100 else (nflows, zuko):  # there a call of theirs takes seconds
        try:
            invert = make(features, hidden)
            invert(z[:2])
        except Exception as error:  # a rival that does not work is a line in the table
            absent[make.__name__] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
        else:
            calls[make.__name__] = lambda f=invert: f(z)
    case = f"inverse B {rows} D {features} hidden {hidden}, {hidden}"
    settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "work": rows, "unit": "samples", "notes": notes}
    return compare(case, calls, **settings) + missing(case, absent)


def curve(rounds: int, quick: bool) -> list[Result]:
    """Samples per second over the batch, D = 64."""

    def build(size: int) -> tuple[Calls, float]:
        layer = MaskedAffineAutoregressive(64, (256, 256)).to(here())
        z, (weights, biases) = torch.randn(size, 64, device=here()), weights_of(layer)
        return {BASELINE: lambda: passes(z, weights, biases, layer.s_max), "medgen": lambda: layer.inverse(z)}, float(size)

    sizes = [2**k for k in ((0, 6) if quick else range(0, 13, 3))]
    return sweep("inverse D 64 hidden 256, 256", sizes, build, baseline=BASELINE, rounds=rounds, unit="samples")


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Tables, images as vectors, and the curve over batches."""
    with torch.no_grad():
        results = []
        for rows, features, hidden in SIZES:
            if not (quick and features > 100):
                results += one_size(rows // (8 if quick else 1), features, hidden, min(rounds, 3) if features > 100 else rounds, quick)
        return results + curve(min(rounds, 5), quick)
