"""What a denoising network predicts, as one linear map: x0 = a x + b output, for x = signal x0 + noise eps."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medgen.errors import ConfigError

__all__ = ["Prediction", "from_x0", "to_x0", "x0_coefficients"]

Prediction = Literal["eps", "x0", "v", "score"]


def x0_coefficients(signal: Tensor, noise: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """(a, b) of x0 = a x + b output.

    - "eps": x0 = (x - noise eps) / signal.
    - "x0": the output itself.
    - "v", signal eps - noise x0: x0 = (signal x - noise v) / (signal^2 + noise^2).
    - "score", -eps / noise: x0 = (x + noise^2 score) / signal.

    Papers: DDPM (Ho et al., 2020) | https://arxiv.org/abs/2006.11239; v: Progressive Distillation (Salimans, Ho, 2022) |
    https://arxiv.org/abs/2202.00512; score: Song et al., 2021 | https://arxiv.org/abs/2011.13456

    Args:
        signal, noise: [*], e.g. sqrt(abar) and sqrt(1 - abar); 1 and sigma.
        prediction: which.

    Raises:
        ConfigError: no such prediction.

    >>> import torch
    >>> x0_coefficients(torch.tensor(0.8), torch.tensor(0.6), "eps")
    (tensor(1.2500), tensor(-0.7500))
    """
    if prediction == "eps":
        return 1 / signal, -noise / signal
    if prediction == "x0":
        return 0 * signal, 0 * signal + 1
    if prediction == "v":
        power = signal * signal + noise * noise
        return signal / power, -noise / power
    if prediction == "score":
        return 1 / signal, noise * noise / signal
    raise ConfigError(f"`prediction` must be eps, x0, v or score; got {prediction!r}.")


def to_x0(output: Tensor, x: Tensor, signal: Tensor, noise: Tensor, prediction: Prediction) -> Tensor:
    """The x0 that a network's output means; `signal` and `noise` broadcast against x.

    >>> import torch
    >>> x0, eps, signal, noise = torch.tensor(2.0), torch.tensor(-1.0), torch.tensor(0.8), torch.tensor(0.6)
    >>> to_x0(eps, signal * x0 + noise * eps, signal, noise, "eps")
    tensor(2.)
    """
    on_x, on_output = x0_coefficients(signal, noise, prediction)
    return on_x * x + on_output * output


def from_x0(x0: Tensor, x: Tensor, signal: Tensor, noise: Tensor, prediction: Prediction) -> Tensor:
    """The output that means `x0`: the inverse of `to_x0`, and the target that a network learns. Needs noise > 0 but for "x0".

    >>> import torch
    >>> x0, eps, signal, noise = torch.tensor(2.0), torch.tensor(-1.0), torch.tensor(0.8), torch.tensor(0.6)
    >>> from_x0(x0, signal * x0 + noise * eps, signal, noise, "v")  # signal eps - noise x0
    tensor(-2.)
    """
    on_x, on_output = x0_coefficients(signal, noise, prediction)
    return (x0 - on_x * x) / on_output
