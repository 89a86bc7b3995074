"""Rejection sampling over any target and proposal: in logarithms, with counter-based noise, on several devices, resumable on disk."""

from medgen.sampling.rejection.densities import Density, Gaussian, GaussianMixture, ModelDensity, Proposal, density_of
from medgen.sampling.rejection.plan import Plan
from medgen.sampling.rejection.run import Accepted, forecast, reject
from medgen.sampling.rejection.store import Tally
from medgen.sampling.rejection.target import Envelope, Predicate, Target, kernels, make_envelope, within

__all__ = [
    "Accepted",
    "Density",
    "Envelope",
    "Gaussian",
    "GaussianMixture",
    "ModelDensity",
    "Plan",
    "Predicate",
    "Proposal",
    "Tally",
    "Target",
    "density_of",
    "forecast",
    "kernels",
    "make_envelope",
    "reject",
    "within",
]
