"""Images per second of `medgen.train` against a loop over the same network written by hand.

Both train the same `vae` (same initial weights, batch size, optimizer) on the same uint8 images for the same number of steps. medgen's
time is that of the whole verb: building the model, the run folder, logs, guards, progress, and the weights file.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import medgen
from benchmarks.harness import Result, compare
from medgen.data import from_arrays
from medgen.maths import kl_standard

BASELINE = "hand-written"
MODEL = {"latent_dim": 16}
BATCH = 64


def images() -> tuple[np.ndarray, str]:
    """PneumoniaMNIST where it is at hand, else images of the cardiac phantom."""
    root = Path(os.environ.get("MEDGEN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "pneumoniamnist" / "pneumoniamnist_trainval.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["train_images"], "pneumoniamnist 28x28"
    data = medgen.open_data("cardiac_phantom?n=1000&size=28")
    return data.stored(np.arange(len(data)))[:, 0], "cardiac phantom 28x28"


def by_hand(x: torch.Tensor, steps: int, *, bfloat16: bool) -> None:
    """What a careful person would write."""
    spec = medgen.ImageSpec(channels=1, shape=tuple(x.shape[1:]))
    model = medgen.create("vae", spec, config=MODEL).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, foreach=True)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    position = 0
    for _ in range(steps):
        if position + BATCH > len(order):
            order, position = torch.randperm(len(x), generator=generator), 0
        batch = x[order[position : position + BATCH], None].float() / 255
        position += BATCH
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            mean, log_var = model.encoder(batch).chunk(2, 1)
            log_var = 14 * torch.tanh(log_var / 14)
            z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
            nats = -model.likelihood.log_prob(batch, model.decoder(z)).mean() + kl_standard(mean, log_var).sum(1).mean()
        loss = nats / batch[0].numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def run(*, rounds: int, quick: bool) -> list[Result]:
    """All rivals, at both precisions."""
    steps = 15 if quick else 60
    stored, name = images()
    everything = np.arange(len(stored))
    data = from_arrays(stored, splits={"train": everything, "val": everything[:0]})
    x = torch.from_numpy(stored)

    def ours(precision: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            medgen.train("vae", data, Path(folder) / "run", model=MODEL, steps=steps, batch_size=BATCH, precision=precision, show=False)

    results = []
    for precision in ("float32", "bfloat16"):
        rivals = {
            BASELINE: lambda p=precision: by_hand(x, steps, bfloat16=p == "bfloat16"),
            "medgen.train": lambda p=precision: ours(p),
        }
        results += compare(f"vae, {name}, {precision}", rivals, baseline=BASELINE, rounds=rounds, work=steps * BATCH, unit="images")
    return results
