"""What the yardstick finds in phantoms whose lesions are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import medgen
from medgen.data import open_data
from medgen.errors import DataError
from medgen.evaluation import dice, evaluate, load_subjects
from medgen_translation.segmenters import hyperintense


@pytest.fixture(scope="module")
def heads():
    data = open_data("lesion_phantom?n=12&size=96&lesions_min=4")
    batch = data.fetch(np.arange(12))
    return torch.from_numpy(data.stored(np.arange(12))), batch.condition.values["regions"].argmax(1, keepdim=True)


def test_lesions_of_the_phantom_are_found(heads):
    images, regions = heads
    found = torch.cat([hyperintense(x[None], r[None]) for x, r in zip(images, regions, strict=True)])
    overlap = dice(regions == 1, found)
    assert float(overlap.mean()) > 0.8
    assert float(overlap.min()) > 0.5
    assert not bool((found & (regions == 0)).any())


def test_units_do_not_matter_nor_which_region(heads):
    images, regions = heads
    found = hyperintense(images, regions)
    torch.testing.assert_close(hyperintense(300 * images - 50, regions), found)
    torch.testing.assert_close(hyperintense(images, (regions > 0).long()), found)


def test_no_lesions_in_controls():
    data = open_data("lesion_phantom?n=6&size=96&controls=1")
    images = torch.from_numpy(data.stored(np.arange(6)))
    regions = data.fetch(np.arange(6)).condition.values["regions"].argmax(1, keepdim=True)
    share = hyperintense(images, regions).sum() / (regions > 0).sum()
    assert float(share) < 0.005


def test_small_pieces_are_dropped_in_each_sample():
    image = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.1 + 1
    image[0, 0, 2:4, 2:4] = image[1, 0, 5, 5] = image[1, 0, 8, 2] = image[1, 0, 9, 3] = 9.0
    assert hyperintense(image).sum((1, 2, 3)).tolist() == [4, 0]
    assert hyperintense(image, least=2).sum((1, 2, 3)).tolist() == [4, 2]
    assert hyperintense(image, least=1).sum((1, 2, 3)).tolist() == [4, 3]


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="there is no brain"):
        hyperintense(torch.zeros(1, 1, 4, 4))
    with pytest.raises(DataError, match="must have shape"):
        hyperintense(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 4))


def test_evaluate_takes_it_by_name(tmp_path):
    data = "lesion_phantom?n=8&size=32&lesions_min=6"
    run = medgen.train(
        "regression", data, tmp_path / "r", model={"width": 4, "multipliers": [1]}, steps=1, batch_size=2, device="cpu", show=False
    )
    evaluate(run, split="train", metrics=["mae"], segmenter="medgen_translation.segmenters:hyperintense")
    assert {"lesion dice", "lesions", "lost", "invented"} <= set(load_subjects(run.path / "evaluation.json").columns)
