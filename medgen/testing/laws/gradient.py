"""Gradients of exact log-densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Noise
from medgen.testing.expect import expect
from medgen.testing.law import law
from medgen.testing.laws.density import exact
from medgen.testing.subject import Subject

# Piecewise maps (splines, rectifiers) have a kink at every knot, and a step along thousands of parameters crosses some: at 1e-5 half of
# the directions of a small image spline were off by 1e-3, at 1e-7 none by more than 1e-7. Rounding in float64 starts to show at 1e-8.
N, _DIRECTIONS, _STEP, _RELATIVE = 4, 3, 1e-7, 1e-4


@law("density", applies=exact)
def log_prob_gradient_is_its_slope(subject: Subject) -> None:
    """The gradient of `log_prob`, in x and in the parameters, is its slope by finite differences along random directions."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        x, condition = subject.x(case, N, dtype=torch.float64).requires_grad_(), subject.condition(case, N, dtype=torch.float64)

        def total(x: Tensor = x, condition: Any = condition, model: Any = model) -> Tensor:
            return model.log_prob(x, condition=condition).sum()

        weights = [p for p in model.parameters() if p.requires_grad]
        for what, places in (("x", [x]), ("the parameters", weights)):
            if not places or (what == "x" and model.log_prob_measure == "mass"):
                continue
            wrong = sorted(_error(total, places, seed) for seed in range(_DIRECTIONS))[_DIRECTIONS // 2]  # one may cross a kink
            sentence = f"{case}: the gradient of `log_prob` in {what} must be its slope; they differ by {wrong:.2g} of the slope."
            expect(wrong <= _RELATIVE, sentence)


def _error(total: Callable[[], Tensor], places: list[Tensor], seed: int) -> float:
    """|gradient . v - slope along v| / slope for a random direction v."""
    gradients = torch.autograd.grad(total(), places, allow_unused=True)
    directions = [Noise(seed, torch.tensor([k])).normal(*p.shape, stream=5, dtype=torch.float64)[0] for k, p in enumerate(places)]
    along = sum(float((g * v).sum()) for g, v in zip(gradients, directions, strict=True) if g is not None)

    def shifted(step: float) -> float:
        with torch.no_grad():
            for p, v in zip(places, directions, strict=True):
                p.add_(v, alpha=step)
            value = float(total())
            for p, v in zip(places, directions, strict=True):
                p.add_(v, alpha=-step)
        return value

    slope = (shifted(_STEP) - shifted(-_STEP)) / (2 * _STEP)
    return abs(along - slope) / (abs(slope) + 1e-3)
