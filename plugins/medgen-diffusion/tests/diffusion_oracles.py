"""Exact denoisers of Gaussian data, in place of a network."""

from __future__ import annotations

import torch
from torch import nn

import medgen
from medgen.maths import from_x0, log_variances
from medgen.registry import Intensity

FEATURES = medgen.ImageSpec(channels=2, shape=(), content="features", intensity=Intensity(clip=False))


class Gaussian(nn.Module):
    """Predicts E[x_0 | x_t], and, where the variance is learned, the true variance of x_{t-1} given x_t."""

    def __init__(self, model, mean=0.3, sd=0.5):
        super().__init__()
        chain = model.chain
        self.mean, self.sd, self.prediction, self.learned = mean, sd, chain.prediction, chain.variance == "learned"
        at = chain.alpha_bar
        before = torch.cat((at.new_ones(1), at[:-1]))
        self.at, low, high = at, *log_variances(at, before)
        beta = 1 - at / before
        spread = sd**2 * (1 - at) / (at * sd**2 + 1 - at)  # of x_0 given x_t
        variance = beta * (1 - before) / (1 - at) + (beta * before.sqrt() / (1 - at)).square() * spread
        self.v = 2 * (variance.log() - low) / (high - low) - 1

    def forward(self, x, t, embedding=None):
        at = self.at[t].to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        gain = at.sqrt() * self.sd**2 / (at * self.sd**2 + 1 - at)
        x0 = self.mean + gain * (x - at.sqrt() * self.mean)
        output = from_x0(x0, x, at.sqrt(), (1 - at).sqrt(), self.prediction)
        if not self.learned:
            return output
        v = self.v[t].to(x.dtype).view(-1, *[1] * (x.dim() - 1)).expand_as(x)
        return torch.cat((output, v), 1)


def exact(spec=FEATURES, *, mean=0.3, sd=0.5, **config):
    """A float64 `ddpm` with the exact denoiser of N(mean, sd^2) in its own units."""
    model = medgen.create("ddpm", spec, width=8, multipliers=[1], **config).double().eval()
    model.network.net = Gaussian(model, mean, sd)
    return model


class GaussianFlow(nn.Module):
    """The same for `edm` and `flow_matching`, of data N(mean, covariance) in D values, from what the network is told of time."""

    def __init__(self, family, mean, covariance):
        super().__init__()
        self.family, self.mean, self.covariance = family, mean, covariance

    def forward(self, x, t, embedding=None):
        if self.family == "edm":  # y = cos x_0 + sin eps; F = sin x_0 - cos eps
            angle = torch.exp(t / 100).atan()
            signal, noise = angle.cos(), angle.sin()
        else:  # x_t = t x_1 + (1 - t) eps; v = x_1 - eps
            signal, noise = t / 1000, 1 - t / 1000
        flat, (signal, noise) = x.flatten(1), (level[:, None, None] for level in (signal, noise))
        error = (flat - signal[:, 0] * self.mean)[..., None]
        spread = signal**2 * self.covariance + noise**2 * torch.eye(flat.shape[1], dtype=x.dtype)
        score = torch.linalg.solve(spread, error)
        x0, eps = self.mean + (signal * self.covariance @ score)[..., 0], (noise * score)[..., 0]
        output = noise[:, 0] * x0 - signal[:, 0] * eps if self.family == "edm" else x0 - eps
        return output.view_as(x)


def exact_flow(family, spec=FEATURES, *, mean=0.3, covariance=None, **config):
    """A float64 model in continuous time with the exact network of N(mean, covariance) in its own units; 0.5^2 I by default."""
    model = medgen.create(family, spec, width=8, multipliers=[1], attention=[], **config).double().eval()
    size = spec.numel
    covariance = 0.25 * torch.eye(size, dtype=torch.float64) if covariance is None else covariance
    model.network.net = GaussianFlow(family, torch.full((size,), mean, dtype=torch.float64), covariance)
    return model
