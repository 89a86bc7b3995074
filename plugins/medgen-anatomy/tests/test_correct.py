"""Correction: valid by construction, by the smallest step that is valid, and nothing else is touched."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch
from ring_model import SIZE, ring, ring_data, rings
from tiny import cli, ok

import medgen
from medgen.errors import RunError
from medgen.files import write_json
from medgen.runs import open_run
from medgen_anatomy.choice import criteria_to_json
from medgen_anatomy.correct import correct
from medgen_anatomy.criteria import is_valid, myocardium_criteria, violations
from medgen_anatomy.decoding import ShapeDecoder
from medgen_anatomy.overlap import dice, hausdorff
from medgen_anatomy.shape_store import ShapeStore
from medgen_anatomy.shape_vae import soft_dice
from medgen_anatomy.window import seen_by, to_map, to_model_grid

CRITERIA = myocardium_criteria().only("holes_in_lv", "disconnectivity_in_lv", "disconnectivity_in_myo", "holes_between_lv_and_myo")
GIVEN = np.stack([ring(5.5, 9.0), ring(2.0, 9.0), ring(0.5, 8.0), ring(6.0, 10.0)])


def made_store(folder, points, flags):
    """A finished store of given points."""
    (folder / "points").mkdir(parents=True)
    points = np.asarray(points, np.float32)
    np.save(folder / "points" / "points.npy", points)
    np.save(folder / "flags.npy", np.asarray(flags, np.uint32))
    asked = {"points": len(points), "dim": points.shape[1], "criteria": criteria_to_json(CRITERIA), "spacing": [1.0, 1.0]}
    write_json(folder / "densify.json", {"asked": asked, "done": len(points), "seconds": {}, "summary": {}})
    return ShapeStore(folder)


@pytest.fixture
def store(tmp_path):
    # the third is nearest to everything, and invalid
    return made_store(tmp_path / "store", [[7.0, 9.0], [9.0, 9.5], [4.9, 9.0], [7.0, 12.0]], [0, 0, 1, 0])


def test_alpha_is_the_smallest_valid_step(store):
    decoder = ShapeDecoder(rings(), "float32")
    z = decoder.encode(GIVEN)
    found = correct(decoder, store, GIVEN, steps=16, spacing=(1.0, 1.0))
    assert found.valid_before.tolist() == [True, False, False, True]
    assert found.valid.all()
    for k in (1, 2):
        a, goal = float(z[k, 0]), 7.0
        assert found.alpha[k] == pytest.approx((5.0 - a) / (goal - a), abs=2**-16)
        assert found.alpha[k] >= (5.0 - a) / (goal - a) - 1e-6  # the last valid one, never the last tried
        assert found.distance[k] == pytest.approx(float(np.hypot(goal - a, 9.0 - float(z[k, 1]))), rel=1e-5)
    assert is_valid(found.maps, CRITERIA).all()


def test_few_steps_are_valid_too_and_none_takes_the_stored_shape(store):
    decoder = ShapeDecoder(rings(), "float32")
    for steps in (0, 1, 3):
        found = correct(decoder, store, GIVEN[1:3], steps=steps)
        assert found.valid.all()
        assert (found.alpha * 2**steps == np.round(found.alpha * 2**steps)).all()
    np.testing.assert_array_equal(correct(decoder, store, GIVEN[1:2], steps=0).maps[0], ring(7.0, 9.0))


def test_valid_maps_are_untouched(store):
    found = correct(ShapeDecoder(rings(), "float32"), store, GIVEN)
    np.testing.assert_array_equal(found.maps[[0, 3]], GIVEN[[0, 3]])
    assert np.isnan(found.alpha[[0, 3]]).all()
    only = correct(ShapeDecoder(rings(), "float32"), store, GIVEN[[0, 3]])
    assert only.maps is GIVEN or np.array_equal(only.maps, GIVEN[[0, 3]])


def test_the_own_latent_is_taken_where_it_decodes_to_a_valid_map(store):
    islands = GIVEN[:1].copy()
    islands[0, 0, 0] = 2  # which the encoder takes for a slightly larger cavity
    found = correct(ShapeDecoder(rings(), "float32"), store, islands)
    assert found.alpha.tolist() == [0.0]
    assert found.valid.all()
    assert dice(found.maps, GIVEN[:1], [1, 2]).min() > 0.97


@pytest.mark.parametrize("factor", [2, 3])
def test_maps_on_a_finer_grid_are_valid_there(store, factor):
    fine = GIVEN.repeat(factor, 1).repeat(factor, 2)
    found = correct(ShapeDecoder(rings(), "float32"), store, fine, spacing=(1 / factor, 1 / factor))
    assert found.valid.all()
    assert is_valid(found.maps, CRITERIA, (1 / factor, 1 / factor)).all()
    np.testing.assert_array_equal(found.maps[0], fine[0])
    assert dice(found.maps, ring(7.0, 9.0).repeat(factor, 0).repeat(factor, 1)[None].repeat(4, 0), [1, 2])[1].min() > 0.9


def test_the_next_nearest_is_tried_where_the_nearest_is_not_valid_as_a_map(tmp_path):
    """A wall that reaches beyond the map leaves four corners of itself there; the store says it was valid."""
    store = made_store(tmp_path / "s", [[7.0, 26.0], [7.0, 9.0]], [0, 0])
    decoder = ShapeDecoder(rings(), "float32")
    given = ring(2.0, 26.0)[None]
    found = correct(decoder, store, given, neighbours=1, steps=0)
    whole = is_valid(ring(7.0, 26.0)[None], CRITERIA)
    assert found.valid.tolist() == whole.tolist() == [False]
    np.testing.assert_array_equal(found.maps[0], ring(7.0, 26.0))  # said not to be valid, and the best there is
    more = correct(decoder, store, given, neighbours=2, steps=0)
    assert more.valid.all()
    np.testing.assert_array_equal(more.maps[0], ring(7.0, 9.0))


def test_a_shifted_map_is_corrected_in_its_place(store):
    wide = np.zeros((2, 60, 70), np.uint8)
    wide[0, 3 : 3 + SIZE, 5 : 5 + SIZE] = GIVEN[1]
    wide[1, 17 : 17 + SIZE, 26 : 26 + SIZE] = GIVEN[1]
    wide[1, 0, 0] = 1  # an island does not move the window
    found = correct(ShapeDecoder(rings(), "float32"), store, wide, spacing=(1.0, 1.0), centre=True)
    assert found.valid.all()
    np.testing.assert_array_equal(found.maps[0, 3 : 3 + SIZE, 5 : 5 + SIZE], found.maps[1, 17 : 17 + SIZE, 26 : 26 + SIZE])
    assert found.maps[0].sum() == found.maps[0, 3 : 3 + SIZE, 5 : 5 + SIZE].sum() > 0


def test_windows_there_and_back():
    maps = ring(6.0, 9.0)[None]
    whole = seen_by(maps, None)
    np.testing.assert_array_equal(to_model_grid(maps, whole, (SIZE, SIZE)), maps)
    hot = (maps[:, None] == np.arange(3)[:, None, None]).astype(np.float32)
    np.testing.assert_array_equal(to_map(hot, whole, (SIZE, SIZE)), maps)
    half = seen_by(maps, (SIZE / 2, SIZE / 2))
    seen = to_model_grid(maps, half, (SIZE, SIZE))
    np.testing.assert_array_equal(seen[0, ::2, ::2][5:15, 5:15], maps[0, 10:31, 10:31][5:15, 5:15])
    shift = np.array([[3.0, -2.0, SIZE, SIZE]])
    moved = to_map(hot, shift, (SIZE, SIZE))
    np.testing.assert_array_equal(moved[0, 3:, :-2], maps[0, :-3, 2:])
    assert (moved[0, :3] == 0).all()


def test_a_disc_stays_round_on_a_finer_grid():
    """By nearest neighbours it would become a staircase, whose dents are criteria's business."""
    p = 1 / (1 + np.exp(-(9.0 - np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE // 2)))))
    hot = np.stack([1 - p, 0 * p, p])[None].astype(np.float32)
    fine = to_map(hot, seen_by(np.zeros((1, 164, 164)), None), (164, 164))[0]
    radius = np.hypot(*((np.mgrid[:164, :164] + 0.5) / 4 - 0.5 - SIZE // 2))
    assert (fine == 2)[radius < 8.95].all()
    assert not (fine == 2)[radius > 9.05].any()


def test_overlap_in_closed_form():
    a, b = np.zeros((2, 1, 10, 10), int)
    a[0, 2:5, 2:5], b[0, 2:5, 4:7] = 1, 1
    assert dice(a, b, [1, 2])[0].tolist() == pytest.approx([2 * 3 / 18, 1.0])
    assert hausdorff(a, b, [1, 2], (1.0, 2.0))[0].tolist() == [4.0, 0.0]
    b[0, 0, 0] = 2
    assert np.isnan(hausdorff(a, b, [2], (1.0, 1.0))[0, 0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rings")
    np.savez(folder / "rings.npz", masks=ring_data())
    ok("train", "pca_masks", "--data", folder / "rings.npz", "--key", "masks", "--model.components", 6, "--out", folder / "run", "--quiet")
    ok("anatomy", "densify", folder / "run", "--points", 1500, "--criteria", "myocardium", "--missing", "invalid", "--quiet")
    return folder / "run"


@pytest.fixture
def broken():
    """Ten maps, of which the first four are as they should be."""
    maps = ring_data(10, seed=5)
    wrong = maps.copy()
    wrong[4:, 11:13, 11:13] = 0
    wrong[7:, 1, 1] = 2
    return maps, wrong


def test_npz_files_keep_their_other_arrays(run, broken, tmp_path):
    truth, wrong = broken
    np.savez(tmp_path / "seg.npz", masks=wrong.astype(np.int16), patient=np.arange(10))
    np.savez(tmp_path / "truth.npz", masks=truth)
    out = tmp_path / "out"
    text = ok("anatomy", "correct", run, tmp_path / "seg.npz", "--truth", tmp_path / "truth.npz", "--out", out, "--quiet")
    with np.load(out / "seg.npz") as arrays:
        found, patient = arrays["masks"], arrays["patient"]
    assert found.dtype == np.int16
    assert patient.tolist() == list(range(10))
    np.testing.assert_array_equal(found[:4], wrong[:4])
    report = json.loads((out / "correction.json").read_text())
    assert (report["maps"], report["invalid_before"], report["invalid_after"]) == (10, 6, 0)
    assert is_valid(found, myocardium_criteria()).all()
    broken_before = violations(wrong, myocardium_criteria()).sum(0)
    assert {name: v["before"] for name, v in report["violations"].items()} == dict(
        zip(myocardium_criteria().names, broken_before, strict=True)
    )
    assert {v["after"] for v in report["violations"].values()} == {0}
    assert report["dice_before"]["valid_before"] == report["dice_after"]["valid_before"] == {"myo": 1.0, "lv": 1.0}
    np.testing.assert_allclose(report["dice_after"]["all"]["lv"], dice(found, truth, [2]).mean())
    assert report["dice_after"]["invalid_before"]["lv"] > 0.8
    assert [case["alpha"] is None for case in report["cases"]] == [True] * 4 + [False] * 6
    assert (out / "worst.png").stat().st_size > 1000
    assert "any" in text


def test_nifti_keeps_its_grid_and_valid_files_are_copied(run, broken, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    truth, wrong = broken
    affine = np.diag([1.5, 2.0, 8.0, 1.0])
    (tmp_path / "in").mkdir()
    for name, maps in (("a", truth[:3]), ("b", wrong[3:8])):
        image = nibabel.Nifti1Image(np.moveaxis(maps, 0, 2).astype(np.int16), affine)
        image.to_filename(tmp_path / "in" / f"{name}.nii.gz")
    out = tmp_path / "out"
    ok("anatomy", "correct", run, tmp_path / "in", "--out", out, "--quiet")
    assert gzip.decompress((out / "a.nii.gz").read_bytes()) == gzip.decompress((tmp_path / "in" / "a.nii.gz").read_bytes())
    back = nibabel.load(out / "b.nii.gz")
    np.testing.assert_array_equal(back.affine, affine)
    assert back.get_data_dtype() == np.int16
    found = np.moveaxis(np.asarray(back.dataobj), 2, 0)
    np.testing.assert_array_equal(found[0], wrong[3])
    assert is_valid(found, myocardium_criteria(), (1.5, 2.0)).all()
    report = json.loads((out / "correction.json").read_text())
    assert report["compared_with"] == "input"
    assert "dice_before" not in report


def test_pictures(run, broken, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    for k in (0, 9):
        pillow.fromarray(broken[1][k]).save(tmp_path / f"m{k}.png")
    ok("anatomy", "correct", run, tmp_path / "m*.png", "--out", tmp_path / "out", "--quiet")
    found = [np.array(pillow.open(tmp_path / "out" / f"m{k}.png")) for k in (0, 9)]
    np.testing.assert_array_equal(found[0], broken[1][0])
    assert is_valid(np.stack(found), myocardium_criteria()).all()


def test_errors_say_what_to_do(run, broken, tmp_path):
    np.savez(tmp_path / "seg.npz", masks=broken[1])

    def said(*words):
        answer = cli("anatomy", "correct", *words)
        assert answer.code == 2, answer
        return answer.err

    assert "medgen anatomy densify" in said(run, tmp_path / "seg.npz", "--out", tmp_path / "o", "--store", tmp_path / "none")
    assert "never replaced" in said(run, tmp_path / "seg.npz", "--out", tmp_path)
    np.savez(tmp_path / "odd.npz", masks=broken[1] + 3)
    assert "got also" in said(run, tmp_path / "odd.npz", "--out", tmp_path / "o")
    np.savez(tmp_path / "other.npz", something=broken[1], more=1)
    assert "--key" in said(run, tmp_path / "other.npz", "--out", tmp_path / "o")
    np.savez(tmp_path / "half.npz", masks=broken[1] + 0.5)
    assert "whole numbers" in said(run, tmp_path / "half.npz", "--out", tmp_path / "o")
    np.savez(tmp_path / "few.npz", masks=broken[0][:3])
    assert "same shapes" in said(run, tmp_path / "seg.npz", "--truth", tmp_path / "few.npz", "--out", tmp_path / "o")
    note = json.loads((run / "densified" / "densify.json").read_text())
    store = tmp_path / "store"
    store.mkdir()
    write_json(store / "densify.json", note | {"asked": note["asked"] | {"weights": "others"}})
    assert "other weights" in said(run, tmp_path / "seg.npz", "--store", store, "--out", tmp_path / "o")
    write_json(store / "densify.json", note | {"done": 7})
    assert "not finished" in said(run, tmp_path / "seg.npz", "--store", store, "--out", tmp_path / "o")


def test_refining_raises_the_overlap_of_what_is_decoded(run):
    decoder, maps = ShapeDecoder(open_run(run).model), ring_data(12, seed=7)
    x = torch.from_numpy((maps[:, None] == np.arange(3)[:, None, None]).astype(np.float32))
    z = decoder.encode(maps)
    overlap = [soft_dice(decoder.probabilities(decoder.refined(z, maps, steps, 0.1)), x).mean(1) for steps in (0, 5, 40)]
    assert (overlap[1] >= overlap[0]).all()
    assert (overlap[2] > overlap[0] + 0.01).all()
    torch.testing.assert_close(decoder.refined(z, maps, 0, 0.1), z, rtol=0, atol=0)


def test_without_valid_shapes_there_is_nothing_to_correct_with(tmp_path):
    store = made_store(tmp_path / "s", [[1.0, 9.0]], [1])
    with pytest.raises(RunError, match="no valid shape"):
        correct(ShapeDecoder(rings(), "float32"), store, GIVEN)


def test_models_of_other_data_are_refused():
    spec = medgen.ImageSpec(channels=1, shape=(8, 8))
    with pytest.raises(RunError, match="2-D label maps"):
        ShapeDecoder(medgen.create("vae", spec, latent_dim=2, channels=[4], blocks=0))
    assert torch.is_grad_enabled()
