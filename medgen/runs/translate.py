"""Translating given images: whole volumes in, whole volumes out, on the grid and in the units of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgen.data import DataConfig, Dataset, open_source
from medgen.data.dispatch import listed, volume_files
from medgen.data.pairing import matched, side_config
from medgen.errors import ConfigError, DataError, RunError
from medgen.interfaces import Condition, Cycles, Noise, Translator
from medgen.nn import forward_bytes
from medgen.registry import ImageSpec, Intensity
from medgen.runs.apply import names_file, save_beside
from medgen.runs.claim import claim
from medgen.runs.run import Run
from medgen.runs.sample import arithmetic
from medgen.sampling import Blend, tiled
from medgen.weights import read_meta

__all__ = ["Translation", "Work", "cycle_samples", "spread_spec", "translate_dataset", "translate_samples", "translate_to", "translator_of"]

Fetch = Callable[[int, int], tuple[Tensor, Condition]]

_VALUES = 1 << 21  # of the input of one call of the network, where no memory budget is given
_DRAW, _SAMPLE = 1 << 40, 1 << 20  # noise numbers: draw, sample, tile


@dataclass(frozen=True)
class Work:
    """How a translation is computed.

    Args:
        seed: of the noise of a stochastic translation; None for the deterministic one.
        draws: translations whose mean and standard deviation are taken; more than one needs a stochastic model.
        overlap: least share of a tile that the next one sees too.
        blend: window with which overlapping tiles are weighted.
        memory: GiB that the network may take beside its weights, the image and the result; None for a usual size.
        tiles: samples or tiles that go through the network at once; instead of `memory`.
    """

    seed: int | None = None
    draws: int = 1
    overlap: float = 0.5
    blend: Blend = "hann"
    memory: float | None = None
    tiles: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 <= self.overlap < 1 or not 0 <= (self.seed or 0) < 2**64:
            raise ConfigError(
                f"`draws` must be at least 1, `overlap` in [0, 1) and `seed` in [0, 2^64); got {self.draws}, {self.overlap}, {self.seed}."
            )
        if (self.memory is not None and self.memory <= 0) or (self.tiles is not None and self.tiles < 1):
            raise ConfigError(f"`memory` must be positive and `tiles` at least 1; got {self.memory} and {self.tiles}.")
        if self.memory is not None and self.tiles is not None:
            raise ConfigError("give `memory` or `tiles`, not both.")


@dataclass(frozen=True)
class Translation:
    """A translation [N, C', *S] in model units, and the standard deviation over several draws, if there were any."""

    mean: Tensor
    sd: Tensor | None


def translator_of(run: Run) -> Translator:
    """The run's model, if it translates.

    Raises:
        RunError: the family does not.
    """
    if not isinstance(run.model, Translator):
        raise RunError(f"family {run.config.family!r} does not translate; `medgen list --interface translator` shows those that do.")
    return run.model


def translate_dataset(
    model: Translator, dataset: Dataset, work: Work | None = None, *, progress: Callable[[int], None] | None = None
) -> Translation:
    """Translate all samples of a dataset of sources (`open_source`); samples larger than the model's own shape in blended tiles.

    Args:
        model: in whatever mode; on its device.
        dataset: whose samples are sources.
        work: how.
        progress: called with the number of samples, or tiles, done.

    Raises:
        ConfigError: several draws of a model that is not stochastic, or a memory budget below what one sample takes.
    """

    def fetch(start: int, stop: int) -> tuple[Tensor, Condition]:
        batch = model.select(dataset.fetch(np.arange(start, stop)))
        return batch.x, batch.condition

    return translate_samples(model, fetch, len(dataset), work, progress=progress)


def cycle_samples(model: Translator, fetch: Fetch, n: int, work: Work | None = None) -> Tensor:
    """F(G(x)) of n sources that `fetch(start, stop)` gives, [N, C, *S], of a translator that `Cycles`; whole samples in tiles."""
    assert isinstance(model, Cycles)
    work, parts = work or Work(), []
    rows = _at_once(model, fetch, work)
    for start in range(0, n, rows):
        source, _ = fetch(start, min(start + rows, n))
        parts.append(_tiled(model, source, lambda x, _sample, _tile: model.cycle(x.to(model.device)).cpu(), work, rows))
    return torch.cat(parts) if parts else torch.empty(0)


def translate_samples(
    model: Translator, fetch: Fetch, n: int, work: Work | None = None, *, progress: Callable[[int], None] | None = None
) -> Translation:
    """Translate n samples that `fetch(start, stop)` gives, with their conditions other than images. See `translate_dataset`."""
    work = work or Work()
    if work.draws > 1 and not model.stochastic:
        raise ConfigError("`draws` above 1 needs a stochastic translation, which this model has not; its translation is always the same.")
    rows, done = _at_once(model, fetch, work), 0
    mean, squares = torch.empty(0), torch.empty(0)
    for draw in range(work.draws):
        parts = []
        for start in range(0, n, rows):
            source, condition = fetch(start, min(start + rows, n))
            parts.append(_translated(model, start, source, condition, work, rows, draw))
            done += len(source)
            if progress is not None:
                progress(done)
        x = torch.cat(parts)
        if draw == 0:
            mean, squares = x, torch.zeros_like(x)
        else:  # Welford's update
            off = x - mean
            mean = mean + off / (draw + 1)
            squares = squares + off * (x - mean)
    return Translation(mean, (squares / (work.draws - 1)).sqrt() if work.draws > 1 else None)


def _translated(model: Translator, first: int, x: Tensor, condition: Condition, work: Work, at_once: int, draw: int) -> Tensor:
    """One batch; noise is a function of draw, sample and tile."""
    seed = work.seed if work.draws == 1 else work.seed or 0

    def part(tiles: Tensor, sample: Tensor, tile: Tensor) -> Tensor:
        noise = None if seed is None else Noise(seed, draw * _DRAW + (first + sample) * _SAMPLE + tile)
        return model.translate(tiles.to(model.device), condition=condition[sample], noise=noise).cpu()

    return _tiled(model, x, part, work, at_once)


def _tiled(model: Translator, x: Tensor, part: Callable[[Tensor, Tensor, Tensor], Tensor], work: Work, at_once: int) -> Tensor:
    """`part(tiles, their samples, their numbers)` of whole samples, blended; of samples that the model takes as they are, at once."""
    size = model.source_spec.shape
    if tuple(x.shape[2:]) == size:
        return part(x, torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64))
    out = []
    for k in range(len(x)):

        def of_tiles(tiles: Tensor, number: Tensor, k: int = k) -> Tensor:
            return part(tiles, torch.full_like(number, k), number)

        out.append(tiled(of_tiles, x[k : k + 1], size, overlap=work.overlap, blend=work.blend, micro_batch=at_once))
    return torch.cat(out)


def _at_once(model: Translator, fetch: Fetch, work: Work) -> int:
    """Samples or tiles that go through the network together."""
    if work.tiles is not None:
        return work.tiles
    spec = model.source_spec
    if work.memory is None:
        return max(1, min(64, _VALUES // max(1, spec.numel)))
    x = torch.zeros(1, *spec.size, device=model.device)
    condition = fetch(0, 1)[1]
    need = forward_bytes(lambda y: model.translate(y, condition=condition, noise=0 if model.stochastic else None), x)
    rows = int(work.memory * 2**30 // need)
    if rows < 1:
        raise ConfigError(f"`memory` of {work.memory:g} GiB is too little: one input of shape {spec.size} needs {need / 2**30:.3g}.")
    return min(rows, 1024)


def spread_spec(spec: ImageSpec) -> ImageSpec:
    """The spec of standard deviations: stored units without an origin, float32."""
    rule = spec.intensity
    (a, b), width = rule.range, tuple(high - low for low, high in zip(rule.low, rule.high, strict=True))
    intensity = Intensity(low=(0.0,) * len(width), high=width, range=(0.0, b - a), clip=False, unit=rule.unit)
    return replace(spec, content="intensity", intensity=intensity)


def translate_to(
    run: Run, data: Sequence[str], out: Path, *, work: Work | None = None, progress: Callable[[int], None] | None = None
) -> list[Path]:
    """Translate files, and write NIfTI beside NIfTI with the affine and shape of the input, in the units of the target.

    Of a folder, one file after the other is read, translated and written; those that are there already are kept, so that an interrupted
    call is simply repeated.

    Args:
        run: a finished run of a translator.
        data: a file or folder for each contrast, in the order of the training source; folders are paired by name or subject.
        out: a folder; or the name of a file, where `data` are files. Standard deviations of several draws lie beside, as NAME_sd.
        work: how.
        progress: called with the number of files done; of a single one, with the number of samples.

    Raises:
        RunError: the family does not translate, a result would replace an input, or the folder holds results of another call.
        DataError: input that does not fit the model.
    """
    model, work = translator_of(run), work or Work()
    single = names_file(out)
    jobs = list(_jobs(data, DataConfig.parse(run.config.data_options)))
    if single and len(jobs) > 1:
        raise RunError(f"{data[0]} holds {len(jobs)} files, so that the output must be a folder; got {out}.")
    targets = [out if single else out / name for _, name in jobs]
    if not single:
        asked = {"weights": read_meta(run.weights_file)["sha256"], "overrides": run.overrides, "seed": work.seed, "draws": work.draws}
        asked |= {"overlap": work.overlap, "blend": work.blend, **arithmetic(model)}
        claim(out / "translations.json", asked, held=any(target.exists() for target in targets), what="translations")
    for number, ((paths, _), target) in enumerate(zip(jobs, targets, strict=True), 1):
        beside = _with_suffix(target, "_sd")
        if single or not (target.exists() and (work.draws == 1 or beside.exists())):
            _translate_file(run, model, paths, target, beside, work, progress if len(jobs) == 1 else None)
        if progress is not None and len(jobs) > 1:
            progress(number)
    written = [target for target in targets if target.exists()]
    return written + [_with_suffix(target, "_sd") for target in written if work.draws > 1]


def _translate_file(
    run: Run, model: Translator, paths: Sequence[str], target: Path, beside: Path, work: Work, progress: Callable[[int], None] | None
) -> None:
    whole = run.config.data_options.get("patch") is not None
    dataset = open_source(paths, model.source_spec, model.conditions, whole=whole, **run.config.data_options)
    done = translate_dataset(model, dataset, work, progress=progress)
    spec = replace(model.image_spec, shape=dataset.image_spec.shape)
    if done.sd is not None:
        save_beside(done.sd, dataset, paths, beside, spread_spec(spec))
    save_beside(done.mean, dataset, paths, target, spec)  # last: its being there means that all is done


def _jobs(data: Sequence[str], config: DataConfig) -> Iterator[tuple[list[str], str]]:
    """(one input per contrast, relative name of the result) of each file."""
    own = side_config(config)
    sides = [_files(text, own) for text in data]
    (kind, names, first, subjects) = sides[0]
    lines = [list(range(len(first)))]
    for (other, more, _, theirs), text in zip(sides[1:], data[1:], strict=True):
        if other != kind:
            raise DataError(f"{text}: inputs must be files of one kind; got {other} beside {kind}.")
        lines.append(matched(names, more, subjects, theirs, "auto", text))
    ending = {"nifti": ".nii.gz", "dicom": ".nii.gz", "image": ".png", "table": ".csv"}.get(kind, ".npz")
    for k, path in enumerate(first):
        given = [sides[s][2][line[k]] for s, line in enumerate(lines)]
        plain = path.name.lower().endswith(".nii")
        yield [str(p) for p in given], names[k] + (".nii" if plain else ending)


def _files(text: str, config: DataConfig) -> tuple[str, list[str], list[Path], list[str] | None]:
    """Kind, names without endings, paths and subjects of the files of one input."""
    where = Path(text).expanduser()
    if not where.exists() and not any(c in text for c in "*?["):
        raise DataError(f"there is no file or folder {text}.")
    kind, root, files = listed(where, config)
    subjects = None
    if kind in ("nifti", "dicom"):
        named = config.subjects not in ("auto", "none")
        try:
            volumes = volume_files(kind, files, config)
        except DataError:
            if not named:
                raise
            volumes = volume_files(kind, files, config.model_copy(update={"subjects": "auto"}))  # of other names than in training
            named = False
        files, subjects = [v.path for v in volumes], [v.subject for v in volumes] if named else None
    names = [(f.relative_to(root).as_posix() if f != root else f.name).split(".")[0] for f in files]
    return kind, names, files, subjects


def _with_suffix(path: Path, suffix: str) -> Path:
    """The suffix goes before all endings.

    >>> _with_suffix(Path("a/b.nii.gz"), "_sd").as_posix()
    'a/b_sd.nii.gz'
    """
    stem, dot, ending = path.name.partition(".")
    return path.with_name(f"{stem}{suffix}{dot}{ending}")
