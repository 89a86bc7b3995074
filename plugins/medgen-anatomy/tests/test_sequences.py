"""Repair of frames, and smoothing through a latent model in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_model import LV, MYO, Discs, RegularisedDiscs, beating

from medgen.errors import DataError
from medgen_anatomy.attributes import ATTRIBUTES, cardiac_attributes
from medgen_anatomy.cleaning import cleaned
from medgen_anatomy.sequences import Coder, bridge_decoded, bridged, latent_tau, smooth_decoded, smooth_gaussian, smooth_regularised, splice
from medgen_anatomy.temporal import consistency, fit_limits

NAMES = ("lv_area", "myo_area", "epi_center_x", "epi_center_y")


def measure(maps):
    return cardiac_attributes(maps, lv=LV, myo=MYO)[:, [ATTRIBUTES.index(name) for name in NAMES]]


@pytest.fixture(scope="module")
def reference():
    rng = np.random.default_rng(0)
    return [beating(lv=rng.uniform(450, 550), phase=p, x=rng.uniform(29, 33), y=rng.uniform(30, 34)) for p in rng.uniform(0, 6, 12)]


@pytest.fixture(scope="module")
def limits(reference):
    return fit_limits([measure(maps) for maps in reference], NAMES)


def dice(a, b):
    return min(2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum()) for k in (LV, MYO))


def test_the_model_is_its_own_inverse():
    coder, maps = Coder(Discs()), beating(spikes=(5,))
    assert (coder.decode(coder.encode(maps)) != maps).mean() < 0.01


@pytest.mark.parametrize("spikes", [(9,), (4, 15), (6, 8)])
@pytest.mark.parametrize("kind", ["decoded", "regularised"])
def test_spikes_vanish_and_the_truth_comes_nearer(kind, spikes, reference, limits):
    spiked, truth = beating(spikes=spikes), beating()
    before = consistency([measure(spiked)], limits)
    assert set(spikes) <= set(before.frames[0])
    coder = Coder(RegularisedDiscs())
    tau = latent_tau([coder.encode(maps) for maps in reference], coder.model.attribute_dimensions, limits)
    assert np.isnan(tau).tolist() == [False, True, False, False]
    more = () if kind == "decoded" else (tau,)
    run = smooth_decoded if kind == "decoded" else smooth_regularised
    published = run(coder, spiked, measure, limits, *more)
    robust = run(coder, spiked, measure, limits, *more, errors=before.frames[0])
    spliced = splice(robust, spiked, before.frames[0], measure, limits)
    for result in (published, robust, spliced):
        assert result.consistent
        assert consistency([measure(result.maps)], limits).frames == [[]]
    assert 0.9 < dice(published.maps, truth) < dice(robust.maps, truth) <= dice(spliced.maps, truth) + 1e-3
    assert (spliced.maps != spiked).any((1, 2)).sum() <= (robust.maps != spiked).any((1, 2)).sum()


@pytest.mark.parametrize("spikes", [(9,), (4, 15), (6, 8)])
def test_the_least_change(spikes, limits):
    """Frames away from the spikes stay to the bit, and the spikes become what they should have been, up to their outlines."""
    spiked, truth = beating(spikes=spikes), beating()
    errors = consistency([measure(spiked)], limits).frames[0]
    result = bridge_decoded(Coder(Discs()), spiked, errors, measure, limits)
    assert result.consistent
    changed = (result.maps != spiked).any((1, 2))
    assert set(spikes) <= set(np.flatnonzero(changed).tolist()) <= set(errors)
    assert dice(result.maps, truth) > max(0.99, dice(spiked, truth))


def test_too_few_good_frames_are_not_bridged():
    z = np.random.default_rng(0).normal(size=(10, 2))
    assert bridged(z, range(6)) is z
    assert bridged(z, []) is z
    np.testing.assert_array_equal(bridged(z, [3, 4])[[0, 1, 2, 5, 6, 7, 8, 9]], z[[0, 1, 2, 5, 6, 7, 8, 9]])


def test_the_thresholds_of_latents(limits):
    z = [np.stack([np.linspace(0, 2, 9) ** 2, np.sin(np.arange(9.0))], 1)]
    tau = latent_tau(z, {"lv_area": 0, "unheard_of": 1}, limits)
    assert tau[0] == pytest.approx(limits.tau[0] * 4.0)
    assert tau[1] == pytest.approx(np.abs(z[0][1:-1, 1] - (z[0][:-2, 1] + z[0][2:, 1]) / 2).max())


def test_the_baseline_filters(limits):
    spiked = beating(spikes=(9,))
    filtered = smooth_gaussian(Coder(Discs()), spiked, measure, limits)
    assert np.isnan(filtered.weights).all()
    assert filtered.found.mean_ratio < consistency([measure(spiked)], limits).mean_ratio


def test_only_label_maps():
    model = Discs()
    model.image_spec = model.image_spec.__class__(channels=3, shape=(64, 64))
    with pytest.raises(DataError, match="2-D label maps; this one is of 2-D intensity"):
        Coder(model)


def frame(*rows):
    return np.array([[int(c) for c in row] for row in rows])[None]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("00000", "02220", "02320", "02220", "00003"), ("00000", "02220", "02320", "02220", "00000")),  # an island
        (("22222", "22022", "22222", "20002", "23332"), ("22222", "22222", "22222", "22222", "23332")),  # a hole and a gap
        (("33333", "30333", "33303", "33333", "22222"), ("33333", "33333", "33333", "33333", "22222")),  # holes of the cavity
        (("22222", "20002", "20302", "20002", "22222"), ("22222", "22222", "22322", "22222", "22222")),  # a gap all around
        (("02220", "20002", "20302", "20002", "00000"), ("02220", "20002", "20302", "20002", "00000")),  # open to the outside
        (("11111", "10111", "11111", "00000", "00222"), ("11111", "11111", "11111", "00000", "00222")),  # another structure's hole
    ],
)
def test_cleaning_by_hand(before, after):
    maps = frame(*before)
    np.testing.assert_array_equal(cleaned(maps, lv=3, myo=2), frame(*after))
    np.testing.assert_array_equal(cleaned(frame(*after), lv=3, myo=2), frame(*after))  # nothing more to do
    np.testing.assert_array_equal(maps, frame(*before))


def test_cleaning_wants_label_maps():
    with pytest.raises(DataError, match=r"integers \[T, H, W\]"):
        cleaned(np.zeros((3, 4, 4)), lv=1, myo=2)
