"""The loop: phases in turn, over batches in a fixed order, on any number of devices."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medgen.data import Dataset
from medgen.interfaces import Batch, Condition, Model, Noise, Phase, PreparesOnData, Step
from medgen.nn import EMA
from medgen.runs import Run, TrainConfig
from medgen.training.checkpoint import load_checkpoint, load_optimizer, optimizer_tensors, save_checkpoint
from medgen.training.guards import check_range, diagnose
from medgen.training.log import MetricLog, Progress
from medgen.training.optim import lr_factor, make_optimizer
from medgen.training.order import BatchOrder

__all__ = ["Loop"]

_VALIDATION_SEED = 0x76616C  # validation noise is the same at every validation, and no training noise


class _Call:
    """One evaluation of one phase's loss. An opaque object, so that Fabric's conversion of inputs leaves it alone."""

    def __init__(self, phase: Phase, batch: Batch, step: Step) -> None:
        self.phase, self.batch, self.step = phase, batch, step


class _PhaseModule(nn.Module):
    """Gives every phase's loss one `forward`, which is what distributed wrappers and autocast act on."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: _Call) -> dict[str, Tensor]:
        return dict(call.phase.loss(call.batch, call.step))


@dataclass
class _Position:
    """Where the training is; all that a checkpoint must remember beside tensors."""

    step: int = 0
    batches: int = 0
    ema_steps: int = 0
    best: float = math.inf
    best_step: int = 0
    stale: int = 0
    stopped: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class Loop:
    """Trains `model` on `dataset` into `run`.

    Args:
        fabric: launched `lightning_fabric.Fabric`.
        model, dataset, run, config: what, on what, where to, how.
        show: print progress (rank 0 only).
    """

    def __init__(self, fabric: Any, model: Model, dataset: Dataset, run: Run, config: TrainConfig, *, show: bool) -> None:
        self.fabric, self.model, self.dataset, self.run, self.config = fabric, model, dataset, run, config
        self.phases = list(model.phases())
        self.order = BatchOrder(dataset.splits["train"], config.batch_size, config.seed, divisor=config.devices * config.accumulate)
        self.total = config.steps or config.epochs * self.order.per_epoch
        self.show = show and fabric.is_global_zero
        self.position = _Position()
        self._slots = {spec.name for spec in model.conditions}
        self._interrupted = False
        self.best_weights: dict[str, Tensor] | None = None

    def fit(self) -> None:
        """Train to the end, or to an interrupt, after which `Run` holds a checkpoint."""
        saved = load_checkpoint(self.run.resume_dir)
        if saved is None and isinstance(self.model, PreparesOnData):
            self._prepare(self.model)
        if not self.phases:
            return
        module = _PhaseModule(self.model)
        optimizers = [make_optimizer(phase, self.config) for phase in self.phases]
        self.module, *wrapped = self.fabric.setup(module, *optimizers)
        self.optimizers = dict(zip((p.name for p in self.phases), wrapped, strict=True))
        self.base_lr = {p.name: o.param_groups[0]["lr"] for p, o in zip(self.phases, optimizers, strict=True)}
        self.ema = EMA(self.model, self.config.ema) if self.config.ema else None
        if saved is not None:
            self._restore(*saved)
        log = MetricLog(self.run.metrics_file, self.position.step, self._tensorboard()) if self.fabric.is_global_zero else None
        progress = Progress(self.total, self.position.step, show=self.show)
        # Every random draw is seeded by its step, so the caller's RNG can be put back as it was.
        with self._signals(), torch.random.fork_rng(devices=_cuda_devices(self.fabric.device)):
            try:
                self._run(log, progress)
            finally:
                progress.close()
                if log is not None:
                    log.close()

    def _run(self, log: MetricLog | None, progress: Progress) -> None:
        config, position = self.config, self.position
        validate_every = config.validate_every or self.order.per_epoch
        checkpoint_every = config.checkpoint_every or self.order.per_epoch
        batches = self._prefetched(position.batches)
        self.model.train()
        while position.step < self.total and not position.stopped:
            values = self._step(batches)
            position.step += 1
            if log is not None and (position.step % config.log_every == 0 or position.step in (1, self.total)):
                log.write(position.step, self._epoch(), "train", {**values, ("", "lr"): self._lr(position.step - 1)})
            if position.step % validate_every == 0 or position.step == self.total:
                self._validate(log, progress)
            if position.step % checkpoint_every == 0 or position.step == self.total or position.stopped or self._interrupted:
                self._save()
            progress.update(position.step, _note(values))
            if self._interrupted:
                raise KeyboardInterrupt
        batches.close()

    # one step ---------------------------------------------------------------------------------------------------------------------------

    def _step(self, batches: Iterator[Batch]) -> dict[tuple[str, str], float]:
        """Each phase's turn."""
        values: dict[tuple[str, str], float] = {}
        for phase in self.phases:
            if self.position.step % phase.every:
                continue
            for _ in range(phase.repeat):
                values.update(self._update(phase, next(batches)))
        if self.ema is not None:
            self.ema.update()
        return values

    def _update(self, phase: Phase, batch: Batch) -> dict[tuple[str, str], float]:
        """One optimizer step of one phase on this rank's share of the batch."""
        position, optimizer, parts = self.position, self.optimizers[phase.name], self.config.accumulate
        number = position.batches
        position.batches += 1
        if number == 0:
            check_range(self.model, batch)
        with _only(self.model, phase.parameters):
            optimizer.zero_grad(set_to_none=True)
            sums: dict[str, Tensor] = {}
            for part in range(parts):
                piece, step, seed = self._piece(batch, number, part)
                torch.manual_seed(seed)
                with self.fabric.no_backward_sync(self.module, enabled=part + 1 < parts) if parts > 1 else nullcontext():
                    losses = self.module(_Call(phase, piece, step))
                    self._check_finite(losses["loss"], "loss", phase, piece, step, seed)
                    self.fabric.backward(losses["loss"] / parts)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value.detach().float() / parts
            if self.config.clip:
                norm = self.fabric.clip_gradients(self.module, optimizer, max_norm=self.config.clip, error_if_nonfinite=False)
                if self.config.precision != "float16":  # there the scaler skips such steps by itself
                    self._check_finite(norm, "gradient", phase, piece, step, seed)
            for group in optimizer.param_groups:
                group["lr"] = self.base_lr[phase.name] * self._factor(position.step)
            optimizer.step()
        if phase.after is not None:
            with torch.no_grad():
                phase.after()
        return {(phase.name, name): value.item() for name, value in sums.items()}

    def _piece(self, batch: Batch, number: int, part: int) -> tuple[Batch, Step, int]:
        """Rows of this rank and part. A row's noise depends on its place in the global batch alone."""
        share = len(batch) // self.config.accumulate
        start = part * share
        first = number * self.order.size + self.fabric.global_rank * len(batch) + start
        noise = Noise(self.config.seed, torch.arange(first, first + share, device=batch.x.device))
        seed = int.from_bytes(hashlib.blake2b(f"{self.config.seed}/{first}".encode(), digest_size=8).digest(), "little") >> 1
        return batch[start : start + share], Step(self.position.step, self.total, noise), seed

    def _check_finite(self, value: Tensor, what: str, phase: Phase, piece: Batch, step: Step, seed: int) -> None:
        if not bool(torch.isfinite(value)):

            def again() -> Any:
                torch.manual_seed(seed)
                return phase.loss(piece, step)

            raise diagnose(self.model, piece, again, what=what, step=step.number + 1, phase=phase.name)

    def _prefetched(self, first: int) -> Any:
        """This rank's batches from number `first` on; the next is read while the current one trains."""
        rank, ranks, size = self.fabric.global_rank, self.config.devices, self.order.size // self.config.devices

        def read(number: int) -> Batch:
            rows = self.order.batch(number)[rank * size : (rank + 1) * size]
            return self._selected(self.dataset.fetch(rows)).to(self.fabric.device)

        def generate() -> Iterator[Batch]:
            with ThreadPoolExecutor(1) as reader:
                number = first
                waiting: Future[Batch] = reader.submit(read, number)
                while True:
                    batch = waiting.result()
                    number += 1
                    waiting = reader.submit(read, number)
                    yield batch

        assert ranks >= 1
        return generate()

    def _selected(self, batch: Batch) -> Batch:
        """Only the condition slots that the model has, in its floating type."""
        values = {k: v for k, v in batch.condition.values.items() if k in self._slots}
        present = {k: v for k, v in batch.condition.present.items() if k in self._slots}
        dtype = self.model.dtype
        return Batch(batch.x.to(dtype), Condition(values, present).to(batch.x.device, dtype), batch.index)

    # validation, checkpoints --------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _validate(self, log: MetricLog | None, progress: Progress) -> None:
        """Mean losses over the validation split, with the averaged weights and the same noise each time."""
        phases, rows = [p for p in self.phases if p.validate], self.dataset.splits["val"]
        if not phases or not len(rows):
            return
        with self.ema.applied() if self.ema else nullcontext():
            self.model.eval()
            totals = self._validation_totals(phases, rows)
            improved = self._track(totals[phases[0].name, "loss"])
            if improved and self.config.keep == "best":
                self.best_weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
            self.model.train()
        if log is not None:
            log.write(self.position.step, self._epoch(), "val", totals)
        progress.say(f"step {self.position.step}: validation {_note(totals)}{'' if improved else '  (no improvement)'}")

    def _validation_totals(self, phases: Sequence[Phase], rows: np.ndarray[Any, Any]) -> dict[tuple[str, str], float]:
        rank, ranks, size = self.fabric.global_rank, self.config.devices, max(1, self.order.size // self.config.devices)
        sums: dict[tuple[str, str], Tensor] = {}
        for start in range(rank * size, len(rows), ranks * size):
            batch = self._selected(self.dataset.fetch(rows[start : start + size])).to(self.fabric.device)
            step = Step(self.position.step, self.total, Noise(_VALIDATION_SEED, batch.index))
            for phase in phases:
                # not through the distributed wrapper: ranks may have different numbers of batches
                with self.fabric.autocast():
                    losses = phase.loss(batch, step)
                for name, value in losses.items():
                    sums[phase.name, name] = sums.get(
                        (phase.name, name), torch.zeros((), dtype=torch.float64)
                    ) + value.double().cpu() * len(batch)
        if ranks == 1:
            return {key: value.item() / len(rows) for key, value in sums.items()}
        gathered: list[dict[tuple[str, str], float]] = [{} for _ in range(ranks)]
        torch.distributed.all_gather_object(gathered, {key: value.item() for key, value in sums.items()})
        return {key: sum(part.get(key, 0.0) for part in gathered) / len(rows) for key in {k: None for part in gathered for k in part}}

    def _track(self, value: float) -> bool:
        """Early stopping; true where `value` is the best so far."""
        position = self.position
        if value < position.best:
            position.best, position.best_step, position.stale = value, position.step, 0
            return True
        position.stale += 1
        position.stopped = bool(self.config.patience) and position.stale >= self.config.patience
        return False

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        position = self.position
        tensors: dict[str, Mapping[str, Tensor]] = {"model": self.model.state_dict()}
        tensors["optimizer"] = {k: v for p in self.phases for k, v in optimizer_tensors(p.name, self.optimizers[p.name].optimizer).items()}
        if self.ema is not None:
            tensors["ema"], position.ema_steps = self.ema.averages, self.ema.steps
        if self.best_weights is not None:
            tensors["best"] = self.best_weights
        position.extra["precision"] = self.fabric.strategy.precision.state_dict()
        state = {k: v for k, v in vars(position).items() if k != "best"} | {"best": position.best if math.isfinite(position.best) else None}
        save_checkpoint(self.run.resume_dir, position.step, tensors, state)

    def _restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        self.model.load_state_dict(tensors["model"])
        for phase in self.phases:
            load_optimizer(phase.name, self.optimizers[phase.name].optimizer, tensors["optimizer"])
        if self.ema is not None:
            self.ema.steps = state["ema_steps"]
            for name, value in tensors["ema"].items():
                self.ema.averages[name].copy_(value)
        self.best_weights = tensors.get("best")
        fields = {k: state[k] for k in vars(self.position)}
        self.position = _Position(**{**fields, "best": math.inf if state["best"] is None else state["best"]})
        self.fabric.strategy.precision.load_state_dict(state["extra"]["precision"])

    # small things ---------------------------------------------------------------------------------------------------------------------------

    def _prepare(self, model: PreparesOnData) -> None:
        rows, size = self.dataset.splits["train"], self.order.size

        def batches() -> Iterator[Batch]:
            for start in range(0, len(rows), size):
                yield self._selected(self.dataset.fetch(rows[start : start + size])).to(self.fabric.device)

        self.model.to(self.fabric.device)
        with torch.no_grad():
            model.prepare(batches)

    def _factor(self, step: int) -> float:
        return lr_factor(step, self.total, schedule=self.config.schedule, warmup=self.config.warmup)

    def _lr(self, step: int) -> float:
        return self.base_lr[self.phases[0].name] * self._factor(step)

    def _epoch(self) -> int:
        return self.order.epoch(max(0, self.position.batches - 1))

    def _tensorboard(self) -> Any:
        return self.run.path / "tensorboard" if self.config.tensorboard else None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the step in hand, write a checkpoint, and raise KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_number: int, _frame: Any) -> None:
            if self._interrupted:  # asked twice: at once
                raise KeyboardInterrupt
            self._interrupted = True

        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def _only(model: Model, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Gradients for one player only; the others' parameters are constants for the time being."""
    chosen = {id(p) for p in parameters}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _note(values: Mapping[tuple[str, str], float]) -> str:
    return "  ".join(f"{name if name != 'loss' else phase}={value:.4g}" for (phase, name), value in values.items())


def _cuda_devices(device: torch.device) -> list[int]:
    return [device.index or 0] if device.type == "cuda" else []
