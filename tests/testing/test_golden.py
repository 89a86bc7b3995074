"""Golden files: old weights load and keep their meaning, or the law says what became of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medgen import weights
from medgen.testing import Subject
from medgen.testing.golden import check_golden, golden_path, write_golden


@pytest.fixture
def recorded(tmp_path):
    subject = Subject.of("cvae", golden=tmp_path)
    assert write_golden(subject, tmp_path) == golden_path(subject, tmp_path) == tmp_path / "cvae.safetensors"
    return subject, tmp_path


def altered(path, change):
    meta, tensors = weights.read(path)
    change(meta, tensors)
    meta.pop("schema_version")
    weights.write(path, tensors, meta)


def test_it_holds_and_writes_the_same_bytes_again(recorded, tmp_path):
    subject, folder = recorded
    check_golden(subject, folder)
    again = write_golden(subject, tmp_path / "again")
    assert again.read_bytes() == golden_path(subject, folder).read_bytes()


def test_no_file(recorded, tmp_path):
    subject, _ = recorded
    with pytest.raises(AssertionError, match="the golden file must load: there is no weights file at"):
        check_golden(subject, tmp_path / "elsewhere")


@pytest.mark.parametrize("verb", ["sample", "log_prob", "encode", "decode"])
def test_another_output(recorded, verb):
    subject, folder = recorded
    altered(golden_path(subject, folder), lambda meta, tensors: tensors[f"output.{verb}"].flatten()[:1].add_(0.5))
    with pytest.raises(AssertionError, match=f"`{verb}` of .*cvae.safetensors: the largest difference must be at most .*; got 0.5"):
        check_golden(subject, folder)


def test_renamed_weights_without_a_migration(recorded):
    subject, folder = recorded

    def rename(meta, tensors):
        tensors["model.encoder.old"] = tensors.pop(next(name for name in tensors if name.startswith("model.encoder")))

    altered(golden_path(subject, folder), rename)
    with pytest.raises(AssertionError, match=r"the golden file must load: .*does not fit the installed"):
        check_golden(subject, folder)


def migrate(config, tensors):
    return config, {name.replace("old_", ""): value for name, value in tensors.items()}


MIGRATIONS = {1: migrate}


def test_renamed_weights_with_a_migration(recorded):
    subject, folder = recorded

    def rename(meta, tensors):
        for name in [name for name in tensors if name.startswith("model.")]:
            tensors[name.replace("model.", "model.old_")] = tensors.pop(name)

    altered(golden_path(subject, folder), rename)
    newer = Subject(replace(subject.spec, weights_version=2, migrations=f"{__name__}:MIGRATIONS"), "medgen-autoencoders")
    check_golden(newer, folder)


def test_a_verb_that_is_gone(recorded):
    subject, folder = recorded
    altered(golden_path(subject, folder), lambda meta, tensors: tensors.update({"output.translate": torch.zeros(1)}))
    with pytest.raises(AssertionError, match=r"must still have the verbs of .*\['translate'\] are gone"):
        check_golden(subject, folder)
