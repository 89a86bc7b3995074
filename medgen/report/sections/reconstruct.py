"""What encoding and decoding keeps: reconstructions with error maps."""

from __future__ import annotations

from medgen.interfaces import LatentModel
from medgen.report.blocks import Picture, Section, Text
from medgen.report.context import Context
from medgen.report.figures import difference, error_maps
from medgen.report.plots import agreement

__all__ = ["reconstructions"]

_SHOWN = {1: 8, 2: 8, 3: 4}
_VECTORS = 300


def reconstructions(context: Context) -> Section | None:
    """LatentModel: held-out samples, their reconstructions, and |difference|."""
    if not isinstance(context.model, LatentModel):
        return None
    if context.data is None:
        return Section("reconstructions", "Reconstructions", [Text(f"Not shown: the data is not at hand. {context.problem}", "note")])
    spec = context.spec
    rows = context.held_out(_SHOWN.get(spec.dim, _VECTORS))
    batch = context.fetch(rows)
    fake = context.stored(context.model.reconstruct(batch.x, condition=batch.condition))
    # Through model units and back: values that a window clips are no error of the model.
    real = context.stored(batch.x)
    error = difference(real, fake, context.display)
    amount = f"Mean |difference|: {error.mean():.4g} {context.display.unit}."
    if context.display.labels:
        amount = f"{100 * error.mean():.2f} % of positions get another class."
    text = f"decode(mean of q(z|x)) of {len(rows)} {context.split_name} samples. {amount} {context.display.caption}"
    alt = "Inputs, reconstructions and their absolute differences"
    if spec.dim == 0:
        names = list(spec.channel_names) or [f"feature {k + 1}" for k in range(spec.channels)]
        picture = Picture.of(agreement(real, fake, names), "Reconstructed against input values, one panel per feature")
    else:
        picture = Picture.of(error_maps(real, fake, context.display), alt, "All differences are on one scale.")
    return Section("reconstructions", "Reconstructions", [Text(text.strip()), picture])
