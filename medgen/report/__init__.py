"""A run as one HTML file with pictures, curves, metrics and its model card."""

from medgen.report.blocks import Section
from medgen.report.card import model_card
from medgen.report.context import Context
from medgen.report.render import write_report
from medgen.report.sections import SECTIONS

__all__ = ["SECTIONS", "Context", "Section", "model_card", "write_report"]
