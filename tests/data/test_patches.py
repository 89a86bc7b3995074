from __future__ import annotations

import numpy as np
import pytest
import torch

import medgen
from medgen.data import from_arrays
from medgen.data.stores import Patches
from medgen.errors import DataError
from medgen.interfaces import Noise


def coordinates(n=3, shape=(12, 10, 9)):
    """Volumes whose values say where they are; the source is the target plus 1000."""
    place = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return np.stack([place + 5000 * k for k in range(n)])


def dataset(**options):
    x = coordinates()
    regions = np.zeros(x.shape, np.uint8)
    regions[:, 6, 5, 4] = 1
    images = {"source": x + 1000, "regions": regions}
    return from_arrays(x, dim=3, images=images, split=(1, 0, 0), patch=(4, 3, 5), **options)


def test_a_patch_is_a_piece_of_its_sample_and_all_sides_are_cut_alike():
    data = dataset(patches=8)
    assert data.image_spec.size == (1, 4, 3, 5)
    assert len(data) == 24
    for k in range(24):
        x, source = data.stored([k])[0, 0], data.samples.images["source"].gather(np.array([k]))[0, 0]
        np.testing.assert_array_equal(source, x + 1000)
        sample = k // 8
        start = np.array(np.unravel_index(int(x[0, 0, 0]) - 5000 * sample, (12, 10, 9)))
        whole = coordinates()[sample]
        np.testing.assert_array_equal(x, whole[tuple(slice(a, a + n) for a, n in zip(start, (4, 3, 5), strict=True))])


def test_intensity_and_splits_are_those_of_whole_samples():
    data = from_arrays(coordinates(10), dim=3, patch=(4, 4, 4), patches=5, subjects=np.arange(10))
    assert data.image_spec.intensity.high == (max(coordinates(10)[k].max() for k in data.splits["train"][::5] // 5),)
    parts = [set(data.subjects[rows]) for rows in data.splits.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 10


def test_places_are_a_function_of_the_noise_and_go_everywhere():
    data = dataset(patches=4)
    rows = np.zeros(200, np.int64)
    first, again, other = (data.fetch(rows, Noise(s, torch.arange(200))).x for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(data.fetch(rows[:5], Noise(0, torch.arange(5))).x, first[:5])
    assert torch.equal(data.fetch(np.array([3])).x, data.fetch(np.array([3])).x)
    starts = Patches((12, 10), (4, 3), 1).starts(np.arange(3000))
    assert starts.min(0).tolist() == [0, 0]
    assert starts.max(0).tolist() == [8, 7]
    assert np.bincount(starts[:, 0]).min() > 3000 / 9 * 0.7


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_foreground_has_its_share(share):
    data = dataset(patches=200, patch_foreground=share)
    hit = (data.fetch(np.arange(600)).condition.values["regions"][:, 1].flatten(1).sum(1) > 0).double().mean()
    by_chance = 4 * 3 * 5 / (9 * 8 * 5)
    assert abs(float(hit) - (share + (1 - share) * by_chance)) < 0.06


def test_a_patch_must_fit():
    for patch in ((4, 4), (13, 4, 4)):
        with pytest.raises(DataError, match=r"`patch` must have 3 numbers, at most \(12, 10, 9\)"):
            from_arrays(coordinates(), dim=3, patch=patch)


def test_training_on_patches_resumes_to_the_bit(tmp_path, monkeypatch):
    from medgen.training import resume
    from medgen.training.loop import Loop

    data = lambda: from_arrays(coordinates(4), dim=3, patch=(4, 4, 4), patches=4)  # noqa: E731
    options = {
        "steps": 6,
        "batch_size": 4,
        "checkpoint_every": 2,
        "device": "cpu",
        "show": False,
        "model": {"latent_dim": 2, "channels": [4]},
    }
    whole = medgen.train("vae", data(), tmp_path / "whole", **options)
    step = Loop._step

    def killed(self, batches):
        if self.position.step == 4:
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", killed)
        with pytest.raises(KeyboardInterrupt):
            medgen.train("vae", data(), tmp_path / "killed", **options)
    resumed = resume(tmp_path / "killed", data=data(), show=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
