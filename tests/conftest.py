"""What every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

# The first multi-threaded exp of a process can be wrong by 1e-4 (oneMKL's dispatch race, pytorch #188792): let that one be nobody's.
torch.zeros(16).exp()

# Test models are tiny, and workers of pytest-xdist share the cores: more threads would only wait for each other.
torch.set_num_threads(1)

hypothesis.settings.register_profile("medgen", deadline=None, max_examples=40, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("medgen")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    root = Path(os.environ.get("MEDGEN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set MEDGEN_DATA")
    return root
