"""Sample i is sample i: whatever n, start, order, interruption; one cell at a time; never mixed with samples of another kind."""

from __future__ import annotations

import itertools
import json
import shutil
import weakref

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medgen.runs.sample as sampling
from medgen.data import save_samples
from medgen.errors import ConfigError, DataError, RunError
from medgen.interfaces import Generator
from medgen.runs import ConditionSource, open_run, sample_cells, sample_to_folder
from medgen.runs.sample import CELL, _gaps, _there


@pytest.fixture(scope="module")
def run():
    return open_run(tiny.trained())


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """Samples 0..79, uninterrupted: two cells and a half."""
    out = tmp_path_factory.mktemp("whole") / "samples"
    assert sample_to_folder(run, out, 80, format="npz") == 80
    return tiny.contents(out)


def test_the_folder(whole, run):
    assert list(whole) == [*(f"sample_{i:06d}.npz" for i in range(80)), "samples.json"]
    manifest = json.loads(whole["samples.json"])
    assert (manifest["seed"], manifest["format"], manifest["condition"]) == (0, "npz", "")


@given(start=st.integers(0, 79), n=st.integers(1, 80))
@settings(max_examples=15)
def test_a_sample_is_the_same_to_the_bit_alone_and_among_others(run, whole, start, n):
    n = min(n, 80 - start)
    cells = list(sample_cells(run.model, start, start + n, seed=0))
    assert [first for first, _, _ in cells] == [max(start, c) for c in range(start // CELL * CELL, start + n, CELL)]
    reference = torch.cat([x for _, x, _ in sample_cells(run.model, 0, 80, seed=0)])
    assert torch.equal(torch.cat([x for _, x, _ in cells]), reference[start : start + n])


@pytest.mark.parametrize(
    "calls",
    [
        [(0, 1), (0, 80)],
        [(40, 40), (0, 40)],  # two ranks, within one cell
        [(79, 1), (33, 3), (34, 10), (0, 80)],
        [(k, 16) for k in (64, 0, 32, 16, 48)],
        [(0, 80), (0, 80)],
    ],
)
def test_any_order_of_any_pieces_gives_the_same_folder(run, whole, tmp_path, calls):
    new = sum(sample_to_folder(run, tmp_path / "a", n, start=start, format="npz") for start, n in calls)
    assert new == 80, "nothing is drawn twice"
    assert tiny.contents(tmp_path / "a") == whole


def test_the_seed_changes_every_sample(run, whole, tmp_path):
    sample_to_folder(run, tmp_path / "a", 80, seed=1, format="npz")
    other = tiny.contents(tmp_path / "a")
    assert not [name for name in whole if name in other and whole[name] == other[name]]


@pytest.mark.parametrize("stop", [0, 5, 31, 32, 70])
def test_interrupted_anywhere_it_goes_on_where_it_stopped(run, whole, tmp_path, monkeypatch, stop):
    real, written = save_samples, []

    def until(x, spec, folder, start, form):
        for k in range(len(x)):
            if len(written) == stop:
                raise KeyboardInterrupt
            written.extend(real(x[k : k + 1], spec, folder, start + k, form))

    monkeypatch.setattr(sampling, "save_samples", until)
    with pytest.raises(KeyboardInterrupt):
        sample_to_folder(run, tmp_path / "a", 80, format="npz")
    monkeypatch.undo()
    stamps = {p: p.stat().st_mtime_ns for p in written}
    assert len(stamps) == stop
    assert sample_to_folder(run, tmp_path / "a", 80, format="npz") == 80 - stop
    assert {p: p.stat().st_mtime_ns for p in written} == stamps, "what is there is kept"
    assert tiny.contents(tmp_path / "a") == whole


def test_deleted_samples_come_back(run, whole, tmp_path):
    sample_to_folder(run, tmp_path / "a", 80, format="npz")
    for i in (0, 17, 18, 79):
        (tmp_path / "a" / f"sample_{i:06d}.npz").unlink()
    assert sample_to_folder(run, tmp_path / "a", 80, format="npz") == 4
    assert tiny.contents(tmp_path / "a") == whole


def test_at_most_one_cell_is_alive_whatever_n(run, tmp_path, monkeypatch):
    """Structural: every cell's tensor must have died before the next is drawn, over 20 cells and a writer that keeps nothing."""
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most, sizes, draw = [], set(), Generator.sample

    def counted(self, n, **options):
        most.append(len(alive))
        x = draw(self, n, **options)
        sizes.add(len(x))
        alive.add(x)
        return x

    monkeypatch.setattr(Generator, "sample", counted)
    monkeypatch.setattr(sampling, "save_samples", lambda x, spec, folder, start, form: None)
    assert sample_to_folder(run, tmp_path / "a", 20 * CELL, format="npz") == 20 * CELL
    assert len(most) == 20
    assert max(most) <= 1, "the last cell's, whose name the loop still holds"
    assert sizes == {CELL}


def test_progress_counts_up_to_n(run, tmp_path):
    seen = []
    sample_to_folder(run, tmp_path / "a", 50, start=20, format="npz", progress=seen.append)
    assert seen == [12, 44, 50]


# folders that hold something else -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [({"seed": 1}, "seed"), ({"format": "png"}, "format"), ({"condition": "label"}, "condition"), ({"run": 1}, "weights")],
)
def test_samples_of_another_kind_are_not_mixed_in(tmp_path, options, word):
    first = open_run(tiny.trained("cvae"))
    sample_to_folder(first, tmp_path / "a", 3, format="npz", condition=ConditionSource(first, label="normal"))
    before = tiny.contents(tmp_path / "a")
    other = open_run(tiny.trained("cvae", seed=1)) if options.pop("run", None) else first
    label = "dilated" if options.pop("condition", None) else "normal"
    with pytest.raises(RunError, match=f"holds samples with another {word}; choose another --out"):
        sample_to_folder(other, tmp_path / "a", 5, **{"format": "npz", **options}, condition=ConditionSource(other, label=label))
    assert tiny.contents(tmp_path / "a") == before


@pytest.mark.parametrize(("key", "value"), [("device", "cuda"), ("ops", "another"), ("torch", "2.0.0")])
def test_samples_that_would_differ_in_their_last_bits_are_not_mixed_in(run, tmp_path, key, value):
    sample_to_folder(run, tmp_path, 2)
    manifest = json.loads((tmp_path / "samples.json").read_text())
    (tmp_path / "samples.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(RunError, match=rf"holds samples with another {key} \({value}, not {manifest[key]}\)"):
        sample_to_folder(run, tmp_path, 3)


def test_overrides_are_part_of_what_the_samples_are(run, whole, tmp_path):
    same, other = (open_run(run.path, sample_noise=value) for value in (False, True))
    assert (run.overrides, same.overrides, other.overrides) == ({}, {}, {"sample_noise": True})
    sample_to_folder(same, tmp_path / "a", 80, format="npz")
    assert tiny.contents(tmp_path / "a") == whole, "an override with the trained value is none"
    with pytest.raises(RunError, match=r"another overrides \(\{\}, not \{'sample_noise': True\}\)"):
        sample_to_folder(other, tmp_path / "a", 80, format="npz")
    sample_to_folder(other, tmp_path / "b", 2, format="npz")
    assert json.loads((tmp_path / "b" / "samples.json").read_text())["overrides"] == {"sample_noise": True}


def test_an_interrupted_folder_is_not_taken_over_by_another_seed(run, tmp_path, monkeypatch):
    """The manifest comes before the first sample, so that even half a cell has a name."""

    def cut(*arguments):
        if len(arguments[0]):
            raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "save_samples", cut)
    with pytest.raises(KeyboardInterrupt):
        sample_to_folder(run, tmp_path / "a", 3, format="npz")
    monkeypatch.undo()
    with pytest.raises(RunError, match="another seed"):
        sample_to_folder(run, tmp_path / "a", 3, seed=1, format="npz")


def test_files_of_unknown_origin_are_not_taken_for_samples(run, tmp_path):
    (tmp_path / "sample_000000.png").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"no samples\.json"):
        sample_to_folder(run, tmp_path, 1)
    assert tiny.contents(tmp_path) == {"sample_000000.png": b"mine"}


def test_other_files_in_the_folder_are_left_alone(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    sample_to_folder(run, tmp_path, 1)
    assert sorted(tiny.contents(tmp_path)) == ["notes.txt", "sample_000000.png", "samples.json"]


@pytest.mark.parametrize("text", ["{", "[]", "3", "\x00", "null"])
def test_a_manifest_that_is_none(run, tmp_path, text):
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(RunError, match=r"samples.json is not what medgen wrote|another weights"):
        sample_to_folder(run, tmp_path, 1)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": -1}, {"n": 1, "start": -1}, {"n": 1, "seed": -1}, {"n": 1, "seed": 2**64}])
def test_numbers_out_of_range_make_no_folder(run, tmp_path, options):
    with pytest.raises(ConfigError, match=r"`n` must be at least 1, `start` not negative and `seed` in \[0, 2\^64\)"):
        sample_to_folder(run, tmp_path / "a", options.pop("n"), **options)
    assert not (tmp_path / "a").exists()


def test_a_format_that_cannot_hold_the_samples_makes_no_folder(run, tmp_path):
    with pytest.raises(DataError, match="format 'csv'"):
        sample_to_folder(run, tmp_path / "a", 3, format="csv")
    assert not (tmp_path / "a").exists()


def test_a_family_that_draws_nothing(tmp_path):
    with pytest.raises(RunError, match="family 'ae' does not draw samples; `medgen list --interface generator`"):
        sample_to_folder(open_run(tiny.trained("ae")), tmp_path / "a", 3)
    assert not (tmp_path / "a").exists()


# ranges -----------------------------------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(0, 60))
def test_what_is_there_and_what_is_missing(tmp_path_factory, numbers, first, last):
    folder = tmp_path_factory.mktemp("there")
    for i in numbers:
        (folder / f"sample_{i:06d}.nii.gz").touch()
    for stray in ("samples.json", ".tmp-asample_000003.png", "sample_x.png", "other.png"):
        (folder / stray).touch()
    ranges = _there(folder)
    assert {i for a, b in ranges for i in range(a, b)} == numbers
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(ranges)), "neighbours are one range"
    gaps = _gaps(ranges, first, last)
    assert [i for a, b in gaps for i in range(a, b)] == [i for i in range(first, last) if i not in numbers]
    shutil.rmtree(folder)
