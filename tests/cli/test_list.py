"""`medgen list`: columns, filters, JSON."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import fakes
import pytest

PLUGIN = """\
import medgen

@medgen.hookimpl
def medgen_families():
    label = medgen.ConditionSlot(name="label", kind="label")
    source = medgen.ConditionSlot(name="source", kind="image", required=True)
    one = medgen.Capabilities(spatial_dims=(0,), log_prob="exact", conditions=(label,))
    two = medgen.Capabilities(spatial_dims=(2, 3), conditions=(source, label))
    yield medgen.FamilySpec(name="maf_10", interfaces=("density",), model="a:B", config="a:C", capabilities=one, summary="Ten [blocks].")
    yield medgen.FamilySpec(name="maf_5", interfaces=("generator", "density"), model="a:B", config="a:C", capabilities=one)
    yield medgen.FamilySpec(name="pix2pix", interfaces=("translator",), model="a:B", config="a:C", capabilities=two, aliases=("p2p",))

@medgen.hookimpl
def medgen_datasets():
    yield medgen.DatasetSpec(name="fake_hearts", factory="a:b", summary="Phantoms.", options={"size": (64, "Pixels."), "n": (9, "Many.")})

@medgen.hookimpl
def medgen_metrics():
    yield medgen.MetricSpec(name="fake_psnr", function="a:b", kind="paired", better="higher", summary="Peak signal-to-noise ratio.")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return fakes.Site(tmp_path_factory.mktemp("site")).add("fake-list", PLUGIN)


def test_columns(site):
    done = site.medgen("list")
    assert done.stdout == (
        "NAME     DISTRIBUTION  INTERFACES         DIMS  LOG_PROB  CONDITIONS     SUMMARY\n"
        "maf_5    fake-list     generator,density  0     exact     label          -\n"
        "maf_10   fake-list     density            0     exact     label          Ten [blocks].\n"
        "pix2pix  fake-list     translator         2,3   none      source!,label  -\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["maf*"], ["maf_5", "maf_10"]),
        (["p2p"], ["pix2pix"]),
        (["fake-list/*", "--interface", "density"], ["maf_5", "maf_10"]),
        (["--dims", "3"], ["pix2pix"]),
        (["--log-prob", "none"], ["pix2pix"]),
        (["--condition", "image"], ["pix2pix"]),
        (["--datasets", "fake-list/*"], ["fake_hearts"]),
        (["--metrics", "fake_p*"], ["fake_psnr"]),
    ],
)
def test_choices(site, words, names):
    done = site.medgen("list", *words)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == names


def test_datasets_and_metrics_have_their_own_columns(site):
    assert site.medgen("list", "--datasets", "fake-list/*").stdout.splitlines() == [
        "NAME         DISTRIBUTION  OPTIONS  SUMMARY",
        "fake_hearts  fake-list     size,n   Phantoms.",
    ]
    metric = site.medgen("list", "fake_psnr", "--metrics").stdout.splitlines()[1]
    assert metric.split()[:4] == ["fake_psnr", "fake-list", "paired", "higher"]


def test_json(site):
    families = json.loads(site.medgen("list", "--json").stdout)
    assert [item["name"] for item in families] == ["maf_5", "maf_10", "pix2pix"]
    assert families[2]["capabilities"]["conditions"][0] == {"name": "source", "kind": "image", "required": True, "content": "any"}
    assert (families[0]["distribution"], families[0]["version"]) == ("fake-list", "1.0")
    assert json.loads(site.medgen("list", "x*", "--json").stdout) == []


@pytest.mark.parametrize("words", [["x*"], ["maf_5", "--dims", "3"], ["--datasets", "no*such"]])
def test_nothing_matches(site, words):
    done = site.medgen("list", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "nothing matches.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["maf_55"], "unknown family 'maf_55'; did you mean 'maf_5' or 'maf_10'?"),
        (["fake_psnrr", "--metrics"], "unknown metric 'fake_psnrr'; did you mean 'fake_psnr'?"),
        (["fake_hearts"], "unknown family 'fake_hearts'"),
    ],
)
def test_a_name_that_is_none(site, words, message):
    done = site.medgen("list", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"medgen: error: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["--interface", "densty"], ["--dims", "4"], ["--datasets", "--metrics"], ["--datasets", "--dims", "2"]])
def test_wrong_options(site, words):
    done = site.medgen("list", *words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("medgen list: error:")


def test_on_a_terminal_it_is_a_rich_table(site):
    """A real pseudo-terminal; square brackets of a summary are text, not markup."""
    master, slave = pty.openpty()
    environment = {
        **os.environ,
        "PYTHONPATH": str(site.path),
        "MEDGEN_PLUGINS": "fake-*",
        "COLUMNS": "200",
        "TERM": "xterm",
        "NO_COLOR": "1",
    }
    done = subprocess.run([sys.executable, "-m", "medgen.cli.main", "list"], stdout=slave, env=environment, check=False, timeout=60)
    os.close(slave)
    text = os.read(master, 100_000).decode()
    os.close(master)
    assert done.returncode == 0
    assert "─" in text
    assert "Ten [blocks]." in text
    assert text.index("maf_5") < text.index("maf_10") < text.index("pix2pix")
