"""Latents against attributes: closed forms on perfect codes and discrete toys."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import medgen
from medgen.evaluation import evaluate_latents
from medgen_anatomy.disentanglement import attribute_correlation, attribute_r2, mig, modularity, mutual_information, sap

COIN = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64).repeat(20, 1)  # three independent fair coins
FREE = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_perfect_code_has_r2_and_scc_of_one():
    a = FREE[:, :3]
    z = torch.stack([-2 * a[:, 2] + 1, FREE[:, 3], 5 * a[:, 0], a[:, 1] - 3], 1)
    torch.testing.assert_close(attribute_r2(z, a), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(attribute_correlation(z, a), torch.ones(3, dtype=torch.float64))


def test_a_monotone_code_has_scc_of_one_and_a_lower_r2():
    a = FREE[:, :2]
    z = torch.exp(2 * a)
    torch.testing.assert_close(attribute_correlation(z, a), torch.ones(2, dtype=torch.float64))
    assert (attribute_r2(z, a) < 0.8).all()


def test_spearman_equals_scipy():
    from scipy.stats import spearmanr

    a = FREE[:100, :1]
    z = torch.cat([a + FREE[:100, 1:2], FREE[:100, 2:3]], 1).round(decimals=1)  # ties
    wanted = max(abs(spearmanr(z[:, k], a[:, 0]).statistic) for k in range(2))
    assert attribute_correlation(z, a).item() == pytest.approx(wanted)


def test_insignificant_correlation_counts_nothing():
    a = FREE[:30, :1]
    z = FREE[:30, 1:2]
    from scipy.stats import spearmanr

    assert spearmanr(z[:, 0], a[:, 0]).pvalue > 0.05
    assert attribute_correlation(z, a).item() == 0.0


def test_information_of_coins():
    """z = (a1, a1 xor a2, a3): I is ln 2 on its own coin, 0 elsewhere; the xor tells nothing of either alone."""
    a = COIN
    z = torch.stack([a[:, 0], (a[:, 0] != a[:, 1]).double(), a[:, 2]], 1)
    information, entropy = mutual_information(z, a)
    wanted = torch.zeros(3, 3, dtype=torch.float64)
    wanted[0, 0] = wanted[2, 2] = math.log(2)
    torch.testing.assert_close(information, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(entropy, torch.full((3,), math.log(2), dtype=torch.float64))
    torch.testing.assert_close(mig(z, a), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(sap(z, a), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)
    assert modularity(z[:, [0, 2]], a) == pytest.approx(1.0)


def test_a_copied_latent_has_no_gap():
    z = COIN[:, [0, 0, 1]]
    torch.testing.assert_close(mig(z, COIN[:, :2]), torch.tensor([0.0, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)


def test_modularity_of_a_latent_that_tells_of_two():
    """z = 2 a1 + a2 tells ln 2 of both coins: 1 - I^2 / (I^2 (A - 1)) = 1 - 1 / 2 with three attributes, 0 with two."""
    z = (2 * COIN[:, 0] + COIN[:, 1])[:, None]
    assert modularity(z, COIN) == pytest.approx(0.5)
    assert modularity(z, COIN[:, :2]) == pytest.approx(0.0, abs=1e-12)
    assert modularity(z, COIN[:, :1]) == 1.0
    assert modularity(torch.zeros(160, 1, dtype=torch.float64), COIN) == 0.0


def test_information_of_a_noisy_bit():
    """A bit flipped with probability 1 / 5: ln 2 - H(1 / 5)."""
    a = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat_interleave(50)[:, None]
    z = a.clone()
    z[:10], z[50:60] = 1.0, 0.0
    wanted = math.log(2) + 0.2 * math.log(0.2) + 0.8 * math.log(0.8)
    assert mutual_information(z, a)[0].item() == pytest.approx(wanted)
    assert mig(z, a).item() == pytest.approx(wanted / math.log(2))


@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_units_do_not_matter(scale, shift):
    a, z = FREE[:, :2], FREE + 0.3 * FREE[:, [1, 0, 3, 2]]
    for metric in (attribute_r2, mig, sap, attribute_correlation):
        torch.testing.assert_close(metric(scale * z + shift, shift - scale * a), metric(z, a), atol=0.05 if metric is mig else 1e-6, rtol=0)


def test_scores_name_the_attributes():
    names = ("mig", "modularity", "attribute_correlation")
    scores = {s.name: s for s in evaluate_latents(FREE, FREE[:, :2], ["length", "width"], metrics=names, bootstrap=40)}
    assert scores["attribute_correlation"].details == {"length": pytest.approx(1.0), "width": pytest.approx(1.0)}
    assert scores["mig"].value == pytest.approx(sum(scores["mig"].details.values()) / 2)
    assert scores["modularity"].details == {}
    assert scores["modularity"].low <= scores["modularity"].value <= scores["modularity"].high
    assert scores["mig"].recipe["attributes"] == ["length", "width"]


@pytest.mark.parametrize(
    ("z", "a", "message"),
    [
        (FREE, FREE[:5, :2], r"must be \[N, L\]"),
        (FREE[:10], FREE[:10, :2], "at least 20 samples; got 10"),
        (FREE.index_fill(0, torch.tensor([3]), math.nan), FREE[:, :2], "must be finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(z, a, message):
    with pytest.raises(medgen.MedgenError, match=message):
        evaluate_latents(z, a, ["length", "width"], metrics=["mig"])


def test_another_kind_of_metric_is_refused():
    with pytest.raises(medgen.MedgenError, match="evaluate_pairs"):
        evaluate_latents(FREE, FREE[:, :2], ["length", "width"], metrics=["mae"])
