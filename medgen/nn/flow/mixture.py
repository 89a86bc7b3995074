"""`MixtureAutoregressive`: a mixture of Gaussians for every value, given those before, as an invertible map.

Papers: MADE (Germain, Gregor, Murray, Larochelle, 2015) | https://arxiv.org/abs/1502.03509
Masked Autoregressive Flow, section "MADE MoG" (Papamakarios, Pavlakou, Murray, 2017) | https://arxiv.org/abs/1705.07057
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgen.maths import log_standard_normal
from medgen.nn.flow.made import Degrees, Made, Order
from medgen.nn.flow.transform import Transform, log_det_dtype
from medgen.ops.made import Activation
from medgen.ops.reference.made import log_scale

__all__ = ["MixtureAutoregressive", "mixture_to_normal", "normal_to_mixture"]

_STEPS = 100  # of bisection, which alone would need 60


def _quantile(log_tail: Tensor) -> Tensor:
    """z <= 0 with ln Phi(z) = log_tail <= ln(1/2), however far out; differentiable once."""
    with torch.no_grad():
        inner = torch.special.ndtri(log_tail.clamp(min=-40.0).exp())
        outer = -torch.sqrt((-2.0 * log_tail).clamp(min=1.0))
        z = torch.where(log_tail > -40.0, inner, outer)
        for _ in range(3):  # Newton on ln Phi, which is concave: from the asymptote's side it does not overshoot
            value = torch.special.log_ndtr(z)
            z = z - (value - log_tail) * torch.exp(value - log_standard_normal(z))
    slope = torch.exp(log_tail - log_standard_normal(z)).detach()  # dz / d log_tail
    return z + (log_tail - log_tail.detach()) * slope


def mixture_to_normal(x: Tensor, log_weights: Tensor, mean: Tensor, log_sd: Tensor) -> tuple[Tensor, Tensor]:
    """z = Phi^-1(F(x)) and ln p(x), F and p of the mixture: standard normal z where x is drawn from it.

    Whichever tail is smaller is used, in logarithms, so that values far from every component keep their z.

    Args:
        x: [...].
        log_weights, mean, log_sd: [..., K], weights normalised.

    >>> one = torch.zeros(1, 1)
    >>> mixture_to_normal(torch.tensor([30.0]), one, one, one)
    (tensor([30.]), tensor([-450.9189]))
    """
    u = (x[..., None] - mean) * torch.exp(-log_sd)
    below = (log_weights + torch.special.log_ndtr(u)).logsumexp(-1)
    above = (log_weights + torch.special.log_ndtr(-u)).logsumexp(-1)
    z = _quantile(torch.minimum(below, above))
    return torch.where(below < above, z, -z), (log_weights + log_standard_normal(u) - log_sd).logsumexp(-1)


@torch.no_grad()
def normal_to_mixture(z: Tensor, log_weights: Tensor, mean: Tensor, log_sd: Tensor) -> Tensor:
    """x with Phi^-1(F(x)) = z: Newton's method, kept inside an interval that shrinks. Shapes as in `mixture_to_normal`.

    >>> w, m = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[-2.0, 2.0]])
    >>> normal_to_mixture(torch.zeros(1), w, m, torch.zeros(1, 2)).abs() < 1e-6
    tensor([True])
    """
    at = mean + z[..., None] * torch.exp(log_sd)  # where each component alone has its z: F lies below z at the least of them
    low, high = at.amin(-1), at.amax(-1)
    x, last = 0.5 * (low + high), high - low
    for _ in range(_STEPS):
        found, log_p = mixture_to_normal(x, log_weights, mean, log_sd)
        error = found - z
        low, high = torch.where(error <= 0, x, low), torch.where(error >= 0, x, high)
        step = error * torch.exp(log_standard_normal(found) - log_p)
        newton = x - step
        fine = (newton >= low) & (newton <= high) & (step.abs() < 0.5 * last)  # else halve, so that it always ends
        moved = torch.where(fine, newton, 0.5 * (low + high))
        last, x = (moved - x).abs(), moved
        if (last <= 2.0 * torch.finfo(x.dtype).eps * x.abs()).all():
            break
    return x


class MixtureAutoregressive(Transform):
    """z_i = Phi^-1(sum_k pi_k Phi((x_i - mu_k) / sd_k)), the K weights, means and deviations from the x before i.

    A standard normal z makes x_i the mixture of K Gaussians. The density is exact and costs one pass; x comes feature after feature, each
    by inverting its mixture's distribution function. Gradients of the inverse are of first order, by the implicit function theorem, and
    need the D x D derivative of each sample: for small D.

    Args:
        features: D; [B, C, *S] is flattened.
        components: K.
        s_max: bound of |ln sd|, reached softly.
        hidden, context, order, degrees, seed, activation: as in `Made`.

    >>> layer = MixtureAutoregressive(3, 4, hidden=[8])
    >>> z, log_det = layer(torch.ones(2, 3))
    >>> torch.allclose(layer.inverse(z)[0], torch.ones(2, 3), atol=1e-5)
    True
    """

    def __init__(
        self,
        features: int,
        components: int,
        hidden: Sequence[int] = (64, 64),
        *,
        context: int = 0,
        order: Order = "sequential",
        degrees: Degrees = "sequential",
        seed: int = 0,
        activation: Activation = "relu",
        s_max: float = 5.0,
    ) -> None:
        super().__init__()
        self.components, self.s_max = components, s_max
        self.made = Made(features, 3 * components, hidden, context=context, order=order, degrees=degrees, seed=seed, activation=activation)
        with torch.no_grad():  # means that lie apart, or the components would stay equal for ever
            means = self.made.layers[-1].bias.view(3, components, features)[1]  # type: ignore[operator]
            means.copy_(torch.linspace(-1.0, 1.0, components)[:, None] if components > 1 else means)

    def _mixture(self, flat: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means, log-deviations [B, D, K]."""
        raw = self.made(flat, context).to(log_det_dtype(flat.dtype)).unflatten(1, (3, self.components, -1)).movedim(2, -1)
        return torch.log_softmax(raw[:, 0], -1), raw[:, 1], log_scale(raw[:, 2], 0, self.s_max)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z as x, and ln |det dz/dx| = sum ln p(x_i) - ln N(z_i) [B]."""
        flat = x.flatten(1)
        z, log_p = mixture_to_normal(flat.to(log_det_dtype(x.dtype)), *self._mixture(flat, context))
        log_det = (log_p - log_standard_normal(z)).sum(1)
        return z.to(x.dtype).view(x.shape), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x as z, and ln |det dx/dz| [B]."""
        flat = z.flatten(1)
        order = self.made.degrees[0].argsort()
        with torch.no_grad():
            x = torch.zeros_like(flat)
            for feature in order.tolist():
                of = tuple(part[:, feature] for part in self._mixture(x, context))
                x[:, feature] = normal_to_mixture(flat[:, feature].to(of[0].dtype), *of).to(x.dtype)
        if torch.is_grad_enabled() and any(v.requires_grad for v in (z, *([] if context is None else [context]), *self.parameters())):
            x = self._attached(x, flat, context)
        return x.view(z.shape), -self(x, context)[1]

    def _attached(self, x: Tensor, z: Tensor, context: Tensor | None) -> Tensor:
        """One Newton step from the solution, whose gradients are those of the solution: x - (df/dx)^-1 (f(x) - z)."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            columns = self(leaf, context)[0].sum(0)
            rows = [torch.autograd.grad(column, leaf, retain_graph=True)[0] for column in columns]
        away = self(x, context)[0] - z
        return x - torch.linalg.solve(torch.stack(rows, 1).detach(), away[..., None])[..., 0]
