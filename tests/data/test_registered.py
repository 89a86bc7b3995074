"""Registered datasets: options that would be ignored are errors."""

from __future__ import annotations

import pytest

from medgen.data import open_data
from medgen.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": [32, 32]}, r"cardiac_phantom\?size="), ({"axis": 2}, "has no effect"), ({"labels": "diagnosis"}, "has no effect")],
)
def test_an_option_for_files_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        open_data("cardiac_phantom?n=4&size=16", **options)


def test_labels_can_be_left_out():
    assert "label" in {c.name for c in open_data("cardiac_phantom?n=6&size=16").conditions}
    assert "label" not in {c.name for c in open_data("cardiac_phantom?n=6&size=16", labels="none").conditions}
