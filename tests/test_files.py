"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import MedgenError
from medgen.files import atomic_dir, atomic_path, make_folder, sweep, write_json, write_text


@pytest.mark.parametrize("name", ["a.nii.gz", "b.csv", "plain", ".hidden.npz"])
def test_the_temporary_name_keeps_the_suffixes_and_lies_beside(tmp_path, name):
    target = tmp_path / "new" / "folder" / name
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.endswith(name)
        assert temporary != target
        temporary.write_text("x")
        assert not target.exists()
    assert [p.name for p in target.parent.iterdir()] == [name]
    assert target.read_text() == "x"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_writer_that_replaces_the_temporary_file_is_fine(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        (tmp_path / "b").write_text("by another library")
        os.replace(tmp_path / "b", temporary)
    assert (tmp_path / "a.txt").read_text() == "by another library"


def test_folders_appear_whole_or_not_at_all(tmp_path):
    def write() -> None:
        with atomic_dir(tmp_path / "a" / "b") as temporary:
            (temporary / "x").write_text("x")
            raise ValueError("cut")

    with pytest.raises(ValueError, match="cut"):
        write()
    assert list((tmp_path / "a").iterdir()) == []
    with atomic_dir(tmp_path / "a" / "b") as temporary:
        (temporary / "x").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["a", "a/b", "a/b/x"]


def test_a_folder_does_not_replace_one_with_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"), atomic_dir(tmp_path / "a"):
        pass
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["a", "a/mine"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "file", "x")
        with atomic_dir(tmp_path / "folder"):
            pass
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("where", ["file/inside", "file/in/side", "folder"])
def test_what_cannot_be_written_is_a_users_mistake_that_names_it(tmp_path, where):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MedgenError, match=f"cannot write .*{where.partition('/')[0]}"):
        write_text(tmp_path / where, "x")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(MedgenError, match="cannot write"):
        make_folder(tmp_path / "file")
    with pytest.raises(MedgenError, match="cannot write"), atomic_dir(tmp_path / "file" / "x"):
        pass


def test_json_has_null_for_what_it_has_no_word_for(tmp_path):
    value = {"a": math.nan, "b": [math.inf, -math.inf, 1.5, (2, math.nan)], 3: {"c": True, "d": None}, "e": "NaN"}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON")) == {
        "a": None,
        "b": [None, None, 1.5, [2, None]],
        "3": {"c": True, "d": None},
        "e": "NaN",
    }
    assert text.endswith("\n")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_json_of_plain_values_reads_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_what_cannot_be_json_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert [(p.name, json.loads(p.read_text())) for p in tmp_path.iterdir()] == [("a.json", {"old": 1})]


def test_threads_that_write_one_file_leave_one_of_their_texts(tmp_path):
    texts = [str(k) * 4000 for k in range(8)]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "a", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() in texts


KILLED = """\
    import os, signal
    from pathlib import Path
    from medgen.files import atomic_dir, atomic_path
    with atomic_path({path!r} + "/a.txt") as file, atomic_dir({path!r} + "/b") as folder:
        file.write_text("half")
        (folder / "x").write_text("half")
        print("writing", flush=True)
        {end}
"""


def test_a_killed_process_leaves_what_the_next_sweeps_but_a_living_ones_stays(tmp_path):
    def process(end: str) -> subprocess.Popen[str]:
        code = textwrap.dedent(KILLED).format(path=str(tmp_path), end=end)
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    dead = process("os.kill(os.getpid(), signal.SIGKILL)")
    assert dead.wait(60) == -signal.SIGKILL
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    living = process("input()")
    assert living.stdout is not None
    assert living.stdout.readline() == "writing\n"
    (tmp_path / "mine.txt").write_text("mine")
    sweep(tmp_path)
    remaining = set(tmp_path.iterdir()) - {tmp_path / "mine.txt"}
    assert not remaining & set(left), "the dead one's are gone"
    assert len(remaining) == 2, "the living one's are not"
    living.communicate("\n", timeout=60)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b", "mine.txt"]


def test_sweeping_what_is_not_there_is_nothing(tmp_path):
    sweep(tmp_path / "nowhere")
    assert not Path(tmp_path / "nowhere").exists()
