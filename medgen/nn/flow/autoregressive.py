"""`MaskedAffineAutoregressive`: the layer of MAF, and turned round that of IAF."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.nn.flow.made import Degrees, Made, Order
from medgen.nn.flow.transform import Transform, log_det_dtype
from medgen.ops import affine_coupling, made_invert
from medgen.ops.made import Activation, Form
from medgen.ops.reference.made import log_scale

__all__ = ["MaskedAffineAutoregressive"]

_OPEN = 2.0  # raw gates start here: sigmoid(2) = 0.88


class MaskedAffineAutoregressive(Transform):
    """z_i = (x_i - mu_i) exp(-alpha_i), mu_i and alpha_i from the x before i: one pass forward, feature after feature back.

    As "gated": z_i = g_i x_i + (1 - g_i) mu_i, g = sigmoid(s), the numerically stable step of IAF. alpha = s_max tanh(s / s_max), and
    likewise for ln g, which thus lies in (-s_max, 0]: no direction ever divides by nearly 0. ln |det dz/dx| = -sum alpha, or sum ln g.

    `Inverted(MaskedAffineAutoregressive(...))` samples in one pass.

    Papers: Masked Autoregressive Flow (Papamakarios, Pavlakou, Murray, 2017) | https://arxiv.org/abs/1705.07057
    Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016) | https://arxiv.org/abs/1606.04934

    Args:
        features: D, values of a sample; [B, C, *S] is flattened.
        form, s_max: as above.
        hidden, context, order, degrees, seed, activation: as in `Made`.

    >>> layer = MaskedAffineAutoregressive(4, hidden=[8])
    >>> z, log_det = layer(torch.ones(2, 1, 4))
    >>> torch.allclose(layer.inverse(z)[0], torch.ones(2, 1, 4)), log_det.shape
    (True, torch.Size([2]))
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (64, 64),
        *,
        context: int = 0,
        order: Order = "sequential",
        degrees: Degrees = "sequential",
        seed: int = 0,
        activation: Activation = "relu",
        form: Form = "affine",
        s_max: float = 5.0,
    ) -> None:
        super().__init__()
        self.form, self.s_max = form, s_max
        self.made = Made(features, 2, hidden, context=context, order=order, degrees=degrees, seed=seed, activation=activation)
        if form == "gated":
            last = self.made.layers[-1].bias
            assert isinstance(last, nn.Parameter)
            nn.init.constant_(last[:features], _OPEN)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """z as x, and ln |det dz/dx| [B]."""
        flat = x.flatten(1)
        parameters = self.made(flat, context).to(log_det_dtype(x.dtype))
        bound, whole = {"bound": "tanh", "s_max": self.s_max}, {"mask": "first", "split": flat.shape[1]}
        if self.form == "affine":
            z, log_det = affine_coupling(flat, parameters, **whole, **bound, inverse=True)  # type: ignore[arg-type]
        else:
            s, mean = parameters.chunk(2, 1)
            shift = -torch.expm1(log_scale(s, 1, self.s_max)) * mean
            z, log_det = affine_coupling(flat, F.logsigmoid(s), shift, **whole, **bound)  # type: ignore[arg-type]
        return z.view(x.shape), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x as z, and ln |det dx/dz| [B]."""
        made = self.made
        weights, biases = made.weights()
        terms = made.context_terms(context)
        options = {"context": terms, "activation": made.activation, "form": self.form, "s_max": self.s_max}
        x, log_det = made_invert(z.flatten(1), weights, biases, made.degrees, **options)  # type: ignore[arg-type]
        return x.view(z.shape), log_det
