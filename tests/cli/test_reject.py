"""`medgen reject`: ranges in the units of the data, powers, proposals by name, stores that go on, mistakes in one line."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tiny

from medgen.runs import open_run

CPU = ("--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of a table whose columns have names and units: kernels and a flow; and kernels of images."""
    out = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    with (out / "hearts.csv").open("w", newline="") as file:
        table = np.column_stack([rng.normal(60, 8, 300), rng.normal(120, 25, 300)])
        csv.writer(file).writerows([["EF", "EDV"], *table.tolist()])
    np.savez(out / "images.npz", x=tiny.images(40, 4))
    for name, family, data, words in (
        ("kde", "parzen", "hearts.csv", ("--model.rule", "scott")),
        ("flow", "realnvp", "hearts.csv", ("--steps", 1, "--batch_size", 32, "--model.couplings", 2, "--model.width", 8)),
        ("pictures", "parzen", "images.npz", ("--model.kind", "scalar")),
    ):
        tiny.ok("train", family, "--data", out / data, "--out", out / name, *words, *CPU)
    return out


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_range_in_the_units_of_the_data(runs, tmp_path):
    words = ("--within", "EF", 40, 55, "--within", 1, 100, 140, "--out", tmp_path / "a.csv")
    text = tiny.ok("reject", runs / "kde", "-n", 300, *words, *CPU)
    assert "a.csv: 300 points of " in text
    assert "the conditions kept" in text
    found = rows(tmp_path / "a.csv")
    assert len(found) == 300
    assert all(40 <= float(row["EF"]) <= 55 and 100 <= float(row["EDV"]) <= 140 for row in found)


def test_without_conditions_it_is_the_density_and_a_store_goes_on(runs, tmp_path):
    words = ("reject", runs / "kde", "-n", 5000, "--out", tmp_path / "a", *CPU)
    first = tiny.ok(*words)
    assert "acceptance 1 (" in first
    assert "exact draws" in first
    points = np.load(tmp_path / "a" / "points.npy")
    assert points.shape == (5000, 2)
    np.testing.assert_array_equal(points, open_run(runs / "kde").model.sample(5000).numpy())
    before = tiny.contents(tmp_path)
    assert tiny.ok(*words) == first
    assert tiny.contents(tmp_path) == before
    assert "holds points with another seed (0, not 1)" in tiny.refused(*words, "--seed", 1)


@pytest.mark.parametrize(
    "words",
    [
        ("--widen", 1.2),
        ("--temperature", 2),
        ("--proposal", "gaussian"),
        ("--proposal", "mixture", "--components", 2),
        ("--proposal", "gaussian", "--envelope", "quartile"),
        ("--proposal", "gaussian", "--envelope", 3.5, "--devices", 2),
        ("--proposal", "FLOW"),
    ],
)
def test_proposals(runs, tmp_path, words):
    words = [runs / "flow" if word == "FLOW" else word for word in words]
    text = tiny.ok("reject", runs / "kde", "-n", 200, *words, "--out", tmp_path / "a.csv", *CPU)
    assert "200 points of" in text
    assert np.mean([float(row["EF"]) for row in rows(tmp_path / "a.csv")]) == pytest.approx(60, abs=4)


def test_a_flow_as_target(runs, tmp_path):
    text = tiny.ok("reject", runs / "flow", "-n", 100, "--within", "EF", 62, 90, "--out", tmp_path / "a.csv", *CPU)
    assert "exact draws" in text
    assert min(float(row["EF"]) for row in rows(tmp_path / "a.csv")) >= 62
    words = ("--temperature", 1.5, "--proposal", "gaussian", "--patience", 600)
    tiny.ok("reject", runs / "flow", "-n", 100, *words, "--out", tmp_path / "b.csv", *CPU)


def test_images(runs, tmp_path):
    tiny.ok("reject", runs / "pictures", "-n", 5, "--out", tmp_path / "a.npz", *CPU)
    assert np.load(tmp_path / "a.npz")["x"].shape == (5, 1, 4, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--within", "EV", 1, 2), "the run has no column 'EV'; did you mean 'EDV'"),
        (("--within", "EF", "low", 2), "two numbers; got EF low 2"),
        (("--within", "EF", 2, 1), "low < high"),
        (("--within", "EF", 1e8, 1e9), "none of its pilot's proposals"),
        (("--widen", 0.5), "`widen` must be at least 1"),
        (("--widen", 2, "--proposal", "gaussian"), "--widen is for kernels"),
        (("--proposal", "nowhere"), "must be kernels, gaussian, mixture, or the folder of a run"),
        (("--proposal", "PICTURES"), "models arrays of shape (1, 4, 4)"),
        (("--envelope", "most"), "`envelope` must be"),
        (("--temperature", 0), "`temperature` must be positive"),
        (("-n", -1), "`n` must be given and not be negative"),
        (("--proposal", "gaussian", "--envelope", 40, "--patience", 1), "would take too long"),
        (("--out", "a.png"), "a folder, or a file that ends in .csv or .npz"),
    ],
)
def test_mistakes(runs, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    words = [runs / "pictures" if word == "PICTURES" else word for word in words]
    out = () if "--out" in words else ("--out", "a.csv")
    assert said in tiny.refused("reject", runs / "kde", *words, *out)
    assert not list(tmp_path.iterdir())


def test_runs_that_cannot(runs, tmp_path):
    assert "needs an exact density" in tiny.refused("reject", tiny.trained(), "--out", tmp_path / "a")
    words = ("--within", 0, 0, 1, "--out", tmp_path / "a")
    assert "--within is for tables" in tiny.refused("reject", runs / "pictures", *words)
    assert ".csv file is for tables" in tiny.refused("reject", runs / "pictures", "--out", tmp_path / "a.csv")
