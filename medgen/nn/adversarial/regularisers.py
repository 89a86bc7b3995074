"""What keeps a discriminator or critic smooth: penalties on its gradient, bounds on its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["SpectralNorm", "clip_weights", "gradient_penalty", "r1_penalty", "spectral_norm", "update_spectral_norms"]

Critic = Callable[[Tensor], Tensor]
"""x [B, C, *S] -> one number per sample, [B]."""


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E[(||grad f(x_hat)||_2 - 1)^2] with x_hat = a x + (1 - a) G(z).

    Paper: Improved Training of Wasserstein GANs (Gulrajani et al., 2017) | https://arxiv.org/abs/1704.00028

    Args:
        critic: f.
        real, fake: x and G(z), [B, C, *S].
        mix: a in [0, 1] per sample, [B]: `noise.uniform()`.

    >>> line = torch.tensor([3.0, 4.0])
    >>> gradient_penalty(lambda x: x @ line, torch.zeros(2, 2), torch.ones(2, 2), torch.full((2,), 0.5))
    tensor(16., grad_fn=<MeanBackward0>)
    """
    a = mix.to(real.dtype).view(-1, *[1] * (real.dim() - 1))
    between = (a * real.detach() + (1.0 - a) * fake.detach()).requires_grad_()
    return (_gradient(critic, between).norm(dim=1) - 1.0).square().mean()


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """1/2 E[||grad D(x)||^2] at data x.

    Paper: Which Training Methods for GANs do actually Converge? (Mescheder, Geiger, Nowozin, 2018) | https://arxiv.org/abs/1801.04406

    Args:
        critic: D, its logits.
        real: x [B, C, *S].

    >>> r1_penalty(lambda x: x @ torch.tensor([3.0, 4.0]), torch.zeros(2, 2))
    tensor(12.5000, grad_fn=<MulBackward0>)
    """
    return 0.5 * _gradient(critic, real.detach().clone().requires_grad_()).square().sum(1).mean()


def _gradient(critic: Critic, x: Tensor) -> Tensor:
    """Gradient of each sample's number in that sample, [B, D], itself differentiable."""
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    # a critic that is linear in x gives a constant gradient; the penalty must still be a part of the graph
    return (gradient if gradient.requires_grad else gradient.requires_grad_()).flatten(1)


@torch.no_grad()
def clip_weights(parameters: Iterable[nn.Parameter], bound: float) -> None:
    """Each weight into [-bound, bound]: WGAN's first way to keep the critic Lipschitz."""
    for parameter in parameters:
        parameter.clamp_(-bound, bound)


class SpectralNorm(nn.Module):
    """W / sigma(W), with sigma = u^T W v the largest singular value.

    u and v are buffers that follow the weights by one power iteration per call of `follow`, so that the layer itself is a pure function:
    evaluated twice it gives the same. Kernels are taken as matrices [out, in * positions].
    Paper: Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018) | https://arxiv.org/abs/1802.05957

    Args:
        weight: W, for its shape and the first estimate.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.randn(len(matrix), dtype=weight.dtype), dim=0))
        self.register_buffer("v", F.normalize(matrix.T @ self.u, dim=0))
        for _ in range(15):
            self.follow(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """W / (u^T W v)."""
        return weight / torch.dot(self.u, torch.mv(weight.flatten(1), self.v))

    @torch.no_grad()
    def follow(self, weight: Tensor) -> None:
        """One power iteration: v <- W^T u / |W^T u|, u <- W v / |W v|."""
        matrix = weight.detach().flatten(1)
        self.v.copy_(F.normalize(torch.mv(matrix.T, self.u), dim=0))
        self.u.copy_(F.normalize(torch.mv(matrix, self.v), dim=0))


def spectral_norm(layer: nn.Module) -> nn.Module:
    """`layer`, its weight divided by its largest singular value from now on; see `SpectralNorm`.

    >>> layer = spectral_norm(nn.Linear(5, 3))
    >>> bool((torch.linalg.matrix_norm(layer.weight, 2) - 1).abs() < 0.05)
    True
    """
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight), unsafe=True)  # type: ignore[arg-type]
    return layer


def update_spectral_norms(module: nn.Module) -> None:
    """One power iteration of every `SpectralNorm` within: call after each update of the weights."""
    for layer in module.modules():
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        parts: nn.Module = layer.parametrizations["weight"]  # type: ignore[index, assignment]
        for part in parts.children():
            if isinstance(part, SpectralNorm):
                part.follow(parts.original)  # type: ignore[arg-type]
