"""`Condition`: rows, presence, and everything that `check_condition` refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import ConditionError
from medgen.interfaces import Condition, check_condition
from medgen.registry import ConditionSpec, ImageSpec

LABEL = ConditionSpec(name="label", kind="label", names=("sick", "well"))
AGE = ConditionSpec(name="attributes", kind="attributes", names=("age", "mass", "height"))
MASK = ConditionSpec(name="mask", kind="image", image=ImageSpec(channels=2, shape=(4, 5)))
SPECS = (LABEL, AGE, MASK)


def condition(n=3):
    values = {
        "label": torch.arange(n) % 2,
        "attributes": torch.arange(3.0 * n).reshape(n, 3),
        "mask": torch.arange(40.0 * n).reshape(n, 2, 4, 5),
    }
    return Condition(values, {"label": torch.arange(n) % 3 != 1})


def equal(first, second):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in ((first.values, second.values), (first.present, second.present))
    )


class TestRows:
    @given(st.integers(1, 6), st.data())
    def test_indexing_takes_the_same_rows_of_every_slot(self, n, data):
        masks = st.lists(st.booleans(), min_size=n, max_size=n).map(torch.BoolTensor)
        forward = st.slices(n).filter(lambda s: s.step is None or s.step > 0)  # torch has no negative steps
        rows = data.draw(forward | masks | st.lists(st.integers(0, n - 1)).map(torch.LongTensor))
        whole, part = condition(n), condition(n)[rows]
        for name, value in whole.values.items():
            assert torch.equal(part.values[name], value[rows])
        assert torch.equal(part.present["label"], whole.present["label"][rows])

    @given(st.integers(1, 4), st.integers(1, 4))
    def test_repeat(self, n, times):
        repeated = condition(n).repeat(times)
        assert len(repeated) == n * times
        for i in range(n * times):
            assert equal(repeated[i : i + 1], condition(n)[i // times : i // times + 1])

    def test_to_changes_floating_slots_only(self):
        moved = condition().to("cpu", torch.float64)
        assert {name: value.dtype for name, value in moved.values.items()} == {
            "label": torch.int64,
            "attributes": torch.float64,
            "mask": torch.float64,
        }
        assert moved.present["label"].dtype == torch.bool

    def test_one_sample_by_its_number(self):
        assert equal(condition()[1], condition()[1:2])

    def test_empty(self):
        assert len(Condition()) == 0
        assert "label" not in Condition()
        assert equal(Condition()[1:], Condition())
        assert equal(Condition().repeat(3), Condition())


class TestPresence:
    def test_absent_means_all_present(self):
        assert condition().mask("attributes").tolist() == [True, True, True]
        assert condition().mask("label").tolist() == [True, False, True]

    def test_present_must_name_a_slot(self):
        with pytest.raises(ConditionError, match=r"`present` must name slots of `values`; got \['age'\]"):
            Condition({"label": torch.zeros(2, dtype=torch.int64)}, {"age": torch.ones(2, dtype=torch.bool)})

    def test_present_of_another_length(self):
        with pytest.raises(ConditionError, match="same number of samples"):
            Condition({"label": torch.zeros(3, dtype=torch.int64)}, {"label": torch.ones(2, dtype=torch.bool)})

    def test_slots_of_different_length(self):
        with pytest.raises(ConditionError, match=r"same number of samples; got .*'a': 2.*'b': 3"):
            Condition({"a": torch.zeros(2), "b": torch.zeros(3)})


class TestCheck:
    def test_what_fits_comes_back(self):
        given_condition = condition()
        assert check_condition(given_condition, SPECS, ("attributes", "mask"), 3) is given_condition

    def test_none_is_empty(self):
        assert equal(check_condition(None, SPECS, (), 5), Condition())

    def test_condition_of_no_samples_is_not_none(self):
        with pytest.raises(ConditionError, match="must be for 3 samples; got 0"):
            check_condition(condition(0), SPECS, (), 3)

    def test_a_missing_value_may_hold_anything(self):
        values = {"label": torch.tensor([0, 99, 1])}
        present = {"label": torch.tensor([True, False, True])}
        assert "label" in check_condition(Condition(values, present), SPECS, (), 3)

    @pytest.mark.parametrize(
        ("values", "required", "n", "message"),
        [
            ({"colour": torch.zeros(3)}, (), 3, r"takes the conditions \['attributes', 'label', 'mask'\]; got \['colour'\]"),
            ({}, ("label",), 3, r"needs the conditions \['label'\]; missing: \['label'\]"),
            ({"label": torch.zeros(2, dtype=torch.int64)}, (), 3, "must be for 3 samples; got 2"),
            ({"label": torch.zeros(3)}, (), 3, r"label 'label' must be integers \[B\]; got torch.float32"),
            ({"label": torch.zeros(3, 1, dtype=torch.int64)}, (), 3, r"must be integers \[B\]; got torch.int64 \(3, 1\)"),
            ({"label": torch.tensor([0, 1, 2])}, (), 3, r"must be in 0..1 \(sick, well\); got \[0, 1, 2\]"),
            ({"label": torch.tensor([0, -1, 1])}, (), 3, r"must be in 0..1 \(sick, well\); got \[-1, 0, 1\]"),
            ({"attributes": torch.zeros(3)}, (), 3, r"'attributes' must have shape \[B, 3\]; got \(3,\)"),
            ({"attributes": torch.zeros(3, 2)}, (), 3, r"must have shape \[B, 3\]; got \(3, 2\)"),
            ({"mask": torch.zeros(3, 2, 5, 4)}, (), 3, r"'mask' must have shape \[B, 2, 4, 5\]; got \(3, 2, 5, 4\)"),
        ],
    )
    def test_refused(self, values, required, n, message):
        with pytest.raises(ConditionError, match=message):
            check_condition(Condition(values), SPECS, required, n)

    def test_a_required_slot_must_be_there_for_every_sample(self):
        with pytest.raises(ConditionError, match="condition 'label' must be present for every sample"):
            check_condition(condition(), SPECS, ("label",), 3)

    def test_model_without_conditions(self):
        with pytest.raises(ConditionError, match="takes the conditions none"):
            check_condition(condition(), (), (), 3)
