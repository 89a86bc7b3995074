"""`Dataset`: samples in stored units, with splits, intensity and conditions fixed, read as batches in model units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgen.data.config import DataConfig
from medgen.data.intensity import to_model
from medgen.data.samples import Array, Samples, Store
from medgen.data.stores import PatchStore
from medgen.errors import DataError
from medgen.interfaces import Batch, Condition, Noise
from medgen.registry import ConditionSpec, ImageSpec

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """N samples that a model can train on.

    Args:
        name: short.
        image_spec: shape, geometry and intensity of the samples.
        conditions: the slots that every batch carries.
        splits: "train", "val", "test" -> int64 sample numbers, disjoint; val and test may be empty.
        fingerprint: SHA-256 over stored values, order, splits and config.
        subjects: name of each sample's subject, or None where unknown.
        warnings: what a user must know: leakage, duplicates, columns left out.
        config: how it was read.
        source: path or name it was opened from.
        samples: the stored values.

    >>> from medgen.data import from_arrays
    >>> data = from_arrays(np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4), labels=[0, 1] * 5)
    >>> batch = data.fetch(data.splits["train"][:2])
    >>> tuple(batch.x.shape), batch.condition.values["label"].tolist()
    ((2, 1, 4, 4), [0, 1])
    """

    name: str
    image_spec: ImageSpec
    conditions: tuple[ConditionSpec, ...]
    splits: Mapping[str, Array]
    fingerprint: str
    subjects: Array | None
    warnings: tuple[str, ...]
    config: DataConfig
    source: str
    samples: Samples = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def fetch(self, index: Tensor | Array, noise: Noise | None = None) -> Batch:
        """The samples `index` (int64 [B]) as a float32 batch in model units; `Batch.index` is `index`.

        Args:
            index: int64 [B].
            noise: of the B rows: of a dataset of patches, others of the same samples than without. Elsewhere it changes nothing.

        Raises:
            DataError: a number outside 0..N-1.
        """
        rows = torch.as_tensor(index, dtype=torch.int64).reshape(-1).cpu()
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(self)):
            raise DataError(f"`index` must be in 0..{len(self) - 1}; got {int(rows.min())}..{int(rows.max())}.")
        numbers = rows.numpy()
        x = to_model(torch.from_numpy(_gathered(self.samples.store, numbers, noise)), self.image_spec)
        return Batch(x, self._condition(numbers, noise), rows)

    def stored(self, index: Tensor | Array) -> Array:
        """The samples `index` as they are stored: [B, C, *S], label maps [B, 1, *S]."""
        return self.samples.store.gather(np.asarray(index, dtype=np.int64).reshape(-1))

    def _condition(self, rows: Array, noise: Noise | None) -> Condition:
        values: dict[str, Tensor] = {}
        present: dict[str, Tensor] = {}
        for spec in self.conditions:
            if spec.kind == "label":
                assert self.samples.labels is not None
                values[spec.name] = torch.from_numpy(self.samples.labels[rows])
            elif spec.kind == "attributes":
                raw = torch.from_numpy(np.stack([self.samples.attributes[name][rows] for name in spec.names], 1))
                known = ~raw.isnan().any(1)
                scaled = (raw - torch.tensor(spec.mean, dtype=raw.dtype)) / torch.tensor(spec.sd, dtype=raw.dtype)
                values[spec.name] = scaled.nan_to_num(0.0).to(torch.float32)
                if not bool(known.all()):
                    present[spec.name] = known
            else:
                assert spec.image is not None
                values[spec.name] = to_model(torch.from_numpy(_gathered(self.samples.images[spec.name], rows, noise)), spec.image)
        return Condition(values, present)

    def origin(self, i: int) -> str:
        """File name (and slice, row or window) of sample i."""
        if not 0 <= i < len(self):
            raise DataError(f"`i` must be in 0..{len(self) - 1}; got {i}.")
        return self.samples.origins(int(i))

    def summary(self) -> dict[str, Any]:
        """Plain JSON types: what the data is, how it was divided, and what to beware of."""
        spec = self.image_spec
        label = next((c for c in self.conditions if c.kind == "label"), None)
        out: dict[str, Any] = {
            "name": self.name,
            "source": self.source,
            "samples": len(self),
            "splits": {name: len(rows) for name, rows in self.splits.items()},
            "channels": spec.channels,
            "channel_names": list(spec.channel_names),
            "shape": list(spec.shape),
            "spacing": None if spec.spacing is None else list(spec.spacing),
            "content": spec.content,
            "dtype": spec.intensity.dtype,
            "unit": spec.intensity.unit,
            "intensity": {
                "rule": spec.intensity.rule,
                "low": spec.intensity.low,
                "high": spec.intensity.high,
                "range": spec.intensity.range,
            },
            "conditions": {c.name: list(c.names) if c.image is None else list(c.image.size) for c in self.conditions},
            "subjects": None if self.subjects is None else len(np.unique(self.subjects)),
            "warnings": list(self.warnings),
            "fingerprint": self.fingerprint,
        }
        if label is not None and self.samples.labels is not None:
            out["labels"] = {
                name: dict(zip(label.names, np.bincount(self.samples.labels[rows], minlength=label.size).tolist(), strict=True))
                for name, rows in self.splits.items()
            }
        out["intensity"] = {k: list(v) if isinstance(v, tuple) else v for k, v in out["intensity"].items()}
        return out


def _gathered(store: Store, rows: Array, noise: Noise | None) -> Array:
    return store.gather(rows, noise) if isinstance(store, PatchStore) else store.gather(rows)
