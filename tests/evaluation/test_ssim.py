"""SSIM: the deck's constants and global form, other packages' windowed and multi-scale values, and what it is for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.evaluation.paired import mse
from medgen.evaluation.ssim import MS_WEIGHTS, ms_ssim, scales_that_fit, ssim, ssim_global
from medgen.ops import philox_normal, philox_uniform

EVERY = (ssim_global, ssim, ms_ssim)


def pair(*shape, noise=0.2):
    """Smooth images and noisy copies, in [0, 1]."""
    grids = torch.meshgrid(*[torch.linspace(0, 3, s, dtype=torch.float64) for s in shape[2:]], indexing="ij")
    phase = philox_uniform(0, torch.arange(shape[0]), (shape[1], *[1] * len(grids)), dtype=torch.float64)
    x = 0.5 + 0.4 * torch.sin(6 * phase + sum(grids))
    y = (x + noise * philox_normal(1, torch.arange(shape[0]), shape[1:], dtype=torch.float64)).clamp(0, 1)
    return x, y


def deck(x, y, length):
    """l * c * s as the deck writes it, on flat arrays."""
    c1, c2 = (0.01 * length) ** 2, (0.03 * length) ** 2
    c3 = c2 / 2
    sx, sy, sxy = x.std(ddof=1), y.std(ddof=1), np.cov(x, y)[0, 1]
    luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    return luminance * (2 * sx * sy + c2) / (sx**2 + sy**2 + c2) * (sxy + c3) / (sx * sy + c3)


@pytest.mark.parametrize("length", [1.0, 255.0])
def test_global_is_the_decks_product(length):
    x, y = pair(3, 1, 9, 7)
    ours = ssim_global(length * x, length * y, value_range=(0.0, length))
    for i in range(3):
        assert float(ours[i]) == pytest.approx(deck(length * x[i].numpy().ravel(), length * y[i].numpy().ravel(), length), rel=1e-10)


def test_constants_for_unit_range_are_the_decks():
    """Two constant images leave only the constants: (2ab + C1) / (a^2 + b^2 + C1) with C1 = 1e-4; the same with C2 = 9e-4 for s = 0."""
    flat = ssim_global(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 0.1))
    assert float(flat) == pytest.approx(1e-4 / (0.01 + 1e-4), rel=1e-6)
    still, moving = torch.full((1, 1, 2), 0.5), torch.tensor([[[0.4, 0.6]]], dtype=torch.float64)
    assert float(ssim_global(still, moving)) == pytest.approx(9e-4 / (0.02 + 9e-4), rel=1e-9)


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize("shape", [(2, 1, 40), (2, 3, 23, 31), (1, 2, 12, 13, 14)])
def test_one_for_equal_symmetric_and_below_one_for_others(metric, shape):
    x, y = pair(*shape)
    assert torch.allclose(metric(x, x), torch.ones(shape[0]).double(), atol=1e-12)
    assert torch.allclose(metric(x, y), metric(y, x), rtol=1e-12)
    assert bool((metric(x, y) < 0.99).all())
    assert bool((metric(x, y, mask=torch.ones(shape[0], 1, *shape[2:])) - metric(x, y)).abs().max() < 1e-12)


def test_windowed_equals_torchmetrics_scikit_image_and_monai():
    functional = pytest.importorskip("torchmetrics.functional.image")
    skimage = pytest.importorskip("skimage.metrics")
    monai = pytest.importorskip("monai.metrics")
    x, y = pair(3, 1, 33, 40)
    ours = ssim(x, y)
    # torchmetrics averages over reflected borders too; the windows inside the image are the same
    _, theirs = functional.structural_similarity_index_measure(y, x, data_range=1.0, return_full_image=True, reduction="none")
    assert torch.allclose(ours, theirs[..., 5:-5, 5:-5].flatten(1).mean(1).double(), atol=1e-6)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for i in range(3):
        assert float(ours[i]) == pytest.approx(skimage.structural_similarity(x[i, 0].numpy(), y[i, 0].numpy(), **options), abs=1e-9)
    assert torch.allclose(ours, monai.SSIMMetric(spatial_dims=2)(y, x)[:, 0].double(), atol=1e-6)


def test_windowed_in_3d_and_1d_equals_scikit_image():
    skimage = pytest.importorskip("skimage.metrics")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    for shape in ((1, 1, 14, 12, 16), (1, 1, 50)):
        x, y = pair(*shape)
        expected = skimage.structural_similarity(x[0, 0].numpy(), y[0, 0].numpy(), **options)
        assert float(ssim(x, y)[0]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("shape", "scales"), [((2, 1, 183, 190), 5), ((2, 3, 32, 29), 2), ((1, 1, 24, 22, 23), 2)])
def test_multi_scale_equals_monai(shape, scales):
    monai = pytest.importorskip("monai.metrics")
    x, y = pair(*shape)
    assert scales_that_fit(shape[2:]) == scales
    weights = [w / sum(MS_WEIGHTS[:scales]) for w in MS_WEIGHTS[:scales]]
    theirs = monai.MultiScaleSSIMMetric(spatial_dims=len(shape) - 2, weights=weights)(y, x)[:, 0]
    assert torch.allclose(ms_ssim(x, y), theirs.double(), atol=1e-5)


def test_one_scale_is_ssim():
    x, y = pair(2, 1, 15, 15)
    assert torch.allclose(ms_ssim(x, y), ssim(x, y))


def test_inverted_contrast_is_not_nan():
    x, _ = pair(1, 1, 48, 48)
    assert ms_ssim(x, 1 - x).tolist() == [0.0]
    assert float(ssim(x, 1 - x)[0]) < 0


def test_equal_mse_of_blur_shift_and_contrast_have_different_ssim():
    """The deck's figure: three distortions of one image at one MSE."""

    def smooth(image):
        return 0.5 * image + 0.125 * sum(image.roll(step, axis) for step in (-1, 1) for axis in (2, 3))

    x = smooth(philox_uniform(5, torch.arange(1), (1, 64, 64), dtype=torch.float64))
    x = 0.25 + 0.5 * (x - x.min()) / (x.max() - x.min())
    blurred = smooth(smooth(x))
    target = float(mse(x, blurred)[0])
    shifted = x + math.sqrt(target)
    contrast = x.mean() + (x - x.mean()) * (1 + math.sqrt(target) / float(x.std(correction=0)))
    assert [float(mse(x, y)[0]) for y in (shifted, contrast)] == pytest.approx([target, target], rel=1e-9)
    blur_value, shift_value, contrast_value = (float(ssim(x, y)[0]) for y in (blurred, shifted, contrast))
    assert blur_value < contrast_value - 0.05
    assert contrast_value < shift_value - 0.05


def test_a_mask_counts_the_windows_centred_in_it():
    x, y = pair(1, 1, 40, 40)
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 10:20, 12:30] = 1
    assert torch.allclose(ssim(x, y, mask=mask), ssim(x[..., 5:25, 7:35], y[..., 5:25, 7:35]))


@given(st.lists(st.integers(11, 30), min_size=1, max_size=2), st.integers(1, 2), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=15, deadline=None)
def test_any_size_gives_a_value_in_range(shape, channels, dtype):
    x, y = pair(2, channels, *shape, noise=1.0)
    for metric in EVERY:
        values = metric(x.to(dtype), y.to(dtype))
        assert values.shape == (2,)
        assert bool(((values >= -1) & (values <= 1)).all())


def test_images_that_are_too_small_are_refused_with_a_way_out():
    x, y = pair(1, 1, 10, 30)
    with pytest.raises(DataError, match=r"at least 11 long.*'ssim_global'"):
        ssim(x, y)
    with pytest.raises(DataError, match="smallest axis must be at least 11"):
        ms_ssim(x, y)
    x, y = pair(1, 1, 64, 64)
    with pytest.raises(DataError, match=r"at least 176 long for 5 scale.*fewer scales"):
        ms_ssim(x, y, scales=5)


def test_a_mask_without_a_whole_window_is_refused():
    x, y = pair(1, 1, 20, 20)
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., :3, :3] = 1
    with pytest.raises(DataError, match="centre of a window"):
        ssim(x, y, mask=mask)
    with pytest.raises(DataError, match="two voxels"):
        ssim_global(x[..., :1, :1], y[..., :1, :1])
