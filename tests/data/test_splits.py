from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.data import from_arrays
from medgen.errors import ConfigError, DataError


def data_of(n, **more):
    return from_arrays(np.arange(n * 4, dtype=np.uint16).reshape(n, 2, 2) + 40, **more)


def joined(data):
    return np.sort(np.concatenate(list(data.splits.values())))


@given(st.integers(1, 60), st.integers(0, 5), st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0), (0.34, 0.33, 0.33)]))
@settings(max_examples=60, deadline=None)
def test_random_splits_divide_all_samples(n, seed, split):
    data = data_of(n, split=split, split_seed=seed)
    np.testing.assert_array_equal(joined(data), np.arange(n))
    sizes = [len(data.splits[name]) for name in ("train", "val", "test")]
    assert sizes[0] >= 1
    assert all(abs(size - fraction * n) <= 1.5 for size, fraction in zip(sizes, split, strict=True))
    assert (sizes[1] >= 1) == (split[1] > 0 and n >= 2)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_no_subject_is_divided(names, seed):
    data = data_of(len(names), subjects=[f"s{k}" for k in names], split_seed=seed)
    np.testing.assert_array_equal(joined(data), np.arange(len(names)))
    count = len(set(names))
    if count > 1:
        parts = [{names[i] for i in rows} for rows in data.splits.values()]
        assert sum(map(len, parts)) == count
        assert parts[0]
        assert parts[1]
        assert bool(parts[2]) == (count > 2)
    elif len(names) > 1:
        assert any("one subject" in line for line in data.warnings)


def test_subjects_fill_the_fractions():
    data = data_of(1000, subjects=np.repeat(np.arange(100), 10))
    assert [len(rows) for rows in data.splits.values()] == [800, 100, 100]


def test_the_seed_decides_the_random_split():
    assert all(np.array_equal(data_of(50).splits[s], data_of(50).splits[s]) for s in ("train", "val", "test"))
    assert not np.array_equal(data_of(50).splits["val"], data_of(50, split_seed=1).splits["val"])


def test_the_splits_of_the_file_are_kept():
    data = data_of(6, splits={"train": [5, 0, 1], "val": [3], "test": [2]})
    assert {k: v.tolist() for k, v in data.splits.items()} == {"train": [0, 1, 5], "val": [3], "test": [2]}


def test_missing_validation_is_taken_from_training():
    data = data_of(20, splits={"train": np.arange(18), "test": [18, 19]})
    assert data.splits["test"].tolist() == [18, 19]
    assert len(data.splits["val"]) == 2
    assert len(data.splits["train"]) == 16
    np.testing.assert_array_equal(joined(data), np.arange(20))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0, 1], "val": [1]}, "disjoint"),
        ({"train": [0, 9], "val": []}, r"0\.\.5; got 0\.\.9"),
        ({"train": [], "val": [1]}, "not be empty"),
    ],
)
def test_wrong_splits_are_errors(splits, message):
    with pytest.raises(DataError, match=message):
        data_of(6, splits=splits)


def test_fractions_must_sum_to_one():
    with pytest.raises(ConfigError, match="sum to 1"):
        data_of(6, split=(0.8, 0.1, 0.2))


def test_duplicates_between_splits_are_counted_but_blank_samples_are_not():
    x = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2) + 40
    x[3] = x[0]  # val copies train
    x[4] = x[1] = 0  # blank in both
    data = from_arrays(x, splits={"train": [0, 1, 2], "val": [3, 4], "test": [5]})
    assert data.warnings == ("leakage: 1 of 2 samples of val are exact duplicates of training samples.",)
