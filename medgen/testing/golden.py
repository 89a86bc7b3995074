"""Golden files: the weights of a fixed tiny model with input and output of its verbs, to be loaded by every later version.

`DIR/<family>.safetensors` is a weights file of medgen whose tensors are named "model.*", "input.*" and "output.*". Keep it in version
control; write a new one only with a new family, never to make a law pass.
"""

from __future__ import annotations

from pathlib import Path

import torch

from medgen import weights
from medgen.errors import WeightsError
from medgen.factory import describe, rebuild
from medgen.interfaces import Condition
from medgen.testing.expect import close, expect
from medgen.testing.subject import Subject
from medgen.testing.verbs import Inputs, call, inputs_of, verbs_of

__all__ = ["check_golden", "golden_path", "write_golden"]

_N, _SEED = 3, 20
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5  # other machines and versions of torch round differently


def golden_path(subject: Subject, folder: str | Path) -> Path:
    """Where a family's golden file is."""
    return Path(folder) / f"{subject.spec.name}.safetensors"


def write_golden(subject: Subject, folder: str | Path) -> Path:
    """Record the family's typical case; returns the path."""
    case = subject.typical
    model = subject.model(case, fresh=True)
    given = inputs_of(subject, model, case, _N, seed=_SEED)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {"input.x": given.x, "input.z": given.z} | {f"input.condition.{k}": v for k, v in given.condition.values.items()}
    tensors |= {f"output.{verb}": call(model, verb, given) for verb in verbs_of(model)}
    path = golden_path(subject, folder)
    weights.write(path, tensors, describe(subject.declared, model, data={"golden": case.name, "seed": _SEED}))
    return path


def check_golden(subject: Subject, folder: str | Path) -> None:
    """The recorded weights load, and give the recorded outputs.

    Raises:
        AssertionError: no file, a file that no longer loads, a verb that is gone, or another output.
    """
    path = golden_path(subject, folder)
    try:
        meta, tensors = weights.read(path)
        model = rebuild(subject.declared, meta, _under(tensors, "model."), path).eval()
    except WeightsError as error:
        raise AssertionError(f"the golden file must load: {error}") from error
    values = _under(tensors, "input.")
    given = Inputs(values["x"], values["z"], Condition(_under(values, "condition.")), meta["data"]["seed"])
    recorded = _under(tensors, "output.")
    gone = sorted(set(recorded) - set(verbs_of(model)))
    expect(not gone, f"the model must still have the verbs of {path}; {gone} are gone.")
    for verb, wanted in recorded.items():
        close(call(model, verb, given), wanted, f"`{verb}` of {path}", relative=_RELATIVE, absolute=_ABSOLUTE)


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
