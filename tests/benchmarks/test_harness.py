"""The harness counts and divides rightly; the clock is a fake one."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("benchmarks_harness", ROOT / "benchmarks" / "harness.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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
    monkeypatch.setattr(harness.gc, "collect", lambda: None)  # slow beside all that pytest holds
    return made


def test_rounds_warm_up_and_ratios(harness, clock):
    rivals = {"base": clock.rival("base", lambda k: 100.0 if k == 1 else 2.0), "ours": clock.rival("ours", lambda k: 1.0)}
    base, ours = harness.compare("case", rivals, baseline="base", rounds=5, work=10, unit="images")
    assert Counter(clock.ran) == {"base": 6, "ours": 6}, "five that count and one that does not"
    assert base.seconds == pytest.approx([2.0] * 5), "the first round, with its 100 s, does not count"
    assert (base.ratio, ours.ratio) == pytest.approx((1.0, 2.0))
    assert (ours.median, ours.rate) == pytest.approx((1.0, 10.0))
    assert ours.spread == pytest.approx((2.0, 2.0))


def test_a_slow_minute_hits_all_rivals_alike(harness, clock):
    """The ratio is of seconds of one round: noise that both share cancels, as a ratio of medians would not."""
    slow = {1: 1, 2: 1, 3: 50, 4: 3, 5: 1, 6: 7}
    rivals = {"base": clock.rival("base", lambda k: 3.0 * slow[k]), "ours": clock.rival("ours", lambda k: 2.0 * slow[k])}
    _, ours = harness.compare("case", rivals, baseline="base", rounds=5)
    assert ours.ratio == pytest.approx(1.5)
    assert ours.spread == pytest.approx((1.5, 1.5))


def test_each_round_has_every_rival_once_in_a_changing_order_that_the_seed_fixes(harness, clock):
    names = ("a", "b", "c", "d")
    for _ in range(2):
        harness.compare("case", {n: clock.rival(n, lambda k: 1.0) for n in names}, baseline="a", rounds=7, seed=3)
    rounds = [tuple(clock.ran[i : i + 4]) for i in range(0, len(clock.ran), 4)]
    assert all(set(r) == set(names) for r in rounds)
    assert len(set(rounds)) > 3
    assert rounds[:8] == rounds[8:]


def test_a_single_round_has_no_spread(harness, clock):
    base, ours = harness.compare("c", {"a": clock.rival("a", lambda k: 3.0), "b": clock.rival("b", lambda k: 1.5)}, baseline="a", rounds=1)
    assert ours.spread == (ours.ratio, ours.ratio) == (2.0, 2.0)
    assert base.ratio == 1.0


def test_table_and_json(harness, clock):
    results = harness.compare(
        "c", {"a": clock.rival("a", lambda k: 2.0), "b": clock.rival("b", lambda k: 1.0)}, baseline="a", rounds=3, work=640, unit="images"
    )
    results.append(harness.Result("c", "gpu", note="no GPU"))
    lines = harness.table(results, "a").splitlines()
    assert lines[0].split()[:2] == ["case", "rival"]
    assert len(lines) == 4
    assert "640 images/s" in lines[2]
    assert "2.00" in lines[2]
    assert lines[3].endswith("no GPU")
    values = harness.as_json(results)
    assert values[1]["rate"] == pytest.approx(640.0)
    assert [v["rival"] for v in values] == ["a", "b", "gpu"]
    assert json.loads(json.dumps(values))[0]["seconds"] == pytest.approx([2.0] * 3)


def test_the_environment_is_plain(harness):
    found = harness.environment()
    assert {"cpu", "cores", "threads", "gpu", "python", "torch", "system"} == set(found)
    assert json.loads(json.dumps(found)) == found
