"""Slots as one vector; what is missing has a vector of its own, whatever stands in its place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.interfaces import Condition
from medgen.nn import ConditionEmbedding, ConditionImages
from medgen.registry import ConditionSpec, ImageSpec, Intensity

LABEL = ConditionSpec(name="label", kind="label", names=("a", "b", "c"))
AGE = ConditionSpec(name="attributes", kind="attributes", names=("age", "dose"))
MASK = ConditionSpec(name="mask", kind="image", image=ImageSpec(channels=2, shape=(6, 5)))
WIDTH = 4


@pytest.fixture(scope="module")
def embedding() -> ConditionEmbedding:
    torch.manual_seed(0)
    module = ConditionEmbedding([LABEL, AGE, MASK], WIDTH)
    for number, name in enumerate(module.names):
        torch.nn.init.constant_(module.missing[name], 10.0 + number)
    return module


def full(n: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(n)
    return {"label": torch.arange(n) % 3, "attributes": torch.randn(n, 2, generator=g), "mask": torch.randn(n, 2, 6, 5, generator=g)}


def test_one_part_per_slot_in_the_order_of_the_specs(embedding):
    out = embedding(Condition(full(3)), 3)
    assert out.shape == (3, embedding.size) == (3, 3 * WIDTH)
    torch.testing.assert_close(out[:, :WIDTH], embedding.embed["label"](torch.tensor([0, 1, 2])))
    torch.testing.assert_close(out[:, WIDTH : 2 * WIDTH], embedding.embed["attributes"](full(3)["attributes"]))


def test_no_slots_no_embedding():
    empty = ConditionEmbedding([], WIDTH)
    assert empty.size == 0
    assert empty(Condition(), 3) is None


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.sampled_from(["label", "attributes", "mask"]))
def test_a_missing_value_has_the_learned_vector_and_the_others_their_own(embedding, present, name):
    n, position = len(present), embedding.names.index(name)
    mask, part = torch.tensor(present), slice(position * WIDTH, (position + 1) * WIDTH)
    whole = embedding(Condition(full(n)), n)
    out = embedding(Condition(full(n), {name: mask}), n)
    assert bool((out[~mask][:, part] == 10.0 + position).all())
    torch.testing.assert_close(out[mask], whole[mask])
    others = torch.ones(3 * WIDTH, dtype=torch.bool)
    others[part] = False
    torch.testing.assert_close(out[:, others], whole[:, others])


def test_an_absent_slot_is_missing_for_all(embedding):
    values = full(2)
    del values["attributes"]
    out = embedding(Condition(values), 2)
    masked = embedding(Condition(full(2), {"attributes": torch.zeros(2, dtype=torch.bool)}), 2)
    assert torch.equal(out, masked)
    assert bool((embedding(Condition(), 2)[:, :WIDTH] == 10.0).all())


def test_what_stands_in_the_place_of_a_missing_value_is_never_looked_at(embedding):
    """-1 for an unknown class, NaN for an unknown age: neither an error nor a NaN in a gradient."""
    present = {name: torch.tensor([True, False]) for name in full(2)}
    clean, spoiled = full(2), full(2)
    spoiled["label"][1] = -1
    spoiled["attributes"][1] = torch.nan
    spoiled["mask"][1] = torch.inf
    results = []
    for values in (clean, spoiled):
        embedding.zero_grad()
        out = embedding(Condition(values, present), 2)
        out.square().sum().backward()
        results.append((out.detach(), {name: p.grad.clone() for name, p in embedding.named_parameters()}))
    assert torch.equal(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        assert torch.equal(gradient, results[1][1][name]), name
        assert bool(torch.isfinite(gradient).all()), name


class TestImages:
    SCAN = ConditionSpec(name="scan", kind="image", image=ImageSpec(channels=1, shape=(6, 5), intensity=Intensity(range=(0.0, 2.0))))
    TABLE = ConditionSpec(name="table", kind="image", image=ImageSpec(channels=3, shape=(6, 5), content="features"))

    def values(self, n):
        g = torch.Generator().manual_seed(n)
        return {"scan": 2 * torch.rand(n, 1, 6, 5, generator=g), "table": torch.randn(n, 3, 6, 5, generator=g)}

    def test_scaled_side_by_side(self):
        module, given_values = ConditionImages([LABEL, self.SCAN, self.TABLE], (6, 5), required=["scan"]), self.values(2)
        out = module(Condition(given_values), torch.zeros(2, 1, 6, 5))
        assert out.shape == (2, module.channels, 6, 5) == (2, 1 + 4, 6, 5)
        torch.testing.assert_close(out[:, :1], given_values["scan"] - 1)
        torch.testing.assert_close(out[:, 1:4], given_values["table"])
        assert bool((out[:, 4] == 1).all())

    @pytest.mark.parametrize("nonsense", [-1.0, torch.nan])
    def test_what_is_missing_is_never_looked_at(self, nonsense):
        module, given_values = ConditionImages([self.SCAN, self.TABLE], (6, 5)), self.values(2)
        like, mask = torch.zeros(2, 1, 6, 5, dtype=torch.float64), torch.tensor([True, False])
        hidden = torch.where(mask[:, None, None, None], given_values["table"], nonsense)
        mixed = module(Condition({**given_values, "table": hidden}, {"table": mask}), like)
        assert mixed.dtype == torch.float64
        torch.testing.assert_close(mixed[:1], module(Condition(given_values), like)[:1])
        torch.testing.assert_close(mixed[1:], module(Condition({"scan": given_values["scan"]}), like)[1:])
        assert bool((mixed[1, 2:] == 0).all())

    def test_none_without_image_slots(self):
        module = ConditionImages([LABEL], (6, 5))
        assert module.channels == 0
        assert module(Condition({"label": torch.tensor([0])}), torch.zeros(1, 1, 6, 5)) is None

    def test_another_grid_is_refused(self):
        with pytest.raises(ConfigError, match=r"'scan' must lie on the grid \(3, 3\)"):
            ConditionImages([self.SCAN], (3, 3))
