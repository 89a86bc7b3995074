"""What accepted points follow: a density, to a power, under conditions; and a constant k with k Q >= P."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError, DataError
from medgen.nn import Parzen
from medgen.sampling.rejection.densities import Density, Proposal

__all__ = ["Envelope", "Predicate", "Target", "kernels", "make_envelope", "within"]

Predicate = Callable[[Tensor], Tensor]
"""x [B, D] -> bool [B]."""


class Target(nn.Module):
    """P(x)^(1 / T), where every condition of `keep` holds, else 0; not normalised unless it is P alone.

    Args:
        density: P: `medgen.nn.Parzen`, `ModelDensity` or anything with a `log_prob`.
        temperature: T; above 1 flatter than P, below 1 sharper.
        keep: conditions x [B, D] -> bool [B], asked in turn and only about points that the density has accepted: validity of what x
            decodes to, the range of an attribute (`within`).

    Raises:
        ConfigError: the temperature is not positive.

    >>> half = Target(Parzen(torch.zeros(1, 1), 1.0), keep=[within(0, low=0.0)])
    >>> half.allowed(torch.tensor([[-1.0], [2.0]]))
    tensor([False,  True])
    """

    def __init__(self, density: Density, *, temperature: float = 1.0, keep: Sequence[Predicate] = ()) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(f"`temperature` must be positive; got {temperature}.")
        self.density, self.temperature, self.keep = density, float(temperature), tuple(keep)

    @property
    def normalised(self) -> bool:
        """Whether it is P alone."""
        return self.temperature == 1.0 and not self.keep

    def log_prob(self, x: Tensor) -> Tensor:
        """ln P(x) / T, [B], whether or not the conditions hold."""
        value = self.density.log_prob(x)
        return value if self.temperature == 1.0 else value / self.temperature

    def allowed(self, x: Tensor) -> Tensor:
        """Whether every condition holds, bool [B]; later ones are asked about what earlier ones keep only.

        Raises:
            ConfigError: a condition does not answer with bool [B].
        """
        held = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for condition in self.keep:
            rows = held.nonzero()[:, 0]
            if not len(rows):
                break
            answer = torch.as_tensor(condition(x[rows]), device=x.device)
            if answer.dtype != torch.bool or answer.shape != rows.shape:
                name = getattr(condition, "__name__", type(condition).__name__)
                raise ConfigError(
                    f"the condition {name} must answer bool [B] for x [B, D]; got {answer.dtype} {tuple(answer.shape)} for B = {len(rows)}."
                )
            held[rows] = answer
        return held


def within(attribute: int | Callable[[Tensor], Tensor], low: float = -math.inf, high: float = math.inf) -> Predicate:
    """The condition low <= attribute(x) <= high.

    Args:
        attribute: a column of x, or a function x [B, D] -> [B].
        low, high: of the range.

    Raises:
        ConfigError: low is not below high.

    >>> within(lambda x: x.norm(dim=1), high=1.0)(torch.tensor([[0.6, 0.6], [0.9, 0.9]]))
    tensor([ True, False])
    """
    if not low < high:
        raise ConfigError(f"a range must have low < high; got {low} and {high}.")

    def condition(x: Tensor) -> Tensor:
        value = attribute(x) if callable(attribute) else x[:, attribute]
        return (value >= low) & (value <= high)

    name = getattr(attribute, "__name__", "attribute") if callable(attribute) else f"column {attribute}"
    condition.__name__ = f"{low} <= {name} <= {high}"
    return condition


@dataclass(frozen=True)
class Envelope:
    """ln k, and how k was found.

    Args:
        log_k: accepted is x ~ Q where ln k + ln u + ln Q(x) < ln P(x).
        provable: k Q >= P everywhere, by a theorem; else it was estimated, and violations are counted.
        source: in words.
    """

    log_k: float
    provable: bool
    source: str


def kernels(target: Target, widen: float = 1.0) -> Parzen:
    """Q = sum_j v_j N(x_j, widen^2 T L L^T), v_j in proportion to w_j^min(1, 1/T): where T = 1 and widen = 1, P itself.

    Args:
        target: of a `Parzen` density p = sum_j w_j N(x_j, L L^T).
        widen: lambda, at least 1.

    Raises:
        ConfigError: the density is no `Parzen`, or it is to be narrowed.

    >>> kernels(Target(Parzen(torch.zeros(1, 1), 1.0), temperature=4.0)).bandwidth
    tensor(2.)
    """
    density, temperature = target.density, target.temperature
    if not isinstance(density, Parzen):
        raise ConfigError("kernels are proposals for a Parzen density; take a mixture or a trained model for others.")
    if not widen >= 1.0:
        raise ConfigError(f"`widen` must be at least 1, or the kernels do not cover those of the target; got {widen}.")
    if temperature == 1.0 and widen == 1.0:
        return density
    weights = None if density.weights is None else density.weights ** min(1.0, 1.0 / temperature)
    return Parzen(density.points, widen * math.sqrt(temperature) * density.bandwidth, weights)


def make_envelope(
    target: Target, proposal: Proposal, mode: float | Literal["auto", "max", "quartile"] = "auto", data: Tensor | None = None
) -> Envelope:
    """k for P <= k Q.

    - "auto": the closed form where there is one (see `closed_form`), else "max".
    - "max": max_i P(x_i) / Q(x_i) over the data. An estimate: P / Q may be larger between the points.
    - "quartile": its 75th percentile, which no longer bounds P; what is accepted follows min(P, k Q).
    - a number: ln k as it is.

    Paper: Cardiac Segmentation with Strong Anatomical Guarantees (Painchaud et al., 2020) | https://arxiv.org/abs/2006.08825

    Args:
        target, proposal: P and Q.
        mode: see above.
        data: x, [N, D]; by default the points of a `Parzen` density.

    Raises:
        ConfigError: there is no such mode, or no data to look at.
        DataError: P / Q is not a number at some of the data.
    """
    if not isinstance(mode, str):
        if not math.isfinite(mode):
            raise ConfigError(f"ln k must be finite; got {mode}.")
        return Envelope(float(mode), False, "given")
    if mode not in ("auto", "max", "quartile"):
        raise ConfigError(f'`envelope` must be "auto", "max", "quartile" or ln k; got {mode!r}.')
    if mode == "auto" and (closed := closed_form(target, proposal)) is not None:
        return closed
    if data is None and isinstance(target.density, Parzen):
        data = target.density.points
    if data is None:
        raise ConfigError("an envelope of P and Q that are no kernels is estimated on data; give some as `data` [N, D].")
    with torch.no_grad():
        ratio = target.log_prob(data).to(torch.float64) - proposal.log_prob(data).to(torch.float64)
    if not bool(ratio.isfinite().all()):
        raise DataError(
            f"P / Q must be a positive number at the data; at {int((~ratio.isfinite()).sum())} of {len(data)} points it is not."
        )
    if mode == "quartile":
        return Envelope(float(ratio.quantile(0.75)), False, f"75th percentile of P / Q over {len(data)} points; does not bound P")
    return Envelope(float(ratio.max()), False, f"largest P / Q over {len(data)} points")


def closed_form(target: Target, proposal: Any) -> Envelope | None:
    """The provable envelope of P by itself, or of kernels by wider kernels on the same points; None where P or Q is something else.

    With a = 1 / T, (sum_j w_j f_j)^a <= sum_j w_j f_j^a where a >= 1 (Jensen), and <= sum_j w_j^a f_j^a where a < 1. f_j^a is C times a
    normal of covariance T L L^T, C = (2 pi)^(D (1 - a) / 2) |L|^(1 - a) a^(-D / 2); and a normal is at most |M| / |L'| times one of a
    covariance M M^T that is nowhere narrower, which is lambda^D where M = lambda L'.
    """
    p = target.density
    if proposal is p and target.temperature == 1.0:
        return Envelope(0.0, True, "exact draws")
    if not (isinstance(p, Parzen) and isinstance(proposal, Parzen) and torch.equal(p.points, proposal.points)):
        return None
    a, dim = 1.0 / target.temperature, p.dim
    w = torch.ones(len(p.points), dtype=torch.float64) / len(p.points) if p.weights is None else p.weights.to(torch.float64).cpu()
    v = w ** min(1.0, a)
    q = torch.ones_like(w) / len(w) if proposal.weights is None else proposal.weights.to(torch.float64).cpu()
    own, wide = (_factor(d.bandwidth, dim) for d in (p, proposal))
    tempered = own / math.sqrt(a)
    spare = wide @ wide.mT - tempered @ tempered.mT
    narrow = float(torch.linalg.eigvalsh(spare).min()) < -1e-6 * float(torch.linalg.eigvalsh(wide @ wide.mT).max())
    if narrow or not torch.allclose(v / v.sum(), q, rtol=1e-5, atol=0):
        return None
    log_c = dim * (1 - a) / 2 * math.log(2 * math.pi) + (1 - a) * float(own.diagonal().log().sum()) - dim / 2 * math.log(a)
    log_k = (log_c if a != 1.0 else 0.0) + float(v.sum().log()) + float((wide.diagonal() / tempered.diagonal()).log().sum())
    return Envelope(max(log_k, 0.0) if target.temperature == 1.0 else log_k, True, "closed form: kernels under wider kernels")


def _factor(bandwidth: Tensor, dim: int) -> Tensor:
    wide = bandwidth.detach().to(device="cpu", dtype=torch.float64)
    return wide.tril() if wide.dim() == 2 else wide.expand(dim).diag()
