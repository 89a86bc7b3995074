"""The model card: what a stranger must know before using the weights. `card.md` in the run folder, and the end of the report.

After Model Cards for Model Reporting (Mitchell et al., 2019) | https://arxiv.org/abs/1810.03993
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgen.interfaces import INTERFACES, DensityModel, Generator, LatentModel, Model, Translator
from medgen.registry import ConditionSpec, find_family
from medgen.report.blocks import Block, Bullets, Code, Links, Section, Table, Text, to_markdown
from medgen.report.sections.facts import data_rows, metric_blocks
from medgen.runs import Run
from medgen.weights import read_meta

__all__ = ["NOT_FOR_DIAGNOSIS", "card_sections", "card_title", "model_card"]

NOT_FOR_DIAGNOSIS = (
    "Not for diagnosis. This model and everything it produces are for research only and must not inform the care of any patient."
)

_USES = {
    "generator": "Drawing synthetic samples, to study and develop methods. Mark them as synthetic wherever they go.",
    "density": "Scoring samples by their log-density under the training distribution.",
    "translator": "Predicting one image from another on the same grid, to study and develop methods.",
    "latent": "Encoding, reconstructing and interpolating samples.",
    "inpainter": "Filling in regions of samples, to study and develop methods.",
}

_LIMITS = {
    "generator": "Samples may hold anatomy that no patient has, may miss rare findings, and carry every bias of the training data.",
    "density": "A high log-density does not mean healthy, nor a low one diseased; contrast and noise count as much as anatomy.",
    "translator": "Structures may be added, moved or lost; whatever the source does not show is guessed.",
    "latent": "Reconstructions lose fine detail; what an interpolation shows need not exist.",
    "inpainter": "What is filled in is plausible beside its surroundings, and says nothing of what was there.",
}


def model_card(run: Run) -> str:
    """The card of a finished run as Markdown.

    Raises:
        RunError: the training has not ended.
    """
    return to_markdown(card_title(run), card_sections(run))


def card_title(run: Run) -> str:
    """Family and data in one line."""
    name = run.data_summary().get("name") or Path(run.config.data.partition("?")[0]).name
    return f"Model card: {run.config.family.rpartition('/')[2]} of {name}"


def card_sections(run: Run) -> list[Section]:
    """The card in blocks."""
    meta = read_meta(run.weights_file)
    return [
        Section("card-use", "Intended use", _use(run.model)),
        Section("card-model", "Model", _model(run, meta)),
        Section("card-data", "Training data", _data(run)),
        Section("card-training", "Training", [Table((), _training(run, meta))]),
        Section("card-metrics", "Metrics", metric_blocks(run)),
        Section("card-limits", "Limitations", [Bullets(_limits(run))]),
        Section("card-licence", "Licence", _licence(run)),
        Section("card-weights", "Weights", _weights(run, meta)),
    ]


def _use(model: Model) -> list[Block]:
    uses = [text for name, text in _USES.items() if isinstance(model, INTERFACES[name])]
    return [
        Text(NOT_FOR_DIAGNOSIS, "warning"),
        Bullets(uses),
        Text(
            "Out of scope: diagnosis, screening, treatment planning or any other clinical decision; data from other scanners, protocols, "
            "ages or diseases than those it was trained on; any claim that samples protect the privacy of the people in the training data."
        ),
    ]


def _model(run: Run, meta: Mapping[str, Any]) -> list[Block]:
    model, declared = run.model, find_family(run.model.family)
    spec = model.image_spec
    rows = [
        ("family", f"{declared.spec.name}: {declared.spec.summary}"),
        ("plugin", f"{meta['distribution']} {meta['version']}"),
        ("interfaces", ", ".join(declared.spec.interfaces)),
        ("log-density", declared.spec.capabilities.log_prob),
        ("models", f"{spec.content}, {' x '.join(map(str, spec.size))} (channels first)"),
        ("conditions", _slots(model.conditions)),
        *([("training targets", _slots(model.targets))] if model.targets else []),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
    ]
    papers = [(f"{r.title} ({r.authors}, {r.year})", r.url) for r in declared.spec.references]
    return [Table((), rows), *([Links(papers)] if papers else [])]


def _slots(specs: Sequence[ConditionSpec]) -> str:
    return "; ".join(f"{spec.name}: {', '.join(spec.names) or 'image'}" for spec in specs) or "none"


def _data(run: Run) -> list[Block]:
    summary = run.data_summary()
    if not summary:
        return [Text("Not known: data.json is missing.", "warning")]
    return [Table((), data_rows(summary)), *(Text(warning, "warning") for warning in summary.get("warnings", ()))]


def _training(run: Run, meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    train, done = run.config.train, meta.get("training", {})
    last = {(row["phase"], row["name"]): row["value"] for row in run.metrics() if row["split"] == "val"}
    rows = {
        "steps": done.get("steps"),
        "samples seen": done.get("samples"),
        "batch size": train.batch_size,
        "optimizer": f"{train.optimizer}, learning rate {train.lr:g}, schedule {train.schedule}",
        "weights kept": "moving average" if train.ema else train.keep,
        "precision": done.get("precision"),
        "seed": done.get("seed"),
        "validation": ", ".join(f"{phase} {name} {value:.5g}" for (phase, name), value in last.items()),
        "software": f"medgen {meta['medgen']}, torch {done.get('torch', 'not known')}",
    }
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")]


def _limits(run: Run) -> list[str]:
    summary = run.data_summary()
    lines = [text for name, text in _LIMITS.items() if isinstance(run.model, INTERFACES[name])]
    count = summary.get("splits", {}).get("train")
    if count is not None:
        whose = "an unknown number of subjects" if summary.get("subjects") is None else f"data of {summary['subjects']} subjects in all"
        lines.append(f"Trained on {count} samples, from {whose}; sex, age, ethnicity, site and scanner were not balanced or checked.")
    lines.append("No privacy audit has been made: samples may repeat training images.")
    if not (run.path / "evaluation.json").is_file():
        lines.append("It has not been evaluated.")
    return lines


def _licence(run: Run) -> list[Block]:
    code = find_family(run.model.family).spec.licence
    return [
        Text(
            f"Code of the family: {code}. The weights carry no licence of their own: the terms of the training data decide "
            "whether they may be passed on."
        )
    ]


def _weights(run: Run, meta: Mapping[str, Any]) -> list[Block]:
    rows = [
        ("file", run.weights_file.name),
        ("size", f"{run.weights_file.stat().st_size / 1e6:.2f} MB"),
        ("SHA-256 of contents", str(meta["sha256"])),
        ("schema", f"{meta['schema_version']}, safetensors; no code inside"),
    ]
    return [Table((), rows), Text("Load and use:"), Code(_usage(run.model))]


def _usage(model: Model) -> str:
    lines = ["import medgen", "", 'model = medgen.load("model.safetensors")  # checks the SHA-256']
    given = ", condition=c" if model.conditions else ""
    if model.conditions:
        lines.append(
            "c = medgen.Condition({...})  # slots: " + ", ".join(f"{c.name} ({c.kind})" for c in model.conditions).replace("\n", " ")
        )
    if isinstance(model, Generator):
        lines.append(f"x = model.sample(16{given}, noise=0)  # [16, C, *S] in model units; sample i depends on the seed and i alone")
    if isinstance(model, LatentModel):
        lines.append(f"y = model.reconstruct(x{given})")
    if isinstance(model, DensityModel):
        lines.append(f"nats = model.log_prob(x{given})")
    if isinstance(model, Translator):
        lines.append(f"y = model.translate(source{given})")
    lines.append("stored = medgen.data.to_stored(y, model.image_spec)  # back to the units of the files" if "y =" in "".join(lines) else "")
    return "\n".join(lines).rstrip()
