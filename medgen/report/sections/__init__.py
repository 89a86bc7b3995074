"""The parts of a report, in their order. A section is a function of the `Context`; it returns None where the model has no such thing.

To add one: write `def name(context: Context) -> Section | None` in a module here and put it into `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable

from medgen.report.blocks import Section
from medgen.report.context import Context
from medgen.report.sections.bound import bound
from medgen.report.sections.density import log_density
from medgen.report.sections.facts import configuration, data, metrics, training
from medgen.report.sections.latent import interpolations, latent_space
from medgen.report.sections.reconstruct import reconstructions
from medgen.report.sections.samples import nearest_training, samples
from medgen.report.sections.translate import translations

__all__ = ["SECTIONS"]

SECTIONS: list[Callable[[Context], Section | None]] = [
    samples,
    reconstructions,
    translations,
    latent_space,
    interpolations,
    log_density,
    bound,
    nearest_training,
    metrics,
    training,
    data,
    configuration,
]
