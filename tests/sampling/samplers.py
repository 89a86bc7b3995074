"""Every sampler behind one call, with the exact denoiser of Gaussian data and few steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sampling.oracles import BAR, chain_denoiser, edm_denoiser, straight_velocity

from medgen.maths import karras_sigmas, kept_steps
from medgen.sampling import ancestral, ddim, dpm_solver, heun, ode

KEPT = kept_steps(1000, 8)
SIGMAS = karras_sigmas(8)
TIMES = torch.linspace(0, 1, 9)


def chained(sampler: Callable, **fixed):
    return lambda x, noise, network=None, **rest: sampler(network or chain_denoiser(), x, BAR, noise=noise, kept=KEPT, **fixed, **rest)


def solved(sampler: Callable, oracle: Callable, levels, **fixed):
    return lambda x, noise, network=None, **rest: sampler(network or oracle, x, levels, noise=noise, **fixed, **rest)


SAMPLERS = {
    "ancestral": chained(ancestral),
    "ancestral_beta": chained(ancestral, variance="beta", clip=1.0),
    "ddim": chained(ddim),
    "ddim_eta": chained(ddim, eta=0.7),
    "dpm_solver": chained(dpm_solver),
    "dpm_solver_clip": chained(dpm_solver, clip=1.0),
    "heun": solved(heun, edm_denoiser, SIGMAS),
    "heun_churn": solved(heun, edm_denoiser, SIGMAS, churn=3.0),
    "euler": solved(ode, straight_velocity, TIMES, method="euler"),
    "midpoint": solved(ode, straight_velocity, TIMES, method="midpoint"),
    "ode_heun": solved(ode, straight_velocity, TIMES),
}
ORACLES = {name: edm_denoiser if name.startswith("heun") else chain_denoiser() for name in SAMPLERS} | dict.fromkeys(
    ("euler", "midpoint", "ode_heun"), straight_velocity
)
GO_BACK = ("ancestral", "ancestral_beta", "ddim", "ddim_eta", "heun", "heun_churn", "euler", "midpoint", "ode_heun")
"""Those that can take a step again."""
