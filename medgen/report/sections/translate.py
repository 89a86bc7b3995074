"""What a translator makes of real sources: targets, translations, and maps of their absolute differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medgen.data import to_stored
from medgen.interfaces import Condition, Cycles, Noise, Translator
from medgen.report.blocks import Block, Picture, Section, Text
from medgen.report.context import Context
from medgen.report.display import Display
from medgen.report.figures import difference, error_maps, sample_grid
from medgen.runs.translate import spread_spec

__all__ = ["translations"]

_SHOWN = {1: 8, 2: 8, 3: 4}
_DRAWS = 8


def translations(context: Context) -> Section | None:
    """Translator: held-out sources, targets, translations and |difference|; of a stochastic one the deviation of some draws."""
    model = context.model
    if not isinstance(model, Translator):
        return None
    if context.data is None:
        return Section("translations", "Translations", [Text(f"Not shown: the data is not at hand. {context.problem}", "note")])
    rows = context.held_out(_SHOWN.get(context.spec.dim, 8))
    batch = context.fetch(rows)
    source, rest = _divided(batch.condition)
    fake, sd = _translated(model, source, rest)
    real, made = context.stored(batch.x), context.stored(fake)
    shown = Display.of(model.source_spec, to_stored(source, model.source_spec))
    blocks: list[Block] = [Text(f"{len(rows)} {context.split_name} samples. {context.display.caption}".strip())]
    blocks.append(Picture.of(sample_grid(to_stored(source, model.source_spec), shown), "Sources", "Sources, every channel."))
    back = [_cycle(model, source, shown)] if isinstance(model, Cycles) else []
    if context.data.samples.source_subjects is not None:
        blocks.append(
            Picture.of(sample_grid(made, context.display), "Translations", "Their translations; the data has no targets for them.")
        )
        blocks += back
        return Section("translations", "Translations", blocks)
    error = difference(real, made, context.display)
    text = f"Mean |difference|: {error.mean():.4g} {context.display.unit}. All differences are on one scale."
    pairs = error_maps(real, made, context.display, names=("target", "translation"))
    blocks.append(Picture.of(pairs, "Targets, translations and their absolute differences", text))
    if sd is not None:
        spec = spread_spec(context.spec)
        spread = to_stored(sd, spec)
        picture = sample_grid(spread, Display.of(spec, spread))
        caption = f"Standard deviation of {_DRAWS} draws, mean {np.mean(spread):.4g} {context.display.unit}."
        blocks.append(Picture.of(picture, "Standard deviation of the translations", caption))
    blocks += back
    return Section("translations", "Translations", blocks)


def _cycle(model: Translator, source: Tensor, display: Display) -> Block:
    """Sources, what comes back of them, and the cycle map."""
    assert isinstance(model, Cycles)
    x, back = (to_stored(part, model.source_spec) for part in (source, model.cycle(source).cpu()))
    residual = difference(x, back, display)
    text = f"Mean cycle residual |F(G(x)) - x|: {residual.mean():.4g} {display.unit}. What was lost, not whether the rest is right."
    return Picture.of(error_maps(x, back, display, names=("source", "there and back")), "Cycle maps", text)


def _divided(condition: Condition) -> tuple[Tensor, Condition]:
    return condition.values["source"], condition.only(condition.values.keys() - {"source"})


def _translated(model: Translator, source: Tensor, rest: Condition) -> tuple[Tensor, Tensor | None]:
    """The translation, or the mean and deviation of some draws."""
    if not model.stochastic:
        return model.translate(source, condition=rest).cpu(), None
    index = torch.arange(len(source))
    draws = [model.translate(source, condition=rest, noise=Noise(0, index + (k << 40))).cpu() for k in range(_DRAWS)]
    return torch.stack(draws).mean(0), torch.stack(draws).std(0)
