"""Exact denoisers of known distributions, and what each sampler makes of the Gaussian one, by hand.

Nothing here uses medgen's coefficients: the recursions are those of the papers, in Python numbers.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from medgen.maths import alpha_bars, linear_betas

BAR = alpha_bars(linear_betas())
MEAN, SD = 0.3, 0.5


def column(values, x):
    """[B] against [B, *S]."""
    return values.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))


def gaussian_x0(x, signal, noise, mean=MEAN, sd=SD):
    """E[x_0 | x] for x = signal x_0 + noise eps, x_0 ~ N(mean, sd^2)."""
    return mean + signal * sd**2 / (signal**2 * sd**2 + noise**2) * (x - signal * mean)


def output_of(x0, x, signal, noise, prediction):
    """What a network of this prediction says; the definitions, not `maths.from_x0`."""
    eps = (x - signal * x0) / noise
    return {"x0": x0, "eps": eps, "v": signal * eps - noise * x0, "score": -eps / noise}[prediction]


def chain_denoiser(prediction="eps", bar=BAR, x0=gaussian_x0):
    """The exact network of a chain."""

    def network(x, t):
        at = column(bar[t], x)
        signal, noise = at.sqrt(), (1 - at).sqrt()
        return output_of(x0(x, signal, noise), x, signal, noise, prediction)

    return network


def edm_denoiser(x, sigma):
    """The exact D(x; sigma)."""
    return gaussian_x0(x, 1.0, column(sigma, x))


def straight_velocity(x, t):
    """The exact velocity of x_t = t x_1 + (1 - t) noise."""
    t = column(t, x)
    x1 = gaussian_x0(x, t, 1 - t)
    slope = (1 - t) / (t**2 * SD**2 + (1 - t) ** 2)  # of E[noise | x]
    return x1 - slope * (x - t * MEAN)


def pairs(bar, kept):
    """(abar_t, abar_s) from the noisiest kept step down to clean data."""
    at = bar[kept].tolist()
    return list(zip(at, [1.0, *at[:-1]], strict=True))[::-1]


def through(steps, sd=1.0):
    """Mean and sd after affine steps x -> f(x) + scale z, each (f, scale), from N(0, sd^2)."""
    mean, var = 0.0, sd**2
    for f, scale in steps:
        slope = f(1.0) - f(0.0)
        mean, var = f(mean), slope**2 * var + scale**2
    return mean, math.sqrt(var)


def ancestral_steps(bar, kept, variance):
    """DDPM, eq. 7 and algorithm 2."""
    for at, before in pairs(bar, kept):
        beta = 1 - at / before
        btilde = beta * (1 - before) / (1 - at)

        def step(x, at=at, before=before, beta=beta):
            x0 = gaussian_x0(x, math.sqrt(at), math.sqrt(1 - at))
            return (beta * math.sqrt(before) * x0 + (1 - before) * math.sqrt(1 - beta) * x) / (1 - at)

        yield step, 0.0 if before == 1 else math.sqrt(beta if variance == "beta" else btilde)


def ddim_steps(bar, kept, eta):
    """DDIM, eq. 12 and 16."""
    for at, before in pairs(bar, kept):
        scale = eta * math.sqrt((1 - before) / (1 - at)) * math.sqrt(1 - at / before)

        def step(x, at=at, before=before, scale=scale):
            x0 = gaussian_x0(x, math.sqrt(at), math.sqrt(1 - at))
            eps = (x - math.sqrt(at) * x0) / math.sqrt(1 - at)
            return math.sqrt(before) * x0 + math.sqrt(max(1 - before - scale**2, 0)) * eps

        yield step, scale


def dpm_solver_chain(x, bar, kept):
    """DPM-Solver++ (2M), algorithm 2, and a first-order step to clean data."""
    lam = lambda at: 0.5 * math.log(at / (1 - at))  # noqa: E731
    previous, r_over = None, None
    for at, before in pairs(bar, kept):
        x0 = gaussian_x0(x, math.sqrt(at), math.sqrt(1 - at))
        if before == 1:
            return x0
        h = lam(before) - lam(at)
        data = x0
        if previous is not None:
            r = r_over / h
            data = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * previous
        x = math.sqrt((1 - before) / (1 - at)) * x - math.sqrt(before) * (math.exp(-h) - 1) * data
        previous, r_over = x0, h
    raise AssertionError


def edm_steps(sigmas, churn=0.0, span=(0.0, math.inf), churn_noise=1.0):
    """EDM, algorithm 2 (algorithm 1 without churn): a noisy step and a deterministic one by turns."""
    sigmas = sigmas.tolist()
    for sigma, end in pairwise(sigmas):
        gamma = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1) if span[0] <= sigma <= span[1] else 0.0
        hat = sigma + gamma * sigma
        yield (lambda x: x), churn_noise * math.sqrt(hat**2 - sigma**2)

        def step(x, hat=hat, end=end):
            d = (x - gaussian_x0(x, 1.0, hat)) / hat
            following = x + (end - hat) * d
            if end:
                d_end = (following - gaussian_x0(following, 1.0, end)) / end
                following = x + (end - hat) * (d + d_end) / 2
            return following

        yield step, 0.0


def ode_steps(times, method):
    """Euler, midpoint and Heun by the book."""
    v = lambda x, t: float(straight_velocity(torch.tensor([x], dtype=torch.float64), torch.tensor([t], dtype=torch.float64)))  # noqa: E731
    times = times.tolist()
    for t, end in pairwise(times):

        def step(x, t=t, h=end - t):
            if method == "euler":
                return x + h * v(x, t)
            if method == "midpoint":
                return x + h * v(x + h / 2 * v(x, t), t + h / 2)
            return x + h / 2 * (v(x, t) + v(x + h * v(x, t), t + h))

        yield step, 0.0


def exact_flow(x, start, end):
    """The probability flow of N(MEAN, SD^2) from one (signal, noise) to another: what a deterministic sampler tends to."""
    sd = [math.sqrt(signal**2 * SD**2 + noise**2) for signal, noise in (start, end)]
    return end[0] * MEAN + sd[1] / sd[0] * (x - start[0] * MEAN)
