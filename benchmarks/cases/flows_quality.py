"""Held-out log-likelihood of flows on tables: medgen, zuko and nflows, models of the same size under the same training loop.

Three UCI tables, and the shape scores of 1400 left ventricles beside a Gaussian and a Parzen density. 80/10/10 split by a seed (hearts:
70/10/20), standardised by the training rows; Adam, batch and budget alike; the state that is best on the validation rows is
tested. The libraries train in turn, an epoch each, so that epochs per second can be compared. The note has the test log-likelihood in
nats, +- 2 standard errors of its mean, the number of parameters, and the difference to medgen's on the same rows with its own 2 errors.
"""

from __future__ import annotations

import copy
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import medgen
from benchmarks.harness import Result, here
from medgen.interfaces import Batch, Noise, PreparesOnData, Step
from medgen.ops import parzen_log_density

BASELINE = "zuko"
HIDDEN = 128
MODELS = ("made", "realnvp(5)", "maf(5)", "maf(10)", "spline_flow")
BUDGET = {"protein": (30, 512), "gas": (80, 64), "parkinsons": (80, 128), "hearts": (150, 64)}
"""Epochs at most, and rows per batch."""
PATIENCE = 15


def file(name: str) -> Path:
    """Where a table lies."""
    root = Path(os.environ.get("MEDGEN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    return root / "lv_mesa_pca" / "lv_mesa_ed_dev.npz" if name == "hearts" else root / "uci_tabular" / f"{name}.csv.gz"


def table(name: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Training, validation and test rows, standardised; columns that do not vary are dropped."""
    rows = np.load(file(name))["scores"] if name == "hearts" else np.loadtxt(file(name), delimiter=",")
    order = np.random.default_rng(seed).permutation(len(rows))
    first, second = (int(share * len(rows)) for share in ((0.7, 0.8) if name == "hearts" else (0.8, 0.9)))
    train = rows[order[:first]]
    rows = rows[:, train.std(0) > 1e-6]
    train = rows[order[:first]]
    rows = ((rows - train.mean(0)) / train.std(0)).astype(np.float32)
    return tuple(torch.from_numpy(rows[part]).to(here()) for part in (order[:first], order[first:second], order[second:]))  # type: ignore[return-value]


@dataclass
class Player:
    """A model under training."""

    model: nn.Module
    log_prob: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor], Tensor] | None = None
    seconds: list[float] = field(default_factory=list)
    best: float = -float("inf")
    state: dict[str, Any] = field(default_factory=dict)
    stale: int = 0

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, fused=True)
        self.generator = torch.Generator().manual_seed(0)

    def epoch(self, rows: Tensor, batch: int, rate: float) -> None:
        """One pass over the rows, timed."""
        self.model.train()
        self.optimizer.param_groups[0]["lr"] = rate
        start = time.perf_counter()
        for part in torch.randperm(len(rows), generator=self.generator).split(batch):
            loss = -self.log_prob(rows[part]).mean() if self.loss is None else self.loss(rows[part])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)

    @torch.no_grad()
    def score(self, rows: Tensor) -> Tensor:
        """Log-likelihood of each row."""
        self.model.eval()
        return torch.cat([self.log_prob(part) for part in rows.split(1000)])

    def look(self, rows: Tensor) -> None:
        """Keep the state that is best on the validation rows."""
        value = self.score(rows).mean().item()
        self.stale += 1
        if value > self.best:
            self.best, self.stale, self.state = value, 0, copy.deepcopy(self.model.state_dict())


def by_medgen(name: str, rows: Tensor) -> Player:
    """Families of medgen-flows."""
    family, _, count = name.rstrip(")").partition("(")
    hidden = {"hidden": [HIDDEN, HIDDEN]}
    coupling = {"width": HIDDEN, "depth": 2}
    config: dict[str, Any] = {
        "made": hidden,
        "maf": hidden | {"layers": int(count or 0)},
        "realnvp": coupling | {"couplings": int(count or 0)},
        "spline_flow": coupling | {"steps": 5, "bins": 8, "tail": 5.0},
    }[family]
    model = medgen.create(family, medgen.ImageSpec(channels=rows.shape[1], shape=(), content="features"), **config).to(here())
    if isinstance(model, PreparesOnData):
        with torch.no_grad():
            model.prepare(lambda: (Batch(part) for part in rows.split(1000)))
    assert isinstance(model, medgen.DensityModel)
    return Player(model, model.log_prob)


def compiled(name: str, rows: Tensor) -> Player:
    """The same with its loss compiled, as `medgen train --compile` does; the loss is per value there, and per row here."""
    player = by_medgen(name, rows)
    model = player.model
    assert isinstance(model, medgen.Model)
    loss = torch.compile(model.phases()[0].loss)

    def step(x: Tensor) -> Tensor:
        return loss(Batch(x), Step(0, 1, Noise(0, torch.arange(len(x)))))["loss"] * x.shape[1]

    player.loss = step
    return player


def by_zuko(name: str, rows: Tensor) -> Player:
    """zuko.flows, its defaults but for the sizes."""
    from zuko import flows

    family, _, count = name.rstrip(")").partition("(")
    dim, hidden = rows.shape[1], {"hidden_features": (HIDDEN, HIDDEN)}
    flow: Any = {
        "made": lambda: flows.MAF(dim, transforms=1, **hidden),
        "maf": lambda: flows.MAF(dim, transforms=int(count), **hidden),
        "realnvp": lambda: flows.MAF(dim, transforms=int(count), passes=2, **hidden),
        "spline_flow": lambda: flows.NSF(dim, transforms=5, passes=2, bins=8, **hidden),
    }[family]()
    return Player(flow.to(here()), lambda x: flow().log_prob(x))


class _Perceptron(nn.Sequential):
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return super().forward(x)


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """A plain network, where nflows' examples have a residual one of twice the depth."""
    relu = nn.ReLU()
    return _Perceptron(nn.Linear(inputs, HIDDEN), relu, nn.Linear(HIDDEN, HIDDEN), relu, nn.Linear(HIDDEN, outputs))


def by_nflows(name: str, rows: Tensor) -> Player:
    """nflows, as its examples build them."""
    from nflows import distributions, flows, transforms

    family, _, count = name.rstrip(")").partition("(")
    dim, base = rows.shape[1], distributions.StandardNormal([rows.shape[1]])
    reverse = transforms.ReversePermutation

    def masked() -> Any:
        return transforms.MaskedAffineAutoregressiveTransform(dim, HIDDEN, num_blocks=2, use_residual_blocks=False)

    def spline(number: int) -> Any:
        mask = (torch.arange(dim) + number) % 2
        return transforms.PiecewiseRationalQuadraticCouplingTransform(mask, perceptron, num_bins=8, tails="linear", tail_bound=5.0)

    def affine(number: int) -> Any:
        mask = (torch.arange(dim) + number) % 2
        return transforms.AffineCouplingTransform(mask, perceptron)

    parts = {
        "made": lambda: [masked()],
        "maf": lambda: [p for _ in range(int(count)) for p in (masked(), reverse(dim))],
        # its scale is a sigmoid, at most 1: alone such couplings reach no density above the base's
        "realnvp": lambda: [p for k in range(int(count)) for p in (transforms.ActNorm(dim), affine(k))] + [transforms.ActNorm(dim)],
        "spline_flow": lambda: [spline(k) for k in range(5)],
    }[family]()
    flow = flows.Flow(transforms.CompositeTransform(parts), base).to(here())
    return Player(flow, flow.log_prob)


LIBRARIES: dict[str, Callable[[str, Tensor], Player]] = {
    "medgen": by_medgen,
    "medgen, compiled": compiled,
    "zuko": by_zuko,
    "nflows": by_nflows,
}


def one(data: str, name: str, epochs: int, batch: int, limit: int | None) -> list[Result]:
    """All libraries on one table and one model."""
    torch._dynamo.reset()  # after eight models of one class it would compile no more
    train, val, test = table(data)
    train = train[:limit]
    case, players, notes = f"{data}, {name}", {}, {}
    for library, make in LIBRARIES.items():
        torch.manual_seed(0)
        try:
            players[library] = make(name, train)
        except ImportError as error:
            notes[library] = f"not installed ({error})"
    shuffle = random.Random(0)
    for number in range(epochs):
        rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * number / epochs))
        turn = list(players)
        shuffle.shuffle(turn)
        for library in turn:
            if players[library].stale < PATIENCE:
                players[library].epoch(train, batch, float(rate))
                players[library].look(val)
    scores = {}
    for library in list(players):
        if not players[library].state:
            notes[library] = f"no epoch of {len(players[library].seconds)} had a finite validation log-likelihood"
            del players[library]
            continue
        players[library].model.load_state_dict(players[library].state)
        scores[library] = players[library].score(test).double()
    return [_result(case, library, players, scores) for library in players] + [Result(case, k, note=v) for k, v in notes.items()]


def closed_forms(data: str) -> list[Result]:
    """A Gaussian, and a Parzen density of the best leave-one-out bandwidth, both from training and validation rows."""
    train, val, test = table(data)
    known = torch.cat((train, val)).double()
    centre = torch.distributions.MultivariateNormal(known.mean(0), known.T.cov())
    grid = torch.logspace(-1.5, 0.5, 100, dtype=torch.float64)
    spread = known.std(0)
    best = max(grid, key=lambda h: float(parzen_log_density(known, known, h * spread, leave_one_out=True).mean()))
    parzen = parzen_log_density(test.double(), known, best * spread)
    scores = {"gaussian": centre.log_prob(test.double()), f"parzen, h {best:.3f} sd": parzen}
    return [Result(f"{data}, closed forms", name, note=f"{_mean(values)} nats") for name, values in scores.items()]


def _result(case: str, library: str, players: dict[str, Player], scores: dict[str, Tensor]) -> Result:
    mine, base = players[library].seconds, players[BASELINE if BASELINE in players else next(iter(players))].seconds
    ratios = [a / b for a, b in zip(base, mine, strict=False)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    size = sum(p.numel() for p in players[library].model.parameters())
    note = f"{_mean(scores[library])} nats, {size:,} parameters, {len(mine)} epochs"
    if library != "medgen" and "medgen" in scores:
        note += f"; minus medgen {_mean(scores[library] - scores['medgen'])}"
    return Result(case, library, mine, 1.0, "epochs", statistics.median(ratios), (quartiles[0], quartiles[2]), note=note)


def _mean(values: Tensor) -> str:
    return f"{values.mean():.3f} +- {2 * values.std() / len(values) ** 0.5:.3f}"


def run(*, rounds: int, quick: bool) -> list[Result]:  # noqa: ARG001  (epochs are the rounds)
    """All tables and models; quick: two epochs of two models on 500 rows."""
    results = []
    for data, (epochs, batch) in BUDGET.items():
        if not file(data).is_file():
            results.append(Result(data, "medgen", note="no data: set MEDGEN_DATA to the folder that holds uci_tabular and lv_mesa_pca"))
            continue
        if data == "hearts":
            results += closed_forms(data)
        for name in ("maf(5)", "spline_flow") if quick else MODELS:
            results += one(data, name, 2 if quick else epochs, batch, 500 if quick else None)
            for r in results[-len(LIBRARIES) :]:
                print(f"{r.case:24} {r.rival:16} x {r.ratio or 0:.2f}  {r.note}", file=sys.stderr, flush=True)
    return results
