from __future__ import annotations

import gzip

import numpy as np
import pytest

from medgen.data import open_data
from medgen.errors import DataError


@pytest.fixture
def table(tmp_path):
    def write(text, name="t.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_without_header(tmp_path, rng):
    x = rng.normal(size=(30, 3))
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        np.savetxt(file, x, delimiter=",")
    data = open_data(tmp_path / "t.csv.gz")
    np.testing.assert_allclose(data.stored(np.arange(30)), x, rtol=1e-6)
    train = x[data.splits["train"]]
    np.testing.assert_allclose(data.fetch([4]).x[0], (x[4] - train.mean(0)) / train.std(0), rtol=1e-4, atol=1e-5)
    assert data.origin(4) == "t.csv.gz line 5"


def test_columns_have_roles(table):
    rows = "\n".join(f"{k};{k * 2.5};{'F' if k % 2 else 'M'};p{k // 2};{'' if k == 3 else 20 + k};note{k}" for k in range(12))
    path = table("a;b;sex;patient;age;comment\n" + rows + "\n")
    data = open_data(path, labels="sex", attributes=["age"])
    assert data.image_spec.channel_names == ("a", "b")
    assert [c.names for c in data.conditions] == [("F", "M"), ("age",)]
    assert data.subjects.tolist()[:3] == ["p0", "p0", "p1"]
    assert "columns ['comment'] are not numeric and left out" in data.warnings[0]
    assert data.fetch([2, 3]).condition.present["attributes"].tolist() == [True, False]
    assert open_data(path, columns=["b"]).image_spec.channels == 1


def test_one_column_per_lead(table):
    path = table("I,II\n" + "\n".join(f"{k},{-k}" for k in range(50)))
    data = open_data(path, length=10)
    assert data.image_spec.size == (2, 10)
    assert data.image_spec.channel_names == ("I", "II")
    np.testing.assert_array_equal(data.stored([1])[0, 1], -np.arange(10, 20))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "t.csv line 3: must have 2 cells like the first line; got 1"),
        ("a,b\n1,2\n3,x\n", {}, "t.csv line 3: column 'b' must be numeric; got 'x'"),
        ("a,b\n1,2\n3,\n", {}, "t.csv line 3: column 'b' must be finite"),
        ("1,2\n3,inf\n", {}, "t.csv line 2: column '1' must be finite; got 'inf'"),
        ("a,a\n1,2\n", {}, "column names must differ"),
        ("a,b\n", {}, "holds no rows"),
        ("", {}, "is empty"),
        ("a,b\nx,y\n", {}, "at least one numeric column"),
        ("age,b\n1,2\n", {"attributes": ["aeg"]}, "no column 'aeg'; did you mean 'age'"),
        ("age,b\n1,2\n", {"labels": "sex"}, "no column 'sex'"),
    ],
)
def test_what_is_wrong_is_named(table, text, options, message):
    with pytest.raises(DataError, match=message):
        open_data(table(text), **options)


def test_a_truncated_archive_is_named(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 5000)[:30])
    with pytest.raises(DataError, match=r"t.csv.gz: must be a readable table"):
        open_data(tmp_path / "t.csv.gz")
