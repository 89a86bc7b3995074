"""Closed forms of the losses, and what the families learn."""

from __future__ import annotations

import pytest
import torch

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen_translation.losses import gradient_difference, region_mean, relative_l1


def conditions(shape, channels=1, regions=False):
    source = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=channels, shape=shape))
    slots = [source]
    if regions:
        slots.append(medgen.ConditionSpec(name="regions", kind="image", image=medgen.ImageSpec(channels=3, shape=shape, content="labels")))
    return slots


def test_the_gradient_difference_sees_edges_and_not_their_sign():
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    assert float(gradient_difference(x, x + 5)) == pytest.approx(0, abs=1e-20)
    assert float(gradient_difference(x, -x)) == 0
    ramp = torch.arange(6.0).view(1, 1, 6, 1).expand(1, 1, 6, 4)
    assert float(gradient_difference(3 * ramp, ramp)) == pytest.approx(4.0)
    assert float(gradient_difference(ramp[:, :, :, :1], ramp[:, :, :, :1])) == 0


def test_the_relative_error_counts_from_its_threshold_on():
    y, fake = torch.tensor([1.0, 1.0, 2.0, 0.0]), torch.tensor([1.05, 1.2, 2.6, 0.0])
    assert float(relative_l1(y, fake, 0.1)) == pytest.approx((0.2 + 0.6 + 0.0) / 3)
    assert float(relative_l1(y[:1], fake[:1], 0.1)) == 0


def test_every_region_counts_alike_and_absent_ones_not():
    """Wei: means over lesion, white matter and the rest, whatever their size."""
    values = torch.rand(3, 2, 5, 5, dtype=torch.float64)
    labels = torch.zeros(3, 5, 5, dtype=torch.int64)
    labels[0, :2], labels[0, 4, 4] = 2, 1
    labels[1, :3] = 1
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    mean = values.mean(1)
    wanted = [
        sum(mean[0][labels[0] == k].mean() for k in range(3)) / 3,
        sum(mean[1][labels[1] == k].mean() for k in range(2)) / 2,
        values[2].mean(),
    ]
    torch.testing.assert_close(region_mean(values, one_hot), torch.stack(wanted))
    present = torch.tensor([True, False, True])
    torch.testing.assert_close(region_mean(values, one_hot, present)[1], values[1].mean())


def test_a_lesion_of_one_voxel_weighs_as_much_as_the_rest_of_the_brain():
    spec, slots = medgen.ImageSpec(channels=1, shape=(6, 6)), conditions((6, 6), regions=True)
    model = medgen.create("regression", spec, slots, width=4, multipliers=[1], weighting="regions")
    y = torch.full((1, 1, 6, 6), 0.5)
    y[0, 0, 3, 3] = 1.0
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    labels[0, 3, 3] = 1
    regions = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    batch = Batch(y, Condition({"source": torch.zeros(1, 1, 6, 6), "regions": regions}))
    # the untrained network says 0.5 everywhere: error 1 in the lesion, 0 outside, in units of [-1, 1]
    found = model.phases()[0].loss(batch, Step(0, 1, Noise.of(0, [0])))
    assert float(found["loss"]) == pytest.approx(0.5)
    assert float(found["mae"]) == pytest.approx(1 / 36)
    with pytest.raises(ConfigError, match="needs data with the condition 'regions'"):
        medgen.create("regression", spec, conditions((6, 6)), weighting="regions")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"uncertainty": True}, "needs `loss` l2"),
        ({"loss": "relative_l1", "weighting": "regions"}, "cannot be weighted"),
    ],
)
def test_what_does_not_go_together_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        medgen.create("regression", medgen.ImageSpec(channels=1, shape=(6, 6)), conditions((6, 6)), **config)


def test_a_source_on_another_grid_is_refused():
    with pytest.raises(ConfigError, match=r"must lie on the grid \(8, 8\) of the target"):
        medgen.create("regression", medgen.ImageSpec(channels=1, shape=(8, 8)), conditions((6, 6)))


def test_the_inverse_is_learnt_with_its_noise(tmp_path):
    """y = 1 - x + 0.05 noise: the translation is 1 - x, and the deviation of its draws 0.05."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(64, 1, 8, 8, generator=rng)
    y = (1 - x + 0.05 * torch.randn(x.shape, generator=rng)).clamp(-0.5, 1.5)
    data = from_arrays(y.numpy(), images={"source": x.numpy()}, split=(1, 0, 0), window=(-0.5, 1.5))
    model = {"network": "fcn", "layers": 1, "loss": "l2", "uncertainty": True}
    run = medgen.train("regression", data, tmp_path / "r", model=model, steps=400, batch_size=16, lr=0.03, device="cpu", show=False)
    source = data.fetch(torch.arange(8)).condition.values["source"]
    stored = run.model.translate(source) * 2 - 0.5
    assert float((stored - (1 - x[:8])).abs().mean()) < 0.02
    draws = torch.stack([run.model.translate(source, noise=k) * 2 - 0.5 for k in range(40)])
    assert float(draws.std(0).mean()) == pytest.approx(0.05, abs=0.015)


def test_diffusion_translations_follow_the_source(tmp_path):
    """Dark sources become bright targets: what is drawn must say the same of most voxels."""
    rng = torch.Generator().manual_seed(0)
    x = (torch.rand(128, 1, 4, 4, generator=rng) > 0.5).float()
    data = from_arrays((1 - x).numpy(), images={"source": x.numpy()}, split=(1, 0, 0), content="intensity")
    model = {"width": 16, "multipliers": [1], "attention": [], "steps": 50, "sampling_steps": 8}
    run = medgen.train(
        "diffusion_translation", data, tmp_path / "r", model=model, steps=250, batch_size=32, lr=5e-3, device="cpu", show=False
    )
    batch = data.fetch(torch.arange(16))
    drawn = run.model.translate(batch.condition.values["source"], noise=1)
    assert float(((drawn > 0.5) == (batch.x > 0.5)).float().mean()) > 0.95
    other = run.model.translate(batch.condition.values["source"], noise=2)
    assert not torch.equal(drawn, other)
