"""From arrays to scores: recipes, intervals, warnings, refusals, plugins' metrics."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import torch

from medgen.errors import ConfigError, DataError, PluginError, UnknownNameError
from medgen.evaluation import evaluate_density, evaluate_pairs, evaluate_sets, metric_plan, paired_values, plan_of
from medgen.evaluation.distribution import frechet_distance
from medgen.evaluation.features import RandomConv, extract
from medgen.evaluation.measure import DENSITY, PAIRED
from medgen.evaluation.sets import DISTRIBUTION, RECOGNITION
from medgen.ops import philox_normal, philox_uniform
from medgen.registry import ImageSpec, Intensity, MetricSpec, find, get_host, resolve
from medgen.registry.host import Declared


def uniform(n, *shape, seed=0):
    return philox_uniform(seed, torch.arange(n), shape)


X, Y = uniform(120, 1, 16, 16), uniform(120, 1, 16, 16, seed=1)


def test_every_declared_metric_resolves_and_has_a_summary():
    items = [i for i in get_host().items("medgen_metrics") if i.distribution == "medgen"]
    assert {i.spec.name for i in items} == {*PAIRED, *DISTRIBUTION, *DENSITY, "psnr_image_max", RECOGNITION, "connected", "volume_ks"}
    for item in items:
        function = resolve(item.spec.function, owner=item.owner)
        assert function.__name__ == item.spec.name
        assert item.spec.summary
        assert plan_of(function).recipe_for((1, 32, 32)), item.spec.name


def test_sets_by_default_give_every_distribution_metric_with_its_recipe():
    scores = evaluate_sets(X, Y, value_range=(0, 1), bootstrap=20)
    assert [s.name for s in scores] == list(DISTRIBUTION)
    for s in scores:
        r = s.recipe
        assert (r["extractor"], r["features"], r["n_real"], r["n_fake"]) == ("medgen-random-conv-v1", 128, 120, 120)
        assert (r["resize"], r["value_range"], r["image_size"]) == ("none", [0.0, 1.0], [1, 16, 16])
        assert (r["interval"]["resamples"], r["interval"]["share"], r["interval"]["seed"]) == (20, 0.5, 0)
        assert (s.low is None and "all parts agree" in s.note) or s.low <= s.value <= s.high
        assert s.n == 120
        assert "FID" not in str(s) + str(s.to_json())


def test_sets_equal_the_functions_and_follow_the_seed():
    feats = [extract(RandomConv(1, 2), x, (0.0, 1.0)) for x in (X, Y)]
    first, again, other = (
        evaluate_sets(X, Y, value_range=(0, 1), metrics=["frechet_distance"], bootstrap=20, seed=s)[0] for s in (0, 0, 1)
    )
    assert first.value == frechet_distance(*feats)
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_resizing_is_done_and_stated():
    score = evaluate_sets(X, Y, value_range=(0, 1), metrics=["kid"], resize=[8, 8], bootstrap=0)[0]
    small = [torch.nn.functional.avg_pool2d(x, 2) for x in (X, Y)]
    assert score.value == pytest.approx(evaluate_sets(*small, value_range=(0, 1), metrics=["kid"], bootstrap=0)[0].value, rel=1e-6)
    assert score.recipe["resize"]["to"] == [8, 8]
    assert score.recipe["interval"] == {"method": "none"}


def test_vectors_are_standardised_by_the_real_set():
    real = philox_normal(0, torch.arange(200), (3,)) * torch.tensor([1.0, 1000.0, 0.001])
    fake = real * 1.0
    fake[:, 2] += 0.001
    score = evaluate_sets(real, fake, value_range=(0, 1), metrics=["frechet_distance"], bootstrap=0)[0]
    assert score.recipe["extractor"] == "medgen-identity-v1"
    assert score.value == pytest.approx(1.0, rel=0.15)
    assert score.note == ""


def test_a_singular_covariance_is_said():
    assert "n <= F = 128" in evaluate_sets(X, Y, value_range=(0, 1), metrics=["frechet_distance"], bootstrap=0)[0].note
    assert "differ" in evaluate_sets(X, Y[:60], value_range=(0, 1), metrics=["recall"], bootstrap=0)[0].note
    assert "n = 50 < 100" in evaluate_sets(X[:50], Y[:50], value_range=(0, 1), metrics=["recall"], bootstrap=0)[0].note


def test_values_outside_the_range_are_said():
    note = evaluate_sets(X, 1.5 * Y, value_range=(0, 1), metrics=["kid"], bootstrap=0)[0].note
    assert "of generated values lie outside value_range" in note


def test_too_few_samples_for_an_interval():
    score = evaluate_sets(X[:7], Y[:7], value_range=(0, 1), metrics=["coverage"])[0]
    assert (score.low, score.high) == (None, None)
    assert "too few samples for an interval" in score.note
    with pytest.raises(DataError, match="at least 6 samples in each set; got 5 real"):
        evaluate_sets(X[:5], Y[:7], value_range=(0, 1), metrics=["coverage"])


def test_parts_that_all_agree_give_no_interval_of_width_zero():
    score = evaluate_sets(X, Y + 100, value_range=(0, 1), metrics=["coverage"], bootstrap=10)[0]
    assert (score.value, score.low, score.high) == (0.0, None, None)
    assert "all parts agree: no interval" in score.note


@pytest.mark.parametrize(
    ("real", "fake", "value_range", "words"),
    [
        (X, uniform(9, 1, 16, 15), (0, 1), "equal sample shape"),
        (X, X[:0], (0, 1), "`fake` must hold at least one sample"),
        (torch.full((9, 1, 4), torch.nan), uniform(9, 1, 4), (0, 1), "`real` must be finite; got NaN or infinity in 9 samples"),
        (X, Y, (1, 0), "low < high"),
    ],
)
def test_sets_that_do_not_fit_are_refused(real, fake, value_range, words):
    with pytest.raises(DataError, match=words):
        evaluate_sets(real, fake, value_range=value_range)


def test_wrong_names_and_kinds_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'coverage'"):
        evaluate_sets(X, Y, value_range=(0, 1), metrics=["covrage"])
    with pytest.raises(ConfigError, match="kind 'paired'; use `evaluate_pairs`"):
        evaluate_sets(X, Y, value_range=(0, 1), metrics=["ssim"])
    with pytest.raises(ConfigError, match="use `evaluate_density`"):
        evaluate_pairs(X, Y, value_range=(0, 1), metrics=["bits_per_dim"])


def test_pairs_have_mean_median_and_sample_sd():
    scores = evaluate_pairs(X, Y, value_range=(0, 1))
    assert [s.name for s in scores] == list(PAIRED)
    values = paired_values(X, Y, metric="mae", value_range=(0, 1)).numpy()
    mae = scores[0]
    assert mae.value == pytest.approx(values.mean())
    assert mae.details["median"] == pytest.approx(np.median(values))
    assert mae.details["sd"] == pytest.approx(values.std(ddof=1))
    assert mae.low < mae.value < mae.high
    assert mae.recipe["n"] == 120
    assert scores[2].recipe["maximum"] == "b - a of value_range"


def test_micro_batches_do_not_change_pairs():
    assert torch.allclose(
        paired_values(X, Y, metric="ssim", value_range=(0, 1)),
        torch.cat([paired_values(X[i : i + 1], Y[i : i + 1], metric="ssim", value_range=(0, 1)) for i in range(120)]),
    )


def test_the_scales_of_ms_ssim_are_in_its_recipe():
    score = evaluate_pairs(uniform(3, 1, 30, 30), uniform(3, 1, 30, 30, seed=1), value_range=(0, 1), metrics=["ms_ssim"])[0]
    assert score.recipe["scales"] == 2
    assert sum(score.recipe["weights"]) == pytest.approx(1.0, abs=1e-5)
    assert "divided by their sum" in score.recipe["weights are"]


def test_small_images_and_vectors_leave_out_what_does_not_fit():
    assert [s.name for s in evaluate_pairs(X[..., :8], Y[..., :8], value_range=(0, 1))] == ["mae", "mse", "psnr", "ssim_global"]
    assert [s.name for s in evaluate_pairs(uniform(20, 3), uniform(20, 3, seed=1), value_range=(0, 1))] == ["mae", "mse"]


def test_equal_pairs_have_infinite_psnr_and_say_so():
    score = evaluate_pairs(X, X, value_range=(0, 1), metrics=["psnr"])[0]
    assert score.value == math.inf
    assert (score.low, score.high) == (None, None)
    assert "120 of 120 values are infinite" in score.note


def test_subjects_widen_the_interval():
    x, groups = X.repeat_interleave(4, 0), [f"patient{i // 4}" for i in range(480)]
    y = Y.repeat_interleave(4, 0)
    plain, grouped = (evaluate_pairs(x, y, value_range=(0, 1), metrics=["mse"], groups=g)[0] for g in (None, groups))
    assert (grouped.high - grouped.low) > 1.5 * (plain.high - plain.low)
    assert "120 subjects" in grouped.recipe["interval"]["method"]
    with pytest.raises(DataError, match="`groups`"):
        evaluate_pairs(x, y, value_range=(0, 1), groups=groups[:3])


def test_a_mask_is_used_and_stated():
    mask = torch.zeros(120, 1, 16, 16, dtype=torch.bool)
    mask[..., :8] = True
    score = evaluate_pairs(X, torch.where(mask, X, Y), value_range=(0, 1), mask=mask, metrics=["mae"])[0]
    assert score.value == 0.0
    assert score.recipe["mask"] == "given"
    with pytest.raises(DataError, match="`mask`"):
        evaluate_pairs(X, Y, value_range=(0, 1), mask=mask[:3])


@pytest.mark.parametrize(("n", "note"), [(1, "one sample: no interval"), (9, "n < 10: the interval is rough"), (10, "")])
def test_few_pairs_are_said(n, note):
    assert evaluate_pairs(X[:n], Y[:n], value_range=(0, 1), metrics=["mae"])[0].note == note


@pytest.fixture
def plugin(monkeypatch):
    """A third party's metrics, as the registry would hand them out."""
    module = types.ModuleType("third_party")
    monkeypatch.setitem(sys.modules, "third_party", module)

    @metric_plan(recipe={"definition": "gap of the brightest voxels"}, limits=(0.0, math.inf), on="images", advice=lambda n, m, f: "mine")
    def peak_gap(real, fake):
        assert real.dim() == 4
        return float((real.flatten(1).amax(1).mean() - fake.flatten(1).amax(1).mean()).abs())

    module.peak_gap = peak_gap
    module.first_gap = lambda real, fake: float((real[:, 0].mean() - fake[:, 0].mean()).abs())
    module.bad_set = lambda real, fake: real
    module.worst = lambda real, fake, *, value_range, mask: (real - fake).abs().flatten(1).amax(1)
    module.bad_pair = lambda real, fake, *, value_range, mask: 1.0
    kinds = {"peak_gap": "distribution", "first_gap": "distribution", "bad_set": "distribution", "worst": "paired", "bad_pair": "paired"}
    specs = {name: MetricSpec(name=name, function=f"third_party:{name}", kind=kind, better="lower") for name, kind in kinds.items()}

    def find_too(hook, name, host=None):
        return Declared(specs[name], "third-party", "1.0") if name in specs else find(hook, name, host)

    monkeypatch.setattr(sys.modules["medgen.evaluation.lookup"], "find", find_too)
    return module


def test_a_plugins_metrics_are_computed_like_medgens_own(plugin):
    gap, first, kid = evaluate_sets(X, 0.5 * Y, value_range=(0, 1), metrics=["peak_gap", "first_gap", "kid"], bootstrap=50)
    assert gap.value == pytest.approx(0.5, abs=0.01)
    assert 0.45 < gap.low < gap.value < gap.high < 0.55
    assert (gap.note, gap.recipe["metric"], gap.recipe["definition"]) == ("mine", "third-party/peak_gap", "gap of the brightest voxels")
    assert "extractor" not in gap.recipe
    assert first.recipe["extractor"] == kid.recipe["extractor"] == "medgen-random-conv-v1"
    assert evaluate_pairs(X, X + 0.25, value_range=(0, 1), metrics=["worst"])[0].value == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("name", ["bad_set", "bad_pair"])
def test_a_plugins_metric_that_returns_something_else_is_named(plugin, name):
    verb = evaluate_pairs if name == "bad_pair" else evaluate_sets
    with pytest.raises(PluginError, match=f"'third-party/{name}' must return"):
        verb(X, Y, value_range=(0, 1), metrics=[name])


def test_large_sets_draw_smaller_parts():
    plan = plan_of(frechet_distance)
    assert (plan.part, plan.share(100, 100), plan.share(50_000, 40_000), plan.share(3, 3)) == (1000, 0.5, 0.02, 0.0)


def test_mass_does_not_change_with_the_units():
    spec = ImageSpec(channels=1, shape=(4,), intensity=Intensity(low=(0.0,), high=(255.0,), dtype="uint8"))
    scores = {m: {s.name: s for s in evaluate_density(torch.full((16,), -4.0), spec, kind="exact", measure=m)} for m in ("density", "mass")}
    assert scores["mass"]["bits_per_dim"].value == scores["mass"]["bits_per_dim_model"].value == pytest.approx(1 / math.log(2))
    assert scores["density"]["bits_per_dim"].value == pytest.approx(1 / math.log(2) + math.log2(255))
    assert scores["mass"]["bits_per_dim"].recipe["measure"] == "mass"
