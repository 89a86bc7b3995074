"""Folders of distributions that the host can find."""

from __future__ import annotations

import fakes
import pytest


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield fakes.Site(tmp_path)
    fakes.forget()
