from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import medgen
from medgen.data import from_arrays, open_source
from medgen.errors import ConfigError, DataError, RunError
from medgen.interfaces import FollowsStyle, Translator
from medgen.registry import ConditionSpec, ImageSpec, Intensity
from medgen.registry.config import Config
from medgen.runs import Run, Work, translate_dataset, translate_to

SHAPE = (13, 11, 9)
AFFINE = np.array([[-2.0, 0.1, 0, 5], [0.1, 1.5, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])
TINY = {"width": 4, "multipliers": [1]}


class Linear(Translator):
    """y = 1 - x of the first channel of the source, plus noise where asked."""

    stochastic = True

    def phases(self):
        return []

    def _translate(self, x, condition, noise):
        y = 1 - x[:, :1]
        return y if noise is None else y + 0.1 * noise.normal(*y.shape[1:], dtype=y.dtype)


def linear(shape, channels=1, **intensity):
    source = ConditionSpec(name="source", kind="image", image=ImageSpec(channels=channels, shape=shape))
    return Linear(Config(), ImageSpec(channels=1, shape=shape, intensity=Intensity(**intensity)), [source])


def sources(x):
    data = from_arrays(x, dim=x.ndim - 1 if x.ndim < 5 else 3, split=(1, 0, 0), window=(0, 1))
    return replace(data, conditions=())


@pytest.fixture
def nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")

    def write(name, values=None, affine=AFFINE):
        values = np.random.Generator(np.random.Philox(len(name))).random(SHAPE).astype(np.float32) if values is None else values
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(values, affine).to_filename(path)
        return path

    return write


def read(path):
    import nibabel

    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine


@pytest.fixture
def patch_run(tmp_path, nifti):
    """Trained on 3-D patches of two pairs of volumes."""
    for k in range(2):
        nifti(f"mr/s{k}.nii.gz", np.random.Generator(np.random.Philox(k)).random(SHAPE).astype(np.float32))
        nifti(f"ct/s{k}.nii.gz", (np.random.Generator(np.random.Philox(k)).random(SHAPE) * 2000 - 600).astype(np.int16))
    data = {"source": str(tmp_path / "mr"), "window": (-600, 1400), "source_window": (0, 1), "patch": (4, 6, 4)}
    options = {"steps": 2, "batch_size": 4, "device": "cpu", "show": False}
    return medgen.train(
        "regression", tmp_path / "ct", tmp_path / "run", model={"network": "fcn", "layers": 2, "width": 4}, **data, **options
    )


@pytest.mark.parametrize("work", [Work(), Work(tiles=5, overlap=0.25, blend="gaussian"), Work(memory=0.001)])
def test_what_is_local_translates_a_whole_volume_without_seams(work, rng_volume):
    model, data = linear((4, 6, 4)), sources(rng_volume)
    found = translate_dataset(model, data, work)
    assert found.sd is None
    torch.testing.assert_close(found.mean, 1 - torch.from_numpy(rng_volume)[:, None], rtol=0, atol=1e-6)


@pytest.fixture
def rng_volume():
    return np.random.Generator(np.random.Philox(4)).random((2, *SHAPE)).astype(np.float32)


def test_draws_give_their_mean_and_sample_deviation(rng_volume):
    model, data = linear(SHAPE), sources(rng_volume)
    each = torch.stack([model.translate(data.fetch(np.arange(2)).x, noise=k) for k in range(3)])
    found = translate_dataset(model, data, Work(draws=200, seed=3))
    assert abs(float(found.sd.mean()) - 0.1) < 0.001
    assert float((found.mean - each.mean(0)).abs().mean()) < 0.1
    again = translate_dataset(model, data, Work(draws=200, seed=3, tiles=1))
    torch.testing.assert_close(again.mean, found.mean)
    model.stochastic = False
    with pytest.raises(ConfigError, match="`draws` above 1 needs a stochastic translation"):
        translate_dataset(model, data, Work(draws=2))


def test_a_budget_too_small_is_told(rng_volume):
    with pytest.raises(ConfigError, match=r"`memory` of 1e-07 GiB is too little: one input of shape \(1, 4, 6, 4\) needs"):
        translate_dataset(linear((4, 6, 4)), sources(rng_volume), Work(memory=1e-7))


def test_a_volume_comes_back_on_its_grid_in_the_units_of_the_target(patch_run, nifti, tmp_path):
    path = nifti("new.nii.gz")
    out = translate_to(patch_run, [str(path)], tmp_path / "out.nii.gz")
    assert out == [tmp_path / "out.nii.gz"]
    values, affine = read(out[0])
    np.testing.assert_array_equal(affine, read(path)[1])
    assert (values.shape, values.dtype) == (SHAPE, np.int16)
    data = open_source([path], patch_run.model.source_spec, whole=True, **patch_run.config.data_options)
    wanted = translate_dataset(patch_run.model, data).mean[0, 0].numpy() * 2000 - 600
    np.testing.assert_allclose(values, wanted, atol=0.51)
    assert values.std() > 0


def test_folders_go_on_where_they_stopped_and_are_for_one_run(patch_run, nifti, tmp_path):
    for k in range(3):
        nifti(f"in/a{k}.nii.gz")
    done = []
    written = translate_to(patch_run, [str(tmp_path / "in")], tmp_path / "out", progress=done.append)
    assert [p.name for p in written] == ["a0.nii.gz", "a1.nii.gz", "a2.nii.gz"]
    assert done == [1, 2, 3]
    before = {p: p.stat().st_mtime_ns for p in written}
    written[1].unlink()
    translate_to(patch_run, [str(tmp_path / "in")], tmp_path / "out")
    assert [p.stat().st_mtime_ns == before[p] for p in written] == [True, False, True]
    with pytest.raises(RunError, match=r"translations with another overlap \(0.5, not 0.25\)"):
        translate_to(patch_run, [str(tmp_path / "in")], tmp_path / "out", work=Work(overlap=0.25))
    with pytest.raises(RunError, match="holds 3 files, so that the output must be a folder"):
        translate_to(patch_run, [str(tmp_path / "in")], tmp_path / "x.nii.gz")
    with pytest.raises(RunError, match="never replaced"):
        translate_to(patch_run, [str(tmp_path / "in" / "a0.nii.gz")], tmp_path / "in" / "a0.nii.gz")


def test_contrasts_are_given_in_the_order_of_the_training(nifti, tmp_path):
    for k in range(2):
        for name in ("flair", "t1", "t2"):
            nifti(f"{name}/s{k}.nii.gz", np.random.Generator(np.random.Philox([k, len(name)])).random(SHAPE).astype(np.float32))
    options = {"steps": 2, "batch_size": 4, "device": "cpu", "show": False, "axis": 2}
    run = medgen.train(
        "regression", tmp_path / "flair", tmp_path / "run", model=TINY, source=[str(tmp_path / n) for n in ("t1", "t2")], **options
    )
    assert run.model.source_spec.channel_names == ("t1", "t2")
    inputs = [str(tmp_path / n / "s0.nii.gz") for n in ("t1", "t2")]
    values, affine = read(translate_to(run, inputs, tmp_path / "o.nii.gz")[0])
    assert values.shape == SHAPE
    np.testing.assert_array_equal(affine, AFFINE.astype(np.float32))
    with pytest.raises(DataError, match=r"translates 2 channel\(s\) \(t1, t2\); got 1 from 1 file"):
        translate_to(run, inputs[:1], tmp_path / "p.nii.gz")
    odd = nifti("odd.nii.gz", affine=np.eye(4))
    with pytest.raises(DataError, match="must lie on the voxel grid of"):
        translate_to(run, [inputs[0], str(odd)], tmp_path / "p.nii.gz")
    with pytest.raises(DataError, match="there is no file or folder"):
        translate_to(run, ["nowhere.nii.gz"], tmp_path / "p.nii.gz")
    folders = translate_to(run, [str(tmp_path / n) for n in ("t1", "t2")], tmp_path / "out")
    np.testing.assert_array_equal(read(folders[0])[0], values)


def test_channels_of_an_npz_and_drawn_translations(tmp_path):
    x = np.random.Generator(np.random.Philox(0)).integers(40, 256, (12, 3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=x)
    options = {"key": "images", "channels": [2], "source": "images", "source_channels": [1, 0]}
    more = {"steps": 2, "batch_size": 4, "device": "cpu", "show": False}
    run = medgen.train(
        "regression", tmp_path / "d.npz", tmp_path / "run", model={**TINY, "loss": "l2", "uncertainty": True}, **options, **more
    )
    out = translate_to(run, [str(tmp_path / "d.npz")], tmp_path / "o.npz", work=Work(draws=8))
    assert [p.name for p in out] == ["o.npz", "o_sd.npz"]
    mean, sd = (np.load(p)["x"] for p in out)
    assert (mean.shape, mean.dtype, sd.shape, sd.dtype) == ((12, 1, 8, 8), np.uint8, (12, 1, 8, 8), np.float32)
    assert 10 < sd.mean() < 400
    one = translate_to(run, [str(tmp_path / "d.npz")], tmp_path / "one.npz")
    data = open_source([tmp_path / "d.npz"], run.model.source_spec, **run.config.data_options)
    np.testing.assert_array_equal(data.samples.store.gather(np.arange(12)), x[:, [1, 0]])
    wanted = run.model.translate(data.fetch(np.arange(12)).x).numpy() * 255
    np.testing.assert_allclose(np.load(one[0])["x"], wanted, atol=0.51)


def test_only_translators_translate(tmp_path):
    from tiny import trained

    with pytest.raises(RunError, match="family 'vae' does not translate"):
        translate_to(Run.open(trained()), ["x.png"], tmp_path / "y.png")


class Styled(Linear, FollowsStyle):
    """y = 1 - x + z, one z per image: noise draws it, and the mean of an image is its style."""

    def style(self, x):
        mean = x.flatten(1).mean(1, keepdim=True)
        return torch.distributions.Independent(torch.distributions.Normal(mean, torch.ones_like(mean)), 1)

    def stylise(self, x, z, *, condition=None):
        return 1 - x[:, :1] + z.view(-1, *[1] * (x.dim() - 1))

    def _translate(self, x, condition, noise):
        return self.stylise(x, torch.zeros(1) if noise is None else noise.normal(1, dtype=x.dtype))


def styled(shape):
    source = ConditionSpec(name="source", kind="image", image=ImageSpec(channels=1, shape=shape))
    return Styled(Config(), ImageSpec(channels=1, shape=shape), [source])


def test_all_slices_and_tiles_share_a_style(rng_volume):
    """Drawn or given: y + x - 1 is one number over a volume, though its tiles go through the network apart."""
    model, data = styled((4, 6, 4)), sources(rng_volume)
    x = data.fetch(torch.arange(len(data))).x
    given = translate_dataset(model, data, Work(tiles=2), style=torch.tensor([0.3])).mean
    torch.testing.assert_close(given, 1.3 - x, atol=1e-5, rtol=0)
    drawn = translate_dataset(model, data, Work(seed=3)).mean + x
    torch.testing.assert_close(drawn, drawn.flatten()[0].expand_as(drawn), atol=1e-5, rtol=0)
    other = translate_dataset(model, data, Work(seed=4)).mean + x
    assert abs(float(other.mean() - drawn.mean())) > 1e-3
    for work in (Work(seed=1), Work(draws=2)):
        with pytest.raises(ConfigError, match="a given style leaves nothing to draw"):
            translate_dataset(model, data, work, style=torch.zeros(1))
