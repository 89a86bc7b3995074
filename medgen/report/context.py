"""`Context`: what the sections of one report share, each thing computed once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medgen.data import Dataset, to_stored
from medgen.data.samples import Array
from medgen.errors import MedgenError
from medgen.interfaces import Batch, Condition, Generator, Model
from medgen.registry import FamilySpec, ImageSpec, find_family
from medgen.report.display import Display
from medgen.runs import Run
from medgen.runs.conditions import ConditionSource
from medgen.runs.sample import CELL, sample_cells

__all__ = ["Context"]

_REFERENCE = 64  # samples that fix the grey window
_MOST_CLASSES = 12
_SPLITS = {"val": "validation", "test": "test", "train": "training"}


@dataclass
class Context:
    """A run and what is at hand of it.

    Args:
        run: finished.
        samples: generated samples to show.
        seed: of the samples and of the choice of data.
        given: the data, where it cannot be opened from the run's config.
    """

    run: Run
    samples: int = 64
    seed: int = 0
    given: Dataset | None = None
    problem: str = field(default="", init=False)
    """Why the data is not at hand; empty where it is."""
    _drawn: dict[str | None, tuple[Tensor, Condition]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.data = self._open()

    def _open(self) -> Dataset | None:
        try:
            data = self.given if self.given is not None else self.run.dataset
        except MedgenError as error:
            self.problem = str(error)
            return None
        before = self.run.data_summary().get("fingerprint", data.fingerprint)
        if before != data.fingerprint:
            self.problem = f"what lies at {self.run.config.data} is not the data of this run (fingerprint {before[:12]} in training)."
            return None
        self.run.dataset = data  # conditions are drawn from the run's data, which may not be open to the run itself
        return data

    @property
    def model(self) -> Model:
        """The trained model, where the run keeps it."""
        return self.run.model

    @property
    def spec(self) -> ImageSpec:
        """Of the model's samples."""
        return self.model.image_spec

    @property
    def family(self) -> FamilySpec:
        """What the model's family says about itself."""
        spec: FamilySpec = find_family(self.model.family or self.run.config.family).spec
        return spec

    @property
    def volumes(self) -> bool:
        """Whether samples are 3-D: fewer of them are shown."""
        return self.spec.dim == 3

    @cached_property
    def split(self) -> str:
        """The split that real samples are shown from: held out where there is one that shows something.

        Held-out slices of a single volume are a slab at its end, often nothing but air.
        """
        assert self.data is not None
        names = [name for name in _SPLITS if len(self.data.splits.get(name, ()))]
        return next((name for name in names if not self.is_empty(name)), names[0])

    def is_empty(self, split: str) -> bool:
        """Whether most samples of a split hold one value throughout."""
        assert self.data is not None
        values = self.data.stored(_spread(self.data.splits[split], _REFERENCE))
        flat = values.reshape(len(values), -1)
        return self.spec.numel > 1 and bool(np.mean(flat.max(1) == flat.min(1)) > 0.5)

    @property
    def split_name(self) -> str:
        """For captions."""
        return _SPLITS[self.split]

    def held_out(self, n: int) -> Array:
        """Up to n sample numbers of `split`, spread over it: neighbours in a file are often slices of one volume."""
        assert self.data is not None
        return _spread(self.data.splits[self.split], n)

    def fetch(self, rows: Array) -> Batch:
        """Real samples as the model takes them, on the CPU."""
        assert self.data is not None
        return self.model.select(self.data.fetch(rows))

    @cached_property
    def display(self) -> Display:
        """How samples are shown in every figure; fitted to real ones where the data is at hand."""
        return Display.of(self.spec, None if self.data is None else self.data.stored(self.held_out(_REFERENCE)))

    def stored(self, x: Tensor) -> Array:
        """Model units to stored units."""
        return to_stored(x, self.spec)

    def draw(self, n: int, *, label: str | None = None) -> tuple[Tensor, Condition]:
        """Generated samples 0..n-1 of the report's seed, the same that `medgen sample` writes, on the CPU.

        Raises:
            ConditionError: the model takes conditions that only the data could give.
        """
        assert isinstance(self.model, Generator)
        x, condition = self._drawn.get(label, (torch.empty(0), Condition()))
        if len(x) < n:
            source = ConditionSource(self.run, label=label) if self.model.conditions else None
            whole = -(-n // CELL) * CELL  # a cell is computed whole anyway
            cells = list(sample_cells(self.model, 0, whole, seed=self.seed, condition=source))
            parts = [c.to("cpu") for _, _, c in cells]
            condition = Condition({k: torch.cat([p.values[k] for p in parts]) for k in parts[0].values})
            x = torch.cat([x.cpu() for _, x, _ in cells])
            self._drawn[label] = x, condition
        return x[:n], condition[:n]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes that generated samples are shown of; empty where the model takes none."""
        label = self.model.condition_spec("label")
        return () if label is None else label.names[:_MOST_CLASSES]

    @cached_property
    def generated(self) -> Tensor:
        """The report's generated samples, [N, C, *S], as many of each class where there are classes."""
        if not self.classes:
            return self.draw(self.samples)[0]
        each = max(1, self.samples // len(self.classes))
        return torch.cat([self.draw(each, label=name)[0] for name in self.classes])

    def neutral_condition(self) -> Condition | None:
        """One sample's condition for walks in the latent space: the first class, the mean attributes; None where an image is needed."""
        values: dict[str, Tensor] = {}
        for spec in self.model.conditions:
            if spec.kind == "label":
                values[spec.name] = torch.zeros(1, dtype=torch.int64)
            elif spec.kind == "attributes":
                values[spec.name] = torch.zeros(1, spec.size)
            elif spec.name in self.model.required_conditions:
                return None
        return Condition(values)

    def neutral_text(self) -> str:
        """That condition, for captions."""
        kinds = {spec.kind: spec for spec in self.model.conditions}
        parts = [f"class {kinds['label'].names[0]}"] if "label" in kinds else []
        return " and ".join([*parts, *(["mean attributes"] if "attributes" in kinds else [])])


def _spread(rows: Array, n: int) -> Array:
    """Up to n of the rows, evenly spaced."""
    return np.asarray(rows[np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(np.int64))], np.int64)
