"""The harness counts and divides rightly; the clock is a fake one."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmarks():
    """The package as `benchmarks/run.py` finds it."""
    sys.path.insert(0, str(ROOT))
    yield importlib.import_module
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def harness(benchmarks):
    return benchmarks("benchmarks.harness")


@pytest.fixture(scope="module")
def show(benchmarks):
    return benchmarks("benchmarks.show")


class Clock:
    """Seconds that pass only when a rival runs."""

    def __init__(self):
        self.now, self.ran = 0.0, []

    def rival(self, name, seconds):
        def run():
            self.ran.append(name)
            self.now += seconds(self.ran.count(name))

        return run


@pytest.fixture
def clock(harness, monkeypatch):
    made = Clock()
    monkeypatch.setattr(harness.time, "perf_counter", lambda: made.now)
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(harness.gc, name, lambda: None)  # slow beside all that pytest holds
    return made


def test_the_first_calls_do_not_count(harness, clock):
    rivals = {"base": clock.rival("base", lambda k: 100.0 if k == 1 else 2.0), "ours": clock.rival("ours", lambda k: 1.0)}
    base, ours = harness.compare("case", rivals, baseline="base", rounds=5, work=10, unit="images")
    assert Counter(clock.ran) == {"base": 7, "ours": 7}, "five that count, one that compiles, one that tells how often to repeat"
    assert base.seconds == pytest.approx([2.0] * 5), "the first call, with its 100 s, does not count"
    assert (base.ratio, ours.ratio) == pytest.approx((1.0, 2.0))
    assert (ours.median, ours.rate) == pytest.approx((1.0, 10.0))
    assert ours.spread == pytest.approx((2.0, 2.0))


def test_short_calls_are_repeated_after_one_that_wakes_the_threads(harness, clock):
    """Each block lasts LEAST seconds; the call that wakes sleeping threads, here 50 times slower, is outside it."""
    short = harness.LEAST / 9.5
    rounds, block = 3, 1 + 10

    def seconds(k):
        return 50 * short if k > 2 and (k - 3) % block == 0 else short

    rivals = {"base": clock.rival("base", lambda k: 1.0), "ours": clock.rival("ours", seconds)}
    _, ours = harness.compare("case", rivals, baseline="base", rounds=rounds)
    assert Counter(clock.ran)["ours"] == 2 + rounds * block
    assert ours.seconds == pytest.approx([short] * rounds)


def test_a_slow_rival_sits_out_after_a_few_rounds(harness, clock):
    rivals = {"base": clock.rival("base", lambda k: 1.0), "slow": clock.rival("slow", lambda k: 4.0)}
    base, slow = harness.compare("case", rivals, baseline="base", rounds=7)
    assert (len(base.seconds), len(slow.seconds)) == (7, harness.FEW)
    assert slow.ratio == pytest.approx(0.25)


def test_a_slow_minute_hits_all_rivals_alike(harness, clock):
    """The ratio is of seconds of one round: noise that both share cancels, as a ratio of medians would not."""
    slow = {1: 1, 2: 1, 3: 1, 4: 50, 5: 3, 6: 1, 7: 7}
    rivals = {"base": clock.rival("base", lambda k: 3.0 * slow[k]), "ours": clock.rival("ours", lambda k: 2.0 * slow[k])}
    _, ours = harness.compare("case", rivals, baseline="base", rounds=5)
    assert ours.ratio == pytest.approx(1.5)
    assert ours.spread == pytest.approx((1.5, 1.5))


def test_each_round_has_every_rival_once_in_a_changing_order_that_the_seed_fixes(harness, clock):
    names = ("a", "b", "c", "d")
    orders = []
    for _ in range(2):
        clock.ran.clear()
        harness.compare("case", {n: clock.rival(n, lambda k: 1.0) for n in names}, baseline="a", rounds=7, seed=3)
        orders.append([tuple(clock.ran[i : i + 4]) for i in range(8, len(clock.ran), 4)])
    assert all(set(r) == set(names) for r in orders[0])
    assert len(set(orders[0])) > 3
    assert orders[0] == orders[1]


def test_a_single_round_has_no_spread(harness, clock):
    base, ours = harness.compare("c", {"a": clock.rival("a", lambda k: 3.0), "b": clock.rival("b", lambda k: 1.5)}, baseline="a", rounds=1)
    assert ours.spread == (ours.ratio, ours.ratio) == (2.0, 2.0)
    assert base.ratio == 1.0


def test_a_rival_that_does_a_share_of_the_work_is_scaled(harness, clock):
    rivals = {"base": clock.rival("base", lambda k: 1.0), "slow": clock.rival("slow", lambda k: 2.0)}
    _, slow = harness.compare("c", rivals, baseline="base", rounds=3, shares={"slow": 0.25})
    assert slow.median == pytest.approx(8.0)
    assert slow.ratio == pytest.approx(1 / 8)


def test_share_of_the_floor(harness, clock):
    """Two pieces of bare work, of 1 s once and 0.5 s four times, make a floor of 3 s: a rival of 4 s has 75 % of it."""
    rivals = {n: clock.rival(n, lambda k, s=s: s) for n, s in {"base": 8.0, "ours": 4.0, "copy": 1.0, "exp": 0.5}.items()}
    results = harness.compare("c", rivals, baseline="base", rounds=3, floors=[harness.Floor("ours", [("copy", 1.0), ("exp", 4.0)])])
    assert {r.rival: r.share for r in results} == {"base": None, "ours": pytest.approx(0.75), "copy": None, "exp": None}


def test_a_sweep_goes_through_sizes_and_threads(harness, show, clock, tmp_path):
    """The number of threads is set within each point and put back; the picture has a file."""
    every, seen = torch.get_num_threads(), []

    def build(size):
        seen.append((size, torch.get_num_threads()))
        return {n: clock.rival(n, lambda k: float(size)) for n in ("a", "b")}, 10.0 * size

    results = harness.sweep("curve", [2, 4], build, baseline="a", rounds=2, unit="pairs")
    wanted = [(size, threads) for threads in sorted({1, every}) for size in (2, 4)]
    assert seen == wanted
    assert torch.get_num_threads() == every
    assert [(r.size, r.threads) for r in results if r.rival == "b"] == wanted
    assert all(r.rate == pytest.approx(10.0) for r in results)
    assert show.plot(results, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000
    assert not show.plot([harness.Result("c", "a")], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_table_and_json(harness, show, clock):
    rivals = {"a": clock.rival("a", lambda k: 2.0), "b": clock.rival("b", lambda k: 1.0)}
    notes = {"b": "error 1e-6", "gpu": "no GPU"}
    results = harness.compare("c", rivals, baseline="a", rounds=3, work=640, unit="images", notes=notes)
    results += harness.missing("c", {"tpu": "not installed"})
    lines = show.table(results, "a").splitlines()
    assert lines[0].split()[:2] == ["case", "rival"]
    assert len(lines) == 5
    assert "640 images/s" in lines[2]
    assert "2.00" in lines[2]
    assert lines[2].endswith("error 1e-6")
    assert lines[3].endswith("no GPU")
    assert lines[4].endswith("not installed")
    values = harness.as_json(results)
    assert values[1]["rate"] == pytest.approx(640.0)
    assert [v["rival"] for v in values] == ["a", "b", "gpu", "tpu"]
    assert json.loads(json.dumps(values))[0]["seconds"] == pytest.approx([2.0] * 3)


def test_the_environment_is_plain(show):
    found = show.environment()
    assert {"cpu", "cores", "threads", "gpu", "python", "torch", "system"} == set(found)
    assert json.loads(json.dumps(found)) == found


def test_cases_are_chosen_by_name_or_by_the_part_before_the_dash(benchmarks):
    run = benchmarks("benchmarks.run")
    assert run.select(run.CASES) == list(run.CASES)
    assert run.select(["flows", "parzen"]) == ["flows", "parzen"], "a whole name stands for itself alone"
    assert "anatomy-criteria" in run.select(["anatomy"])
    assert all(case.startswith("anatomy-") for case in run.select(["anatomy", "anatomy-criteria"]))
    with pytest.raises(ValueError, match="no case is called 'anatom'"):
        run.select(["anatom"])
