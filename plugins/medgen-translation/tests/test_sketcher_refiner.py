"""The region-weighted error of the refiner by hand, what each phase trains, and the protocol from one command."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen_translation.losses import weighted_mean

SHAPE = (6, 6)
SPEC = medgen.ImageSpec(channels=1, shape=SHAPE)
SOURCE = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=2, shape=SHAPE))
REGIONS = medgen.ConditionSpec(name="regions", kind="image", image=medgen.ImageSpec(channels=3, shape=SHAPE, content="labels"))
SMALL = {"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8]}
OTHER, LESION, NAWM = 0, 1, 2


def masks():
    """Two brains: one with a lesion of a voxel, one without lesions."""
    labels = torch.zeros(2, *SHAPE, dtype=torch.int64)
    labels[:, 1:4, 1:5] = NAWM
    labels[0, 2, 2] = LESION
    return labels


def batch_of(labels, y=None):
    regions = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    n = len(labels)
    y = torch.rand(n, 1, *SHAPE, generator=torch.Generator().manual_seed(1)) if y is None else y
    x = torch.rand(n, 2, *SHAPE, generator=torch.Generator().manual_seed(2))
    return Batch(y, Condition({"source": x, "regions": regions}), torch.arange(n))


def step():
    return Step(0, 1, Noise.of(0, range(2)))


def test_the_region_loss_equals_the_hand_computation():
    """(1/N) sum over subjects of (1/M) (mean over lesions + mean over NAWM + mean over the rest); M = 2 without lesions."""
    labels = masks()
    error = torch.zeros(2, 1, *SHAPE, dtype=torch.float64)
    error[0, 0][labels[0] == LESION], error[0, 0][labels[0] == NAWM], error[0, 0][labels[0] == OTHER] = 0.9, 0.3, 0.06
    error[1, 0][labels[1] == NAWM], error[1, 0][labels[1] == OTHER] = 0.5, 0.1
    error[1, 0, 1, 1], error[1, 0, 1, 2] = 0.4, 0.6  # the mean of a region counts, not its distribution
    by_hand = ((0.9 + 0.3 + 0.06) / 3 + (0.5 + 0.1) / 2) / 2
    assert by_hand == pytest.approx(0.36)
    found = weighted_mean(error, batch_of(labels).condition, "regions")
    assert found.tolist() == pytest.approx([0.42, 0.3])
    assert float(found.mean()) == pytest.approx(by_hand)


def test_every_region_has_a_third_of_the_gradient():
    labels = masks()[:1]
    error = torch.zeros(1, 1, *SHAPE, requires_grad=True)
    weighted_mean(error, batch_of(labels).condition, "regions").sum().backward()
    share = [float(error.grad[0, 0][labels[0] == k].sum()) for k in (OTHER, LESION, NAWM)]
    assert share == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    error.grad = None
    weighted_mean(error, batch_of(labels).condition, "voxels").sum().backward()
    assert float(error.grad[0, 0][labels[0] == LESION]) == pytest.approx(1 / 36)


def test_the_sketcher_counts_voxels_and_the_refiner_regions():
    """With the games at weight 0, the losses are lambda_S and lambda_R times the two errors."""
    model = medgen.create("sketcher_refiner", SPEC, [SOURCE, REGIONS], **SMALL, adversarial=0.0, sketch_weight=10.0, distance_weight=30.0)
    model.train()
    batch = batch_of(masks())
    losses = {phase.name: phase.loss for phase in model.phases()}
    assert list(losses) == ["sketcher_discriminator", "sketcher_generator", "refiner_discriminator", "refiner_generator"]
    with torch.no_grad():
        sketch = model.sketcher(batch.condition)
        refined = model.refiner(batch.condition, sketch)
    y = 2 * batch.x - 1
    assert float(losses["sketcher_generator"](batch, step())["loss"].detach()) == pytest.approx(
        10 * float((y - sketch).abs().mean()), rel=1e-5
    )
    regions = batch.condition.values["regions"]
    each = [[(y - refined).abs()[i, 0][regions[i, k] > 0].mean() for k in range(3) if regions[i, k].any()] for i in range(2)]
    wanted = 30 * sum(float(sum(terms) / len(terms)) for terms in each) / 2
    assert [len(terms) for terms in each] == [3, 2]
    assert float(losses["refiner_generator"](batch, step())["loss"].detach()) == pytest.approx(wanted, rel=1e-5)


def test_no_gradient_flows_from_the_refiner_through_the_sketch():
    model = medgen.create("sketcher_refiner", SPEC, [SOURCE, REGIONS], **SMALL)
    model.train()
    phases = {phase.name: phase for phase in model.phases()}
    phases["refiner_generator"].loss(batch_of(masks()), step())["loss"].backward()
    assert all(p.grad is None for p in model.sketcher.parameters())
    assert any(bool(p.grad.any()) for p in phases["refiner_generator"].parameters)
    owners = [id(p) for phase in phases.values() for p in phase.parameters]
    assert sorted(owners) == sorted(id(p) for p in model.parameters())


def test_translations_refine_the_sketch():
    model = medgen.create("sketcher_refiner", SPEC, [SOURCE], **SMALL, weighting="voxels")
    x = torch.rand(3, 2, *SHAPE)
    with torch.no_grad():
        sketch = model.sketcher(Condition({"source": x}))
        wanted = model.refiner.units.to_model(model.refiner(Condition({"source": x}), sketch))
    torch.testing.assert_close(model.translate(x), wanted)
    torch.testing.assert_close(model.sketch(x), (sketch + 1) / 2)


def test_the_refiner_follows_the_sketcher_or_learns_beside_it():
    spans = {
        in_turn: {
            phase.name: phase.span
            for phase in medgen.create("sketcher_refiner", SPEC, [SOURCE, REGIONS], **SMALL, in_turn=in_turn).phases()
        }
        for in_turn in (True, False)
    }
    assert spans[True] == {
        f"{part}_{player}": span
        for part, span in (("sketcher", (0.0, 0.5)), ("refiner", (0.5, 1.0)))
        for player in ("discriminator", "generator")
    }
    assert set(spans[False].values()) == {(0.0, 1.0)}


def test_regions_are_asked_for_by_the_option_that_needs_them():
    with pytest.raises(ConfigError, match="`weighting` regions needs data with the condition 'regions'"):
        medgen.create("sketcher_refiner", SPEC, [SOURCE], **SMALL)


def test_both_learn_the_inverse(tmp_path):
    """y = 1 - x, seen through two games whose errors weigh 100."""
    x = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = from_arrays((1 - x).numpy(), images={"source": x.numpy()}, split=(1, 0, 0), window=(0, 1))
    model = {
        "network": "fcn", "layers": 2, "kernel": 1, "width": 16, "weighting": "voxels", "discriminator_channels": [8], "generator_lr": 0.02,
    }  # fmt: skip
    run = medgen.train("sketcher_refiner", data, tmp_path / "r", model=model, steps=120, batch_size=16, device="cpu", show=False)
    batch = data.fetch(torch.arange(8))
    source = batch.condition.values["source"]
    for found in (run.model.sketch(source), run.model.translate(source)):
        assert float((found - batch.x).abs().mean()) < 0.04


def test_a_perceptron_of_voxels_sees_no_neighbours():
    model = medgen.create("regression", SPEC, [SOURCE], network="fcn", layers=2, kernel=1, width=8)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    x = torch.rand(1, 2, *SHAPE)
    other = x.clone()
    other[0, :, 3, 3] = 0.0
    moved = (model.translate(x) - model.translate(other)).abs()
    assert float(moved[0, 0, 3, 3]) > 0
    moved[0, 0, 3, 3] = 0
    assert float(moved.max()) == 0


def test_the_protocol_runs_from_one_command(tmp_path, capsys):
    path = Path(__file__).parents[1] / "examples" / "wei.py"
    spec = importlib.util.spec_from_file_location("wei", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["wei"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    found = module.main(["--out", str(tmp_path), "--tiny"])
    printed = capsys.readouterr().out
    assert all(method.name in printed for method in module.METHODS)
    assert "demyelination Dice" in printed
    assert ".0083 (.0037)" in printed
    assert set(found["p"]) == {method.name for method in module.METHODS} - {"refiner"}
    assert json.loads((tmp_path / "wei.json").read_text())["subjects"] == 4
    assert (tmp_path / "wei.png").stat().st_size > 10_000
