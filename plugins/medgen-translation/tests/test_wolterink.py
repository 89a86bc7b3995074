"""The example of Wolterink's protocol, end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "wolterink.py"


def test_the_protocol_runs_end_to_end(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--out", str(tmp_path), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "73.70 +- 2.31" in done.stdout
    assert "30.55 +- 0.88" in done.stdout
    found = json.loads((tmp_path / "table.json").read_text())
    for name in ("unpaired", "paired", "paired, moved"):
        assert found[name]["subjects"] == ["patient 04", "patient 05"]
        assert {"mae", "psnr"} <= set(found[name]["columns"])
    assert (tmp_path / "wolterink.png").stat().st_size > 10_000
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # what is trained is used again
    assert "3 steps" not in again.stdout
    assert done.stdout.partition("phantom")[2] == again.stdout.partition("phantom")[2]
