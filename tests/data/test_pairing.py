from __future__ import annotations

import numpy as np
import pytest

from medgen.data import open_data, open_source
from medgen.data.stores import region_map
from medgen.errors import ConfigError, DataError

SHAPE = (6, 5, 4)


def volumes(write_nifti, folder, names, offset, dtype=np.int16):
    """Volume k of a folder holds offset + 10 k everywhere but in the first voxel."""
    for k, name in enumerate(names):
        values = np.full(SHAPE, offset + 10 * k, dtype)
        values[0, 0, 0] = 0
        write_nifti(f"{folder}/{name}.nii.gz", values)


@pytest.fixture
def folders(write_nifti, tmp_path):
    names = [f"sub-{k}" for k in range(6)]
    volumes(write_nifti, "flair", names, 100)
    volumes(write_nifti, "t1", names, 200)
    volumes(write_nifti, "t2", names, 300)
    for k, name in enumerate(names):
        for folder, size in (("lesion", 1), ("brain", 3)):
            mask = np.zeros(SHAPE, np.uint8)
            mask[1 : 1 + size, : k % 2 + 1] = 1
            write_nifti(f"{folder}/{name}.nii.gz", mask)
    return tmp_path


def test_folders_are_paired_by_name_and_joined_as_channels(folders):
    data = open_data(folders / "flair", source=[str(folders / "t1"), str(folders / "t2")], regions=[f"lesion={folders / 'lesion'}"])
    source = data.samples.images["source"].gather(np.arange(6))
    assert source.shape == (6, 2, *SHAPE)
    np.testing.assert_array_equal(source[:, :, 3, 3, 3], [[200 + 10 * k, 300 + 10 * k] for k in range(6)])
    spec = next(c.image for c in data.conditions if c.name == "source")
    assert spec.channel_names == ("t1", "t2")
    assert spec.spacing == data.image_spec.spacing
    regions = next(c.image for c in data.conditions if c.name == "regions")
    assert (regions.content, regions.channel_names) == ("labels", ("other", "lesion"))


def test_a_source_of_label_maps_is_one_hot_also_where_the_file_holds_floats(folders, write_nifti):
    for k in range(6):
        mask = np.zeros(SHAPE, np.float32)
        mask[1:3], mask[:, :3] = 40, 80 * (k % 2)
        write_nifti(f"maps/sub-{k}.nii.gz", mask)
    options = {"source": str(folders / "maps"), "size": [s - 1 for s in SHAPE]}
    data = open_data(folders / "flair", source_content="labels", **options)
    spec = next(c.image for c in data.conditions if c.name == "source")
    assert (spec.content, spec.intensity.low) == ("labels", (0.0, 40.0, 80.0))
    assert open_data(folders / "flair", **options).conditions[0].image.content == "intensity"
    seen = open_source([folders / "maps"], spec, **data.config.to_json())
    assert bool((seen.fetch([0, 3]).x == data.fetch([0, 3]).condition.values["source"]).all())


def test_slices_stay_together_also_where_empty_ones_are_left_out(folders):
    data = open_data(folders / "lesion", source=str(folders / "t1"), axis=0, min_foreground=0.01, content="labels")
    assert len(data) == 6
    place = data.samples.geometry
    source = data.samples.images["source"].gather(np.arange(6))[:, 0, 3, 3]
    np.testing.assert_array_equal(source, [200 + 10 * k for k in place.file])


def test_files_are_paired_by_subject_where_names_differ(write_nifti, tmp_path):
    for k, subject in enumerate(("07", "26", "31")):
        write_nifti(f"all/{subject}/x_FLAIR_{subject}.nii.gz", np.full(SHAPE, float(k), np.float32))
        write_nifti(f"all/{subject}/a{9 - k}_T1_{subject}.nii.gz", np.full(SHAPE, 100.0 + k, np.float32))
    options = {"select": "*FLAIR*", "source": f"{tmp_path}/all/**/*T1*", "test_subjects": ["26"]}
    data = open_data(tmp_path / "all", subjects=r"_(\d+)\.nii", **options)
    np.testing.assert_array_equal(data.samples.images["source"].gather(np.arange(3))[:, 0, 0, 0, 0], [100, 101, 102])
    assert data.subjects[data.splits["test"]].tolist() == ["26"]
    with pytest.raises(DataError, match=r"no file for name '07/x_FLAIR_07' \(3 missing\).*`subjects`"):
        open_data(tmp_path / "all", **options | {"test_subjects": []})


def test_a_table_names_the_files_of_each_subject(folders):
    lines = ["patient,FLAIR,mr,les,split"]
    lines += [f"p{k},flair/sub-{k}.nii.gz,t1/sub-{5 - k}.nii.gz,lesion/sub-{k}.nii.gz,{'train' if k < 4 else 'test'}" for k in range(6)]
    table = folders / "pairs.csv"
    table.write_text("\n".join(lines))
    data = open_data(table, columns=["FLAIR"], source=["mr"], regions=["les"])
    np.testing.assert_array_equal(data.samples.images["source"].gather(np.arange(6))[:, 0, 3, 3, 3], [250 - 10 * k for k in range(6)])
    assert data.splits["test"].tolist() == [4, 5]
    assert data.subjects[4] == "p4"
    with pytest.raises(DataError, match=r"there is no column 'flair'.*FLAIR"):
        open_data(table, columns=["flair"], source=["mr"])
    table.write_text("target,mr\nflair/sub-0.nii.gz,t1/none.nii.gz")
    with pytest.raises(DataError, match=r"column 'mr' names .*none\.nii\.gz, which is no file"):
        open_data(table, source=["mr"])


def test_pictures_are_paired_by_name(write_png, tmp_path):
    for k in range(4):
        write_png(f"ct/{k}.png", np.full((5, 4), 40 + k, np.uint8))
        write_png(f"mr/{k}.png", np.full((5, 4), 140 + k, np.uint8))
    data = open_data(tmp_path / "ct", source=str(tmp_path / "mr"))
    np.testing.assert_array_equal(data.samples.images["source"].gather(np.arange(4))[:, 0, 0, 0], [140, 141, 142, 143])


def test_a_side_on_another_grid_or_of_another_kind_is_refused(folders, write_nifti, write_png):
    write_nifti("odd/sub-0.nii.gz", np.ones(SHAPE, np.int16), np.diag([2.0, 1, 1, 1]))
    (folders / "one").mkdir()
    (folders / "flair" / "sub-0.nii.gz").rename(folders / "one" / "sub-0.nii.gz")
    with pytest.raises(DataError, match=r"must lie on the voxel grid of .*another affine.*resample it first"):
        open_data(folders / "one", source=str(folders / "odd"))
    write_png("png/sub-0.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(DataError, match=r"must hold files of the kind of .*nifti; got image"):
        open_data(folders / "one", source=str(folders / "png"))
    with pytest.raises(DataError, match="NAME=PATH"):
        open_data(folders / "one", source=str(folders / "t1" / "sub-0.nii.gz"), regions=[str(folders / "lesion")])


def test_unpaired_sides_are_divided_each_on_its_own(write_png, tmp_path, rng):
    for k in range(12):
        write_png(f"ct/c{k}.png", np.full((4, 4), k, np.uint8) + np.uint8(40))
    for k in range(7):
        write_png(f"mr/m{k}.png", np.full((4, 4), k, np.uint8) + np.uint8(140))
    data = open_data(tmp_path / "ct", source=str(tmp_path / "mr"), pairing="unpaired", source_window=(100, 200))
    values = {
        name: (data.stored(rows)[:, 0, 0, 0], data.samples.images["source"].gather(rows)[:, 0, 0, 0]) for name, rows in data.splits.items()
    }
    for side, count in ((0, 12), (1, 7)):
        seen = [set(values[name][side].tolist()) for name in ("train", "val", "test")]
        assert sum(map(len, seen)) == len(set.union(*seen)) == count
    source = next(c.image for c in data.conditions if c.name == "source")
    assert (source.intensity.low, source.intensity.high) == ((100.0,), (200.0,))
    assert open_data(tmp_path / "ct", source=str(tmp_path / "mr"), pairing="unpaired").origin(0).count("png") == 2


def test_channels_of_one_array_are_source_and_target(save_npz, rng):
    x = rng.integers(40, 256, (9, 4, 12, 10)).astype(np.uint8)
    lesion = (rng.random((9, 12, 10)) < 0.1).astype(np.uint8)
    path = save_npz(
        images=x,
        lesion=lesion,
        brain=np.ones_like(lesion),
        channels=np.array(["T1", "C", "T2", "FLAIR"]),
        patient=np.repeat(["07", "26"], [5, 4]),
    )
    options = {"key": "images", "channels": [3], "source": "images", "source_channels": [2, 0], "regions": ["lesion", "brain"]}
    data = open_data(path, test_subjects=["26"], split=(0.8, 0.2, 0.0), **options)
    np.testing.assert_array_equal(data.samples.images["source"].gather(np.arange(9)), x[:, [2, 0]])
    np.testing.assert_array_equal(data.stored(np.arange(9)), x[:, 3:])
    assert {k: v.tolist() for k, v in data.splits.items()} == {"train": [0, 1, 2, 3], "val": [4], "test": [5, 6, 7, 8]}
    specs = {c.name: c.image for c in data.conditions}
    assert specs["source"].channel_names == ("T2", "T1")
    np.testing.assert_array_equal(data.samples.images["regions"].gather(np.arange(9))[:, 0], np.where(lesion, 1, 2))
    with pytest.raises(DataError, match=r"`source_channels` must be in 0\.\.3; got"):
        open_data(path, **options | {"source_channels": [4]})
    with pytest.raises(DataError, match="there is no subject '27'"):
        open_data(path, test_subjects=["27"], **options)
    with pytest.raises(DataError, match="no subject is left for training"):
        open_data(path, test_subjects=["26"], val_subjects=["07"], **options)


def test_the_first_region_wins_where_masks_overlap():
    lesion, brain, head = (np.array([[row]]) for row in ([0, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 0]))
    assert region_map([lesion, brain, head], ["a", "b", "c"], "x").tolist() == [[[3, 1, 2, 0]]]
    with pytest.raises(DataError, match="the mask 'b' must have one channel and the shape"):
        region_map([lesion, np.zeros((1, 2, 4))], ["a", "b"], "x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairing": "unpaired"}, "need a `source`"),
        ({"val_subjects": ["a"], "test_subjects": ["a"]}, "a in both"),
        ({"patch": [0, 4]}, "positive"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, save_npz, rng):
    with pytest.raises(ConfigError, match=message):
        open_data(save_npz(images=rng.random((4, 8, 8))), **options)
