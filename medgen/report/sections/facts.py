"""What is known without running the model: metrics, training curves, data, configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgen.errors import DataError, MedgenError
from medgen.evaluation import Score, load_scores, load_subjects
from medgen.evaluation.table import recipe_lines
from medgen.registry import find
from medgen.report.blocks import Block, Bullets, Code, Details, Picture, Section, Table, Text
from medgen.report.context import Context
from medgen.report.plots import curves
from medgen.runs import Run

__all__ = ["configuration", "data", "data_rows", "metric_blocks", "metrics", "training"]


def metrics(context: Context) -> Section:
    """The table of evaluation.json with its recipes; without it, the command that makes it."""
    return Section("metrics", "Metrics", metric_blocks(context.run))


def metric_blocks(run: Run) -> list[Block]:
    """The figures of a run, for the report and the card."""
    file = run.path / "evaluation.json"
    if not file.is_file():
        return [
            Text("Not evaluated yet. The first command computes every metric that fits, the second shows them here:"),
            Code(f"medgen evaluate {run.path}\nmedgen report {run.path}"),
        ]
    try:
        scores = load_scores(file)
    except DataError as error:
        return [Text(f"evaluation.json cannot be read: {error}", "warning")]
    blocks: list[Block] = [Text("Each figure with how it was made: the same name with another recipe is another quantity.")]
    for title, group in _groups(scores).items():
        rows = [(s.name, s.figure, s.interval, str(s.n), s.better) for s in group]
        blocks += [Text(title, "heading"), Table(("metric", "value", "95 % interval", "n", "better"), rows)]
        blocks += [Text(note, "note") for note in _notes(group)]
        blocks.append(Bullets(recipe_lines(group), small=True))
    if (table := load_subjects(file)) is not None:
        head, *body = table.rows()
        blocks += [Text("Translations by subject", "heading"), Table(head, body)]
        blocks.append(Bullets([f"{key}: {value}" for key, value in table.recipe.items()], small=True))
    return blocks


def _groups(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """The scores by what they compare, as their metrics say; those of metrics that are not installed come last."""
    titles = {
        "distribution": "Generated against real samples",
        "paired": "Reconstructions or translations against their originals",
        "density": "Log-density of real samples",
        "latent": "Latents of real samples against their attributes",
        "": "Other",
    }
    kinds = {score.name: _kind(score) for score in scores}
    groups = {title: [score for score in scores if kinds[score.name] == kind] for kind, title in titles.items()}
    return {title: group for title, group in groups.items() if group}


def _kind(score: Score) -> str:
    try:
        kind: str = find("medgen_metrics", score.name).spec.kind
    except MedgenError:
        return ""
    return kind


def _notes(scores: Sequence[Score]) -> list[str]:
    names: dict[str, list[str]] = {}
    for score in scores:
        if score.note:
            names.setdefault(score.note, []).append(score.name)
    return [f"{', '.join(who)}: {note}" for note, who in names.items()]


def training(context: Context) -> Section:
    """The curves of metrics.csv."""
    rows = context.run.metrics()
    if not rows:
        return Section(
            "training", "Training", [Text("metrics.csv is empty: the model was fitted without steps, or its log is lost.", "note")]
        )
    shown = [row for row in rows if row["value"] == row["value"]]
    phases = list(dict.fromkeys(row["phase"] for row in shown if row["phase"]))
    text = f"{max(row['step'] for row in rows)} steps; phase{'s' if len(phases) > 1 else ''} {', '.join(phases)}. "
    text += "The first row of a curve is its first batch; validation uses the same noise each time."
    alt = "Curves of every loss over the steps of training"
    return Section("training", "Training", [Text(text), Picture.of(curves(shown), alt, vector=True), _last_values(shown)])


def _last_values(rows: Sequence[Mapping[str, Any]]) -> Block:
    last = {(row["phase"], row["name"], row["split"]): row for row in rows}
    table = [(phase or "-", name, split, str(row["step"]), f"{row['value']:.5g}") for (phase, name, split), row in last.items()]
    return Details("Last values", [Table(("phase", "name", "split", "step", "value"), table)])


def data(context: Context) -> Section:
    """What the data was, with every warning."""
    summary = context.run.data_summary()
    blocks: list[Block] = []
    if context.problem:
        blocks.append(Text(f"The data is not at hand, so nothing real is shown. {context.problem}", "note"))
    if context.data is not None and context.split == "train" and len(context.data.splits.get("val", ())):
        why = "Held-out samples are mostly empty, so this report shows training samples; --min_foreground leaves empty slices out."
        blocks.append(Text(why, "warning"))
    if not summary:
        return Section("data", "Data", [*blocks, Text("data.json is missing: what the data was is not known.", "warning")])
    blocks += [Text(warning, "warning") for warning in summary.get("warnings", ())]
    blocks.append(Table((), data_rows(summary)))
    if labels := summary.get("labels"):
        classes = list(dict.fromkeys(name for counts in labels.values() for name in counts))
        rows = [(name, *(str(counts.get(name, 0)) for counts in labels.values())) for name in classes]
        blocks.append(Table(("class", *labels), rows))
    return Section("data", "Data", blocks)


def data_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a data summary, as people read them."""
    splits = ", ".join(f"{count} {name}" for name, count in summary.get("splits", {}).items())
    intensity = summary.get("intensity", {})
    rows = {
        "name": summary.get("name"),
        "source": Path(str(summary.get("source", ""))).name,
        "samples": f"{summary.get('samples')} ({splits})",
        "subjects": "not known" if summary.get("subjects") is None else summary["subjects"],
        "shape": " x ".join(map(str, (summary.get("channels"), *summary.get("shape", ())))),
        "channels": ", ".join(summary.get("channel_names", ())),
        "voxel size": ", ".join(f"{s:.4g}" for s in summary.get("spacing") or ()),
        "content": summary.get("content"),
        "stored type": " ".join(str(summary.get(key) or "") for key in ("dtype", "unit")).strip(),
        "intensity": _intensity(intensity),
        "conditions": "; ".join(f"{name} ({', '.join(map(str, names))})" for name, names in summary.get("conditions", {}).items()),
        "fingerprint": summary.get("fingerprint"),
    }
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "", [], "None")]


def _intensity(rule: Mapping[str, Any]) -> str:
    if not rule or rule.get("rule") == "labels":
        return str(rule.get("rule", ""))
    low, high = ([f"{v:.4g}" for v in rule[key][:4]] for key in ("low", "high"))
    more = " ..." if len(rule["low"]) > 4 else ""
    return f"{rule['rule']}: stored {', '.join(low)}{more} to {', '.join(high)}{more} becomes {rule['range'][0]:g} to {rule['range'][1]:g}"


def configuration(context: Context) -> Section:
    """What was asked, how to repeat it, and every option of the family with its value."""
    run, values = context.run, context.model.config.to_json()
    rows = [(row.name, _value(values, row.name), row.default, row.description) for row in type(context.model.config).rows()]
    return Section(
        "configuration",
        "Configuration",
        [
            Table(("option", "value", "default", "meaning"), rows),
            Text("config.yaml of the run; this trains it again:"),
            Code(f"medgen train --config {run.config_file} --out NEW_FOLDER"),
            Details("config.yaml", [Code(run.config_file.read_text(encoding="utf-8"))]),
        ],
    )


def _value(values: Mapping[str, Any], path: str) -> str:
    found: Any = values
    for part in path.split("."):
        found = found[part]
    return found if isinstance(found, str) else json.dumps(found)
