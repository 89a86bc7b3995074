import inspect
import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgen.data.phantoms import Banana, datasets, mr_to_hu, toys
from medgen.errors import DataError
from medgen.registry import resolve
from medgen.registry.builtin import medgen_datasets

SMALL = {
    "cardiac_phantom": {"size": 32, "mask": True},
    "cardiac_labels": {"size": 32},
    "cardiac_sequence": {"size": 24, "frames": 5, "spikes": 1},
    "skull_phantom": {"size": 16},
    "lesion_phantom": {"size": 32},
    "mr_ct_phantom": {"size": 32, "paired": False},
    "heartbeat": {"length": 64},
    "gaussians8": {},
    "gaussians25": {},
    "two_moons": {},
    "banana": {},
}
PER_SUBJECT = {"cardiac_sequence": 5}
SPECS = {spec.name: spec for spec in medgen_datasets()}


def test_every_phantom_is_registered():
    assert set(SPECS) == set(SMALL) == {*datasets.__all__, "heartbeat", "banana", "gaussians8", "gaussians25", "two_moons"}


@pytest.mark.parametrize("name", SMALL)
def test_spec_options_are_the_factory_s(name):
    factory = resolve(SPECS[name].factory, owner="test")
    parameters = inspect.signature(factory).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert defaults == {key: default for key, (default, _) in SPECS[name].options.items()}
    assert all(text.endswith(".") for _, text in SPECS[name].options.values())
    assert SPECS[name].summary.endswith(".")


@pytest.mark.parametrize("name", SMALL)
def test_samples_depend_on_seed_and_number_only(name):
    make = resolve(SPECS[name].factory, owner="test")
    few, many, other = (make(n=n, seed=seed, **SMALL[name]) for n, seed in ((12, 0), (15, 0), (12, 1)))
    rows = np.arange(12 * PER_SUBJECT.get(name, 1))
    np.testing.assert_array_equal(few.stored(rows), many.stored(rows))
    assert not np.array_equal(few.stored(rows), other.stored(rows))
    assert few.fingerprint != other.fingerprint
    assert few.fingerprint == make(n=12, seed=0, **SMALL[name]).fingerprint
    for key, store in few.samples.images.items():
        np.testing.assert_array_equal(store.gather(rows), many.samples.images[key].gather(rows))
    for key, values in few.samples.attributes.items():
        np.testing.assert_array_equal(values, many.samples.attributes[key][rows])


@pytest.mark.parametrize("name", SMALL)
def test_global_rng_is_untouched(name):
    np.random.seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    resolve(SPECS[name].factory, owner="test")(n=4, **SMALL[name])
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_cardiac_images_and_maps_are_of_the_same_hearts():
    images, maps = datasets.cardiac_phantom(n=10, mask=True), datasets.cardiac_labels(n=10)
    assert images.image_spec.size == (1, 64, 64)
    assert images.image_spec.spacing == (2.25, 2.25)
    assert maps.image_spec.size == (4, 64, 64)
    assert maps.image_spec.channel_names == ("background", "RV", "MYO", "LV")
    rows = np.arange(10)
    batch, one_hot = images.fetch(rows), maps.fetch(rows).x
    assert torch.equal(batch.condition.values["mask"], one_hot)
    assert torch.equal(batch.condition.values["label"], maps.fetch(rows).condition.values["label"])
    lv = one_hot[:, 3].sum((1, 2)).numpy() * 2.25**2
    np.testing.assert_allclose(lv, images.samples.attributes["lv_area"], rtol=0.05)
    assert batch.x.min() >= 0
    assert batch.x.max() <= 1
    full = datasets.cardiac_phantom(n=4, default_range=(-1, 1)).fetch(rows[:4]).x
    torch.testing.assert_close(full, 2 * batch.x[:4] - 1)


def test_sequences_keep_subjects_together_and_know_their_spikes():
    data = datasets.cardiac_sequence(n=12, frames=8, size=48, spikes=1)
    assert len(data) == 96
    assert data.subjects.tolist() == [f"{i:05d}" for i in range(12) for _ in range(8)]
    groups = [set(data.subjects[rows]) for rows in data.splits.values()]
    assert not groups[0] & groups[1] | groups[1] & groups[2] | groups[0] & groups[2]
    spike = data.samples.attributes["spike"].reshape(12, 8)
    np.testing.assert_array_equal(spike.sum(1), 1)
    position = data.samples.attributes["frame_pos"].reshape(12, 8)
    assert (position[:, 0] == 0).all()
    assert (position[:, 3] == 1).all()  # end-systole: round(0.35 * 8)
    images = datasets.cardiac_sequence(n=2, frames=8, size=48, content="intensity").stored(np.arange(8))[:, 0]
    lung = np.abs(np.diff(images[:, :, -4:], axis=0)).max()
    assert lung == 0  # only the heart moves
    assert np.abs(np.diff(images, axis=0)).max() > 0.2


def test_skull_planes_are_cuts_of_the_volume():
    data = datasets.skull_phantom(n=6, size=24, inside=True)
    rows = np.arange(6)
    planes = data.samples.images["planes"].gather(rows)
    volumes = data.stored(rows)[:, 0]
    np.testing.assert_allclose(planes[:, 0, 0], volumes[:, :, :, 12])
    np.testing.assert_allclose(planes[:, 0, 2], volumes[:, :, 12])
    assert data.image_spec.spacing == (6.0, 6.0, 6.0)
    assert data.fetch(rows).condition.values["planes"].shape == (6, 4, 3, 24, 24)


def test_lesions_regions_and_attributes():
    data = datasets.lesion_phantom(n=8, size=96)
    batch = data.fetch(np.arange(8))
    assert batch.condition.values["source"].shape == (8, 2, 96, 96)
    regions = batch.condition.values["regions"]  # other, lesion, NAWM
    flair = torch.from_numpy(data.stored(np.arange(8)))[:, 0]
    ratio = [(flair[i][regions[i, 1] > 0].mean() / flair[i][regions[i, 2] > 0].mean()).item() for i in range(8)]
    truth = data.samples.attributes["lesion_ratio"]
    np.testing.assert_allclose(ratio, truth, rtol=0.15)
    assert np.corrcoef(ratio, truth)[0, 1] > 0.7
    area = regions[:, 1].sum((1, 2)).numpy() * (224 / 96) ** 2
    np.testing.assert_allclose(area, data.samples.attributes["lesion_size"], rtol=0.2)
    none = datasets.lesion_phantom(n=5, size=32, lesions_min=0, lesions_max=0)
    assert not none.samples.attributes["lesion_size"].any()


def test_myelin_is_lost_by_severity_in_patients_only():
    """Without PET's blur and noise, lesions have the share of myelin that their severity leaves."""
    data = datasets.lesion_phantom(n=12, size=96, lesions_min=6, severity_min=0.1, controls=0.25, target="myelin", noise=0.0)
    batch = data.fetch(np.arange(12))
    assert batch.condition.values["source"].shape[1] == 3
    counts = data.samples.attributes["lesion_count"]
    assert (counts == 0).tolist() == [False, False, False, True] * 3
    regions, myelin = batch.condition.values["regions"], torch.from_numpy(data.stored(np.arange(12)))[:, :1]
    for i in np.flatnonzero(counts):
        lesion, white = regions[i, 1:2] > 0, regions[i, 2:3] > 0
        flair = batch.condition.values["source"][i, 2:3]
        severity = (flair[lesion].mean() / flair[white].mean() - 1) / (0.862 / 0.461 - 1)  # of a noise-free image
        inner = 0.8 - 0.75 * severity.item()  # blur brings white matter in
        assert inner - 0.05 < myelin[i][lesion].mean().item() < 0.8
    healthy = datasets.lesion_phantom(n=4, size=96, lesions_min=0, lesions_max=0, target="myelin", noise=0.0)
    assert set(np.unique(healthy.samples.attributes["lesion_size"])) == {0.0}
    deep = ndimage.binary_erosion(healthy.fetch([0]).condition.values["regions"][0, 2].numpy() > 0, iterations=3)
    np.testing.assert_allclose(healthy.stored([0])[0, 0][deep], 0.8, atol=0.02)


def test_ct_is_in_hounsfield_units_and_pairs_can_be_parted():
    rows = np.arange(5)
    data = datasets.mr_ct_phantom(n=5, size=48, mapping="monotone", noise=0.0)
    assert data.image_spec.intensity.unit == "HU"
    assert data.image_spec.intensity.dtype == "int16"
    mr, ct = data.samples.images["source"].gather(rows), data.stored(rows)
    np.testing.assert_allclose(ct, mr_to_hu(mr), atol=0.51)  # rounded to whole HU
    parted = datasets.mr_ct_phantom(n=5, size=48, mapping="monotone", noise=0.0, paired=False)
    np.testing.assert_array_equal(parted.stored(rows), ct)
    assert np.abs(mr_to_hu(parted.samples.images["source"].gather(rows)) - ct).mean() > 20
    window = datasets.mr_ct_phantom(n=5, size=48, window=(-600, 1400)).image_spec.intensity
    assert (window.low, window.high) == ((-600.0,), (1400.0,))


@pytest.mark.parametrize("name", ["lesion_phantom", "mr_ct_phantom"])
def test_heads_in_three_dimensions(name):
    data = getattr(datasets, name)(n=3, size=20, dim=3)
    batch = data.fetch(np.arange(3))
    assert batch.x.shape == (3, 1, 20, 20, 20)
    assert batch.condition.values["source"].shape[2:] == (20, 20, 20)


def test_toys_are_in_the_plane_s_own_units():
    data = toys.banana(n=50)
    x = data.fetch(np.arange(50)).x
    assert x.shape == (50, 2)
    np.testing.assert_allclose(x.numpy(), Banana().sample(50), rtol=1e-6)
    assert data.image_spec.content == "features"
    ring = toys.gaussians8(n=64)
    angles = ring.fetch(np.arange(64)).condition.values["label"].numpy() * math.pi / 4
    np.testing.assert_allclose(ring.stored(np.arange(64)), 2 * np.stack([np.cos(angles), np.sin(angles)], 1), atol=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cardiac_phantom", {"n": 0}),
        ("cardiac_phantom", {"size": 0}),
        ("cardiac_phantom", {"seed": -1}),
        ("cardiac_sequence", {"content": "movies"}),
        ("lesion_phantom", {"dim": 1}),
        ("lesion_phantom", {"lesions_min": 3, "lesions_max": 2}),
        ("lesion_phantom", {"controls": 1.5}),
        ("lesion_phantom", {"target": "PET"}),
        ("mr_ct_phantom", {"mapping": "linear"}),
        ("heartbeat", {"rate": 0.0}),
    ],
)
def test_bad_options(name, options):
    with pytest.raises(DataError, match="must"):
        resolve(SPECS[name].factory, owner="test")(**options)
