"""`smooth_to`: read sequences of label maps, smooth those that are inconsistent in time, write them as they came, and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from medgen.data import Dataset, open_like, to_model
from medgen.data.intensity import label_values
from medgen.errors import ConfigError, DataError, RunError
from medgen.files import atomic_path, make_folder, write_json
from medgen.interfaces import LatentModel
from medgen.registry import ImageSpec
from medgen.runs import Run
from medgen.runs.apply import save_beside
from medgen_anatomy.cleaning import cleaned
from medgen_anatomy.limits import Structures, check_scale, choose_limits, measure_of
from medgen_anatomy.sequences import (
    Coder,
    Smoothed,
    bridge_decoded,
    latent_tau,
    smooth_decoded,
    smooth_gaussian,
    smooth_regularised,
    splice,
)
from medgen_anatomy.signals import WEIGHT
from medgen_anatomy.smoothing_figure import draw
from medgen_anatomy.temporal import Consistency, Limits, consistency

__all__ = ["Mode", "smooth_to"]

Array = NDArray[Any]
Mode = Literal["auto", "attributes", "decoded"]

_ENCODED = 2048  # training samples from which the range of the latents is taken


def smooth_to(
    run: Run,
    data: str,
    out: Path,
    *,
    reference: str | None = None,
    limits: str | None = None,
    truth: str | None = None,
    attributes: Sequence[str] = (),
    labels: Mapping[str, int] | None = None,
    mode: Mode = "auto",
    weight: float = WEIGHT,
    whole: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Smooth the sequences of `data` that have a frame in error; the others stay as they are.

    A subject is a sequence, its samples the frames, in their order; a file or folder without subjects is one sequence.

    Args:
        run: of a latent model of 2-D label maps.
        data: frames [T, H, W] of an npz, a NIfTI volume whose third axis is time, or a folder of label pictures.
        out: folder for the results, report.json and report.png.
        reference: sequences that count as consistent; give the limits.
        limits: instead of a reference, see `read_limits`; in pixels of the run's grid.
        truth: the same frames, as they should be; adds Dice before and after.
        attributes: those that are held; by default all that can be measured in every frame of the reference.
        labels: LV and MYO, where the model's class names do not say.
        mode: "attributes" smooths the dimensions of an attribute-regularised model under their constraints (`smooth_regularised`),
            "decoded" all with one weight (`smooth_decoded`); "auto" takes the first where the model has such dimensions.
        weight: of dimensions without an attribute.
        whole: smooth and decode every frame of such a sequence, as published; else frames in error do not pull at the others, which stay
            as they are where that is consistent (`bridge_decoded`, then smoothing and `splice`).
        progress: called with the number of sequences done.

    Returns:
        What report.json holds.

    Raises:
        ConfigError, DataError, RunError: what does not fit.
    """
    model = run.model
    if not isinstance(model, LatentModel):
        raise RunError(f"family {run.config.family!r} has no latents; `medgen list --interface latent` shows those that do.")
    if (reference is None) == (limits is None):
        raise ConfigError("give either a reference (sequences that count as consistent) or limits ('camus' or a JSON file).")
    dimensions: dict[str, int] = dict(getattr(model, "attribute_dimensions", {}))
    if mode == "attributes" and not dimensions:
        raise ConfigError(f"mode 'attributes' needs an attribute-regularised model, such as ar_vae; {run.config.family!r} is none.")
    if not weight >= 0:
        raise ConfigError(f"`weight` must not be negative; got {weight}.")
    coder, spec = Coder(model), model.image_spec
    names = Structures.of(spec, labels or {})
    opened = _open(run, data)
    groups = _sequences(opened)
    held = _sequences_of(_open(run, reference)) if reference else []
    limit = choose_limits(held, limits, attributes, names)
    measure = measure_of(limit.names, names)
    frames = [opened.stored(rows)[:, 0] for rows in groups]
    if limits is not None:
        check_scale([measure(maps) for maps in frames], limit, data)
    tau = _tau(run, coder, held, dimensions, limit) if dimensions and mode != "decoded" else None

    done = list[_Done]()
    for maps in frames:
        done.append(_smooth_one(coder, maps, measure, limit, names, tau, weight, whole))
        if progress is not None:
            progress(len(done))
    true = None if truth is None else [_open(run, truth).stored(rows)[:, 0] for rows in _aligned(groups, _open(run, truth), truth)]
    report = {
        "run": str(run.path),
        "data": data,
        "mode": "decoded" if tau is None else "attributes",
        "limits": limit.table(),
        **_summary(done, true, _class_names(spec)),
        "reconstruction": _dice([coder.decode(coder.encode(maps)) for maps in frames], frames, _class_names(spec)),
        "sequences": [_row(item, opened, rows) for item, rows in zip(done, groups, strict=True)],
    }
    make_folder(out)
    x = np.concatenate([item.after for item in done])[np.argsort(np.concatenate(groups))]
    labels_only = lambda _file, values: values[:, 0] if len(values) == len(x) else values  # noqa: E731  (an array of frames has no channels)
    written = save_beside(to_model(torch.from_numpy(x[:, None]), spec), opened, [data], out, spec, paste=labels_only)
    report["files"] = [str(path) for path in written]
    write_json(out / "report.json", report)
    figure = draw(
        [(measure(d.before), measure(d.after)) for d in done], [d.input.frames[0] for d in done], limit.names, _titles(opened, groups)
    )
    with atomic_path(out / "report.png") as temporary:
        figure.savefig(temporary)
    return report


@dataclass(frozen=True)
class _Done:
    """A sequence before and after; `result` is None where nothing had to be done."""

    before: Array
    after: Array
    input: Consistency
    result: Smoothed | None
    baseline: Consistency
    baseline_maps: Array

    @property
    def output(self) -> Consistency:
        return self.input if self.result is None else self.result.found


def _smooth_one(
    coder: Coder,
    maps: Array,
    measure: Callable[[Array], Array],
    limits: Limits,
    names: Structures,
    tau: Array | None,
    weight: float,
    whole: bool,
) -> _Done:
    found = consistency([measure(maps)], limits)
    if not found.frames[0]:
        return _Done(maps, maps, found, None, found, maps)
    repaired = cleaned(maps, lv=names.lv, myo=names.myo)
    result = _whole(coder, repaired, measure, limits, tau, weight, ()) if whole else None
    if result is None:
        errors = found.frames[0]
        result = bridge_decoded(coder, repaired, errors, measure, limits)
        if not result.consistent:
            result = splice(_whole(coder, repaired, measure, limits, tau, weight, errors), repaired, errors, measure, limits)
    baseline = smooth_gaussian(coder, repaired, measure, limits)
    return _Done(maps, result.maps, found, result, baseline.found, baseline.maps)


def _whole(
    coder: Coder,
    maps: Array,
    measure: Callable[[Array], Array],
    limits: Limits,
    tau: Array | None,
    weight: float,
    errors: Sequence[int],
) -> Smoothed:
    if tau is None:
        return smooth_decoded(coder, maps, measure, limits, errors=errors)
    return smooth_regularised(coder, maps, measure, limits, tau, weight=weight, errors=errors)


def _open(run: Run, data: str) -> Dataset:
    opened = open_like(data, run.model.image_spec, (), **run.config.data_options)
    return replace(opened, name=opened.name.partition("?")[0])  # the name of the file that is written


def _sequences(dataset: Dataset) -> list[Array]:
    """Sample numbers of each sequence.

    Raises:
        DataError: fewer than three frames.
    """
    subjects = dataset.subjects
    if subjects is None or len(np.unique(subjects)) == len(subjects):
        groups = [np.arange(len(dataset))]
    else:
        groups = [np.flatnonzero(subjects == name) for name in dict.fromkeys(subjects.tolist())]
    if short := [len(rows) for rows in groups if len(rows) < 3]:
        raise DataError(
            f"{dataset.source}: a sequence must have at least 3 frames, [T, H, W] or a volume with time as its third axis; got {short[0]}."
        )
    return groups


def _sequences_of(dataset: Dataset) -> list[Array]:
    return [dataset.stored(rows)[:, 0] for rows in _sequences(dataset)]


def _aligned(groups: list[Array], dataset: Dataset, source: str) -> list[Array]:
    if len(dataset) != sum(len(rows) for rows in groups):
        raise DataError(
            f"{source}: the truth must have one map for each of {sum(len(rows) for rows in groups)} frames; got {len(dataset)}."
        )
    return groups


def _tau(run: Run, coder: Coder, held: list[Array], dimensions: dict[str, int], limits: Limits) -> Array:
    if held:
        return latent_tau([coder.encode(maps) for maps in held], dimensions, limits)
    own = run.dataset
    rows = own.splits["train"]
    z = coder.encode(own.stored(rows[:: max(1, len(rows) // _ENCODED)])[:, 0])
    return latent_tau([z], {name: d for name, d in dimensions.items() if name in limits.names}, limits)


def _summary(done: list[_Done], truth: list[Array] | None, names: Mapping[int, str]) -> dict[str, Any]:
    join = lambda parts, kind: Consistency(tuple(p.ratios[0] for p in parts), kind.names).summary()  # noqa: E731
    first = done[0].input
    out: dict[str, Any] = {
        "before": join([d.input for d in done], first),
        "after": join([d.output for d in done], first),
        "gaussian": join([d.baseline for d in done], first),
        "dice_with_input": _dice([d.after for d in done], [d.before for d in done], names),
    }
    if truth is not None:
        sets = {"before": [d.before for d in done], "after": [d.after for d in done], "gaussian": [d.baseline_maps for d in done]}
        for key, maps in sets.items():
            out[key]["dice"] = _dice(maps, truth, names)
    return out


def _class_names(spec: ImageSpec) -> dict[int, str]:
    values = [int(v) for v in label_values(spec)]
    return dict(zip(values, spec.channel_names or map(str, values), strict=True))


def _dice(one: list[Array], other: list[Array], names: Mapping[int, str]) -> dict[str, float]:
    """2 |A and B| / (|A| + |B|) of each structure, mean over frames; 1 where both lack it."""
    a, b = np.concatenate(one), np.concatenate(other)
    found = {}
    for label in sorted((set(np.unique(a).tolist()) | set(np.unique(b).tolist())) - {0}):
        both, sizes = ((a == label) & (b == label)).sum((1, 2)), (a == label).sum((1, 2)) + (b == label).sum((1, 2))
        found[names[label]] = float(np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0).mean())
    return found


def _titles(dataset: Dataset, groups: list[Array]) -> list[str]:
    return [
        Path(dataset.source).name if dataset.subjects is None or len(groups) == 1 else str(dataset.subjects[rows[0]]) for rows in groups
    ]


def _row(item: _Done, dataset: Dataset, rows: Array) -> dict[str, Any]:
    return {
        "first_frame": dataset.origin(int(rows[0])),
        "frames": len(rows),
        "inconsistent_before": item.input.frames[0],
        "inconsistent_after": item.output.frames[0],
        "inconsistent_gaussian": item.baseline.frames[0],
        "changed_frames": int((item.before != item.after).any((1, 2)).sum()),
        "weights": None if item.result is None else item.result.weights.tolist(),
        "tightening": None if item.result is None else item.result.tightening,
    }
