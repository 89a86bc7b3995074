"""What the commands' tests share."""

import pytest


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
