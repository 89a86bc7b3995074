"""`medgen show NAME`: one family, dataset or metric in full. Imports its config, but no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from medgen.cli.common import field_lines, make_parser, print_json, print_table
from medgen.errors import ConfigError, PluginError, UnknownNameError
from medgen.registry import ConditionSlot, Declared, Reference, find, get_host, resolve, shortest_names, suggestion

if TYPE_CHECKING:
    from medgen.registry.config import Config

__all__ = ["run"]

_EXAMPLES = """\
  medgen show vae
  medgen show vae --yaml > vae.yaml     a config file to edit
  medgen show vae --schema              JSON Schema of its configuration
  medgen show medgen-autoencoders/vae   where two distributions have a 'vae'
"""

_HOOKS = {"medgen_families": "family", "medgen_datasets": "dataset", "medgen_metrics": "metric"}


def run(argv: Sequence[str]) -> int:
    """Show one family, dataset or metric; returns the exit code."""
    parser = make_parser("show", "Show what a family can do and how it is configured; also datasets and metrics.", _EXAMPLES)
    parser.add_argument("name", help="a family, dataset or metric: NAME, alias or DISTRIBUTION/NAME")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, as JSON")
    form.add_argument("--yaml", action="store_true", help="a config file of the defaults, with comments")
    form.add_argument("--schema", action="store_true", help="JSON Schema of the configuration")
    options = parser.parse_args(argv)

    hook, item = _find(options.name)
    if options.yaml or options.schema:
        if hook != "medgen_families":
            raise ConfigError(f"only families have a configuration; got the {_HOOKS[hook]} {item.spec.name!r}.")
        config = _config(item)
        print(_yaml(item, config) if options.yaml else json.dumps(config.json_schema(), indent=2))
    elif options.json:
        fields = {"config_fields": [asdict(row) for row in _config(item).rows()]} if hook == "medgen_families" else {}
        print_json({"kind": _HOOKS[hook], "distribution": item.distribution, "version": item.version, **asdict(item.spec), **fields})
    else:
        _print(hook, item)
    return 0


def _find(name: str) -> tuple[str, Declared]:
    """Families first, then datasets, then metrics."""
    failure: PluginError | None = None
    for hook in _HOOKS:
        try:
            return hook, find(hook, name)
        except UnknownNameError:
            continue
        except PluginError as error:  # a metric may still have the name of a broken family
            failure = failure or error
    if failure:
        raise failure
    known = {n for hook in _HOOKS for item in get_host().items(hook) for n in (item.spec.name, *getattr(item.spec, "aliases", ()))}
    failed = ", ".join(status.name for status in get_host().plugins if status.failed)
    also = f" It may belong to a plugin that failed to load ({failed}): see `medgen doctor`." if failed else ""
    raise UnknownNameError(f"no family, dataset or metric is called {name!r}{suggestion(name, sorted(known))}{also}")


def _config(item: Declared) -> type[Config]:
    from medgen.registry.config import Config  # pydantic: only where a config is asked for

    config = resolve(item.spec.config, owner=f"family {item.owner}")
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise PluginError(f"family {item.owner} must declare a sub-class of medgen.Config as `config`; got {config!r}.")
    return config


def _print(hook: str, item: Declared) -> None:
    spec = item.spec
    print(f"{shortest_names(hook, [item])[0]}: {_HOOKS[hook]} of {item.distribution} {item.version}")
    if spec.summary:
        print(spec.summary)
    print()
    describe = {"medgen_families": _family_pairs, "medgen_datasets": _dataset_pairs, "medgen_metrics": _metric_pairs}
    print(field_lines(describe[hook](spec)))
    if references := getattr(spec, "references", ()):
        print("\nReferences:")
        for reference in references:
            print(f"  {_citation(reference)}")
    if hook == "medgen_families":
        rows = list(_config(item).rows())
        print(f"\nConfiguration (`medgen train {spec.name} --model.NAME VALUE`):")
        print_table(
            ("name", "type", "default", "limits", "description"),
            [(row.name, row.type, row.default, row.limits, row.description + " *" * row.runtime) for row in rows],
        )
        if any(row.runtime for row in rows):
            print("* can be overridden after training: medgen sample|score|reconstruct|inpaint|evaluate RUN --model.NAME VALUE")
    if hook == "medgen_datasets" and spec.options:
        print(f"\nOptions (`--data '{spec.name}?NAME=VALUE'`):")
        print_table(("name", "default", "description"), [(name, str(default), text) for name, (default, text) in spec.options.items()])


def _family_pairs(spec: Any) -> Iterator[tuple[str, str]]:
    can = spec.capabilities
    low, high = can.value_range
    yield "interfaces", ", ".join(spec.interfaces)
    yield "spatial dims", ", ".join(map(str, can.spatial_dims))
    yield "contents", ", ".join(can.contents)
    yield "conditions", ", ".join(_slot(slot) for slot in can.conditions)
    yield "targets", ", ".join(_slot(slot) for slot in can.targets)
    yield "value range", f"{low:g} to {high:g}"
    yield "log_prob", can.log_prob
    yield "invertible", "yes" if can.invertible else "no"
    yield "training", can.training
    yield "native ops", ", ".join(can.ops)
    yield "aliases", ", ".join(spec.aliases)
    yield "licence", spec.licence
    yield "weights version", str(spec.weights_version)
    yield "model", spec.model
    yield "config", spec.config


def _dataset_pairs(spec: Any) -> Iterator[tuple[str, str]]:
    yield "factory", spec.factory


def _metric_pairs(spec: Any) -> Iterator[tuple[str, str]]:
    compares = {
        "paired": "images with their references",
        "distribution": "two sets of images",
        "density": "the log-density of a model",
        "latent": "latents with attributes of the samples",
    }
    yield "compares", compares[spec.kind]
    yield "better", spec.better
    yield "function", spec.function


def _slot(slot: ConditionSlot) -> str:
    content = "" if slot.content == "any" else f" of {slot.content}"
    return f"{slot.name} ({slot.kind}{content}, {'required' if slot.required else 'optional'})"


def _citation(reference: Reference) -> str:
    return f"{reference.title} ({reference.authors}, {reference.year}){' | ' + reference.url if reference.url else ''}"


def _yaml(item: Declared, config: type[Config]) -> str:
    """A config file for `medgen train --config FILE`: every default under `model:`, each with its comment."""
    spec = item.spec
    lines = [
        f"# {spec.name} of {item.distribution} {item.version}: {spec.summary}",
        "# medgen train --config THIS_FILE --data PATH",
        f"family: {shortest_names('medgen_families', [item])[0]}",
    ]
    return "\n".join([*lines, "model:", *_yaml_fields(config, "  ")])


def _yaml_fields(config: type[Config], indent: str) -> Iterator[str]:
    from medgen.registry.config import Config

    rows = {row.name: row for row in config.rows()}
    if not config.model_fields:
        yield f"{indent}{{}}"
    for name, field in config.model_fields.items():
        yield f"{indent}# {field.description}"
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, Config):
            yield f"{indent}{name}:"
            yield from _yaml_fields(nested, indent + "  ")
            continue
        row = rows[name]
        yield f"{indent}# {row.type}{', ' + row.limits if row.limits else ''}{', also after training' if row.runtime else ''}"
        if field.is_required():
            yield f"{indent}{name}:  # required: fill in"
        else:
            yield f"{indent}{name}: {_scalar(field.get_default(call_default_factory=True))}"


def _scalar(value: Any) -> str:
    """JSON, which YAML contains, but for floats such as 1e-05, which YAML 1.1 reads as text without a point."""
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_scalar(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(str(k))}: {_scalar(v)}' for k, v in value.items())}}}"
    return json.dumps(value.to_json() if hasattr(value, "to_json") else value)
