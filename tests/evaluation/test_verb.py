"""`medgen.evaluate`: what fits the model, nothing else, all written or nothing."""

from __future__ import annotations

import json
import sys

import pytest
import tiny
import torch

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError, DataError, RunError, UnknownNameError
from medgen.evaluation import evaluate, evaluate_pairs
from medgen.evaluation.measure import DENSITY
from medgen.evaluation.sets import DISTRIBUTION
from medgen.evaluation.table import load_scores
from medgen.interfaces import Generator
from medgen.runs import ConditionSource, open_run

PAIRS = ("mae", "mse", "psnr", "ssim_global", "ssim", "ms_ssim")


@pytest.fixture
def run(tmp_path):
    return tiny.copied(tmp_path)


def kinds(scores):
    names = {s.name for s in scores}
    return bool(names & set(DISTRIBUTION)), bool(names & set(PAIRS)), bool(names & set(DENSITY))


def test_metrics_follow_from_the_interfaces(run, tmp_path):
    assert kinds(evaluate(run, bootstrap=0)) == (True, True, True)
    assert kinds(evaluate(tiny.copied(tmp_path, "ae"), bootstrap=0)) == (False, True, False)


def test_named_metrics_alone_in_the_file_too(run):
    scores = evaluate(run, metrics=["bits_per_dim", "coverage", "mae"], bootstrap=5, n=20)
    assert [s.name for s in scores] == ["coverage", "mae", "bits_per_dim"]
    assert load_scores(run.path / "evaluation.json") == scores
    assert scores[0].recipe["n_fake"] == 20
    assert scores[0].recipe["n_real"] == len(run.dataset.splits["val"])


def test_the_same_seed_the_same_figures_and_another_seed_others(run):
    first, again = (evaluate(run, metrics=["kid", "bits_per_dim"], bootstrap=0) for _ in range(2))
    other = evaluate(run, metrics=["kid", "bits_per_dim"], bootstrap=0, seed=1)
    assert first == again
    assert [s.value for s in first] != [s.value for s in other]


def test_pairs_are_reconstructions_of_the_split(run):
    rows = run.dataset.splits["train"][:7]
    x = run.dataset.fetch(rows).x
    expected = evaluate_pairs(x, run.model.reconstruct(x), value_range=(0, 1), metrics=["mae"], bootstrap=0)[0].value
    assert evaluate(run, split="train", limit=7, metrics=["mae"], bootstrap=0)[0].value == pytest.approx(expected, rel=1e-6)


def test_samples_are_clipped_as_the_data_was(run, monkeypatch):
    seen, draw = [], Generator.sample
    ramp = torch.linspace(-5, 5, 256).view(1, 16, 16)
    monkeypatch.setattr(Generator, "sample", lambda self, n, **options: ramp + 0 * draw(self, n, **options))
    module = sys.modules["medgen.evaluation.verb"]
    real = module.evaluate_sets

    def spy(x, y, **options):
        seen.append(y)
        return real(x, y, **options)

    monkeypatch.setattr(module, "evaluate_sets", spy)
    evaluate(run, metrics=["kid"], bootstrap=0)
    assert torch.equal(seen[0], ramp.clamp(0, 1).expand_as(seen[0]))


def test_conditional_models_draw_the_conditions_of_training_samples(tmp_path, monkeypatch):
    run = tiny.copied(tmp_path, "cvae")
    seen, draw = [], Generator.sample

    def spy(self, n, **options):
        seen.append((options["condition"], options["noise"]))
        return draw(self, n, **options)

    monkeypatch.setattr(Generator, "sample", spy)
    assert kinds(evaluate(run, bootstrap=0, seed=4)) == (True, True, True)
    source = ConditionSource(run)
    for condition, noise in seen:
        assert noise.seed == 4
        for name, value in source(noise).values.items():
            assert torch.equal(condition.values[name], value)


@pytest.mark.parametrize(
    ("family", "metrics", "error", "message"),
    [
        ("ae", ["mae", "kid"], ConfigError, "metric 'kid' is for a Generator, which family 'ae' is not"),
        ("ae", ["bits_per_dim"], ConfigError, "metric 'bits_per_dim' is for a DensityModel, which family 'ae' is not"),
        ("vae", ["mae", "covrage"], UnknownNameError, "unknown metric 'covrage'; did you mean 'coverage'"),
    ],
)
def test_wrong_names_show_before_any_work(tmp_path, monkeypatch, family, metrics, error, message):
    run = tiny.copied(tmp_path, family)
    monkeypatch.setattr("medgen.evaluation.verb.batches_of", lambda *_: pytest.fail("reconstructed before the names were looked at"))
    with pytest.raises(error, match=message):
        evaluate(run, metrics=metrics)
    assert not (run.path / "evaluation.json").exists()


@pytest.mark.parametrize("options", [{"n": 0}, {"n": -1}, {"limit": 0}, {"limit": -3}, {"bootstrap": -1}, {"importance_samples": 0}])
def test_numbers_out_of_range(options):
    with pytest.raises(ConfigError, match="must be at least 1, `bootstrap` at least 0"):
        evaluate(open_run(tiny.trained()), **options)


def test_a_split_that_is_not_there(run):
    with pytest.raises(RunError, match="no samples in split 'dev'"):
        evaluate(run, split="dev")


def test_few_samples_leave_out_what_needs_more(tmp_path):
    """4 held-out images are enough for reconstructions and densities; asking for a set metric by name says how many it needs."""
    data = from_arrays(tiny.images(40))
    run = medgen.train("vae", data, tmp_path / "a", model=tiny.MODEL, steps=1, batch_size=8, device="cpu", show=False)
    assert len(data.splits["val"]) == 4
    scores = evaluate(run, bootstrap=0)
    assert {"mae", "bits_per_dim", "frechet_distance"} <= {s.name for s in scores}
    assert not {"density", "coverage"} & {s.name for s in scores}
    with pytest.raises(DataError, match="metric 'density' needs at least 6 samples"):
        evaluate(run, metrics=["density"])


def test_a_failure_leaves_the_earlier_evaluation(run, monkeypatch):
    evaluate(run, metrics=["mae"], bootstrap=0)
    before = tiny.contents(run.path)

    def broken(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("medgen.evaluation.verb.evaluate_density", broken)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, metrics=["mae", "bits_per_dim"], bootstrap=0)
    assert tiny.contents(run.path) == before


def test_the_file_is_plain_json_even_of_infinite_figures(run, monkeypatch):
    monkeypatch.setattr("medgen.interfaces.LatentModel.reconstruct", lambda self, x, **_: x.clone())
    scores = evaluate(run, metrics=["psnr"], bootstrap=0)
    assert scores[0].value == float("inf")
    json.loads((run.path / "evaluation.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    load_scores(run.path / "evaluation.json")


def test_progress_is_told(run):
    seen = []
    evaluate(run, metrics=["kid", "mae", "bits_per_dim"], bootstrap=0, n=40, progress=seen.append)
    assert seen == [32, 40, 6, 6]


def test_overrides_are_in_every_recipe(run):
    plain = {s.name: s for s in evaluate(run, metrics=["mae", "kid"], bootstrap=0)}
    assert not [s for s in plain.values() if "overrides" in s.recipe]
    evaluate(open_run(run.path, sample_noise=True), metrics=["mae", "kid"], bootstrap=0)
    found = {s.name: s for s in load_scores(run.path / "evaluation.json")}
    assert [s.recipe["overrides"] for s in found.values()] == [{"sample_noise": True}] * 2
    assert found["kid"].value != plain["kid"].value
    assert found["mae"].value == plain["mae"].value, "reconstructions have no noise"
