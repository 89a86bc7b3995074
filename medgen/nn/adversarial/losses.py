"""What the two players minimise, as functions of the discriminator's raw outputs (logits).

With D = sigmoid(logit), D* = p / (p + q) is best for data p and generator q, and then the value of the game is -log 4 + 2 JSD(p || q).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from medgen.errors import ConfigError

__all__ = ["ADVERSARIAL_LOSSES", "AdversarialLoss", "LossName", "adversarial_loss"]

LossName = Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"]


class AdversarialLoss(ABC):
    """A pair of losses over logits of any shape, each a mean over all of them."""

    boundary: float | None = 0.0
    """Logit above which a sample is taken for real; None where logits have no such point."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises, from its logits of data and of generated samples."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """What the generator minimises, from the discriminator's logits of its samples."""


class Minimax(AdversarialLoss):
    """L_D = -E[log D(x)] - E[log(1 - D(G(z)))], L_G = E[log(1 - D(G(z)))].

    With one-sided smoothing the target of data is alpha instead of 1, and D* = alpha p / (p + q); that of fakes stays exactly 0.
    Papers: Generative Adversarial Nets (Goodfellow et al., 2014) | https://arxiv.org/abs/1406.2661;
    Improved Techniques for Training GANs (Salimans et al., 2016) | https://arxiv.org/abs/1606.03498

    Args:
        target: alpha.
    """

    def __init__(self, target: float = 1.0) -> None:
        self.target = target

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """-E[alpha log D(x) + (1 - alpha) log(1 - D(x))] - E[log(1 - D(G(z)))]."""
        return self.target * F.softplus(-real).mean() + (1.0 - self.target) * F.softplus(real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """E[log(1 - D(G(z)))]: its gradient vanishes where the discriminator is sure."""
        return -F.softplus(fake).mean()


class NonSaturating(Minimax):
    """L_D as in minimax; L_G = -E[log D(G(z))], whose gradient is largest where the discriminator is sure."""

    def generator(self, fake: Tensor) -> Tensor:
        """-E[log D(G(z))]."""
        return F.softplus(-fake).mean()


class LeastSquares(AdversarialLoss):
    """L_D = 1/2 E[(D(x) - alpha)^2] + 1/2 E[D(G(z))^2], L_G = 1/2 E[(D(G(z)) - alpha)^2], with D the raw output.

    Paper: Least Squares Generative Adversarial Networks (Mao et al., 2017) | https://arxiv.org/abs/1611.04076

    Args:
        target: alpha.
    """

    def __init__(self, target: float = 1.0) -> None:
        self.target, self.boundary = target, 0.5 * target

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Half the squared distance of data to alpha and of fakes to 0."""
        return 0.5 * (real - self.target).square().mean() + 0.5 * fake.square().mean()

    def generator(self, fake: Tensor) -> Tensor:
        """Half the squared distance of fakes to alpha."""
        return 0.5 * (fake - self.target).square().mean()


class Hinge(AdversarialLoss):
    """L_D = E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))], L_G = -E[D(G(z))].

    Paper: Geometric GAN (Lim, Ye, 2017) | https://arxiv.org/abs/1705.02894
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Data above 1 and fakes below -1 cost nothing."""
        return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """-E[D(G(z))]."""
        return -fake.mean()


class Wasserstein(AdversarialLoss):
    """L_D = E[f(G(z))] - E[f(x)], L_G = -E[f(G(z))]; -L_D estimates the Wasserstein-1 distance where f has slope 1.

    f must be kept Lipschitz: `clip_weights` or `gradient_penalty`. A constant added to f changes nothing, so its last layer needs no bias.
    Paper: Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017) | https://arxiv.org/abs/1701.07875
    """

    boundary = None

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[f(G(z))] - E[f(x)]."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        """-E[f(G(z))]."""
        return -fake.mean()


ADVERSARIAL_LOSSES: dict[str, type[AdversarialLoss]] = {
    "minimax": Minimax,
    "non_saturating": NonSaturating,
    "least_squares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
}
"""Every loss by name."""


def adversarial_loss(name: str, *, target: float = 1.0) -> AdversarialLoss:
    """The loss of that name.

    Args:
        name: of `ADVERSARIAL_LOSSES`.
        target: of data, below 1 for one-sided label smoothing; fakes have 0.

    Raises:
        ConfigError: an unknown name, or a target for a loss without targets.

    >>> import torch
    >>> adversarial_loss("non_saturating").generator(torch.zeros(4))
    tensor(0.6931)
    """
    if name not in ADVERSARIAL_LOSSES:
        raise ConfigError(f"the adversarial loss must be one of {', '.join(ADVERSARIAL_LOSSES)}; got {name!r}.")
    if not 0.5 < target <= 1.0:
        raise ConfigError(f"the target of real samples must lie in (0.5, 1]; got {target}.")
    made = ADVERSARIAL_LOSSES[name]
    if issubclass(made, Minimax | LeastSquares):
        return made(target)
    if target != 1.0:
        raise ConfigError(
            f"label smoothing is for minimax, non_saturating and least_squares; got {target} for {name!r}, which has no targets."
        )
    return made()
