"""MAE, MSE, PSNR: closed forms, other packages, masks, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.evaluation.paired import mae, mse, psnr, psnr_image_max
from medgen.evaluation.ssim import ms_ssim, ssim, ssim_global
from medgen.ops import philox_uniform

EVERY = (mae, mse, psnr, psnr_image_max, ssim_global, ssim, ms_ssim)


def uniform(*shape, seed=0):
    return philox_uniform(seed, torch.arange(shape[0]), shape[1:], dtype=torch.float64)


def test_constant_offset_has_the_closed_forms():
    x = torch.zeros(2, 1, 4, 4)
    x[:, :, 0, 0] = 0.5
    y = x + 0.1
    assert mae(x, y).tolist() == pytest.approx([0.1, 0.1])
    assert mse(x, y).tolist() == pytest.approx([0.01, 0.01])
    assert psnr(x, y).tolist() == pytest.approx([20.0, 20.0], abs=1e-5)
    assert psnr(x, y, data_range=10.0).tolist() == pytest.approx([40.0, 40.0], abs=1e-5)
    assert psnr_image_max(x, y).tolist() == pytest.approx([20 * math.log10(5)] * 2, abs=1e-5)


def test_equal_images_have_infinite_psnr():
    x = uniform(2, 1, 5)
    assert psnr(x, x).tolist() == [math.inf, math.inf]


def test_psnr_equals_scikit_image_and_torchmetrics():
    skimage = pytest.importorskip("skimage.metrics")
    functional = pytest.importorskip("torchmetrics.functional.image")
    x, y = uniform(3, 1, 16, 16), uniform(3, 1, 16, 16, seed=1)
    ours = psnr(x, y)
    for i in range(3):
        assert float(ours[i]) == pytest.approx(skimage.peak_signal_noise_ratio(x[i].numpy(), y[i].numpy(), data_range=1.0), rel=1e-10)
        assert float(ours[i]) == pytest.approx(float(functional.peak_signal_noise_ratio(y[i], x[i], data_range=1.0)), rel=1e-5)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=25, deadline=None)
def test_errors_are_means_over_each_sample(b, c, shape, dtype):
    x, y = uniform(b, c, *shape).to(dtype), uniform(b, c, *shape, seed=1).to(dtype)
    gap = (x.double() - y.double()).numpy().reshape(b, -1)
    assert np.allclose(mae(x, y).numpy(), np.abs(gap).mean(1), rtol=1e-12)
    assert np.allclose(mse(x, y).numpy(), (gap**2).mean(1), rtol=1e-12)
    assert mae(x, y).dtype == torch.float64


@pytest.mark.parametrize("metric", [mae, mse, psnr, psnr_image_max, ssim_global])
def test_a_mask_equals_cutting_the_region_out(metric):
    x, y = uniform(2, 2, 8, 9), uniform(2, 2, 8, 9, seed=1)
    mask = torch.zeros(2, 1, 8, 9, dtype=torch.bool)
    mask[:, :, 2:6, 3:8] = True
    expected = metric(x[:, :, 2:6, 3:8], y[:, :, 2:6, 3:8])
    assert torch.allclose(metric(x, y, mask=mask), expected, rtol=1e-9)
    outside = torch.where(mask, y, torch.tensor(99.0).double())
    assert torch.allclose(metric(x, outside, mask=mask), expected, rtol=1e-9)


@pytest.mark.parametrize("metric", EVERY)
def test_figures_do_not_depend_on_the_models_units(metric):
    """[0, 1], [-1, 1] and HU: the same images; only MAE and MSE carry units."""
    x, y = uniform(2, 1, 24, 24), uniform(2, 1, 24, 24, seed=1)
    base = metric(x, y, value_range=(0.0, 1.0))
    for low, high in ((-1.0, 1.0), (-1000.0, 3000.0)):
        width = high - low
        other = metric(low + width * x, low + width * y, value_range=(low, high))
        unit = {mae: width, mse: width**2}.get(metric, 1.0)
        assert torch.allclose(other, base * unit, rtol=1e-8)


@pytest.mark.parametrize("metric", EVERY)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fake": torch.zeros(2, 1, 12, 13)}, "same shape"),
        ({"fake": torch.full((2, 1, 12, 12), torch.nan)}, r"`fake` must be finite; got NaN or infinity in samples \[0, 1\]"),
        ({"real": torch.full((2, 1, 12, 12), torch.inf)}, "`real` must be finite"),
        ({"mask": torch.ones(2, 12, 12)}, "`mask` must have shape"),
        ({"mask": torch.ones(2, 3, 12, 12)}, "`mask` must have shape"),
        ({"mask": torch.zeros(2, 1, 12, 12)}, r"`mask` must have a voxel in every sample and channel; samples \[0, 1\]"),
        ({"value_range": (1.0, 1.0)}, "low < high|must be positive"),
    ],
)
def test_bad_input_is_refused(metric, change, words):
    arguments = {"real": torch.ones(2, 1, 12, 12), "fake": torch.ones(2, 1, 12, 12), **change}
    with pytest.raises(DataError, match=words):
        metric(**arguments)


def test_psnr_needs_a_maximum():
    with pytest.raises(DataError, match=r"voxel above 0\.0"):
        psnr_image_max(torch.zeros(1, 1, 4), torch.ones(1, 1, 4))
    with pytest.raises(DataError, match="`data_range` must be positive"):
        psnr(torch.zeros(1, 1, 4), torch.ones(1, 1, 4), data_range=-1.0)
