"""What the tests of one reverse step share: inputs, and the papers' formulas written out."""

from __future__ import annotations

import math

import torch

from medgen.maths import alpha_bars, linear_betas

BAR = alpha_bars(linear_betas())
VARIANCES = ("beta", "posterior", "learned", 0.0, 0.4, 1.0)
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-12}


def draw(shape, dtype=torch.float64, *, learned=False, seed=0, scale=1.0):
    """x, output and index."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    output = torch.randn((shape[0], shape[1] * (2 if learned else 1), *shape[2:]), generator=generator, dtype=torch.float64) * scale
    index = torch.randint(0, 2**62, (shape[0],), generator=generator)
    return x.to(dtype), output.to(dtype), index


def by_hand(x, output, z, at, before, *, prediction, variance, clip):
    """The papers' formulas on one step."""
    v = None
    if variance == "learned":
        output, v = output.chunk(2, 1)
    x0 = {
        "eps": lambda: (x - math.sqrt(1 - at) * output) / math.sqrt(at),
        "x0": lambda: output,
        "v": lambda: math.sqrt(at) * x - math.sqrt(1 - at) * output,
    }[prediction]()
    if clip is not None:
        x0 = x0.clamp(-clip, clip)
    beta = 1 - at / before
    btilde = beta * (1 - before) / (1 - at)
    if not isinstance(variance, str):
        c = variance * math.sqrt((1 - at / before) * (1 - before) / (1 - at))
        eps = (x - math.sqrt(at) * x0) / math.sqrt(1 - at)
        return math.sqrt(before) * x0 + math.sqrt(1 - before - c * c) * eps + c * z
    mean = beta * math.sqrt(before) / (1 - at) * x0 + (1 - before) * math.sqrt(1 - beta) / (1 - at) * x
    if before == 1:
        return mean
    if v is not None:
        log_variance = (v + 1) / 2 * math.log(beta) + (1 - (v + 1) / 2) * math.log(btilde)
        return mean + (0.5 * log_variance).exp() * z
    return mean + math.sqrt(beta if variance == "beta" else btilde) * z
