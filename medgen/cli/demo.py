"""`medgen demo`: the whole path on images that medgen draws itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.options import parse
from medgen.cli.work import progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen demo
  medgen demo --out /tmp/demo --tiny
"""


def run(argv: Sequence[str]) -> int:
    """Train, sample, score, evaluate, report; returns the exit code."""
    parser = make_parser("demo", "Train a VAE on the cardiac phantom, sample, score, evaluate, and write the report.", _EXAMPLES)
    parser.add_argument("--out", default="demo", help="run folder to make (default demo)")
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes, to see that everything works")
    options = parse(parser, argv)

    from medgen.evaluation import evaluate, render
    from medgen.report import write_report
    from medgen.runs import sample_to_folder, score
    from medgen.training import train

    start = time.monotonic()
    data, steps = ("cardiac_phantom?n=120&size=32", 30) if options.tiny else ("cardiac_phantom?n=2000&size=40", 2500)
    print(f"1/5 training: vae on {data}, {steps} steps")
    out = Path(options.out)
    done = train("vae", data, out, model={"latent_dim": 6}, steps=steps, batch_size=32, precision="bfloat16", lr=1e-3, ema=0.995)
    n = 16 if options.tiny else 64
    print(f"2/5 sampling: {n} images to {out / 'samples'}")
    with progress_bar("sampling", n, show=True) as bar:
        sample_to_folder(done, out / "samples", n, progress=bar)
    print("3/5 scoring the validation split")
    print(f"    {score(done, importance_samples=1 if options.tiny else 20, limit=100)}")
    print("4/5 evaluating")
    print(render(evaluate(done, bootstrap=20 if options.tiny else 100), recipes=False))
    print("5/5 report")
    report = write_report(done)
    print(f"\nDone in {time.monotonic() - start:.0f} s. Open {report.resolve()}")
    return 0
