from __future__ import annotations

import base64
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medgen
from medgen.data import Dataset, from_arrays
from medgen.errors import DataError, RunError
from medgen.evaluation import Score, save_scores
from medgen.report import SECTIONS, Context, Section, write_report
from medgen.report.blocks import Text
from medgen.report.card import NOT_FOR_DIAGNOSIS
from medgen.runs import Run

Trained = Callable[..., tuple[Run, Dataset]]
VOID = {"img", "meta", "br", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, text, and whether tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(run: Run, data: Dataset | None, **options: Any) -> tuple[str, Page]:
    html = write_report(run, data=data, samples=4, **options).read_text(encoding="utf-8")
    return html, Page(html)


def copy_of(run: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(run.path, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("kind", "family", "expected"),
    [
        ("0d", "vae", {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"}),
        ("1d", "cvae", {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"}),
        ("2d", "ae", {"reconstructions", "latent", "interpolations"}),
        ("maps2d", "cvae", {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"}),
        ("contrasts", "vae", {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"}),
        ("3d", "vae", {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"}),
        ("maps3d", "vae", {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"}),
    ],
)
def test_every_kind_of_data_gets_the_sections_that_its_family_allows(trained: Trained, kind: str, family: str, expected: set[str]) -> None:
    run, data = trained(kind, family)
    html, page = report(run, data)
    assert not page.open
    ids = {a["id"] for _, a in page.tags if a.get("id")}
    assert ids & {"samples", "reconstructions", "latent", "interpolations", "density", "nearest"} == expected
    assert {"metrics", "training", "data", "configuration", "card"} <= ids
    assert len(html) < 5_000_000


@pytest.mark.parametrize(("kind", "family"), [("2d", "vae"), ("0d", "vae"), ("2d", "ae")])
def test_a_plane_of_latents_becomes_a_manifold(trained: Trained, kind: str, family: str) -> None:
    run, data = trained(kind, family, latent_dim=2)
    text = report(run, data)[1].text
    assert "Decoded grid of the quantiles" in text
    assert "Traversals" not in text


def test_one_file_that_needs_nothing(trained: Trained) -> None:
    run, data = trained("2d")
    html, page = report(run, data)
    images = page.all("img")
    assert len(images) > 5
    for image in images:
        kind, _, content = (image["src"] or "").partition(";base64,")
        assert kind in ("data:image/png", "data:image/svg+xml")
        raw = base64.b64decode(content, validate=True)
        assert raw.startswith(b"\x89PNG") or ET.fromstring(raw).tag.endswith("svg")
        assert image["alt"]
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for name, attributes in page.tags:
        assert not any(key.startswith("on") for key in attributes)
        address = attributes.get("href") or ""
        assert not address or (name == "a" and address.startswith(("#", "https://", "http://")))
    assert not re.search(r"url\(|@import", html)
    assert "default-src 'none'" in html


def test_the_contents_lead_to_sections_and_ids_are_unique(trained: Trained) -> None:
    _, page = report(*trained("2d"))
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    anchors = [(a["href"] or "")[1:] for a in page.all("a") if (a["href"] or "").startswith("#")]
    assert len(anchors) >= 10
    assert set(anchors) <= set(ids)


def test_it_says_that_it_is_not_for_diagnosis_first_and_in_the_card(trained: Trained) -> None:
    run, data = trained("2d")
    _, page = report(run, data)
    assert page.text.count(NOT_FOR_DIAGNOSIS) == 2
    assert page.text.index(NOT_FOR_DIAGNOSIS) < page.text.index("Reconstructions")
    assert "Not for diagnosis" in (run.path / "card.md").read_text()


def test_without_the_data_it_shows_what_the_model_makes_and_says_so(trained: Trained, tmp_path: Path) -> None:
    run = copy_of(trained("2d")[0], tmp_path)
    _, page = report(run, None)
    assert "not at hand" in page.text
    ids = {a["id"] for _, a in page.tags if a.get("id")}
    assert {"samples", "latent", "data", "training"} <= ids
    assert not {"nearest", "density", "interpolations"} & ids
    assert any("generated" in (a["alt"] or "") for a in page.all("img"))


def test_a_conditional_model_without_data_still_shows_its_classes(trained: Trained, tmp_path: Path) -> None:
    run = copy_of(trained("2d", "cvae")[0], tmp_path)
    _, page = report(run, None)
    assert any("by class" in (a["alt"] or "") for a in page.all("img"))


def test_other_data_than_that_of_the_run_is_not_shown(trained: Trained, tmp_path: Path) -> None:
    run, data = trained("2d")
    other = trained("contrasts")[1]
    assert other.fingerprint != data.fingerprint
    context = Context(copy_of(run, tmp_path), given=other)
    assert context.data is None
    assert data.fingerprint[:12] in context.problem


def test_names_from_data_are_text_and_not_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&$\\frac{ [x](javascript:alert(2)) |"
    rng = np.random.Generator(np.random.Philox(0))
    data = from_arrays(
        rng.random((24, 4)), labels=[0, 1] * 12, class_names=(hostile, "b"), channel_names=(hostile, "y", "z", "w"), name=hostile
    )
    run = medgen.train("cvae", data, tmp_path / "run", model={"latent_dim": 3, "channels": [4]}, steps=2, batch_size=8, show=False)
    html, page = report(run, data)
    assert "<script" not in html
    assert not page.open
    assert hostile.split("$", maxsplit=1)[0] in page.text
    card = (run.path / "card.md").read_text()
    assert "<script" not in card
    assert not re.search(r"(?<!\\)\]\(javascript", card)
    for line in card.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_metrics_come_with_recipes_or_with_the_command_that_makes_them(trained: Trained, tmp_path: Path) -> None:
    run = copy_of(trained("2d")[0], tmp_path)
    assert "medgen evaluate" in report(run, None)[1].text
    save_scores(
        [Score("frechet_distance", 12.345, 10.0, 14.0, 64, {"extractor": "random_conv"}, "lower", "n < 2000")], run.path / "evaluation.json"
    )
    text = report(run, None)[1].text
    for part in (
        "12.35",
        "[10.00, 14.00]",
        "extractor=random_conv",
        "frechet_distance: n < 2000",
        "lower",
        "Generated against real samples",
    ):
        assert part in text
    assert "frechet" in (run.path / "card.md").read_text()
    (run.path / "evaluation.json").write_text("{")
    assert "evaluation.json cannot be read" in report(run, None)[1].text


def test_warnings_of_the_data_are_shown(trained: Trained, tmp_path: Path) -> None:
    run = copy_of(trained("2d")[0], tmp_path)
    summary = json.loads((run.path / "data.json").read_text())
    (run.path / "data.json").write_text(json.dumps({**summary, "warnings": ["3 images are in both splits: leakage."]}))
    _, page = report(run, None)
    assert page.text.count("3 images are in both splits") == 2
    (run.path / "data.json").unlink()
    (run.path / "metrics.csv").unlink()
    text = report(Run(run.path), None)[1].text
    assert "data.json is missing" in text
    assert "metrics.csv is empty" in text


def test_a_section_that_fails_says_why_and_the_others_appear(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(context: Context) -> Section | None:
        raise DataError("`x` must be there; got nothing.")

    def extra(context: Context) -> Section | None:
        return Section("extra", "More", [Text("<b>added</b>")])

    monkeypatch.setattr("medgen.report.render.SECTIONS", [broken, extra])
    html, page = report(*trained("2d"))
    assert "`x` must be there; got nothing." in page.text
    assert "&lt;b&gt;added&lt;/b&gt;" in html


def test_a_failure_leaves_the_old_report(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copy_of(trained("2d")[0], tmp_path)
    before, _ = report(run, None)

    def crash(context: Context) -> Section | None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medgen.report.render.SECTIONS", [crash])
    with pytest.raises(KeyboardInterrupt):
        write_report(run, samples=4)
    assert (run.path / "report.html").read_text(encoding="utf-8") == before
    assert not list(run.path.glob(".tmp-*"))


def test_the_same_run_gives_the_same_report(trained: Trained) -> None:
    run, data = trained("2d", "cvae")
    first, second = (re.sub(r"written [0-9: -]+UTC", "", report(run, data)[0]) for _ in range(2))
    assert first == second
    assert re.sub(r"written [0-9: -]+UTC", "", report(run, data, seed=1)[0]) != first


def test_an_unfinished_run_has_no_report(trained: Trained, tmp_path: Path) -> None:
    run = copy_of(trained("2d")[0], tmp_path)
    run.weights_file.unlink()
    with pytest.raises(RunError, match="resume"):
        write_report(Run(run.path))


def test_samples_must_be_positive(trained: Trained) -> None:
    with pytest.raises(ValueError, match="samples"):
        write_report(trained("2d")[0], samples=0)


def test_the_model_keeps_its_mode_and_the_sections_their_order(trained: Trained) -> None:
    run, data = trained("2d")
    run.model.train()
    names: list[str] = []
    write_report(run, samples=2, data=data, progress=names.append)
    assert run.model.training
    run.model.eval()
    assert names == [make.__name__.replace("_", " ") for make in SECTIONS]
