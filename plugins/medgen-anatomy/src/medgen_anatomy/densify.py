"""`densify`: millions of latents of valid shapes, out of the encodings of a run's own maps.

Paper: Cardiac Segmentation with Strong Anatomical Guarantees (Painchaud et al., 2020) | https://arxiv.org/abs/2006.08825
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgen.errors import ConfigError, RunError
from medgen.files import atomic_path
from medgen.interfaces import Noise
from medgen.maths import BandwidthKind
from medgen.nn import BandwidthRule, Parzen
from medgen.runs import Run
from medgen.sampling.rejection import Accepted, Gaussian, GaussianMixture, Proposal, Target, kernels, reject
from medgen.weights import read_meta
from medgen_anatomy.choice import criteria_to_json
from medgen_anatomy.criteria import violations
from medgen_anatomy.criterion import Criteria
from medgen_anatomy.decoding import Precision, ShapeDecoder
from medgen_anatomy.shape_store import FAILED, ShapeStore, locked

__all__ = ["Proposals", "densify", "encodings", "judge"]

_DRAWS = 20_000  # of the density, that mixtures are fitted to
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Proposals:
    """Where points of the density come from.

    Args:
        kind: kernels (of the density itself: exact draws, nothing is rejected), gaussian, or mixture.
        widen: factor on the bandwidth of kernels.
        components: of a mixture.
        envelope: see `medgen.sampling.rejection.make_envelope`.
        patience: seconds that the pilot may expect; more is refused.
        switch: rather than refusing, take kernels.
    """

    kind: Literal["kernels", "gaussian", "mixture"] = "kernels"
    widen: float = 1.0
    components: int = 8
    envelope: float | Literal["auto", "max", "quartile"] = "auto"
    patience: float | None = 3600.0
    switch: bool = False

    def proposal(self, density: Parzen, seed: int) -> Proposal:
        """Q."""
        if self.kind == "kernels":
            return kernels(Target(density), self.widen)
        if self.widen != 1.0:
            raise ConfigError(f"`widen` is for kernels; got {self.widen} for {self.kind}.")
        if self.kind == "gaussian":
            return Gaussian.fit(density.points)
        if self.kind != "mixture":
            raise ConfigError(f"proposals must be kernels, gaussian or mixture; got {self.kind!r}.")
        draws = density.draw(Noise(seed, torch.arange(2**61, 2**61 + _DRAWS)))
        return GaussianMixture.fit(draws, self.components, seed=seed)


def encodings(run: Run, decoder: ShapeDecoder, progress: Progress | None = None) -> tuple[Tensor, NDArray[np.uint8]]:
    """Posterior means [N, D] of the training and validation maps of a run, and these maps as stored, [N, H, W]."""
    splits = run.dataset.splits
    rows = np.concatenate([splits["train"], splits["val"]])
    found, maps = [], []
    for start in range(0, len(rows), decoder.batch):
        maps.append(run.dataset.stored(rows[start : start + decoder.batch])[:, 0].astype(np.uint8))
        found.append(decoder.encode(maps[-1]))
        if progress is not None:
            progress(start + len(maps[-1]))
    return torch.cat(found), np.concatenate(maps)


def densify(
    run: Run,
    n: int,
    criteria: Criteria,
    out: str | os.PathLike[str],
    *,
    spacing: tuple[float, float] | None = None,
    rule: BandwidthRule = "leave_one_out",
    kind: BandwidthKind = "full",
    factor: float = 1.0,
    proposals: Proposals | None = None,
    seed: int = 0,
    batch: int = 256,
    precision: Precision = "auto",
    devices: int = 1,
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ShapeStore:
    """n points of a Parzen density of the run's encodings, decoded and judged: flags of what each violates, 0 for the valid ones.

    Every point and flag is a function of what is asked, not of how often the process was killed: the same call goes on. No map is kept.

    Args:
        run: of a `LatentModel` on 2-D label maps.
        n: points of the density, valid or not.
        criteria: what a valid map is.
        out: folder of the store.
        spacing: mm per pixel of the model's maps; by default as the model knows it, else 1.
        rule, kind, factor: of the bandwidth, see `Parzen.fit`.
        proposals: how points are drawn.
        seed: of all noise.
        batch: maps decoded at once.
        precision: see `ShapeDecoder`.
        devices: processes that draw, where points are rejected.
        threads: that measure maps.
        progress: called with the step ("encoding", "drawing", "judging"), how much is done and how much there is.

    Raises:
        RunError: another kind of model, or `out` holds something else.
        ConfigError: the pilot expects it to take too long.
    """
    if n < 1:
        raise ConfigError(f"the number of points must be at least 1; got {n}.")
    folder, how, decoder = Path(out), proposals or Proposals(), ShapeDecoder(run.model, precision, batch)
    tell = progress or (lambda _step, _done, _of: None)
    asked = {
        "points": n,
        "dim": decoder.dim,
        "weights": read_meta(run.weights_file)["sha256"],
        "data": run.data_summary().get("fingerprint"),
        "criteria": criteria_to_json(criteria),
        "spacing": list(spacing or run.model.image_spec.spacing or (1.0, 1.0)),
        "bandwidth": {"rule": rule, "kind": kind, **({"factor": factor} if rule == "fixed" else {})},
        "proposals": {"kind": how.kind, "widen": how.widen, "components": how.components, "envelope": how.envelope},
        "seed": seed,
        "batch": batch,
        "precision": decoder.precision,
        "device": decoder.model.device.type,
    }
    with locked(folder):
        if not (folder / "densify.json").is_file() and any(folder.iterdir()):
            raise RunError(f"{folder} is not empty and holds no densify.json; choose another --out.")
        store = ShapeStore.begin(folder, asked)
        if store.finished and store.note["summary"]:
            return store
        density = _density(store, run, decoder, rule, kind, factor, tell)
        found = _drawn(store, density, how, n, seed, devices, tell)
        judge(store, decoder, threads=threads, progress=lambda done: tell("judging", done, n))
        spent = store.note["seconds"]
        store.add_note(store.done, spent, _summary(store, density, found), now=True)
    return store


def _density(store: ShapeStore, run: Run, decoder: ShapeDecoder, rule: Any, kind: Any, factor: float, tell: Any) -> Parzen:
    """The density of the encodings, kept in the folder."""
    file = store.folder / "density.npz"
    if not file.is_file():
        count = sum(len(run.dataset.splits[name]) for name in ("train", "val"))
        start = time.perf_counter()
        z, maps = encodings(run, decoder, lambda done: tell("encoding", done, count))
        middle = time.perf_counter()
        density = Parzen.fit(z, rule, kind, fixed=factor)
        # One call that is not guarded: what is wrong with the model or the criteria must be an error, and not so many invalid points.
        rebuilt = np.concatenate(
            [decoder.maps(z[at : at + decoder.batch]) for at in range(0, min(len(z), 4 * decoder.batch), decoder.batch)]
        )
        shares = {
            "maps": len(z),
            "valid_share_of_maps": _share(maps, store),
            "valid_share_of_reconstructions": _share(rebuilt, store),
        }
        seconds = {"encoding": middle - start, "bandwidth": time.perf_counter() - middle}
        store.note["data"] = shares
        store.add_note(0, seconds, now=True)
        with atomic_path(file) as temporary:
            np.savez(temporary, points=z.numpy(), bandwidth=density.bandwidth.numpy())
    with np.load(file) as arrays:
        return Parzen(torch.from_numpy(arrays["points"]), torch.from_numpy(arrays["bandwidth"]))


def _share(maps: NDArray[Any], store: ShapeStore) -> float:
    return float(np.mean(~violations(maps, store.criteria, store.spacing).any(1)))


def _drawn(store: ShapeStore, density: Parzen, how: Proposals, n: int, seed: int, devices: int, tell: Any) -> Accepted:
    found = reject(
        Target(density),
        how.proposal(density, seed),
        n,
        seed=seed,
        envelope=how.envelope,
        data=density.points,
        out=store.folder / "points",
        devices=devices,
        patience=how.patience,
        switch=how.switch,
        progress=lambda done: tell("drawing", done, n),
    )
    spent = store.note["seconds"]
    spent["drawing"] = spent.get("drawing", 0.0) + found.seconds
    return found


def judge(store: ShapeStore, decoder: ShapeDecoder, *, threads: int | None = None, progress: Progress | None = None) -> None:
    """Decode and measure the points that have no flag yet, in batches by their absolute numbers."""
    points, flags, spent = store.points, store.flags("r+"), dict(store.note["seconds"])
    last = time.perf_counter()
    for start in range(store.done, len(store), decoder.batch):
        z = torch.from_numpy(points[start : start + decoder.batch].copy())
        flags[start : start + len(z)] = _flags(z, decoder, store.criteria, store.spacing, threads)
        now = time.perf_counter()
        spent["judging"], last = spent.get("judging", 0.0) + now - last, now
        end = start + len(z)
        store.add_note(end, spent, now=end == len(store))
        if progress is not None:
            progress(end)
    store.note["seconds"] = spent


def _flags(z: Tensor, decoder: ShapeDecoder, criteria: Criteria, spacing: tuple[float, float], threads: int | None) -> NDArray[np.uint32]:
    """Of some points; whatever goes wrong with one of them makes that one invalid."""
    bits = np.uint32(1) << np.arange(len(criteria), dtype=np.uint32)

    def flags_of(part: Tensor) -> NDArray[np.uint32]:
        broken = violations(decoder.maps(part), criteria, spacing, threads)
        found: NDArray[np.uint32] = (broken * bits).sum(1, dtype=np.uint32)
        return found

    try:
        return flags_of(z)
    except Exception:  # one by one, to find out whose it is
        out = np.empty(len(z), np.uint32)
        for k in range(len(z)):
            try:
                out[k] = flags_of(z[k : k + 1])[0]
            except Exception:  # the paper's rule: what cannot be looked at is not valid
                out[k] = FAILED
        return out


def _summary(store: ShapeStore, density: Parzen, found: Accepted) -> dict[str, Any]:
    bandwidth = density.bandwidth
    scale = float((bandwidth.diagonal() if bandwidth.dim() == 2 else bandwidth).double().log().mean().exp())
    return {
        "points": len(store),
        **store.counts(),
        "acceptance": found.acceptance,
        "acceptance_interval": list(found.interval),
        "proposals": found.tally.proposed,
        "ln_k": found.envelope.log_k,
        "envelope": found.envelope.source,
        "note": found.note,
        "mean_bandwidth": scale,
        **store.note.get("data", {}),
        "seconds": store.note["seconds"],
    }
