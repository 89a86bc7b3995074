"""Run the benchmarks: python benchmarks/run.py [--only training] [--quick]

Every case times its rivals round-robin in one process and reports the median of per-round ratios, so that a slow minute of the machine
hits all of them. Results go to benchmarks/results/CASE.json.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CASES = ("coupling", "ddpm", "parzen", "rejection", "training")


def main() -> int:
    """Run the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="cases to run (default all)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 10; 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds; not written to results/")
    options = parser.parse_args()

    from benchmarks.harness import as_json, environment, table
    from medgen.files import write_json

    print("  ".join(f"{key}: {value}" for key, value in environment().items()))
    for name in options.only:
        case = importlib.import_module(f"benchmarks.cases.{name}")
        rounds = options.rounds or (3 if options.quick else 10)
        results = case.run(rounds=rounds, quick=options.quick)
        print(f"\n{table(results, case.BASELINE)}")
        if not options.quick:
            file = ROOT / "benchmarks" / "results" / f"{name}.json"
            when = datetime.datetime.now(datetime.UTC).date().isoformat()
            write_json(file, {"date": when, "environment": environment(), "rounds": rounds, "results": as_json(results)})
            print(f"\n{file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
