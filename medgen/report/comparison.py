"""Runs side by side: translations with maps of their absolute differences from the target on one scale; samples below real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medgen.data import Dataset, to_stored
from medgen.data.samples import Array
from medgen.errors import ConfigError
from medgen.evaluation.comparison import Comparison
from medgen.evaluation.translated import held_out, translated
from medgen.interfaces import Generator, Translator
from medgen.registry import ImageSpec
from medgen.report.context import Context
from medgen.report.display import Display
from medgen.report.figures import BAR, Tile, difference, tile_rows
from medgen.report.style import FAKE, INK, REAL
from medgen.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["samples_beside", "translations_beside"]

_SHOWN = {1: 4, 2: 3, 3: 1}
_COLUMNS = {1: 6, 2: 12, 3: 6}  # of samples
_INCHES = 1.55  # of a column


def translations_beside(comparison: Comparison) -> Figure:
    """Rows of source, target and each run's translation, and below each translation |translation - target|; volumes show one plane.

    Args:
        comparison: of paired translators that were judged on the same samples.

    Raises:
        ConfigError: others.
    """
    runs = [one.run for one in comparison.runs]
    if not comparison.by_subject or not comparison.same_truth:
        raise ConfigError("only translators that were judged on the same samples can be shown side by side.")
    split, asked = comparison.asked["split"], comparison.asked
    places = _spread(min(len(held_out(runs[0], split)[1]), asked["limit"]), _SHOWN.get(runs[0].model.image_spec.dim, 3))
    made: list[Array] = []
    for run in runs:
        assert isinstance(run.model, Translator)
        found = translated(
            run, split, asked["limit"], places=places, draws=asked["draws"] if run.model.stochastic else 1, seed=asked["seed"]
        )
        made.append(found.fake.numpy())
    real = found.real.numpy()
    display = Display.of(found.spec, real)
    if found.spec.dim == 3:
        display = replace(display, views=display.views[:1])
    errors = [difference(real, fake, display) for fake in made]
    top = 1.0 if display.labels else float(np.percentile(errors, 99.9)) or 1.0
    names, sources = _sources(max(runs, key=_source_channels), split, places, display)
    rows: list[list[Tile | None]] = []
    for k, target in enumerate(real):
        rows.append([*(Tile(x[k]) for x in sources), Tile(target, colour=REAL), *(Tile(fake[k], colour=FAKE) for fake in made)])
        rows.append([*[None] * (len(sources) + 1), *(Tile(error[k], "error", INK, top) for error in errors)])
    head = [*names, "target", *(one.name for one in comparison.runs)]
    return tile_rows(rows, display, width=_INCHES * len(head) + BAR, column_names=head, error_top=top)


def samples_beside(comparison: Comparison) -> Figure:
    """A row of held-out samples, and one of each run's first samples; where runs take classes, the columns go through them.

    Args:
        comparison: of generators of images, signals or volumes (which show one plane) that were judged on the same samples.

    Raises:
        ConfigError: others, or data that are not at hand.
    """
    asked = comparison.asked
    contexts = [Context(one.run, seed=asked["seed"]) for one in comparison.runs]
    spec = contexts[0].spec
    if not comparison.same_truth or spec.dim == 0 or not all(isinstance(context.model, Generator) for context in contexts):
        raise ConfigError("only generators of images, signals or volumes that were judged on the same samples can be shown side by side.")
    data = contexts[0].data
    if data is None:
        raise ConfigError(f"there are no real samples to show: {contexts[0].problem}")
    n = _COLUMNS[spec.dim]
    classes = max((len(context.classes) for context in contexts), default=0)
    real = data.stored(_of_classes(data, asked["split"], n, classes))
    display = Display.of(spec, real)
    if spec.dim == 3:
        display = replace(display, views=display.views[:1])
    drawn = [context.stored(context.draw(n, label="cycle" if context.classes else None)[0]) for context in contexts]
    rows: list[list[Tile | None]] = [[Tile(x, colour=REAL) for x in real]]
    rows += [[Tile(x, colour=FAKE) for x in fake] for fake in drawn]
    return tile_rows(rows, display, width=10.0, row_names=["real", *(one.name for one in comparison.runs)])


def _of_classes(data: Dataset, split: str, n: int, classes: int) -> Array:
    """Rows of a split; of class 0, 1, ... in turn where there are classes."""
    rows, labels = data.splits[split], data.samples.labels
    if not classes or labels is None:
        return rows[np.asarray(_spread(len(rows), n))]
    of = [rows[labels[rows] == k] for k in range(classes)]
    return np.asarray([of[k % classes][k // classes] for k in range(n) if k // classes < len(of[k % classes])])


def _sources(run: Run, split: str, places: Sequence[int], display: Display) -> tuple[list[str], list[Array]]:
    """Each channel of the source as an image of the target's channels, its own window brought to that of the target."""
    data, rows = held_out(run, split)
    spec = next(c.image for c in data.conditions if c.name == "source")
    assert isinstance(spec, ImageSpec)
    if spec.shape != display.spec.shape or spec.content != "intensity" or display.labels:
        return [], []
    x: Any = to_stored(data.fetch(rows[np.asarray(places)]).condition.values["source"], spec)
    own, target = Display.of(spec, x), (min(display.low), max(display.high))
    out = []
    for c in range(spec.channels):
        share = (x[:, c : c + 1].astype(np.float64) - own.low[c]) / ((own.high[c] - own.low[c]) or 1.0)
        out.append(np.repeat(target[0] + share * (target[1] - target[0]), display.spec.channels, 1))
    names = spec.channel_names or ([f"source {c}" for c in range(spec.channels)] if spec.channels > 1 else ["source"])
    return list(names), out


def _source_channels(run: Run) -> int:
    assert isinstance(run.model, Translator)
    return run.model.source_spec.channels


def _spread(n: int, shown: int) -> list[int]:
    """The middles of `shown` equal parts of 0..n-1: the ends of a scan are often empty."""
    shown = min(n, shown)
    return [int((k + 0.5) * n / shown) for k in range(shown)]
