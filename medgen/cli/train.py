"""`medgen train FAMILY --data X`: train a family, or go on with a run."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgen.cli.common import make_parser
from medgen.cli.options import add_config, given, overlaid, parse, parse_known
from medgen.errors import ConfigError

if TYPE_CHECKING:
    from medgen.runs import Run

__all__ = ["run"]

_EXAMPLES = """\
  medgen train vae --data cardiac_phantom --out runs/heart
  medgen train vae --data scans.npz --model.latent_dim 32 --epochs 100 --ema 0.999
  medgen train vae --data ct/ --axis 2 --window -600 1400 --size 128 128
  medgen train cvae --data table.csv --labels diagnosis --attributes age sex
  medgen train regression --data flair/ --source t1/ t2/ --axis 2
  medgen train --config runs/heart/config.yaml --lr 3e-4 --out runs/heart2
  medgen train --resume runs/heart          go on after an interrupt or a crash
  medgen train vae --help                   every option, with those of the family
"""


def run(argv: Sequence[str]) -> int:
    """Train or resume; returns the exit code."""
    wants_help = "-h" in argv or "--help" in argv
    # The family comes first or from the file: elsewhere a bare word could be the value of one of its own options.
    named = argv[0] if argv and not argv[0].startswith("-") else None
    basic = _basic_parser()
    first, rest = parse_known(basic, [word for word in argv[named is not None :] if word not in ("-h", "--help")])
    if wants_help and named is None:
        basic.print_help()
        print("\nName a family to see every option: medgen train vae --help")
        return 0
    if first.resume is not None and not wants_help:
        return _resume(first, [*argv[: named is not None], *rest])

    from_file = _read(first.config) if first.config else {}
    family = named or from_file.get("family")
    if not isinstance(family, str):
        raise ConfigError("which family? `medgen list` shows them: medgen train FAMILY --data X")
    parser = _full_parser(family)
    if wants_help:
        parser.print_help()
        return 0
    return _train(family, from_file, parse(parser, argv[named is not None :]))


def _basic_parser() -> argparse.ArgumentParser:
    parser = make_parser("train", "Train a family of models on your data into a run folder.", _EXAMPLES)
    parser.add_argument("--data", help="file, folder, pattern, or the name of a dataset (`medgen list --datasets`)")
    parser.add_argument("--out", help="run folder to make (default runs/FAMILY-DATA, numbered)")
    parser.add_argument("--config", metavar="FILE", help="YAML with the same options, e.g. config.yaml of a run; options here override it")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run; all options come from it")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--dry_run", action="store_true", help="check and describe the data and the model, and stop")
    return parser


def _full_parser(family: str) -> argparse.ArgumentParser:
    from medgen.data.config import DataConfig
    from medgen.factory import config_class
    from medgen.registry import find_family
    from medgen.runs.config import TrainConfig

    declared = find_family(family)
    parser = _basic_parser()
    parser.prog = f"medgen train {family}"
    add_config(parser, config_class(declared), f"model: {declared.spec.summary}", prefix="model.")
    add_config(parser, DataConfig, "data")
    add_config(parser, TrainConfig, "training")
    return parser


def _train(family: str, from_file: dict[str, Any], options: argparse.Namespace) -> int:
    from medgen.data.config import DataConfig
    from medgen.runs.config import RunConfig, TrainConfig
    from medgen.training import train

    model = {name.removeprefix("model."): name for name in vars(options) if name.startswith("model.")}
    flat = {
        **from_file,
        **given(options, "", [*DataConfig.model_fields, *TrainConfig.model_fields]),
        "family": family,
        "model": overlaid(from_file.get("model") or {}, given(options, "model.", model)),
    }
    if options.data is not None:
        flat["data"] = options.data
    if "data" not in flat:
        raise ConfigError("train on what? --data takes a file, a folder, or a dataset's name (`medgen list --datasets`).")
    config = RunConfig.from_flat(flat, set(DataConfig.model_fields))
    if options.dry_run:
        return _describe(config)
    out = Path(options.out) if options.out else _free_folder(config.family, config.data)
    done = train(
        config.family, config.data, out, model=config.model, show=not options.quiet, **config.data_options, **config.train.to_json()
    )
    _next_steps(done)
    return 0


def _read(path: str) -> dict[str, Any]:
    from medgen.runs.config import read_yaml

    values = read_yaml(path)
    if not isinstance(values.get("model") or {}, dict):
        raise ConfigError(f"`model` in {path} must be a mapping of the family's options; got {values['model']!r}.")
    return values


def _resume(first: argparse.Namespace, rest: Sequence[str]) -> int:
    from medgen.training import resume

    if rest or first.data or first.out or first.config or first.dry_run:
        raise ConfigError("--resume takes every option from the run; give it alone.")
    _next_steps(resume(first.resume, show=not first.quiet))
    return 0


def _describe(config: Any) -> int:
    from medgen.cli.common import field_lines
    from medgen.training.guards import check_range
    from medgen.training.verb import build, open_dataset

    dataset = open_dataset(config)
    model = build(config, dataset)
    check_range(model, dataset.fetch(dataset.splits["train"][: config.train.batch_size]))
    size = sum(p.numel() for p in model.parameters())
    rows = {key: str(value) for key, value in dataset.summary().items() if value not in (None, [], "")}
    print(field_lines([*rows.items(), ("family", config.family), ("parameters", f"{size:,}")]))
    return 0


def _next_steps(run: Run) -> None:
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    from medgen.registry import find_family

    interfaces = find_family(run.config.family).spec.interfaces
    verbs = {"generator": "sample", "latent": "reconstruct", "density": "score"}
    print(f"{run.path}: trained.")
    if "translator" in find_family(run.config.family).spec.interfaces:
        print(f"  medgen translate {run.path} INPUT OUT")
    for verb in [*(verb for interface, verb in verbs.items() if interface in interfaces), "evaluate", "report"]:
        print(f"  medgen {verb} {run.path}")


def _free_folder(family: str, data: str) -> Path:
    """runs/FAMILY-DATA, numbered where it is taken."""
    stem = re.sub(r"\W+", "-", Path(data.partition("?")[0]).name.split(".")[0]).strip("-") or "data"
    base = Path("runs") / f"{family.rpartition('/')[2]}-{stem}"
    if os.environ.get("LOCAL_RANK", "0") != "0":  # another rank's process: rank 0 has made the folder
        taken = sorted(base.parent.glob(f"{base.name}*"), key=lambda p: p.stat().st_mtime)
        return taken[-1] if taken else base
    number = 2
    path = base
    while path.exists():
        path = base.with_name(f"{base.name}-{number}")
        number += 1
    return path
