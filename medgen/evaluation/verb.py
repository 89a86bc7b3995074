"""`medgen.evaluate`: everything that can be measured of a run, in one list of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from medgen.data import Dataset
from medgen.errors import ConfigError
from medgen.evaluation.features import RANDOM_CONV, Extractor
from medgen.evaluation.latents import evaluate_latents
from medgen.evaluation.lookup import Metric
from medgen.evaluation.measure import evaluate_density, evaluate_pairs
from medgen.evaluation.origin import origin_of, truth_of
from medgen.evaluation.score import Score
from medgen.evaluation.sets import DISTRIBUTION, RECOGNITION, evaluate_sets
from medgen.evaluation.subjects import Segment, SubjectTable, subject_table
from medgen.evaluation.table import save_scores
from medgen.evaluation.translated import Translated, translated
from medgen.evaluation.unpaired import cycle_score, is_unpaired, unpaired_table
from medgen.interfaces import Condition, DensityModel, FollowsAttributes, Generator, LatentModel, Translator, evaluating
from medgen.registry import find, get_host, resolve
from medgen.runs import ConditionSource, Run, batches_of, sample_cells, score
from medgen.runs.apply import inputs

__all__ = ["evaluate"]

Progress = Callable[[int], None]

_ENCODED = 64  # samples per batch of latents


def evaluate(
    run: Run,
    *,
    n: int | None = None,
    split: str = "val",
    limit: int = 1000,
    metrics: Sequence[str] | None = None,
    extractor: str | Extractor | None = None,
    resize: Sequence[int] | None = None,
    importance_samples: int = 1,
    bootstrap: int = 200,
    seed: int = 0,
    draws: int = 1,
    segmenter: str | Segment | None = None,
    progress: Progress | None = None,
) -> list[Score]:
    """Compare samples, reconstructions and densities of a run with its held-out data; writes `evaluation.json` into the run.

    Args:
        run: a finished run.
        n: generated samples; by default as many as real ones, since set metrics compare at equal numbers only.
        split: the real samples.
        limit: at most so many of them.
        metrics: names of any kind; by default all that fit the model.
        extractor, resize: of the set metrics, see `evaluate_sets`.
        importance_samples: of the log-density.
        bootstrap: resamples of the intervals.
        seed: of samples and intervals.
        draws: of a stochastic translator; their mean is judged, and their deviation told.
        segmenter: finds lesions in targets and translations alike, see `subject_table`; or its "package.module:function".
        progress: called with the number of samples done.

    Raises:
        RunError: the split is empty or unknown.
        ConfigError: a metric that the model has nothing for, or a number out of range.
    """
    if (n is not None and n < 1) or limit < 1 or bootstrap < 0 or importance_samples < 1 or draws < 1:
        raise ConfigError(
            f"`n`, `limit`, `importance_samples` and `draws` must be at least 1, `bootstrap` at least 0; got {n}, {limit}, "
            f"{importance_samples}, {draws}, {bootstrap}."
        )
    asked = {
        "n": n,
        "split": split,
        "limit": limit,
        "metrics": metrics,
        "extractor": extractor,
        "resize": resize,
        "importance_samples": importance_samples,
        "bootstrap": bootstrap,
        "seed": seed,
        "draws": draws,
        "segmenter": segmenter,
    }
    dataset, rows = inputs(run, None, split)
    rows = rows[:limit]
    count = n or len(rows)
    chosen = _chosen(run, metrics, min(count, len(rows)))
    parts = {"distribution": _sets, "paired": _pairs, "density": _densities, "latent": _latents}
    more: dict[str, dict[str, object]] = {
        "distribution": {"n": count, "extractor": extractor, "resize": resize},
        "density": {"split": split, "importance_samples": importance_samples},
    }
    scores: list[Score] = []
    table: SubjectTable | None = None
    truth = ""
    if metrics is None and isinstance(run.model, Translator) and is_unpaired(run):
        chosen.pop("paired")
        table = unpaired_table(run, split, limit, progress=progress)
    if isinstance(run.model, Translator) and "paired" in chosen:
        found = translated(run, split, limit, draws=draws, seed=seed, progress=progress)
        scores += _translations(found, chosen.pop("paired"), draws, seed=seed, bootstrap=bootstrap)
        table, truth = _by_subject(found, segmenter), found.truth
    if metrics is None and table is not None and "cycle" in table.columns:
        scores.append(cycle_score(table, seed=seed, bootstrap=bootstrap))
    for kind, names in chosen.items():
        options = {"metrics": names, "bootstrap": bootstrap, "seed": seed, **more.get(kind, {})}
        scores += parts[kind](run, dataset, rows, progress or (lambda _done: None), **options)  # type: ignore[operator]
    if run.overrides:
        scores = [replace(score, recipe={**score.recipe, "overrides": run.overrides}) for score in scores]
    if run.elsewhere:
        scores = [replace(score, recipe={**score.recipe, "data": run.elsewhere["data"]}) for score in scores]
    origin = {**origin_of(run, asked), "truth": truth or truth_of(dataset, rows)}
    save_scores(scores, run.path / "evaluation.json", subjects=table, origin=origin)
    return scores


def _translations(found: Translated, metrics: Sequence[str] | None, draws: int, *, seed: int, bootstrap: int) -> list[Score]:
    """Over samples with regions, in stored units; subjects are the units of the bootstrap."""
    kept = found.kept()
    mask = None if found.regions is None else found.regions[kept] != 0
    groups = [name for name, keep in zip(found.subjects, kept.tolist(), strict=True) if keep]
    real, fake = found.real[kept], found.fake[kept]
    scores = evaluate_pairs(
        real, fake, value_range=found.value_range, mask=mask, metrics=metrics, groups=groups, seed=seed, bootstrap=bootstrap
    )
    left = int((~kept).sum())
    more = {"units": found.spec.intensity.unit or "stored", "mask": "none" if mask is None else ", ".join(found.names[1:]), "draws": draws}
    if left:
        scores = [replace(s, note="; ".join(filter(None, [s.note, f"{left} samples without regions are left out"]))) for s in scores]
    return [replace(s, recipe={**s.recipe, **more}) for s in scores]


def _by_subject(found: Translated, segmenter: str | Segment | None) -> SubjectTable:
    segment = resolve(segmenter, owner="the option `segmenter`") if isinstance(segmenter, str) else segmenter
    return subject_table(
        found.real,
        found.fake,
        found.subjects,
        value_range=found.value_range,
        regions=found.regions,
        names=found.names,
        sd=found.sd,
        segment=segment,
        spacing=found.spec.spacing,
        cycle=found.cycle,
    )


_NEEDS: dict[str, tuple[type, ...]] = {
    "distribution": (Generator,),
    "paired": (LatentModel, Translator),
    "density": (DensityModel,),
    "latent": (LatentModel,),
}


def _chosen(run: Run, metrics: Sequence[str] | None, n: int) -> dict[str, list[str] | None]:
    """Metric names by kind, None for all of it. By default what fits the model, without set metrics for which n samples are too few.

    Raises:
        ConfigError: a name that the model has nothing for.
    """
    if metrics is None:
        enough = [name for name in DISTRIBUTION if Metric.find(name, "distribution").plan.least <= n]
        every: dict[str, list[str] | None] = {"distribution": enough, "paired": None, "density": None}
        if "label" in {slot.name for slot in run.model.conditions} and n >= Metric.find(RECOGNITION, "distribution").plan.least:
            enough.append(RECOGNITION)
        if isinstance(run.model, FollowsAttributes):
            specs = [item.spec for item in get_host().items("medgen_metrics")]
            every["latent"] = [s.name for s in specs if s.kind == "latent" and Metric.find(s.name, "latent").plan.least <= n]
        return {kind: names for kind, names in every.items() if isinstance(run.model, _NEEDS[kind]) and names != []}
    kinds = {name: str(find("medgen_metrics", name).spec.kind) for name in metrics}
    for name, kind in kinds.items():
        if not isinstance(run.model, _NEEDS[kind]):
            raise ConfigError(
                f"metric {name!r} is for a {' or '.join(c.__name__ for c in _NEEDS[kind])}, which family {run.config.family!r} is not."
            )
    return {kind: [name for name, of in kinds.items() if of == kind] for kind in _NEEDS if kind in kinds.values()}


def _sets(
    run: Run, dataset: Dataset, rows: Tensor, progress: Progress, *, n: int, extractor: str | Extractor | None, seed: int, **options: object
) -> list[Score]:
    model = run.model
    assert isinstance(model, Generator)
    fake: list[Tensor] = []
    asked: list[Tensor | None] = []
    condition = ConditionSource(run) if model.conditions else None
    for _, x, chosen in sample_cells(model, 0, n, seed=seed, condition=condition):
        fake.append(x.cpu().float())
        asked.append(_labels(chosen))
        progress(sum(map(len, fake)))
    value_range = run.model.image_spec.intensity.range
    held_out = dataset.fetch(rows)
    real = held_out.x
    classes, wanted = _labels(held_out.condition), [labels for labels in asked if labels is not None]
    labels = (classes, torch.cat(wanted)) if classes is not None and len(wanted) == len(asked) else None
    # The real samples were clipped to the window when they were read.
    images = torch.cat(fake)
    if run.model.image_spec.intensity.clip:
        images = images.clamp(*value_range)
    net = extractor or RANDOM_CONV
    return evaluate_sets(real, images, value_range=value_range, extractor=net, labels=labels, seed=seed, **options)  # type: ignore[arg-type]


def _labels(condition: Condition) -> Tensor | None:
    """The classes of all samples; None where one has none."""
    given = "label" in condition.values and bool(condition.mask("label").all())
    return condition.values["label"].cpu() if given else None


def _pairs(run: Run, dataset: Dataset, rows: Tensor, progress: Progress, **options: object) -> list[Score]:
    model = run.model
    assert isinstance(model, LatentModel)
    real, fake = [], []
    for batch in batches_of(model, dataset, rows):
        real.append(batch.x.float())
        fake.append(model.reconstruct(batch.x, condition=batch.condition).cpu().float())
        progress(sum(map(len, fake)))
    groups = None if dataset.subjects is None else [str(s) for s in dataset.subjects[rows]]
    value_range = model.image_spec.intensity.range
    return evaluate_pairs(torch.cat(real), torch.cat(fake), value_range=value_range, groups=groups, **options)  # type: ignore[arg-type]


def _latents(run: Run, dataset: Dataset, rows: Tensor, progress: Progress, *, metrics: Sequence[str], **options: object) -> list[Score]:
    model = run.model
    assert isinstance(model, LatentModel)
    names = next((spec.names for spec in dataset.conditions if spec.kind == "attributes"), ())
    wanted = list(model.attribute_dimensions) if isinstance(model, FollowsAttributes) else list(names)
    if not wanted or set(wanted) - set(names):
        raise ConfigError(
            f"metrics {list(metrics)} need samples whose attributes are known ({wanted or 'any'}); the data has {names or 'none'}."
        )
    columns = [names.index(name) for name in wanted]
    latents, values = [], []
    for start in range(0, len(rows), _ENCODED):
        data = dataset.fetch(rows[start : start + _ENCODED])
        batch, known = model.select(data), data.condition.mask("attributes")
        with evaluating(model):
            z = model.encode(batch.x, condition=batch.condition).mean.flatten(1).cpu()
        latents.append(z[known])
        values.append(data.condition.values["attributes"][known][:, columns])
        progress(sum(map(len, latents)))
    return evaluate_latents(torch.cat(latents), torch.cat(values), wanted, metrics=metrics, **options)  # type: ignore[arg-type]


def _densities(
    run: Run, _dataset: Dataset, rows: Tensor, progress: Progress, *, split: str, importance_samples: int, seed: int, **options: object
) -> list[Score]:
    found = score(run, split=split, importance_samples=importance_samples, seed=seed, limit=len(rows), progress=progress)
    assert isinstance(run.model, DensityModel)
    model = run.model
    return evaluate_density(
        found.log_prob,
        model.image_spec,
        kind=model.log_prob_kind,
        measure=model.log_prob_measure,
        seed=seed,
        **options,  # type: ignore[arg-type]
    )
