"""The weights file: bit-equal in a new process, and a clear word for each way in which a file can be wrong."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import medgen
from medgen import factory, weights
from medgen.errors import WeightsError

ROOT = Path(__file__).parents[2]


def model(**config):
    return medgen.create("vae", medgen.ImageSpec(channels=1, shape=(8, 8)), **{"latent_dim": 2, "channels": [4], **config})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    medgen.save(model(), path, data={"fingerprint": "abc"}, training={"steps": 3})
    return path


def rewrite(path, *, meta=None, tensors=None):
    """Write the file again with something changed and the checksum left as it was."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["medgen"])
    stored = load_file(path)
    save_file({**stored, **(tensors or {})}, path, {"medgen": json.dumps({**header, **(meta or {})})})


def test_bit_equal_in_a_new_process(saved):
    code = f"import medgen, torch; m = medgen.load({str(saved)!r}); print(m.sample(3, noise=7).flatten().tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert (
        json.loads(done.stdout) == medgen.load(saved).sample(3, noise=7).flatten().tolist() == model().sample(3, noise=7).flatten().tolist()
    )


def test_the_file_describes_itself(saved):
    meta = weights.read_meta(saved)
    assert meta["family"] == "vae"
    assert meta["distribution"] == "medgen-autoencoders"
    assert meta["config"]["latent_dim"] == 2
    assert meta["image_spec"]["shape"] == [8, 8]
    assert meta["data"] == {"fingerprint": "abc"}
    assert meta["training"] == {"steps": 3}
    assert meta["schema_version"] == weights.SCHEMA_VERSION
    assert len(meta["sha256"]) == 64


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    medgen.save(model(), tmp_path / "again.safetensors", data={"fingerprint": "abc"}, training={"steps": 3})
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_missing(tmp_path):
    with pytest.raises(WeightsError, match="there is no weights file at"):
        medgen.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 300, 0.5, 0.99])
def test_truncated(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match="is truncated"):
        medgen.load(saved)


def test_not_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"PK\x03\x04 something quite different, long enough to have a header")
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        medgen.load(path)


def test_foreign(tmp_path):
    save_file({"w": torch.zeros(3)}, tmp_path / "x.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="medgen did not write"):
        medgen.load(tmp_path / "x.safetensors")


def test_every_flipped_tensor_bit_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for position in range(start, len(content), max(1, (len(content) - start) // 40)):
        changed = bytearray(content)
        changed[position] ^= 1
        saved.write_bytes(changed)
        with pytest.raises(WeightsError, match=r"was altered after it was saved"):
            medgen.load(saved)


@pytest.mark.parametrize("change", [{"config": {"latent_dim": 3}}, {"family": "beta_vae"}, {"data": {}}, {"weights_version": 0}])
def test_a_changed_description_is_noticed(saved, change):
    rewrite(saved, meta=change)
    with pytest.raises(WeightsError, match=r"was altered after it was saved"):
        medgen.load(saved)


def test_newer_schema(saved):
    rewrite(saved, meta={"schema_version": weights.SCHEMA_VERSION + 1})
    with pytest.raises(WeightsError, match=rf"schema {weights.SCHEMA_VERSION + 1}, this medgen reads up to .*pip install -U medgen"):
        medgen.load(saved)


def test_missing_plugin(saved, tmp_path):
    meta, tensors = weights.read(saved)
    weights.write(saved, tensors, {**meta, "distribution": "medgen-elsewhere", "version": "3.1", "family": "dream"})
    with pytest.raises(WeightsError, match=r"pip install 'medgen-elsewhere==3.1'"):
        medgen.load(saved)


def test_a_family_that_outgrew_the_file(saved):
    meta, tensors = weights.read(saved)
    weights.write(saved, tensors, {**meta, "config": {**meta["config"], "gone": 1}})
    with pytest.raises(WeightsError, match=r"does not fit the installed .*'gone'"):
        medgen.load(saved)
    weights.write(saved, dict(list(tensors.items())[1:]), meta)
    with pytest.raises(WeightsError, match="does not fit the installed"):
        medgen.load(saved)


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()
    monkeypatch.setattr(weights.safetensors.torch, "save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        medgen.save(model(), saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


# migrations -------------------------------------------------------------------------------------------------------------------------------


def test_schema_migration(saved, monkeypatch):
    """A file of schema 1 read by a medgen whose schema is 3: two steps up, in order."""

    def to_2(meta, tensors):
        assert meta["schema_version"] == 1
        return {**meta, "trail": ["2"]}, tensors

    def to_3(meta, tensors):
        return {**meta, "trail": [*meta["trail"], "3"]}, {f"renamed.{k}": v for k, v in tensors.items()}

    meta, tensors = weights.read(saved)
    lifted, renamed = weights.migrate(meta, tensors, migrations={1: to_2, 2: to_3}, target=3)
    assert lifted["trail"] == ["2", "3"]
    assert lifted["schema_version"] == 3
    assert set(renamed) == {f"renamed.{k}" for k in tensors}

    monkeypatch.setattr(weights, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(weights.MIGRATIONS, 1, lambda meta, tensors: ({**meta, "config": {**meta["config"], "blocks": 1}}, tensors))
    monkeypatch.setattr(weights.migrate, "__kwdefaults__", {"migrations": weights.MIGRATIONS, "target": 2})
    assert medgen.load(saved).config.blocks == 1, "load goes through the migrations"


def test_no_way_up():
    with pytest.raises(WeightsError, match="too old"):
        weights.migrate({"schema_version": 0}, {}, migrations={}, target=1)


RENAMES = {
    1: lambda config, tensors: ({k: v for k, v in config.items() if k != "old"}, {k.replace("old.", ""): v for k, v in tensors.items()})
}


def test_family_migration(saved, monkeypatch):
    """A family renames its parameters: `weights_version` rises, and old files still load."""
    from dataclasses import replace

    meta, tensors = weights.read(saved)
    weights.write(saved, {f"old.{k}": v for k, v in tensors.items()}, {**meta, "config": {**meta["config"], "old": True}})
    declared = factory.find_family("vae")
    sys.modules.setdefault("medgen_test_renames", type(sys)("medgen_test_renames")).RENAMES = RENAMES
    newer = replace(declared, spec=replace(declared.spec, weights_version=2, migrations="medgen_test_renames:RENAMES"))
    monkeypatch.setattr(factory, "find_family", lambda _name: newer)
    assert torch.equal(medgen.load(saved).sample(2), model().sample(2))
    without = replace(declared, spec=replace(declared.spec, weights_version=2))
    monkeypatch.setattr(factory, "find_family", lambda _name: without)
    with pytest.raises(WeightsError, match="no migration from 1"):
        medgen.load(saved)
    weights.write(saved, tensors, {**meta, "weights_version": 9})
    with pytest.raises(WeightsError, match="pip install -U medgen-autoencoders"):
        medgen.load(saved)


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=4),
        st.tuples(
            st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=4,
    )
)
def test_any_tensors_round_trip(tmp_path_factory, wanted):
    path = tmp_path_factory.mktemp("w") / "x.safetensors"
    tensors = {
        name: (torch.arange(int(torch.tensor([1, *shape]).prod())) % 2).reshape(shape).to(dtype) for name, (dtype, shape) in wanted.items()
    }
    weights.write(path, tensors, {"family": "x"})
    meta, found = weights.read(path)
    assert meta["family"] == "x"
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)


def test_shared_and_strided_tensors_are_stored_as_they_read(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    weights.write(tmp_path / "x.safetensors", {"a": base, "b": base.T, "c": base[:, 1]}, {})
    _, found = weights.read(tmp_path / "x.safetensors")
    assert torch.equal(found["b"], base.T)
    assert torch.equal(found["c"], base[:, 1])


# no code in data, anywhere ----------------------------------------------------------------------------------

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CODE_LOADERS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "np.save"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def _offences(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(a.name.split(".")[0] in FORBIDDEN_IMPORTS for a in node.names):
            yield path, node.lineno, "import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_IMPORTS:
            yield path, node.lineno, "import"
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield path, node.lineno, node.func.id
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in {
                "torch.load",
                "torch.save",
                "yaml.load",
                "np.save",
                "yaml.unsafe_load",
            }:
                yield path, node.lineno, ast.unparse(node.func)
            if any(k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False) for k in node.keywords):
                yield path, node.lineno, "allow_pickle"


def test_no_pickle_and_no_eval_anywhere():
    sources = [*ROOT.glob("medgen/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py"), ROOT / "setup.py"]
    assert len(sources) > 50
    assert [offence for path in sources for offence in _offences(path)] == []


def test_the_search_finds_what_it_looks_for(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import pickle\nfrom dill import x\neval('1')\nimport torch\ntorch.load('x')\nimport numpy as np\nnp.load('x', allow_pickle=True)\n"
    )
    assert sorted(line for _, line, _ in _offences(bad)) == [1, 2, 3, 5, 7]
