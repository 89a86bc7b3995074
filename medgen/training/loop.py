"""The loop: phases in turn, over batches in a fixed order, on any number of devices."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from medgen.data import Dataset
from medgen.errors import NonFiniteError
from medgen.interfaces import Batch, Model, Noise, Phase, PreparesOnData
from medgen.nn import EMA
from medgen.runs import Run, TrainConfig
from medgen.training.checkpoint import load_checkpoint, load_optimizer, optimizer_tensors, save_checkpoint
from medgen.training.compiled import Losses
from medgen.training.guards import diagnose
from medgen.training.log import MetricLog, Progress
from medgen.training.optim import lr_factor, make_optimizer
from medgen.training.order import BatchOrder, prefetched
from medgen.training.signals import Interrupt
from medgen.training.turn import PhaseModule, Piece, only
from medgen.training.validation import validation_losses

__all__ = ["Loop", "Position"]

Values = dict[tuple[str, str], float]

_STEPS_APART = 100
"""Checkpoints are at least so many steps apart by default: epochs of a few steps would be spent on writing them."""


@dataclass
class Position:
    """Where the training is: all that a checkpoint must remember beside tensors."""

    step: int = 0
    batches: int = 0
    ema_steps: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    stopped: bool = False
    precision: dict[str, Any] = field(default_factory=dict)


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
        self.spans = {phase.name: phase.steps(self.total) for phase in self.phases}
        self.show = show and fabric.is_global_zero
        self.position = Position()
        self.best_weights: dict[str, Tensor] | None = None
        self.ema: EMA | None = None

    def fit(self) -> None:
        """Train to the end.

        Raises:
            KeyboardInterrupt: asked to stop; the run holds a checkpoint of the last step.
        """
        saved = load_checkpoint(self.run.resume_dir)
        if saved is None and isinstance(self.model, PreparesOnData):
            self._prepare(self.model)
        if not self.phases:
            return
        self.losses = Losses(self.phases, self.fabric.device, compiled=self.config.compile)
        optimizers = [make_optimizer(phase, self.config) for phase in self.phases]
        self.module, *wrapped = self.fabric.setup(PhaseModule(self.model, self.losses), *optimizers)
        self.optimizers = dict(zip((p.name for p in self.phases), wrapped, strict=True))
        self.base_lr = {p.name: o.param_groups[0]["lr"] for p, o in zip(self.phases, optimizers, strict=True)}
        self.ema = EMA(self.model, self.config.ema) if self.config.ema else None
        if saved is not None:
            self._restore(*saved)
        board = self.run.path / "tensorboard" if self.config.tensorboard else None
        log = MetricLog(self.run, self.position.step, board) if self.fabric.is_global_zero else None
        progress = Progress(self.total, self.position.step, show=self.show)
        # Every random draw is seeded by its step, so the caller's RNG can be put back as it was.
        devices = [self.fabric.device.index or 0] if self.fabric.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), Interrupt() as interrupt:
            try:
                self._run(log, progress, interrupt)
            finally:
                progress.close()
                if log is not None:
                    log.close()

    def _run(self, log: MetricLog | None, progress: Progress, interrupt: Interrupt) -> None:
        config, position = self.config, self.position
        validate_every = config.validate_every or self.order.per_epoch
        checkpoint_every = config.checkpoint_every or max(self.order.per_epoch, _STEPS_APART)
        batches = prefetched(self._read, position.batches)
        self.model.train()
        while position.step < self.total and not position.stopped:
            values = self._step(batches)
            position.step += 1
            if position.step % config.log_every == 0 or position.step in (1, self.total):
                values = self._mean_over_ranks(values)
                self._log(log, "train", {**values, ("", "lr"): self._lr(position.step - 1)})
                self._watch(values)
            if position.step % validate_every == 0 or position.step == self.total:
                self._validate(log, progress)
            if position.step % checkpoint_every == 0 or position.step == self.total or position.stopped or interrupt.asked:
                self._save()
            progress.update(position.step, _note(values))
            if interrupt.asked:
                raise KeyboardInterrupt
        batches.close()

    # one step

    def _step(self, batches: Iterator[Batch]) -> Values:
        """Each phase's turn."""
        values: Values = {}
        for phase in self._active(self.position.step):
            if (self.position.step - self.spans[phase.name].start) % phase.every == 0:
                for _ in range(phase.repeat):
                    values.update(self._update(phase, next(batches)))
        if self.ema is not None:
            self.ema.update()
        return values

    def _update(self, phase: Phase, batch: Batch) -> Values:
        """One optimizer step of one phase on this rank's share of the batch."""
        optimizer = self.optimizers[phase.name]
        with only(self.model, phase.parameters):
            optimizer.zero_grad(set_to_none=True)
            sums = self._gradients(phase, batch)
            for group in optimizer.param_groups:
                group["lr"] = self.base_lr[phase.name] * self._factor(phase, self.position.step)
            optimizer.step()
        self.position.batches += 1
        if phase.after is not None:
            with torch.no_grad():
                phase.after()
        return {(phase.name, name): value.item() for name, value in sums.items()}

    def _gradients(self, phase: Phase, batch: Batch) -> dict[str, Tensor]:
        """Gradients of the mean loss over the batch, clipped; the losses by name."""
        parts, sums = self.config.accumulate, dict[str, Tensor]()
        for part in range(parts):
            piece = self._piece(phase, batch, part)
            with self.fabric.no_backward_sync(self.module, enabled=part + 1 < parts) if parts > 1 else nullcontext():
                losses = self._backward(piece, parts)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float() / parts
        if self.config.clip:
            norm = self.fabric.clip_gradients(self.module, self.optimizers[phase.name], max_norm=self.config.clip, error_if_nonfinite=False)
            if self.config.precision != "float16":  # there the scaler skips such steps by itself
                self._check_finite(norm, "gradient", piece)
        return sums

    def _backward(self, piece: Piece, parts: int) -> dict[str, Tensor]:
        """The losses of one piece, by name; their gradients are added up."""
        self._seed(piece.seed)
        try:
            losses: dict[str, Tensor] = self.module(piece)
            self._check_finite(losses["loss"], "loss", piece)
            self.fabric.backward(losses["loss"] / parts)
        except NonFiniteError:
            raise
        except Exception as error:  # whatever a compiler may raise; a mistake of the loss itself comes again without it
            if not self.losses.give_up(piece.phase, error):
                raise
            return self._backward(piece, parts)
        return losses

    def _piece(self, phase: Phase, batch: Batch, part: int) -> Piece:
        """Rows of this rank and part. A row's noise depends on its place in the global batch alone."""
        share = len(batch) // self.config.accumulate
        first = self.position.batches * self.order.size + self.fabric.global_rank * len(batch) + part * share
        noise = Noise(self.config.seed, torch.arange(first, first + share, device=batch.x.device))
        digest = hashlib.blake2b(f"{self.config.seed}/{first}".encode(), digest_size=8).digest()
        step = phase.step(self.position.step, self.total, noise)
        return Piece(phase, batch[part * share : (part + 1) * share], step, int.from_bytes(digest, "little") >> 1)

    def _check_finite(self, value: Tensor, what: str, piece: Piece) -> None:
        if not bool(torch.isfinite(value)):

            def again() -> Any:
                self._seed(piece.seed)
                return piece.phase.loss(piece.batch, piece.step)

            raise diagnose(self.model, piece.batch, again, what=what, step=self.position.step + 1, phase=piece.phase.name)

    def _read(self, number: int) -> Batch:
        """Share of this rank in batch `number`."""
        size = self.order.size // self.config.devices
        start = self.fabric.global_rank * size
        first = number * self.order.size + start
        noise = Noise(self.config.seed, torch.arange(first, first + size))
        return self.model.select(self.dataset.fetch(self.order.batch(number)[start : start + size], noise)).to(self.fabric.device)

    # validation and checkpoints

    def _validate(self, log: MetricLog | None, progress: Progress) -> None:
        last = self.position.step - 1
        phases = [phase for phase in self._active(last) if phase.validate]
        if not phases or not len(self.dataset.splits["val"]):
            return
        size = max(1, self.order.size // self.config.devices)
        with self.ema.applied() if self.ema else nullcontext():
            self.model.eval()
            values = validation_losses(
                self.fabric, self.model, phases, self.dataset, batch_size=size, number=self.position.step, total=self.total
            )
            # While parts are still to learn, no weights are the best, and a training that stopped would leave those parts as they began.
            whole = all(last >= span.start for span in self.spans.values())
            improved = not whole or self._track(values[phases[0].name, "loss"])
            if whole and improved and self.config.keep == "best":
                self.best_weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
            self.model.train()
        self._log(log, "val", values)
        progress.say(f"step {self.position.step}: validation {_note(values)}{'' if improved else '  (no improvement)'}")

    def _watch(self, values: Values) -> None:
        """Phases hear what they log, and may ask to stop. The values are those of all ranks, so that all agree."""
        for phase in self.phases:
            own = {name: value for (player, name), value in values.items() if player == phase.name}
            if phase.watch is not None and own and phase.watch(self.position.step - self.spans[phase.name].start, own):
                self.position.stopped = True

    def _track(self, value: float) -> bool:
        """Early stopping; true where `value` is the best so far."""
        position = self.position
        if math.isfinite(value) and (position.best is None or value < position.best):
            position.best, position.best_step, position.stale = value, position.step, 0
            return True
        position.stale += 1
        position.stopped |= bool(self.config.patience) and position.stale >= self.config.patience
        return False

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        tensors: dict[str, Mapping[str, Tensor]] = {"model": self.model.state_dict()}
        tensors["optimizer"] = {
            k: v for name, wrapped in self.optimizers.items() for k, v in optimizer_tensors(name, wrapped.optimizer).items()
        }
        if self.ema is not None:
            tensors["ema"], self.position.ema_steps = self.ema.averages, self.ema.steps
        if self.best_weights is not None:
            tensors["best"] = self.best_weights
        self.position.precision = self.fabric.strategy.precision.state_dict()
        save_checkpoint(self.run.resume_dir, self.position.step, tensors, asdict(self.position))

    def _restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        self.position = Position(**{name: state[name] for name in asdict(self.position)})
        self.model.load_state_dict(tensors["model"])
        for name, wrapped in self.optimizers.items():
            load_optimizer(name, wrapped.optimizer, tensors["optimizer"])
        if self.ema is not None:
            self.ema.steps = self.position.ema_steps
            for name, value in tensors["ema"].items():
                self.ema.averages[name].copy_(value)
        self.best_weights = tensors.get("best")
        self.fabric.strategy.precision.load_state_dict(self.position.precision)

    # small things

    def _seed(self, seed: int) -> None:
        """What torch.manual_seed does, for the one device in use and without its bookkeeping for all the others."""
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _prepare(self, model: PreparesOnData) -> None:
        rows, size = self.dataset.splits["train"], self.order.size

        def batches() -> Iterator[Batch]:
            for start in range(0, len(rows), size):
                yield self.model.select(self.dataset.fetch(rows[start : start + size])).to(self.fabric.device)

        self.model.to(self.fabric.device)
        with torch.no_grad():
            model.prepare(batches)

    def _log(self, log: MetricLog | None, split: str, values: Values) -> None:
        if log is not None:
            log.write(self.position.step, self.order.epoch(max(0, self.position.batches - 1)), split, values)

    def _mean_over_ranks(self, values: Values) -> Values:
        if self.config.devices == 1:
            return values
        mean = self.fabric.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64), reduce_op="mean")
        return dict(zip(values, mean.tolist(), strict=True))

    def _active(self, step: int) -> list[Phase]:
        return [phase for phase in self.phases if step in self.spans[phase.name]]

    def _factor(self, phase: Phase, step: int) -> float:
        span = self.spans[phase.name]
        return lr_factor(step - span.start, len(span), schedule=self.config.schedule, warmup=self.config.warmup)

    def _lr(self, step: int) -> float:
        active = self._active(step)
        return self.base_lr[active[0].name] * self._factor(active[0], step) if active else 0.0


def _note(values: Mapping[tuple[str, str], float]) -> str:
    return "  ".join(f"{phase if name == 'loss' else name} {value:.4g}" for (phase, name), value in values.items() if math.isfinite(value))
