"""`write_report`: a run to one HTML file that opens offline, and its model card."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import medgen
from medgen.data import Dataset
from medgen.errors import MedgenError
from medgen.files import write_text
from medgen.interfaces import evaluating
from medgen.registry import require
from medgen.report.blocks import Section, Text
from medgen.report.card import NOT_FOR_DIAGNOSIS, card_sections, card_title, model_card
from medgen.report.context import Context
from medgen.report.sections import SECTIONS
from medgen.runs import Run

__all__ = ["write_report"]


def write_report(
    run: Run, *, samples: int = 64, seed: int = 0, data: Dataset | None = None, progress: Callable[[str], None] | None = None
) -> Path:
    """Write `report.html` and `card.md` into the folder of a finished run.

    Both are whole or as they were before. The HTML has its pictures inside, no script and no link to anything it needs; it works
    without the data at hand, with the generated side only. Metrics are those of evaluation.json (`medgen evaluate`).

    Args:
        run: a finished run.
        samples: generated samples to show; of volumes at most 12.
        seed: of the samples.
        data: the data of the run, where it was trained from an open `Dataset`.
        progress: called with the name of each section as it begins.

    Returns:
        Path of report.html.

    Raises:
        RunError: the training has not ended.
        MissingExtraError: matplotlib or jinja2 is not installed.

    >>> import tempfile, torch
    >>> from medgen.data import from_arrays
    >>> images = from_arrays(torch.rand(32, 8, 8).numpy())
    >>> run = medgen.train("vae", images, tempfile.mkdtemp(), model={"latent_dim": 2, "channels": [4]}, steps=3, show=False)
    >>> write_report(run, samples=4, data=images).name
    'report.html'
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1; got {samples}.")
    require("matplotlib", "eval")
    template = _template()
    context = Context(run, samples=min(samples, 12) if run.model.image_spec.dim == 3 else samples, seed=seed, given=data)
    sections = []
    with evaluating(run.model):
        for make in SECTIONS:
            if progress is not None:
                progress(make.__name__.replace("_", " "))
            section = _made(make, context)
            if section is not None:
                sections.append(section)
    write_text(run.path / "card.md", model_card(run))
    path = run.path / "report.html"
    write_text(path, template.render(**_head(context), sections=sections, card_title=card_title(run), card=card_sections(run)))
    return path


def _made(make: Callable[[Context], Section | None], context: Context) -> Section | None:
    """The section; where the run cannot give it, one that says why, so that the others still appear."""
    try:
        return make(context)
    except MedgenError as error:
        return Section(make.__name__, make.__name__.replace("_", " ").capitalize(), [Text(str(error), "warning")])


def _template() -> Any:
    jinja = require("jinja2", "eval")
    loader = jinja.FileSystemLoader(Path(__file__).parent)
    environment = jinja.Environment(loader=loader, autoescape=True, undefined=jinja.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("template.html.j2")


def _head(context: Context) -> dict[str, Any]:
    """What stands above the sections."""
    run, summary = context.run, context.run.data_summary()
    steps = max((row["step"] for row in run.metrics()), default=0)
    spec = context.spec
    facts = [
        ("family", run.config.family),
        ("data", str(summary.get("name") or run.config.data)),
        ("shape", " x ".join(map(str, spec.size))),
        ("training samples", f"{summary.get('splits', {}).get('train', 'not known')}"),
        ("steps", f"{steps:,}"),
        ("parameters", f"{sum(p.numel() for p in context.model.parameters()):,}"),
    ]
    return {
        "title": f"{run.config.family} of {summary.get('name') or run.config.data}",
        "summary": context.family.summary,
        "not_for_diagnosis": NOT_FOR_DIAGNOSIS,
        "facts": facts,
        "version": medgen.__version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "folder": run.path.resolve().name,
    }
