"""SPADE: where labels act, what styles do."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import medgen
from medgen.data import from_arrays, open_like, open_source
from medgen.data.intensity import to_stored
from medgen.errors import ConditionError, ConfigError, DataError
from medgen.interfaces import Batch, Condition, FollowsStyle, Noise, Step
from medgen.runs import style_of, translate_dataset, translate_to
from medgen_translation.spade_networks import SpadeGenerator, SpadeNorm, StyleEncoder

TINY = {"width": 4, "multipliers": [1, 2], "hidden": 6, "style_dim": 3, "discriminator_channels": [4, 4]}


def one_hot(labels, classes=3):
    return F.one_hot(labels, classes).movedim(-1, 1).float()


def made(shape=(12, 12), classes=3, **config):
    image = medgen.ImageSpec(channels=classes, shape=shape, content="labels")
    source = medgen.ConditionSpec(name="source", kind="image", image=image)
    return medgen.create("spade", medgen.ImageSpec(channels=1, shape=shape), [source], **{**TINY, **config})


def batch_of(n=2, shape=(12, 12), seed=0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n, *shape), generator=rng)
    return Batch(torch.rand(n, 1, *shape, generator=rng), Condition({"source": one_hot(labels)}))


@pytest.mark.parametrize(("shape", "place"), [((20,), (9,)), ((20, 17), (9, 6)), ((9, 10, 11), (4, 5, 6))])
def test_a_label_acts_on_its_neighbourhood_of_five_and_nowhere_else(shape, place):
    norm = SpadeNorm(len(shape), 4, 3, 32)
    labels = torch.randint(0, 3, (1, *shape), generator=torch.Generator().manual_seed(1))
    other = labels.clone()
    other[(0, *place)] = (other[(0, *place)] + 1) % 3
    near = torch.ones(shape, dtype=torch.bool)
    for axis, (p, side) in enumerate(zip(place, shape, strict=True)):
        line = (torch.arange(side) - p).abs() <= 2
        near &= line.view(*[1] * axis, -1, *[1] * (len(shape) - axis - 1))
    with torch.no_grad():
        for before, after in zip(norm.modulation(one_hot(labels)), norm.modulation(one_hot(other)), strict=True):
            moved = (before != after).any(1)[0]
            assert not bool(moved[~near].any())
            assert bool(moved[near].all())


def test_the_normalisation_has_no_parameters_of_its_own():
    """gamma = beta = 0 leaves mean 0 and variance 1 per channel and sample; h + 7 and 3 h give the same."""
    norm = SpadeNorm(2, 4, 3, 8).double()
    torch.nn.init.zeros_(norm.affine.weight)
    torch.nn.init.zeros_(norm.affine.bias)
    h = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    m = one_hot(torch.zeros(2, 9, 8, dtype=torch.int64)).double()
    out = norm(h, m)
    torch.testing.assert_close(out.mean((2, 3)), torch.zeros(2, 4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(out.var((2, 3), correction=0), torch.ones(2, 4, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(3 * h + 7, m), out, atol=1e-4, rtol=1e-4)
    assert {name for name, _ in norm.named_parameters()} == {"shared.weight", "shared.bias", "affine.weight", "affine.bias"}


def test_the_output_is_modulated_as_in_the_formula():
    norm = SpadeNorm(1, 2, 3, 8)
    h, m = torch.randn(3, 2, 10), one_hot(torch.randint(0, 3, (3, 10)))
    gamma, beta = norm.modulation(m)
    normal = (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(h, m), normal * (1 + gamma) + beta)


def test_maps_are_resized_by_nearest_neighbours():
    """Every resolution sees whole labels, never mixtures; a label between two of the lowest ones is not seen there."""
    seen = []
    net = SpadeGenerator(3, 1, (12, 10), (4, 4, 4), hidden=4, style_dim=2)
    for module in net.modules():
        if isinstance(module, SpadeNorm):
            module.register_forward_pre_hook(lambda _module, given: seen.append(given[1]))
    net(one_hot(torch.randint(0, 3, (1, 12, 10))), torch.zeros(1, 2))
    assert sorted({tuple(m.shape[2:]) for m in seen}) == [(3, 3), (6, 5), (12, 10)]
    assert all(bool(((m == 0) | (m == 1)).all()) and bool((m.sum(1) == 1).all()) for m in seen)


def test_the_gradient_reaches_the_encoder_from_the_game():
    """Without KL and error per voxel the game alone moves the encoder."""
    model = made(kl_weight=0.0).train()
    losses = model.phases()[1].loss(batch_of(), Step(0, 1, Noise(0, torch.arange(2))))
    losses["loss"].backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in model.encoder.mean.parameters())
    assert float(losses["kl"]) > 0


def test_the_kl_is_that_of_torch():
    model, batch = made().double(), batch_of()
    batch = model.select(Batch(batch.x.double(), batch.condition))
    prior = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2, 3).double(), torch.ones(2, 3).double()), 1)
    wanted = torch.distributions.kl_divergence(model.style(batch.x), prior).mean()
    found = model.phases()[1].loss(batch, Step(0, 1, Noise(0, torch.arange(2))))["kl"]
    torch.testing.assert_close(found, wanted)


def test_features_are_matched_sample_by_sample_summed_over_layers():
    model, batch = made(kl_weight=0.0, adversarial=0.0), batch_of()
    step = Step(0, 1, Noise(0, torch.arange(2)))
    losses = model.phases()[1].loss(batch, step)
    labels, y = batch.condition.values["source"], batch.x * 2 - 1
    with torch.no_grad():
        fake = model._generated(labels, model._drawn(batch, step)[0])
        real, wrong = (model.discriminator(torch.cat((labels, x), 1)).features for x in (y, fake))
    each = torch.stack([(a - b).abs().mean() for a, b in zip(real, wrong, strict=True)])
    assert len(each) == 4  # two scales of two layers
    torch.testing.assert_close(losses["loss"].detach(), 10 * each.sum() / 2)


def test_styles_are_part_of_the_translation():
    model, batch = made(), batch_of(3)
    labels = batch.condition.values["source"]
    assert isinstance(model, FollowsStyle)
    assert torch.equal(model.translate(labels), model.stylise(labels, torch.zeros(3)))
    z = model.style(batch.x).mean
    assert torch.equal(model.swap(labels, batch.x), model.stylise(labels, z))
    torch.testing.assert_close(model.swap(labels, batch.x[:1]), model.stylise(labels, z[:1].expand(3, 3)))
    assert not torch.equal(model.translate(labels, noise=1), model.translate(labels, noise=2))
    with pytest.raises(DataError, match=r"`z` must have shape \[3\] or \[3, 3\]; got \(3, 4\)"):
        model.stylise(labels, torch.zeros(3, 4))


def test_without_styles_there_is_one_image_per_map():
    model, batch = made(style=False), batch_of(2)
    labels = batch.condition.values["source"]
    assert not model.stochastic
    assert torch.equal(model.translate(labels, noise=1), model.translate(labels))
    assert "kl" not in model.phases()[1].loss(batch, Step(0, 1, Noise(0, torch.arange(2))))
    with pytest.raises(ConfigError, match="this model has no styles"):
        model.style(batch.x)


def test_spectral_norms_of_the_generator_follow_its_weights():
    model = made()
    layer = model.generator.levels[0][0].conv1
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.randn_like(layer.weight))
    for _ in range(30):
        model.phases()[1].after()
    assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.02)
    assert made(generator_spectral_norm=False).phases()[1].after is None


def test_one_position_is_not_normalised_away():
    """Nor does a generator pretend that it could be."""
    mean, _ = StyleEncoder(1, (4, 4), (3, 3, 3), 2)(torch.randn(2, 1, 4, 4))
    assert bool((mean[0] != mean[1]).any())
    with pytest.raises(ConfigError, match="bring shape \\(4, 4\\) down to one position"):
        made((4, 4), multipliers=[1, 1, 1])


def test_images_are_no_label_maps():
    grey = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=1, shape=(12, 12)))
    with pytest.raises(ConditionError, match=r"takes labels as 'source'; got intensity \(see --source_content\)"):
        medgen.create("spade", medgen.ImageSpec(channels=1, shape=(12, 12)), [grey], **TINY)


def test_maps_of_a_volume_become_a_volume_with_the_style_of_another(tmp_path):
    """Slices of NIfTI label maps; the result has the affine of the maps, and one style from an image; strange labels are an error."""
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[-1.5, 0, 0, 3], [0, 0, 4.0, -2], [0, 1.5, 0, 7], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    for k in range(3):
        maps = rng.integers(0, 3, (12, 10, 4)).astype(np.uint8)
        for name, values in (("maps", maps), ("cine", (60 * maps + rng.integers(0, 20, maps.shape)).astype(np.int16))):
            (tmp_path / name).mkdir(exist_ok=True)
            nibabel.Nifti1Image(values, affine).to_filename(tmp_path / name / f"p{k}.nii.gz")
    data = {"data": tmp_path / "cine", "source": str(tmp_path / "maps"), "axis": 2, "split": (1, 0, 0)}
    dataset = medgen.open_data(data.pop("data"), **data)
    run = medgen.train("spade", dataset, tmp_path / "r", model=TINY, steps=3, batch_size=2, device="cpu", show=False)
    given, like = tmp_path / "maps" / "p0.nii.gz", tmp_path / "cine" / "p2.nii.gz"
    (out,) = translate_to(run, [str(given)], tmp_path / "styled.nii.gz", style=str(like))
    written = nibabel.load(out)
    np.testing.assert_allclose(written.affine, affine)
    assert written.shape == (12, 10, 4)
    targets = open_like(like, run.model.image_spec, **run.config.data_options)
    style = run.model.style(targets.fetch(np.arange(len(targets))).x).mean.mean(0)
    torch.testing.assert_close(style_of(run, str(like)), style)
    x = open_source([given], run.model.source_spec, **run.config.data_options)
    wanted = to_stored(translate_dataset(run.model, x, style=style).mean, run.model.image_spec)
    found = np.asarray(written.dataobj)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(np.sort(found.ravel()), np.sort(wanted.ravel()))
    (plain,) = translate_to(run, [str(given)], tmp_path / "plain.nii.gz")
    assert not np.array_equal(np.asarray(nibabel.load(plain).dataobj), found)
    strange = np.asarray(nibabel.load(given).dataobj).copy()
    strange[3, 3, 1] = 7
    nibabel.Nifti1Image(strange, affine).to_filename(tmp_path / "strange.nii.gz")
    with pytest.raises(DataError, match=r"strange.nii.gz: labels must be among \[0, 1, 2\]; got \[0, 1, 2, 7\]"):
        translate_to(run, [str(tmp_path / "strange.nii.gz")], tmp_path / "x.nii.gz")


def toy(n=96, side=16):
    """Discs whose brightness is the style: (images, maps, brightness [n])."""
    rng = np.random.default_rng(0)
    grid = np.indices((side, side))
    centre, radius = rng.uniform(5, side - 6, (n, 2, 1, 1)), rng.uniform(3, 5, (n, 1, 1))
    maps = (np.hypot(grid[0] - centre[:, 0], grid[1] - centre[:, 1]) < radius).astype(np.uint8)
    bright = rng.uniform(0.3, 1.0, n)
    return (0.1 + bright[:, None, None] * 0.8 * maps).astype(np.float32), maps, bright


@pytest.mark.slow
def test_two_styles_of_one_map_are_two_contrasts_and_swap_takes_the_other(tmp_path):
    images, maps, bright = toy()
    data = from_arrays(images, images={"source": maps}, split=(1, 0, 0), window=(0, 1), content="intensity")
    model = {**TINY, "width": 8, "hidden": 8, "style_dim": 4, "discriminator_channels": [8, 16]}
    model |= {"generator_lr": 2e-3, "discriminator_lr": 2e-3}
    run = medgen.train("spade", data, tmp_path / "r", model=model, steps=250, batch_size=16, device="cpu", show=False)
    rows = torch.arange(32)
    batch = data.fetch(rows)
    labels, inside = batch.condition.values["source"], torch.from_numpy(maps[:32]).bool()[:, None]

    def brightness(x):
        return torch.stack([v[i].mean() for v, i in zip(x, inside, strict=True)])

    other = rows.flip(0)
    swapped = brightness(run.model.swap(labels, batch.x[other]))
    wanted = torch.from_numpy(0.1 + 0.8 * bright[:32][other.numpy()])
    own = torch.from_numpy(0.1 + 0.8 * bright[:32])
    far = (wanted - own).abs() > 0.2
    assert float((swapped - wanted).abs()[far].mean()) < 0.3 * float((own - wanted).abs()[far].mean())
    order = np.argsort(bright[:32])
    low, high = (brightness(run.model.swap(labels, batch.x[k : k + 1])) for k in (int(order[2]), int(order[-3])))
    assert bool((high > low + 0.2).all())


def test_the_example_measures_a_run_from_end_to_end(tmp_path):
    path = Path(__file__).parents[1] / "examples" / "styles.py"
    spec = importlib.util.spec_from_file_location("styles", path)
    styles = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(styles)
    found = styles.main(["--tiny", "--out", str(tmp_path)])
    assert found["patients"] == {"train": ["a", "b"], "test": ["c"]}
    assert found["swaps"]["pairs"] == 16
    assert set(found["edits of test"]) == {"thicker wall", "thinner wall", "cavity filled", "heart removed"}
    for row in found["edits of test"].values():
        assert row["slices"] == 8
        assert row["ratio"] == pytest.approx(row["within 6"] / row["elsewhere"])
    assert {p.name for p in tmp_path.glob("*.png")} == {"samples.png", "edits.png", "styles.png"}
    assert json.loads((tmp_path / "styles.json").read_text()) == found


def test_hearts_are_cut_around_their_centroid_within_the_image(tmp_path):
    path = Path(__file__).parents[1] / "examples" / "heart_crops.py"
    spec = importlib.util.spec_from_file_location("heart_crops", path)
    crops = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(crops)
    masks = np.zeros((3, 20, 20), np.uint8)
    masks[0, 9:12, 5:8], masks[1, 0:2, 18:20], masks[2, 9, 9] = 2, 1, 2
    images = np.arange(1200, dtype=np.uint16).reshape(3, 20, 20)
    np.savez(tmp_path / "d.npz", images=images, masks=masks, patient=np.array(["p", "q", "r"]), has_epi=np.array([True, True, False]))
    found = crops.crops(tmp_path / "d.npz", 8)
    np.testing.assert_array_equal(found["images"], [images[0, 6:14, 2:10], images[1, 0:8, 12:20]])
    np.testing.assert_array_equal(found["masks"], [masks[0, 6:14, 2:10], masks[1, 0:8, 12:20]])
    assert found["patient"].tolist() == ["p", "q"]
