"""The plugin: what it declares is true, and listing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

from medgen.interfaces import INTERFACES, DensityModel, Generator, Inpainter, LatentModel, Model, Translator
from medgen.registry import find_family, resolve
from medgen.registry.config import Config
from medgen.testing.expect import expect
from medgen.testing.law import SkipLaw, law
from medgen.testing.subject import Subject

_FINAL = {
    Model: ("condition_spec", "select", "_checked", "_checked_x"),
    Generator: ("sample",),
    Inpainter: ("inpaint",),
    DensityModel: ("log_prob", "bits_per_dim"),
    Translator: ("translate", "source_spec"),
    LatentModel: ("encode", "decode", "reconstruct"),
}

_IMPORT = """
import importlib, sys
sys.path[:] = {path!r}
for name in {modules!r}:
    importlib.import_module(name)
print(*sorted({{"torch", "numpy", "scipy", "monai"}} & set(sys.modules)))
"""


@law("plugin")
def import_is_torch_free(subject: Subject) -> None:
    """Importing the plugin module and the configuration loads no torch, so that `medgen list` answers at once."""
    modules = [subject.spec.config.partition(":")[0], *([subject.plugin] if subject.plugin else [])]
    code = _IMPORT.format(path=sys.path, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    expect(done.returncode == 0, f"{modules} must be importable on their own; got {done.stderr.strip().splitlines()[-1:]}.")
    heavy = done.stdout.split()
    expect(not heavy, f"importing {modules} must not load torch or the like; it loads {heavy}. Import them in the model's module.")


@law("plugin")
def is_found_by_name(subject: Subject) -> None:
    """Its name and every alias find it, without asking for the distribution."""
    if subject.plugin is None:
        raise SkipLaw("the family is not installed by an entry point")
    for name in (subject.spec.name, *subject.spec.aliases):
        found = find_family(name)
        same = found.qualified == subject.declared.qualified and found.spec == subject.spec
        expect(same, f"{name!r} must find {subject.declared.qualified}; it finds {found.qualified}.")


@law("plugin")
def spec_is_complete(subject: Subject) -> None:
    """Summary, licence and references are there, and no slot is declared twice."""
    spec = subject.spec
    expect(bool(spec.summary.strip()) and "\n" not in spec.summary, f"`summary` must be one line; got {spec.summary!r}.")
    expect(bool(spec.licence.strip()), "`licence` must be an SPDX identifier; got nothing.")
    for reference in spec.references:
        complete = bool(reference.title and reference.authors) and 1700 < reference.year < 2200
        expect(complete, f"a reference must have title, authors and year; got {reference}.")
    names = [slot.name for slot in spec.capabilities.conditions]
    expect(len(set(names)) == len(names), f"slots must have different names; got {names}.")
    if "translator" in spec.interfaces:
        kinds = {slot.name: (slot.kind, slot.required) for slot in spec.capabilities.conditions}
        found = kinds.get("source")
        expect(found == ("image", True), f"a translator must declare a required slot 'source' of kind 'image'; got {found}.")


@law("plugin")
def classes_are_as_declared(subject: Subject) -> None:
    """Model and configuration can be imported, and the model implements exactly the declared interfaces."""
    spec = subject.spec
    model = resolve(spec.model, owner=f"family {spec.name!r}")
    expect(isinstance(model, type) and issubclass(model, Model), f"`model` must be a subclass of medgen.Model; got {model!r}.")
    expect(issubclass(subject.config_class, Config), f"`config` must be a subclass of medgen.Config; got {subject.config_class!r}.")
    has = {name for name, interface in INTERFACES.items() if issubclass(model, interface)}
    expect(has == set(spec.interfaces), f"the model must implement exactly {sorted(spec.interfaces)}, as declared; got {sorted(has)}.")
    if "density" in spec.interfaces:
        kind = getattr(model, "log_prob_kind", None)
        declared = spec.capabilities.log_prob
        expect(kind == declared, f"`log_prob_kind` of the model must be {declared!r}, as declared; got {kind!r}.")


@law("plugin")
def verbs_are_final(subject: Subject) -> None:
    """The public verbs are those of the interfaces: a family writes the underscored hooks only."""
    model = resolve(subject.spec.model, owner=f"family {subject.spec.name!r}")
    for interface, names in _FINAL.items():
        changed = [n for n in names if issubclass(model, interface) and getattr(model, n, None) is not getattr(interface, n)]
        expect(not changed, f"{model.__name__} must not override {changed} of {interface.__name__}; write the underscored hook instead.")


@law("plugin")
def conditions_are_as_declared(subject: Subject) -> None:
    """A slot declared as required is required by the model, and the model requires none that it was not built with."""
    for case in subject.cases():
        model = subject.model(case, perturbed=False)
        required, names = set(model.required_conditions), {slot.name for slot in case.conditions}
        declared = {slot.name for slot in subject.spec.capabilities.conditions if slot.required}
        expect(required <= names, f"{case}: the model requires {sorted(required)} but was built with {sorted(names)}.")
        missing = sorted(declared - required)
        expect(not missing, f"{case}: {missing} are declared as required; the model's `required_conditions` are {sorted(required)}.")
