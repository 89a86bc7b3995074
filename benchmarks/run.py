"""Run the benchmarks: python benchmarks/run.py [--only coupling ddpm] [--device cuda] [--quick]

Every case times its rivals round-robin in one process and reports the median of per-round ratios, so that a slow minute of the machine
hits all of them. Results go to benchmarks/results/CASE.json (CASE_cuda.json on a GPU), scaling curves to a PNG beside it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CASES = (
    "coupling",
    "ddpm",
    "made",
    "parzen",
    "rejection",
    "training",
    "flows",
    "flows-quality",
    "diffusion",
    "diffusion-quality",
    "anatomy-criteria",
    "anatomy-correction",
    "anatomy-density",
)


def select(names: Sequence[str]) -> list[str]:
    """The cases of these names; a name that is none stands for all that begin with it and a dash."""
    chosen = []
    for name in names:
        found = [name] if name in CASES else [case for case in CASES if case.startswith(f"{name}-")]
        if not found:
            raise ValueError(f"--only: no case is called {name!r}; choose from {', '.join(CASES)}")
        chosen += found
    return list(dict.fromkeys(chosen))


def main() -> int:
    """Run the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", default=CASES, metavar="CASE", help=f"of {', '.join(CASES)} (default all); anatomy: all anatomy-*"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the tensors lie (default cpu)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 10; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds; not written to results/")
    options = parser.parse_args()
    try:
        chosen = select(options.only)
    except ValueError as error:
        parser.error(str(error))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of idle processes beside the clock

    import torch

    from benchmarks.harness import as_json, use_device
    from benchmarks.show import environment, plot, table
    from medgen.files import write_json

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here")
    use_device(options.device)
    print("  ".join(f"{key}: {value}" for key, value in environment().items()))
    for name in chosen:
        case = importlib.import_module(f"benchmarks.cases.{name.replace('-', '_')}")
        rounds = options.rounds or (3 if options.quick else 10)
        results = case.run(rounds=rounds, quick=options.quick)
        print(f"\n{table(results, case.BASELINE)}", flush=True)
        if not options.quick:
            file = ROOT / "benchmarks" / "results" / f"{name}{'' if options.device == 'cpu' else '_cuda'}.json"
            when = datetime.datetime.now(datetime.UTC).date().isoformat()
            write_json(file, {"date": when, "environment": environment(), "rounds": rounds, "results": as_json(results)})
            print(f"\n{file.relative_to(ROOT)}")
            if plot(results, file.with_suffix(".png")):
                print(file.with_suffix(".png").relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
