"""A mixture of Gaussians: every sampler finds the weights of its modes."""

from __future__ import annotations

import math

import pytest
import torch
from sampling.oracles import BAR, chain_denoiser, column

from medgen.interfaces import Noise
from medgen.maths import karras_sigmas, log_snr_steps
from medgen.sampling import ancestral, ddim, dpm_solver, heun, ode

WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.8], [0.8, -1.0]])
SD = 0.15
N = 4096


def mixture_x0(x, signal, noise):
    """E[x_0 | x]: the modes' own means, weighted by what they are responsible for."""
    variance = signal**2 * SD**2 + noise**2  # [B, 1]
    off = x[:, None] - signal[:, None] * MEANS  # [B, K, 2]
    responsible = (WEIGHTS.log() - off.square().sum(2) / (2 * variance)).softmax(1)
    return (responsible[:, :, None] * (MEANS + (signal * SD**2 / variance)[:, None] * off)).sum(1)


def denoise(x, sigma):
    sigma = column(sigma, x)
    return mixture_x0(x, torch.ones_like(sigma), sigma)


def velocity(x, t):
    t = column(t, x)
    if float(t[0]) == 1:
        return x - x  # unused: Euler's last call is before
    x1 = mixture_x0(x, t, 1 - t)
    return (x1 - x) / (1 - t)


def samples(name):
    noise, kept = Noise.of(1, range(N)), log_snr_steps(BAR, 150)
    network = chain_denoiser(x0=mixture_x0)
    if name == "heun":
        return heun(denoise, (2,), karras_sigmas(60), noise=noise)
    if name == "heun_churn":
        return heun(denoise, (2,), karras_sigmas(60), noise=noise, churn=20.0)
    if name in ("euler", "midpoint"):
        return ode(velocity, (2,), torch.linspace(0, 1, 201), noise=noise, method=name)
    chains = {"ancestral": ancestral, "ddim": ddim, "dpm_solver": dpm_solver}
    return chains[name](network, (2,), BAR, noise=noise, kept=kept)


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm_solver", "heun", "heun_churn", "euler", "midpoint"])
def test_weights_means_and_widths(name):
    x = samples(name)
    mode = (x[:, None] - MEANS).square().sum(2).argmin(1)
    for k, weight in enumerate(WEIGHTS.tolist()):
        share = float((mode == k).float().mean())
        assert abs(share - weight) < 4.5 * math.sqrt(weight * (1 - weight) / N)
        inside = x[mode == k]
        assert float((inside.mean(0) - MEANS[k]).abs().max()) < 0.03
        assert float((inside.std(0) / SD - 1).abs().max()) < 0.12
