"""CSV tables (.csv, .csv.gz), with or without a header: one row per sample, or one row per time where `length` or `dim` 1 is given."""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path

import numpy as np

from medgen.data.arrays import as_classes
from medgen.data.config import DataConfig
from medgen.data.readers.signals import Recording, windows
from medgen.data.samples import Array, ArrayStore, Samples
from medgen.errors import DataError
from medgen.registry import suggestion

__all__ = ["SUFFIXES", "named_cells", "read"]

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")

MISSING = ("", "NA", "N/A", "n/a", "null")

LABELS = ("label", "labels", "class")
SUBJECTS = ("subject", "subject_id", "patient", "patient_id")


def read(path: Path, config: DataConfig) -> Samples:
    """The samples of one table: numeric columns are features unless they have a role.

    Raises:
        DataError: ragged rows, missing or non-numeric values, unknown columns; naming file and line.
    """
    names, cells, first_line, named = _cells(path)
    if not len(cells):
        raise DataError(f"{path}: holds no rows.")
    columns = {name: cells[:, k] for k, name in enumerate(names)}
    if config.length is not None or config.dim == 1:
        chosen = config.columns or tuple(names)
        values = np.stack([_numbers(_column(columns, n, path), n, path, first_line) for n in chosen])
        return windows([Recording(path.name, values)], str(path), config, channel_names=chosen if named else ())
    label = _role(columns, config.labels, LABELS, path, named)
    subject = _role(columns, config.subjects, SUBJECTS, path, named)
    used = {label, subject, *config.attributes}
    features, left_out = _features(columns, config, used, path)
    values = np.stack([_numbers(columns[n], n, path, first_line) for n in features], 1).astype(np.float32)
    labels, classes = (None, ()) if label is None else as_classes(_class_cells(columns[label]), None, f"{path} column {label!r}")
    return Samples(
        store=ArrayStore(values),
        origins=lambda i: f"{path.name} line {first_line + i}",
        source=str(path),
        labels=labels,
        class_names=classes,
        attributes={n: _numbers(_column(columns, n, path), n, path, first_line, missing=True) for n in config.attributes},
        subjects=None if subject is None else columns[subject].astype(str),
        channel_names=tuple(features) if named else (),
        geometry=("table", path, tuple(features) if named else ()),
        warnings=[f"{path.name}: columns {left_out} are not numeric and left out."] if left_out else [],
    )


def _cells(path: Path) -> tuple[list[str], Array, int, bool]:
    """Column names, cells as text [N, D], line number of the first row, and whether the file names its columns."""
    try:
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=head.count)
            rows = list(csv.reader(file, delimiter=delimiter))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataError(f"{path}: must be a readable table; {type(error).__name__}: {error}") from error
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows:
        raise DataError(f"{path}: is empty.")
    width = len(rows[0])
    for k, row in enumerate(rows):
        if len(row) != width:
            raise DataError(f"{path} line {k + 1}: must have {width} cells like the first line; got {len(row)}.")
    named = not all(_is_number(cell) for cell in rows[0])
    names = [cell.strip() for cell in rows[0]] if named else [str(k) for k in range(width)]
    if len(set(names)) < len(names):
        raise DataError(f"{path}: column names must differ; got {names[:20]}.")
    body = rows[1:] if named else rows
    return names, np.array(body, dtype=str).reshape(len(body), width), 2 if named else 1, named


def named_cells(path: Path) -> tuple[list[str], Array]:
    """Column names and cells as text [N, D].

    Raises:
        DataError: no readable table, or one whose first line does not name its columns.
    """
    names, cells, _, named = _cells(path)
    if not named:
        raise DataError(f"{path}: the first line must name the columns; got {names[:5]}.")
    return names, cells


def _is_number(text: str) -> bool:
    try:
        float("nan" if text.strip() in MISSING else text)
    except ValueError:
        return False
    return True


def _column(columns: dict[str, Array], name: str, path: Path) -> Array:
    if name not in columns:
        raise DataError(f"{path}: there is no column {name!r}{suggestion(name, columns)}")
    return columns[name]


def _role(columns: dict[str, Array], option: str, usual: tuple[str, ...], path: Path, named: bool) -> str | None:
    if option == "none":
        return None
    if option != "auto":
        _column(columns, option, path)
        return option
    return next((name for name in usual if named and name in columns), None)


def _features(columns: dict[str, Array], config: DataConfig, used: set[str | None], path: Path) -> tuple[list[str], list[str]]:
    if config.columns is not None:
        for name in config.columns:
            _column(columns, name, path)
        return list(config.columns), []
    free = [name for name in columns if name not in used]
    features = [name for name in free if any(_is_number(c) and c not in MISSING for c in columns[name][:1000].tolist())]
    if not features:
        raise DataError(f"{path}: must have at least one numeric column; got {list(columns)}.")
    return features, [name for name in free if name not in features]


def _numbers(cells: Array, name: str, path: Path, first_line: int, *, missing: bool = False) -> Array:
    try:
        values = np.where(np.isin(np.char.strip(cells), MISSING), "nan", cells).astype(np.float64)
    except ValueError:
        bad = next(k for k, c in enumerate(cells) if not _is_number(c))
        raise DataError(f"{path} line {first_line + bad}: column {name!r} must be numeric; got {str(cells[bad])!r}.") from None
    wrong = np.isinf(values) if missing else ~np.isfinite(values)
    if wrong.any():
        bad = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{path} line {first_line + bad}: column {name!r} must be finite; got {str(cells[bad])!r}.")
    return values


def _class_cells(cells: Array) -> Array:
    """Integers 0..K-1 stay numbers; everything else names a class."""
    try:
        numbers = cells.astype(np.int64)
    except ValueError:
        return cells
    return numbers if numbers.min() >= 0 and numbers.max() < max(256, len(np.unique(numbers)) + 1) else cells
