"""`Made`: a network whose outputs for a feature depend on the features before it, and on the context.

Paper: MADE: Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray, Larochelle, 2015) | https://arxiv.org/abs/1502.03509
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.ops import philox_integers, philox_uniform
from medgen.ops.made import Activation
from medgen.ops.reference.made import made_masks

__all__ = ["Degrees", "Made", "MaskedLinear", "Order"]

Order = Literal["sequential", "reversed", "random"]
Degrees = Literal["sequential", "random"]

_PHI = {"relu": torch.relu_, "tanh": torch.tanh, "silu": F.silu}


class MaskedLinear(nn.Module):
    """(W * mask) x + b.

    Args:
        mask: [out, in] bool; what is False never carries anything, and its weights get no gradient.

    >>> layer = MaskedLinear(torch.tensor([[True, False]]))
    >>> bool((layer(torch.tensor([[0.0, 1.0]])) == layer(torch.zeros(1, 2))).all())
    True
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        linear = nn.Linear(mask.shape[1], mask.shape[0])
        self.weight, self.bias = linear.weight, linear.bias
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)  # products with bool would convert it every time

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] -> [B, out]."""
        return F.linear(x, self.weight * self.mask, self.bias)

    def extra_repr(self) -> str:
        """Shown by repr."""
        return f"in_features={self.mask.shape[1]}, out_features={self.mask.shape[0]}"


class Made(nn.Module):
    """x [B, D] -> [B, O D], O blocks of D outputs; those of feature i depend on the features that come before i in the order.

    Feature i has a degree, its place in the order, 1..D. A hidden unit of degree m sees degrees up to m, the outputs of a feature only
    lower ones than its own. Degrees of hidden units run over 1..D-1, each at least the least of the layer before.

    With a context, they run over 0..D-1: units of degree 0 see the context alone and feed every output, and the context is added to the
    outputs besides, so that all of them depend on it, those of the first feature included, and not only linearly.

    Args:
        features: D >= 1.
        outputs: O, numbers per feature.
        hidden: widths of the hidden layers; none for one masked linear map.
        context: K, features of the context; 0 for none.
        order: of the features: as they come, reversed, or a random permutation.
        degrees: of hidden units: in turn (spread evenly where a layer has fewer units than there are degrees), or drawn.
        seed: of what is random in `order` and `degrees`.
        activation: between the layers.

    >>> made = Made(3, hidden=[8], order="reversed")
    >>> made.degrees[0].tolist()
    [3, 2, 1]
    >>> made(torch.zeros(5, 3)).shape
    torch.Size([5, 6])
    """

    def __init__(
        self,
        features: int,
        outputs: int = 2,
        hidden: Sequence[int] = (64, 64),
        *,
        context: int = 0,
        order: Order = "sequential",
        degrees: Degrees = "sequential",
        seed: int = 0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.features, self.outputs, self.activation = features, outputs, activation
        found = [_order(features, order, seed)]
        low = 0 if context or features == 1 else 1
        for number, width in enumerate(hidden):
            found.append(_hidden_degrees(width, low, features - 1, degrees, seed, number + 1))
            low = int(found[-1].min())
        for number, values in enumerate(found):
            self.register_buffer(f"degrees_{number}", values, persistent=False)
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in made_masks(found, outputs))
        first = hidden[0] if hidden else 0
        self.context = nn.Linear(context, first + outputs * features, bias=False) if context else None
        self._near_zero(first)

    @torch.no_grad()
    def _near_zero(self, first: int) -> None:
        """Outputs that start near 0, so that a transform starts near the identity."""
        self.layers[-1].weight.mul_(0.01)  # type: ignore[operator]
        self.layers[-1].bias.zero_()  # type: ignore[operator]
        if self.context is not None:
            self.context.weight[first:].mul_(0.01)

    @property
    def degrees(self) -> list[Tensor]:
        """Those of the features, then of each hidden layer."""
        return [getattr(self, f"degrees_{number}") for number in range(len(self.layers))]

    def weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights and biases of the layers, as `medgen.ops.made_invert` takes them; the masks follow from the degrees."""
        layers = list(self.layers)
        return [layer.weight for layer in layers], [layer.bias for layer in layers]  # type: ignore[misc]

    def context_terms(self, context: Tensor | None) -> Tensor | None:
        """What the context adds to the first hidden layer and to the outputs, [B, H_1 + O D]."""
        return None if self.context is None or context is None else self.context(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """[B, D] and [B, K] -> [B, O D]."""
        terms = self.context_terms(context)
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            x = layer(x)
            if terms is not None and last:
                x = x + terms[:, -x.shape[1] :]
            elif terms is not None and number == 0:
                x = x + terms[:, : x.shape[1]]
            x = x if last else _PHI[self.activation](x)
        return x


def _order(features: int, order: Order, seed: int) -> Tensor:
    degrees = torch.arange(1, features + 1)
    if order == "random":
        return philox_uniform(seed, torch.zeros(1, dtype=torch.int64), (features,))[0].argsort() + 1
    return degrees.flip(0) if order == "reversed" else degrees


def _hidden_degrees(width: int, low: int, high: int, how: Degrees, seed: int, layer: int) -> Tensor:
    """`width` degrees in [low, high]."""
    low = min(low, high)
    if how == "random":
        return low + philox_integers(seed, torch.full((1,), layer), (width,), high=high - low + 1)[0]
    units = torch.arange(width)
    # Fewer units than degrees, in turn, would leave the last features unseen.
    return low + (units % (high - low + 1) if width > high - low else (units + 1) * (high - low) // width)
