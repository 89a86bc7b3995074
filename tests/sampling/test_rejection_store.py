"""Rejection: the same points whatever the cells are shared or cut into; killed and resumed, the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from medgen.errors import MedgenError, RunError
from medgen.nn import Parzen
from medgen.sampling.rejection import Gaussian, Target, kernels, reject, within


def target(keep=True):
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    return Target(Parzen.fit(points, "fixed", "full", fixed=0.7), keep=[within(0, low=-0.5)] if keep else [])


def general(goal):
    """A proposal for which no op is fused."""
    return Target(Parzen(goal.density.points, goal.density.bandwidth), temperature=1.0 + 1e-9, keep=goal.keep)


@pytest.mark.parametrize("kind", ["direct", "fused", "gaussian", "general"])
class TestSamePoints:
    def goal(self, kind):
        goal = general(target()) if kind == "general" else target()
        if kind in ("direct", "fused"):
            return goal, kernels(goal, 1.0 if kind == "direct" else 1.2)
        fitted = Gaussian.fit(goal.density.points)
        return goal, Gaussian(fitted.mean, 1.4 * fitted.factor)

    def test_processes(self, kind):
        goal, q = self.goal(kind)
        one, three = (reject(goal, q, 3000, cell=512, devices=devices, patience=None) for devices in (1, 3))
        assert torch.equal(one.points, three.points)
        assert one.tally == three.tally

    def test_threads(self, kind):
        goal, q = self.goal(kind)
        one = reject(goal, q, 1500, cell=512, patience=None)
        two = reject(goal, q, 1500, cell=512, devices=["cpu"] * 2, patience=None)
        assert torch.equal(one.points, two.points)

    def test_shards_in_order_are_the_whole(self, kind):
        goal, q = self.goal(kind)
        whole = reject(goal, q, shard=range(6), cell=512, patience=None)
        parts = [reject(goal, q, shard=cells, cell=512, patience=None).points for cells in (range(2), range(2, 3), range(3, 6))]
        assert torch.equal(torch.cat(parts), whole.points)
        some = reject(goal, q, len(whole.points) - 7, cell=512, patience=None)
        assert torch.equal(some.points, whole.points[:-7])

    def test_fewer_are_the_first_of_more(self, kind):
        goal, q = self.goal(kind)
        few, many = (reject(goal, q, n, cell=512, patience=None).points for n in (100, 900))
        assert torch.equal(few, many[:100])

    def test_the_size_of_a_cell(self, kind):
        """Of proposals whose arithmetic does not depend on the batch."""
        goal, q = self.goal(kind)
        small, large = (reject(goal, q, 1000, cell=cell, patience=None).points for cell in (256, 4096))
        torch.testing.assert_close(small, large)


def test_seeds_differ():
    a, b = (reject(target(), n=500, seed=seed).points for seed in (0, 1))
    assert not torch.isin(a, b).any()


def test_a_store_is_the_run_in_memory(tmp_path):
    seen = []
    found = reject(target(), kernels(target(), 1.2), 2000, out=tmp_path / "a", cell=512, progress=seen.append)
    assert torch.equal(found.points, reject(target(), kernels(target(), 1.2), 2000, cell=512).points)
    np.testing.assert_array_equal(np.load(tmp_path / "a" / "points.npy"), found.points.numpy())
    assert seen == sorted(seen)
    assert seen[-1] == 2000
    again = reject(target(), kernels(target(), 1.2), 2000, out=tmp_path / "a", cell=512)
    assert torch.equal(again.points, found.points)
    assert (again.tally, again.plan) == (found.tally, None)


def test_interrupted_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("medgen.sampling.rejection.store._EVERY", 0.0)
    whole = reject(target(), n=3000, out=tmp_path / "whole", cell=256)

    def stop(done):
        if done > 700:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reject(target(), n=3000, out=tmp_path / "cut", cell=256, progress=stop)
    note = json.loads((tmp_path / "cut" / "rejection.json").read_text())
    assert 700 < note["tally"]["rows"] < 3000
    with (tmp_path / "cut" / "points.npy").open("r+b") as file:  # rows beyond the note may be anything
        file.seek(-12 * (3000 - note["tally"]["rows"]), os.SEEK_END)
        file.write(b"\xff" * 600)
    done = reject(target(), n=3000, out=tmp_path / "cut", cell=256, devices=2)
    assert done.tally == whole.tally
    for name in ("points.npy", "rejection.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


_CHILD = """
import sys, time, torch
from medgen.nn import Parzen
from medgen.sampling.rejection import Target, reject, store
store._EVERY = 0.05
def slow(x):
    time.sleep(0.03)
    return x[:, 0] > -0.5
slow.__name__ = "slow"
points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
reject(Target(Parzen.fit(points), keep=[slow]), n=10_000, out=sys.argv[1], cell=256, patience=None)
"""


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_bytes(tmp_path):
    def start(name):
        return subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path / name)], env={**os.environ, "OMP_NUM_THREADS": "1"})

    kills = 0
    for _ in range(2):
        child, note = start("cut"), tmp_path / "cut" / "rejection.json"
        before = note.read_bytes() if note.exists() else b""
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            if note.exists() and note.read_bytes() != before and json.loads(note.read_text())["tally"]["rows"]:
                break
            time.sleep(0.01)
        time.sleep(0.13)
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.wait()
    assert kills == 2, "it ended before it could be killed"
    assert json.loads(note.read_text())["tally"]["rows"] != 10_000
    for name in ("cut", "whole"):
        assert start(name).wait(timeout=120) == 0
    assert (tmp_path / "cut" / "points.npy").read_bytes() == (tmp_path / "whole" / "points.npy").read_bytes()
    assert (tmp_path / "cut" / "rejection.json").read_bytes() == (tmp_path / "whole" / "rejection.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"n": 600}, "n"),
        ({"seed": 1}, "seed"),
        ({"cell": 256}, "cell"),
        ({"about": {"decoder": "b"}}, "about"),
        ({"proposal": "wide"}, "log_k"),
        ({"goal": "plain"}, "conditions"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, change, what):
    asked = {"n": 500, "seed": 0, "cell": 512, "about": {"decoder": "a"}}
    reject(target(), out=tmp_path / "a", **asked)
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    goal = target(keep="goal" not in change)
    q = kernels(goal, 1.1) if "proposal" in change else None
    with pytest.raises(RunError, match=f"holds points with another .*{what}"):
        reject(goal, q, out=tmp_path / "a", **{**asked, **{k: v for k, v in change.items() if k in asked}})
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunError, match="is not empty"):
        reject(target(), n=10, out=tmp_path)
    (tmp_path / "rejection.json").write_text("{")
    with pytest.raises(RunError, match="not what medgen wrote"):
        reject(target(), n=10, out=tmp_path)


def test_two_writers(tmp_path):
    def other(done):
        with pytest.raises(RunError, match="another process is writing"):
            reject(target(), n=5000, out=tmp_path / "a", cell=512)

    reject(target(), n=5000, out=tmp_path / "a", cell=512, progress=other)


def test_what_goes_wrong_in_a_process_is_told():
    def condition(x):
        raise MedgenError("no such organ")

    with pytest.raises(MedgenError, match="no such organ"):
        reject(Target(target().density, keep=[condition]), n=10, devices=2, patience=None)

    def dies(x):
        os._exit(3)

    with pytest.raises(MedgenError, match="a process of the rejection sampler died"):
        reject(Target(target().density, keep=[dies]), n=10, devices=2, patience=None)
