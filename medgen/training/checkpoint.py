"""Checkpoints from which a killed training goes on to the same weights, bit for bit.

What is not here needs no saving: the order of the data, the training noise and torch's seed are functions of the step.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgen.errors import RunError
from medgen.files import atomic_dir
from medgen.weights import load_tensors, save_tensors

__all__ = ["load_checkpoint", "load_optimizer", "optimizer_tensors", "save_checkpoint"]

_NAME = re.compile(r"step-(\d{9})")


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write folder/step-N whole, then drop older ones: at any moment one complete checkpoint exists.

    Args:
        folder: `resume/` of the run.
        step: optimizer steps done.
        tensors: file name -> tensors.
        state: JSON types.
    """
    target = folder / f"step-{step:09d}"
    if target.exists():  # resumed and interrupted at once: the same bits are there already
        return
    with atomic_dir(target) as temporary:
        for name, group in tensors.items():
            save_tensors(temporary / f"{name}.safetensors", {k: v.detach().cpu().contiguous().clone() for k, v in group.items()})
        (temporary / "state.json").write_text(json.dumps({**state, "step": step, "files": sorted(tensors)}), encoding="utf-8")
    for older in _checkpoints(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The newest checkpoint: tensors by file, and state; None where there is none."""
    found = _checkpoints(folder)
    if not found:
        return None
    state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
    return {name: load_tensors(found[-1] / f"{name}.safetensors") for name in state["files"]}, state


def optimizer_tensors(phase: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State of an optimizer as named tensors "phase/parameter number/key". Hyper-parameters are the configuration's business."""
    state = optimizer.state_dict()["state"]
    return {
        f"{phase}/{number}/{key}": torch.as_tensor(value)
        for number, entry in state.items()
        for key, value in entry.items()
        if value is not None
    }


def load_optimizer(phase: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of `optimizer_tensors`.

    Raises:
        RunError: the checkpoint is of another optimizer.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        owner, number, key = name.split("/")
        if owner == phase:
            state.setdefault(int(number), {})[key] = tensor
    full = optimizer.state_dict()
    count = sum(len(group["params"]) for group in full["param_groups"])
    if any(number >= count for number in state):
        raise RunError(f"the checkpoint's optimizer of phase {phase!r} has more parameters than the model; it is of another configuration.")
    optimizer.load_state_dict({"state": state, "param_groups": full["param_groups"]})


def _checkpoints(folder: Path) -> Sequence[Path]:
    return sorted(p for p in folder.glob("step-*") if _NAME.fullmatch(p.name)) if folder.is_dir() else []
