"""Translating files: whole volumes in, whole volumes out, on the grid and in the units of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgen.data import DataConfig, open_like, open_source
from medgen.data.dispatch import listed, volume_files
from medgen.data.pairing import matched, side_config
from medgen.errors import DataError, RunError
from medgen.interfaces import FollowsStyle, Translator
from medgen.runs.apply import names_file, save_beside
from medgen.runs.claim import claim
from medgen.runs.run import Run
from medgen.runs.sample import arithmetic
from medgen.runs.translate import Work, spread_spec, translate_dataset, translator_of
from medgen.weights import read_meta

__all__ = ["style_of", "translate_to"]


def style_of(run: Run, data: str) -> Tensor:
    """The style [Z] of an image or volume of the target: the mean over its samples of the means of q(z | x).

    Args:
        run: of a translator that `FollowsStyle`.
        data: a file, read as the training's targets.

    Raises:
        RunError: the family has no styles, or was trained on patches, whose styles are not that of a whole image.
    """
    model = translator_of(run)
    if not isinstance(model, FollowsStyle):
        raise RunError(f"family {run.config.family!r} has no styles; families that have, such as spade, take `style`.")
    if run.config.data_options.get("patch") is not None:
        raise RunError("this model was trained on patches and knows no style of whole images; translate with a seed instead.")
    dataset = open_like(data, model.image_spec, **run.config.data_options)
    parts = [model.style(dataset.fetch(np.arange(k, min(k + 64, len(dataset)))).x).mean for k in range(0, len(dataset), 64)]
    return torch.cat(parts).mean(0)


def translate_to(
    run: Run,
    data: Sequence[str],
    out: Path,
    *,
    work: Work | None = None,
    style: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Translate files, and write NIfTI beside NIfTI with the affine and shape of the input, in the units of the target.

    Of a folder, one file after the other is read, translated and written; those that are there already are kept, so that an interrupted
    call is simply repeated.

    Args:
        run: a finished run of a translator.
        data: a file or folder for each contrast, in the order of the training source; folders are paired by name or subject.
        out: a folder; or the name of a file, where `data` are files. Standard deviations of several draws lie beside, as NAME_sd.
        work: how.
        style: an image or volume whose style the translations take; see `style_of`.
        progress: called with the number of files done; of a single one, with the number of samples.

    Raises:
        RunError: the family does not translate, a result would replace an input, or the folder holds results of another call.
        DataError: input that does not fit the model.
    """
    model, work = translator_of(run), work or Work()
    z = None if style is None else style_of(run, style)
    single = names_file(out)
    jobs = list(_jobs(data, DataConfig.parse(run.config.data_options)))
    if single and len(jobs) > 1:
        raise RunError(f"{data[0]} holds {len(jobs)} files, so that the output must be a folder; got {out}.")
    targets = [out if single else out / name for _, name in jobs]
    if not single:
        asked = {"weights": read_meta(run.weights_file)["sha256"], "overrides": run.overrides, "seed": work.seed, "draws": work.draws}
        asked |= {"overlap": work.overlap, "blend": work.blend, **arithmetic(model)}
        asked |= {} if z is None else {"style": [round(v, 6) for v in z.tolist()]}
        claim(out / "translations.json", asked, held=any(target.exists() for target in targets), what="translations")
    for number, ((paths, _), target) in enumerate(zip(jobs, targets, strict=True), 1):
        beside = _with_suffix(target, "_sd")
        if single or not (target.exists() and (work.draws == 1 or beside.exists())):
            _translate_file(run, model, paths, target, beside, work, z, progress if len(jobs) == 1 else None)
        if progress is not None and len(jobs) > 1:
            progress(number)
    written = [target for target in targets if target.exists()]
    return written + [_with_suffix(target, "_sd") for target in written if work.draws > 1]


def _translate_file(
    run: Run,
    model: Translator,
    paths: Sequence[str],
    target: Path,
    beside: Path,
    work: Work,
    style: Tensor | None,
    progress: Callable[[int], None] | None,
) -> None:
    whole = run.config.data_options.get("patch") is not None
    dataset = open_source(paths, model.source_spec, model.conditions, whole=whole, **run.config.data_options)
    done = translate_dataset(model, dataset, work, style=style, progress=progress)
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
