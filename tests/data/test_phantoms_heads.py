import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.data.phantoms import (
    TISSUES,
    draw_head,
    head_mask,
    hu_to_mr,
    lesion_contrasts,
    lesion_ratio,
    lesion_regions,
    mr_ct_pair,
    mr_to_hu,
    tissue_shares,
)
from medgen.data.phantoms.drawing import generator
from medgen.data.phantoms.lesions import CONTRASTS, RELAXATION, tissue_signal
from medgen.data.phantoms.mr_ct import HOUNSFIELD

SIZE, SPACING = 96, 224 / 96


def _head(i=0, lesions=(3, 8), dim=2, size=SIZE):
    head = draw_head(generator(0, i), dim, lesions)
    return head, tissue_shares(head, size, 224 / size)


@pytest.mark.parametrize(("dim", "size"), [(2, 96), (3, 32)])
def test_shares_are_a_partition(dim, size):
    _, shares = _head(dim=dim, size=size)
    assert shares.shape == (len(TISSUES), *(size,) * dim)
    assert shares.min() >= -1e-12
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-12)
    assert all(shares[k].max() > 0.5 for k, name in enumerate(TISSUES) if dim == 2 and name not in ("marrow", "lesion"))


def test_same_head_at_every_resolution():
    coarse, fine = (_head(size=s)[1].sum((1, 2)) * (224 / s) ** 2 for s in (96, 192))
    for k, name in enumerate(TISSUES):
        if name in ("air", "grey", "white", "csf"):
            assert coarse[k] == pytest.approx(fine[k], rel=0.12), name


def test_signal_equations():
    # Long TR and TE 0 leave the proton density; FLAIR nulls a fluid at TI = T1 ln 2 when TR is long.
    assert tissue_signal("T1", 1.0, 1e-3, 1e12) / tissue_signal("T1", 0.5, 1e-3, 1e12) == pytest.approx(2)
    assert abs(tissue_signal("FLAIR", 1.0, 2500 / np.log(2), 1e9)) < 0.3
    table = {c: {t: tissue_signal(c, *RELAXATION[t]) for t in TISSUES} for c in CONTRASTS}
    assert table["T1"]["white"] > table["T1"]["grey"] > table["T1"]["csf"]
    assert table["T2"]["csf"] > table["T2"]["lesion"] > table["T2"]["grey"] > table["T2"]["white"]
    assert table["FLAIR"]["lesion"] > table["FLAIR"]["grey"] > table["FLAIR"]["white"] > table["FLAIR"]["csf"]
    assert max(max(row.values()) for row in table.values()) < 1  # nothing is clipped


@settings(max_examples=6, deadline=None)
@given(i=st.integers(0, 10**6))
def test_contrasts_without_noise_are_the_mixed_tissue_signals(i):
    _, shares = _head(i)
    images = lesion_contrasts(shares, generator(0, i), SPACING, noise=0.0)
    for image, contrast in zip(images, CONTRASTS, strict=True):
        expected = sum(tissue_signal(contrast, *RELAXATION[t]) * share for t, share in zip(TISSUES, shares, strict=True))
        np.testing.assert_allclose(image, expected, atol=1e-6)


def test_lesion_ratio_is_that_of_the_image():
    for i in range(5):
        head, shares = _head(i)
        flair = lesion_contrasts(shares, generator(0, i), SPACING, noise=0.0)[2]
        pure = shares[TISSUES.index("lesion")] > head.severity - 1e-9
        white = shares[TISSUES.index("white")] > 1 - 1e-9
        assert pure.any()
        ratio = flair[pure].mean() / flair[white].mean()
        assert ratio == pytest.approx(lesion_ratio(head), rel=1e-5)
        assert 1.4 < ratio < 1.9


def test_regions_are_disjoint_and_complete():
    for i in range(5):
        head, shares = _head(i)
        regions = lesion_regions(head, shares)
        np.testing.assert_array_equal(regions.sum(0), 1)
        assert regions[:2].any((1, 2)).all()
    _, shares = _head(0, lesions=(0, 0))
    assert not lesion_regions(head, shares)[0].any()


@settings(max_examples=6, deadline=None)
@given(i=st.integers(0, 10**6))
def test_monotone_map_is_recovered(i):
    _, shares = _head(i)
    mr, ct = mr_ct_pair(shares, generator(0, i), SPACING, "monotone", noise=0.0)
    np.testing.assert_allclose(ct, mr_to_hu(mr), atol=1e-2)
    np.testing.assert_allclose(hu_to_mr(ct), mr, atol=1e-4)
    order = np.argsort(mr, axis=None)
    assert (np.diff(ct.ravel()[order]) >= -1e-3).all()


@given(mr=st.floats(0, 1))
def test_map_inverts(mr):
    assert hu_to_mr(mr_to_hu(np.array(mr))) == pytest.approx(mr, abs=1e-9)


def test_anatomical_pair_separates_bone_from_air_in_ct_alone():
    _, shares = _head(1)
    mr, ct = mr_ct_pair(shares, generator(0, 1), SPACING, noise=0.0)
    bone, air = (shares[TISSUES.index(t)] > 0.999 for t in ("bone", "air"))
    np.testing.assert_allclose(ct[bone], HOUNSFIELD["bone"], atol=3)
    np.testing.assert_allclose(ct[air], -1000, atol=3)
    assert abs(mr[bone].mean() - mr[air].mean()) < 0.02
    pure = shares.max(0) > 1 - 1e-9
    assert set(np.round(ct[pure]).tolist()) <= set(HOUNSFIELD.values())


def test_head_mask_is_the_head_without_air():
    _, shares = _head(2)
    mask = head_mask(shares)
    outer = ~head_mask(np.eye(len(TISSUES))[0][:, None, None] * np.ones((1, 2, 2)))
    assert outer.all()
    assert not mask[0].any()
    assert mask[SIZE // 2, SIZE // 2]
    assert 0.35 < mask.mean() < 0.7
