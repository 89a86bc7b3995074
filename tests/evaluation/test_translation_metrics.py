"""Figures of translations on images whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medgen.data import open_data
from medgen.data.phantoms.datasets import lesion_phantom
from medgen.errors import DataError
from medgen.evaluation.hallucination import LesionChanges, landmark_shift, lesion_changes, structure_shift
from medgen.evaluation.regions import contrast_ratio, demyelination_dice, dice, lesion_dice, region_discrepancy
from medgen.evaluation.subjects import SubjectTable, subject_table


def smooth(*shape, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for axis in range(2, x.dim()):
        x = (x + x.roll(1, axis) + x.roll(2, axis)) / 3
    return x


def test_the_contrast_of_the_phantom_is_the_known_one():
    data = lesion_phantom(n=4, size=160, noise=0.0, lesions_min=6, lesions_max=8)
    rows = np.arange(4)
    image, regions = torch.from_numpy(data.stored(rows)), torch.from_numpy(data.samples.images["regions"].gather(rows))
    found = contrast_ratio(image, regions == 1, regions == 2)
    known = torch.from_numpy(data.samples.attributes["lesion_ratio"])
    # partial volume at the border takes some of the contrast away
    assert bool(((found - 1) / (known - 1) > 0.7).all())
    assert bool((found <= known + 1e-6).all())
    flat = torch.where(regions == 1, 1.66, 1.0) * image[:, :, :1, :1].new_ones(())
    torch.testing.assert_close(contrast_ratio(flat, regions == 1, regions == 2), torch.full((4,), 1.66, dtype=torch.float64))


def test_what_a_region_lacks_is_not_a_number():
    image, none = torch.ones(1, 1, 4), torch.zeros(1, 1, 4)
    assert math.isnan(float(contrast_ratio(image, none, image)))
    assert region_discrepancy(image, 3 * image, none, 2)[0].tolist()[0] == 2.0
    with pytest.raises(DataError, match=r"`inside` must have shape \[B, 1 or C, \*S\]"):
        contrast_ratio(image, torch.zeros(1, 1, 5), image)


def test_dice_of_masks_segmenters_and_demyelination():
    a, b = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]), torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0]])
    assert dice(a, b).tolist() == [0.5, 1.0]
    assert lesion_dice(a.float(), b.float(), lambda x: x > 0.5).tolist() == [0.5, 1.0]
    myelin = torch.tensor([[[0.1, 0.4, 0.9, 0.1]]])
    lesion = torch.tensor([[[1, 1, 1, 0]]])
    assert demyelination_dice(myelin, myelin, lesion, mean=1.0, sd=0.5).tolist() == [1.0]
    assert demyelination_dice(myelin, 0 * myelin, lesion, mean=1.0, sd=0.5).tolist() == [0.8]
    assert demyelination_dice(myelin, myelin + 1, lesion, mean=1.0, sd=0.5).tolist() == [0.0]


@pytest.mark.parametrize(("shift", "shape"), [((2,), (80,)), ((2, -1), (64, 48)), ((0, 3), (64, 48)), ((1, 0, -2), (30, 28, 26))])
def test_a_moved_image_has_moved_as_far_as_it_was_moved(shift, shape):
    x = smooth(2, 1, *shape)
    axes = tuple(range(2, 2 + len(shape)))
    moved = 5 - 2 * x.roll(shift, axes)
    expected = math.hypot(*shift)
    torch.testing.assert_close(structure_shift(x, moved), torch.full((2,), expected, dtype=torch.float64))
    spacing = [2.0] * len(shape)
    torch.testing.assert_close(structure_shift(x, moved, spacing=spacing), torch.full((2,), 2 * expected, dtype=torch.float64))


def test_half_an_image_that_moves_is_half_the_shift():
    x = smooth(1, 1, 128, 64)
    moved = torch.cat((x[:, :, :64], x[:, :, 64:].roll(3, 3)), 2)
    assert abs(float(structure_shift(x, moved)) - 1.5) < 0.2
    top = torch.zeros(1, 1, 128, 64)
    top[:, :, :56] = 1
    assert float(structure_shift(x, moved, mask=top)) == 0
    assert math.isnan(float(structure_shift(0 * x, 0 * x)))
    with pytest.raises(DataError, match="every axis at least 22"):
        structure_shift(x[..., :20], x[..., :20])


def test_landmarks_and_lesions():
    truth = torch.zeros(2, 1, 12, 12)
    truth[0, 0, 1:3, 1:3] = truth[0, 0, 6:9, 6:9] = truth[1, 0, 4, 4] = 1
    found = torch.zeros_like(truth)
    found[0, 0, 2, 2] = found[0, 0, 10, 1] = 1
    assert lesion_changes(truth, found) == LesionChanges(3, 2, 1)
    assert lesion_changes(truth, found, least=2) == LesionChanges(2, 1, 0)
    assert lesion_changes(truth, truth) == LesionChanges(3, 0, 0)
    points = torch.tensor([[[1.0, 1.0], [float("nan"), 0.0]]])
    assert landmark_shift(points, points + torch.tensor([0.0, 2.0]), (1.0, 1.5)).tolist() == [3.0]


def test_a_subject_is_one_image_however_it_is_cut():
    real, fake = smooth(6, 1, 24, 26) * 40 + 100, smooth(6, 1, 24, 26, seed=1) * 40 + 100
    regions = (smooth(6, 1, 24, 26, seed=2) > 0).long() + (smooth(6, 1, 24, 26, seed=3) > 0.6).long()
    names = ("other", "lesion", "white")
    table = subject_table(real, fake, list("aaabbb"), value_range=(0, 200), regions=regions, names=names)
    volumes = [x.reshape(2, 3, 24, 26).unsqueeze(1) for x in (real, fake, regions)]
    for k in range(2):
        a, b, r = (v[k, 0] for v in volumes)
        inside = r != 0
        mse = float((a - b)[inside].square().mean())
        wanted = {
            "mae": float((a - b)[inside].abs().mean()),
            "psnr": 10 * math.log10(200**2 / mse),
            "mae lesion": float((a - b)[r == 1].abs().mean()),
            "mae white": float((a - b)[r == 2].abs().mean()),
            "contrast": float(a[r == 1].mean() / a[r == 2].mean()),
            "contrast translated": float(b[r == 1].mean() / b[r == 2].mean()),
        }
        for column, value in wanted.items():
            assert table.values[k, table.columns.index(column)] == pytest.approx(value), column
    summary = table.summary()
    np.testing.assert_allclose(summary["sd"][0], table.values[:, 0].std(ddof=1))
    back = SubjectTable.from_json(table.to_json())
    np.testing.assert_array_equal(back.values, table.values)
    assert str(back) == str(table)


def test_the_sample_deviation_of_a_published_table():
    """Wolterink 2017: MAE of six patients, unpaired 73.70 (2.31) and paired 89.43 (6.80)."""
    values = np.array([[70.3, 86.2], [76.2, 98.8], [75.5, 96.9], [75.2, 86.0], [72.0, 81.7], [73.0, 87.0]])
    summary = SubjectTable(("unpaired", "paired"), tuple("123456"), values).summary()
    assert [round(v, 2) for v in summary["mean"]] == [73.7, 89.43]
    assert [round(v, 2) for v in summary["sd"]] == [2.31, 6.8]


def test_uncertainty_and_lesions_in_the_table():
    real, fake = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 2.0)
    sd = torch.full_like(real, 1.0)
    sd[..., 0] = 0.5
    table = subject_table(real, fake, ["a"], value_range=(0, 4), sd=sd, segment=lambda x, _: x > 1)
    found = dict(zip(table.columns, table.values[0], strict=True))
    assert found["within 2 sd"] == 0.75
    assert found["sd"] == 0.875
    assert (found["lesion dice"], found["lesions"], found["lost"], found["invented"]) == (0.0, 0, 0, 1)


def test_open_data_of_the_phantom_names_its_regions():
    spec = next(c.image for c in open_data("lesion_phantom?n=4&size=32").conditions if c.name == "regions")
    assert spec.channel_names == ("other", "lesion", "NAWM")
