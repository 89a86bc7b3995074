"""Source, target and regions from files: paired by name or subject, from a table of files, or not paired at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medgen.data.config import DataConfig
from medgen.data.dispatch import listed, read, volume_files
from medgen.data.geometry import Plan, VolumeFile, check_grids
from medgen.data.readers import images
from medgen.data.readers.tables import named_cells
from medgen.data.readers.volumes import Volumes, gather_volumes, subject_of
from medgen.data.samples import Array, Samples, Store
from medgen.data.splits import SPLITS, split_samples
from medgen.data.stores import IndexedStore, JoinedStore, RegionStore, held
from medgen.errors import DataError
from medgen.registry import suggestion

__all__ = ["matched", "read_sides", "side_config"]

_SUBJECTS = ("subject", "subject_id", "patient", "patient_id")


@dataclass(frozen=True)
class _Files:
    """Files of one side, in order: one volume or picture each."""

    kind: str
    root: Path
    paths: tuple[Path, ...]
    volumes: tuple[VolumeFile, ...]
    subjects: tuple[str, ...] | None

    @classmethod
    def of(cls, where: str | Path, config: DataConfig, paths: Sequence[Path] | None = None) -> _Files:
        kind, root, found = (
            listed(Path(where).expanduser(), config) if paths is None else (_kind_of(paths, config), Path(where), list(paths))
        )
        if kind not in ("nifti", "dicom", "image"):
            raise DataError(f"{where}: source, target and regions must be volumes or pictures, or arrays of one npz; got {kind} files.")
        if kind == "image":
            names = None if config.subjects in ("auto", "none") else tuple(subject_of(path, config) for path in found)
            return cls(kind, root, tuple(found), (), names)
        volumes = tuple(volume_files(kind, found, config))
        named = config.subjects not in ("auto", "none")
        return cls(kind, root, tuple(v.path for v in volumes), volumes, tuple(v.subject for v in volumes) if named else None)

    def samples(self, config: DataConfig, plan: Plan | None = None) -> Samples:
        if self.kind == "image":
            return images.read(self.paths, self.root, config)
        return gather_volumes(self.volumes, str(self.root), config, plan)

    def names(self) -> list[str]:
        """Below the common folder, without endings."""
        return [
            (path.relative_to(self.root) if path.is_relative_to(self.root) else Path(path.name)).as_posix().split(".")[0]
            for path in self.paths
        ]


def read_sides(path: Path, config: DataConfig) -> Samples:
    """What `dispatch.read` gives, with the source and the regions that the config names.

    Raises:
        DataError: files that do not go together, naming them; or a side that medgen cannot read.
    """
    if config.source is None and not config.regions:
        return read(path, config)
    found, _, files = listed(path, config)
    if config.pairing == "unpaired" and config.source is not None:
        return _unpaired(path, config, config.source)
    if found == "npz":
        return read(path, config)
    if found == "table":
        return _from_table(files[0], config)
    target = _Files.of(path, config)
    sources = [_Files.of(where, side_config(config)) for where in config.source or ()]
    masks = [_region(text, config) for text in config.regions]
    lines = [matched(target.names(), side.names(), target.subjects, side.subjects, config.pairing, str(side.root)) for side in sources]
    more = [matched(target.names(), side.names(), target.subjects, side.subjects, config.pairing, str(side.root)) for _, side in masks]
    return _joined(
        target,
        [_chosen(side, line) for side, line in zip(sources, lines, strict=True)],
        [(name, _chosen(side, line)) for (name, side), line in zip(masks, more, strict=True)],
        config,
        _source_names(config.source or ()),
    )


def side_config(config: DataConfig, *, regions: bool = False) -> DataConfig:
    """How a side is read beside the target: its own channels and content, all files, no slice left out."""
    return config.model_copy(
        update={
            "source": None,
            "regions": (),
            "channels": None if regions else config.source_channels,
            "content": "labels" if regions else config.source_content,
            "min_foreground": 0.0,
            "select": None,
            "labels": "none",
            "pairing": "auto",
        }
    )


def matched(
    targets: Sequence[str],
    sources: Sequence[str],
    target_subjects: Sequence[str] | None,
    source_subjects: Sequence[str] | None,
    pairing: str,
    where: str,
) -> list[int]:
    """For each target the number of its source: of the same name, or of the same subject; one file goes with one file.

    Raises:
        DataError: one is missing, or stands twice.

    >>> matched(["p1_ct", "p2_ct"], ["p2_mr", "p1_mr"], ["1", "2"], ["2", "1"], "auto", "mr/")
    [1, 0]
    """
    if len(targets) == len(sources) == 1:
        return [0]
    by_subject = target_subjects is not None and source_subjects is not None
    if pairing == "subject" and not by_subject:
        raise DataError(f"{where}: pairing by subject needs `subjects`, a regular expression with one group on file names.")
    if pairing != "subject" and (pairing == "name" or not by_subject or set(targets) <= set(sources)):
        keys, known, what = list(targets), list(sources), "name"
    else:
        assert target_subjects is not None
        assert source_subjects is not None
        keys, known, what = list(target_subjects), list(source_subjects), "subject"
    if missing := [key for key in keys if key not in known]:
        hint = "" if what == "subject" else " Where names differ, `subjects` with a regular expression pairs files by subject."
        raise DataError(f"{where}: there is no file for {what} {missing[0]!r} ({len(missing)} missing); it has {sorted(known)[:5]}.{hint}")
    if twice := sorted({key for key in keys if known.count(key) > 1 or keys.count(key) > 1}):
        raise DataError(f"{where}: there must be one file for {what} {twice[0]!r}; there are several.")
    return [known.index(key) for key in keys]


def _region(text: str, config: DataConfig) -> tuple[str, _Files]:
    name, sign, where = text.partition("=")
    if not (sign and name and where):
        raise DataError(f"`regions` of files must be given as NAME=PATH, such as lesion=masks/; got {text!r}.")
    return name, _Files.of(where, side_config(config, regions=True))


def _source_names(sources: Sequence[str]) -> tuple[str, ...]:
    """T1/, T2/ -> ("T1", "T2"); nothing where that tells them not apart."""
    names = tuple(Path(text).name.split(".")[0] for text in sources)
    return names if len(set(names)) == len(names) and not any(c in "".join(names) for c in "*?[") else ()


def _chosen(side: _Files, line: Sequence[int]) -> _Files:
    volumes = tuple(side.volumes[k] for k in line) if side.volumes else ()
    return replace(side, paths=tuple(side.paths[k] for k in line), volumes=volumes, subjects=None)


def _joined(
    target: _Files, sources: Sequence[_Files], masks: Sequence[tuple[str, _Files]], config: DataConfig, names: tuple[str, ...]
) -> Samples:
    """All sides on the grid of the target, file k of a side with file k of the target."""
    samples = target.samples(config)
    beside = partial(_beside, samples, target)
    stores = [beside(side, side_config(config)) for side in sources]
    found, image_names = dict(samples.images), dict(samples.image_names)
    if stores:
        joined = JoinedStore(stores) if len(stores) > 1 else stores[0]
        found["source"] = held(joined)
        image_names["source"] = names if len(names) == joined.shape[1] > 1 else ()
    if masks:
        labels = tuple(name for name, _ in masks)
        found["regions"] = held(RegionStore([beside(side, side_config(config, regions=True)) for _, side in masks], labels))
        image_names["regions"] = ("other", *labels)
    return replace(samples, images=found, image_names=image_names)


def _beside(samples: Samples, target: _Files, side: _Files, config: DataConfig) -> Store:
    """The samples of a side that go with those of the target."""
    if side.kind != target.kind:
        raise DataError(f"{side.root}: must hold files of the kind of {target.root}, {target.kind}; got {side.kind}.")
    place = samples.geometry
    if not isinstance(place, Volumes):
        return side.samples(config).store
    check_grids(zip(side.volumes, target.volumes, strict=True))
    labels = config.content == "labels" or (config.content == "auto" and _few(side.volumes[0]))
    read = side.samples(config, replace(place.plan, labels=labels))
    other = read.geometry
    assert isinstance(other, Volumes)
    first = np.searchsorted(other.file, np.arange(len(place.files)))
    return IndexedStore(read.store, first[place.file] + place.place)


def _few(file: VolumeFile) -> bool:
    if file.dtype.kind not in "iu" or file.channels != 1:
        return False
    values = file.load()
    return int(values.min()) >= 0 and 0 < int(values.max()) <= 31


def _kind_of(paths: Sequence[Path], config: DataConfig) -> str:
    kinds = {listed(path, config)[0] for path in paths}
    if len(kinds) > 1:
        raise DataError(f"{paths[0].parent}: files must be of one kind; got {sorted(kinds)}.")
    return kinds.pop()


def _from_table(path: Path, config: DataConfig) -> Samples:
    """A row per subject or scan: columns with the file names of the target, the sources and the regions; `subject` and `split` if given."""
    columns, cells = named_cells(path)
    targets = config.columns or tuple(c for c in ("target",) if c in columns)
    if not targets:
        raise DataError(f"{path}: `columns` must name the column(s) with the files of the target; there are {columns}.")

    def files(name: str, own: DataConfig) -> _Files:
        found = [path.parent / Path(cell).expanduser() for cell in _cells_of(columns, cells, name, path)]
        if lost := [f for f in found if not f.is_file()]:
            raise DataError(f"{path}: column {name!r} names {lost[0]}, which is no file.")
        return _Files.of(path.parent, own, found)

    if len(targets) > 1:
        raise DataError(f"{path}: the target must be one column of files; got {targets}.")
    main = config.model_copy(update={"subjects": "auto"})
    target = files(targets[0], main)
    subject = config.subjects if config.subjects not in ("auto", "none") else next((n for n in _SUBJECTS if n in columns), None)
    own = None if subject is None else _cells_of(columns, cells, subject, path)
    if own is not None and target.volumes:
        target = replace(target, volumes=tuple(replace(v, subject=str(n)) for v, n in zip(target.volumes, own, strict=True)))
    sources = [files(name, side_config(main)) for name in config.source or ()]
    masks = [(name, files(name, side_config(main, regions=True))) for name in config.regions]
    samples = _joined(target, sources, masks, main, tuple(config.source or ()))
    number = samples.geometry.file if isinstance(samples.geometry, Volumes) else np.arange(len(samples))
    if own is not None and not target.volumes:
        samples = replace(samples, subjects=np.array(own)[number])
    if "split" in columns:
        told = np.array(_cells_of(columns, cells, "split", path))
        if stray := sorted(set(told.tolist()) - set(SPLITS)):
            raise DataError(f"{path}: column 'split' must hold {', '.join(SPLITS)}; got {stray[:5]}.")
        samples = replace(samples, splits={s: np.flatnonzero(told[number] == s) for s in SPLITS if s in told})
    return replace(samples, source=str(path))


def _cells_of(columns: Sequence[str], cells: Array, name: str, path: Path) -> list[str]:
    if name not in columns:
        raise DataError(f"{path}: there is no column {name!r}{suggestion(name, columns)}")
    return [str(cell).strip() for cell in cells[:, list(columns).index(name)]]


def _unpaired(path: Path, config: DataConfig, sources: Sequence[str]) -> Samples:
    """Two sets of different scans, each divided on its own; the shorter one of a split is gone through again.

    Target i stands beside some source of the same split, which says nothing about it.
    """
    if config.regions or len(sources) > 1:
        raise DataError("unpaired data has one source and no `regions`: its samples have no common grid.")
    own = config.model_copy(update={"source": None, "pairing": "auto", "source_channels": None, "source_window": None})
    target = read(path, own)
    other = read(Path(sources[0]).expanduser(), side_config(own).model_copy(update={"channels": config.source_channels}))
    if target.store.shape[2:] != other.store.shape[2:]:
        raise DataError(
            f"{sources[0]}: samples of both sides must have one shape; got {other.store.shape[2:]} and {target.store.shape[2:]} in {path}. "
            "Give `size`."
        )
    sides = [split_samples(samples, own) for samples in (target, other)]
    rows: dict[str, tuple[Array, Array]] = {}
    for name in SPLITS:
        a, b = (splits[name] for splits, _ in sides)
        n = max(len(a), len(b)) if len(a) and len(b) else 0
        # a permutation of the source, so that neighbours in the files do not meet their like
        rows[name] = (np.resize(a, n), np.resize(np.random.Generator(np.random.Philox(config.split_seed)).permutation(b), n))
    first, second = (np.concatenate([rows[name][k] for name in SPLITS]).astype(np.int64) for k in (0, 1))
    bounds = np.cumsum([0, *(len(rows[name][0]) for name in SPLITS)])
    return replace(
        target,
        store=IndexedStore(target.store, first),
        images={"source": IndexedStore(other.store, second)},
        image_names={"source": other.channel_names},
        origins=lambda i: f"{target.origins(int(first[i]))} and {other.origins(int(second[i]))}",
        labels=None,
        class_names=(),
        attributes={},
        splits={name: np.arange(a, b) for name, a, b in zip(SPLITS, bounds, bounds[1:], strict=False)},
        subjects=None if target.subjects is None else target.subjects[first],
        source_subjects=np.array([other.origins(int(i)) if other.subjects is None else str(other.subjects[i]) for i in second]),
        geometry=None,
        warnings=[*target.warnings, *(line for _, lines in sides for line in lines)],
    )
