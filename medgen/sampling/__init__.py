"""Samplers of diffusion and flow models: free functions over a denoiser, a first x, noise levels and noise; whole arrays in tiles."""

from medgen.sampling.chain import ancestral, ddim
from medgen.sampling.dpm_solver import dpm_solver
from medgen.sampling.guidance import dynamic_threshold, guided
from medgen.sampling.heun import heun
from medgen.sampling.known import Known
from medgen.sampling.ode import ode, straight_path
from medgen.sampling.start import Callback
from medgen.sampling.tiles import Blend, tiled

__all__ = [
    "Blend",
    "Callback",
    "Known",
    "ancestral",
    "ddim",
    "dpm_solver",
    "dynamic_threshold",
    "guided",
    "heun",
    "ode",
    "straight_path",
    "tiled",
]
