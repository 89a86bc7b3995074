from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medgen.data import to_model, to_stored
from medgen.errors import DataError
from medgen.registry import ImageSpec, Intensity

RANGES = st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-3.5, 0.25)])


def spec_of(shape, low, high, interval, dtype, channels=1, clip=True):
    return ImageSpec(channels=channels, shape=shape, intensity=Intensity(low=low, high=high, range=interval, dtype=dtype, clip=clip))


@given(arrays(np.uint8, (2, 1, 3, 4)), RANGES)
@settings(max_examples=50, deadline=None)
def test_uint8_comes_back_exactly(stored, interval):
    spec = spec_of((3, 4), (0,), (255,), interval, "uint8")
    x = to_model(torch.from_numpy(stored), spec)
    assert x.dtype == torch.float32
    assert float(x.min()) >= interval[0] - 1e-6
    assert float(x.max()) <= interval[1] + 1e-6
    np.testing.assert_array_equal(to_stored(x, spec), stored)


@given(arrays(np.int16, (2, 2, 5)), st.integers(-32768, 32766), st.integers(1, 65535), RANGES)
@settings(max_examples=100, deadline=None)
def test_int16_windows_come_back_exactly_inside_and_clipped_outside(stored, low, width, interval):
    high = min(low + width, 32767)
    spec = spec_of((5,), (low, -32768), (high, 32767), interval, "int16", channels=2)
    back = to_stored(to_model(torch.from_numpy(stored), spec), spec)
    expected = stored.copy()
    expected[:, 0] = np.clip(stored[:, 0], low, high)
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back, expected)


def test_the_formula_in_float64(rng):
    stored = rng.normal(100.0, 30.0, (4, 2, 6)).astype(np.float32)
    spec = spec_of((6,), (80.0, 90.0), (120.0, 95.0), (-1, 1), "float32", channels=2)
    low, high = np.array([80.0, 90.0])[:, None], np.array([120.0, 95.0])[:, None]
    expected = np.clip(-1 + (stored.astype(np.float64) - low) / (high - low) * 2, -1, 1)
    np.testing.assert_allclose(to_model(torch.from_numpy(stored), spec).numpy(), expected, atol=1e-5)


def test_without_clipping_values_leave_the_range():
    spec = spec_of((), (10.0,), (12.0,), (0, 1), "float32", clip=False)
    assert to_model(torch.tensor([[20.0]]), spec).item() == 5.0
    assert to_stored(torch.tensor([[-5.0]]), spec).item() == 0.0


def test_integers_are_clipped_to_their_dtype():
    spec = spec_of((3,), (0,), (255,), (0, 1), "uint8")
    assert to_stored(torch.tensor([[[-0.1, 0.5, 1.3]]]), spec).tolist() == [[[0, 128, 255]]]


def test_a_narrow_window_far_from_zero_keeps_its_steps():
    stored = torch.arange(60000, 60011, dtype=torch.int32)[None, None]
    spec = spec_of((11,), (60000,), (60010,), (0, 1), "int32")
    np.testing.assert_allclose(to_model(stored, spec)[0, 0].numpy(), np.arange(11) / 10, atol=1e-7)


@pytest.mark.parametrize("levels", [(0.0, 1.0, 2.0), (0.0, 255.0), (3.0, 7.0, 250.0)])
def test_labels_are_one_hot_and_come_back(levels, rng):
    stored = rng.choice(np.array(levels, np.uint8), (3, 1, 5, 4))
    intensity = Intensity(low=levels, high=tuple(v + 1 for v in levels), clip=False, dtype="uint8", rule="labels")
    spec = ImageSpec(channels=len(levels), shape=(5, 4), content="labels", intensity=intensity)
    x = to_model(torch.from_numpy(stored), spec)
    assert torch.equal(x.sum(1), torch.ones(3, 5, 4))
    assert torch.equal(x[:, 1], torch.from_numpy((stored[:, 0] == levels[1]).astype(np.float32)))
    np.testing.assert_array_equal(to_stored(x, spec), stored)


def test_labels_without_levels_count_from_zero():
    spec = ImageSpec(channels=4, shape=(2,), content="labels")
    back = to_stored(torch.eye(4)[:, [2, 3]][None], spec)
    assert back.tolist() == [[[2, 3]]]
    assert back.dtype == np.uint8


def test_an_unknown_label_is_an_error():
    spec = ImageSpec(channels=3, shape=(2,), content="labels")
    with pytest.raises(DataError, match=r"labels must be among \[0, 1, 2\]; got \[7"):
        to_model(torch.tensor([[[0, 7]]]), spec)


def test_wrong_shapes_are_errors():
    spec = ImageSpec(channels=2, shape=(3,))
    with pytest.raises(DataError, match=r"`stored` must have shape \[B, 2, 3\]; got \(1, 1, 3\)"):
        to_model(torch.zeros(1, 1, 3), spec)
    with pytest.raises(DataError, match="`x` must have shape"):
        to_stored(torch.zeros(1, 2, 4), spec)


def test_the_input_is_not_changed():
    stored = torch.full((1, 1, 2), 5.0)
    to_model(stored, spec_of((2,), (1.0,), (9.0,), (0, 1), "float32"))
    assert stored.tolist() == [[[5.0, 5.0]]]
