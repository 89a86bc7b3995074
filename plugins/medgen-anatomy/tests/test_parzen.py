"""Family `parzen`: SciPy's density of the training split, through training, saving and loading."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gaussian_kde

import medgen
from medgen.data import from_arrays
from medgen.errors import DataError
from medgen.runs import open_run


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(200, 3)) @ np.array([[1.0, 0.4, 0], [0, 2.0, 0.3], [0, 0, 0.5]]) + 5).astype(np.float32)


def trained(table, folder, **model):
    return medgen.train("parzen", from_arrays(table), folder, model=model, show=False)


def test_is_scipys_density_of_the_training_split(table, tmp_path):
    trained(table, tmp_path / "run", rule="silverman", kind="full")
    run = open_run(tmp_path / "run")
    rows = run.model.density.points
    kde = gaussian_kde(rows.double().numpy().T, "silverman")
    found = run.model.log_prob(rows[:50])
    np.testing.assert_allclose(found.numpy(), kde.logpdf(rows[:50].double().numpy().T), rtol=2e-5, atol=2e-5)


def test_the_points_are_the_training_split_and_stay_with_the_weights(table, tmp_path):
    run = trained(table, tmp_path / "run")
    data = run.dataset
    wanted = data.fetch(data.splits["train"]).x
    loaded = medgen.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.density.points.numpy(), wanted.numpy())
    assert loaded.density.bandwidth.shape == (3, 3)
    assert loaded.sample(4).shape == (4, 3)


@pytest.mark.parametrize(("kind", "shape"), [("absolute", ()), ("scalar", ()), ("diagonal", (3,)), ("full", (3, 3))])
@pytest.mark.parametrize("rule", ["scott", "leave_one_out", "grid", "fixed"])
def test_every_rule_and_kind(table, tmp_path, rule, kind, shape):
    run = trained(table, tmp_path / "run", rule=rule, kind=kind, grid_size=20)
    held = run.dataset.fetch(run.dataset.splits["val"]).x
    assert run.model.density.bandwidth.shape == shape
    assert run.model.log_prob(held).isfinite().all()


def test_images_are_flattened(tmp_path):
    images = np.random.default_rng(0).random((60, 6, 5), np.float32)
    run = medgen.train("kde", from_arrays(images), tmp_path / "run", model={"kind": "scalar"}, show=False)
    assert run.model.sample(2).shape == (2, 1, 6, 5)
    assert run.model.density.dim == 30


def test_a_covariance_that_is_singular_leaves_nothing_behind(tmp_path):
    images = np.random.default_rng(0).random((20, 8, 8), np.float32)
    with pytest.raises(DataError, match="is singular"):
        medgen.train("parzen", from_arrays(images), tmp_path / "run", show=False)
    assert not (tmp_path / "run").exists()
