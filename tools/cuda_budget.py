"""Compile every .cu for sm_80, sm_90 and PTX with warnings as errors, and hold registers and spills to csrc/cuda/budget.json.

    python tools/cuda_budget.py             fails where a kernel grew, is not in the budget, or asks for symbols outside the stable ABI
    python tools/cuda_budget.py --update    accept what is there

Needs nvcc, and neither a GPU nor a torch built for one. Where there is no nvcc, it says so and succeeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUDGET = ROOT / "csrc" / "cuda" / "budget.json"
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from symbols import foreign, undefined  # noqa: E402

from medgen.native.plan import Plan, Unit, cuda_plan  # noqa: E402

__all__ = ["Use", "compare", "parse"]

# kernel -> architecture -> [registers, bytes of spills]
Use = dict[str, dict[str, list[int]]]

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_CAST = re.compile(r"\(\w+\)(?=\d)")  # of an enumeration among template arguments
_STRICT = ("-Werror", "all-warnings", "-Xptxas", "-v")


def parse(output: str) -> Use:
    """Registers and spills from what `ptxas -v` prints; kernels by their mangled names.

    The properties of an entry function follow its name; those of device functions that were not inlined come later and do not count.
    """
    use: Use = {}
    entry: list[int] | None = None
    spilled = False
    for line in output.splitlines():
        if found := _ENTRY.search(line):
            entry = use.setdefault(found[1], {}).setdefault(found[2], [0, 0])
            spilled = False
        elif entry is not None and not spilled and (found := _SPILLS.search(line)):
            entry[1], spilled = int(found[1]) + int(found[2]), True
        elif entry is not None and (found := _REGISTERS.search(line)):
            entry[0], entry = int(found[1]), None
    return use


def compare(now: dict[str, Use], budget: dict[str, Use]) -> list[str]:
    """One line for each kernel that grew, is new, or is gone."""
    lines = []
    for file in sorted(now.keys() | budget.keys()):
        here, there = now.get(file, {}), budget.get(file, {})
        lines += [f"{file}: {kernel} is not in the budget" for kernel in here if kernel not in there]
        lines += [f"{file}: {kernel} is gone" for kernel in there if kernel not in here]
        for kernel in here.keys() & there.keys():
            for arch, (registers, spills) in here[kernel].items():
                most, most_spills = there[kernel].get(arch, (0, 0))
                if registers > most or spills > most_spills:
                    lines.append(f"{file}: {kernel} on {arch} uses {registers} registers, spills {spills}; budget {most}, {most_spills}")
    return sorted(lines)


def readable(use: Use) -> Use:
    """Kernels by their C++ names, without arguments and namespaces; mangled names of anonymous namespaces change with every edit."""
    done = subprocess.run(["c++filt"], input="\n".join(use), capture_output=True, text=True, check=True)
    named: Use = {}
    for text, value in zip(done.stdout.splitlines(), use.values(), strict=True):
        name = text.replace("(anonymous namespace)::", "").replace("medgen::", "").replace("base::", "").removeprefix("void ")
        name = _CAST.sub("", name).partition("(")[0].replace("> >", ">>")
        while name in named:  # instances that differ in their arguments alone
            name += "'"
        named[name] = value
    return dict(sorted(named.items()))


def _compile(plan: Plan, unit: Unit, folder: Path) -> Use:
    target = folder / unit.object
    includes = [f"-I{plan.root}", *(word for path in plan.system for word in ("-isystem", str(path)))]
    done = subprocess.run(
        [*plan.compiler, *unit.flags, *includes, "-c", str(unit.source), "-o", str(target)], capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{unit.source.name} does not compile:\n{output}")
    if wrong := foreign(undefined(target), versioned=False):
        raise SystemExit(f"{unit.source.name} asks for symbols outside torch's stable ABI:\n  " + "\n  ".join(wrong))
    return readable(parse(output))


def _torch() -> Path:
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        raise SystemExit("torch is not installed")
    return Path(spec.origin).parent


def _text(version: str, now: dict[str, Use]) -> str:
    """JSON with a line per kernel, so that a diff shows what changed."""
    files = []
    for file, use in now.items():
        kernels = ",\n".join(f"   {json.dumps(kernel)}: {json.dumps(value)}" for kernel, value in use.items())
        files.append(f"  {json.dumps(file)}: {{\n{kernels}\n  }}")
    return f'{{\n "nvcc": {json.dumps(version)},\n "files": {{\n' + ",\n".join(files) + "\n }\n}\n"


def main(arguments: list[str]) -> int:
    """Compile, compare or update; returns 1 where a kernel grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write csrc/cuda/budget.json")
    options = parser.parse_args(arguments)
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin")
    if nvcc is None:
        print("cuda_budget: nvcc was not found, so the CUDA sources are not compiled here.")
        return 0
    plan = cuda_plan(ROOT / "csrc", nvcc=(nvcc,), torch=_torch(), extra=_STRICT)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        uses = pool.map(lambda unit: _compile(plan, unit, Path(folder)), plan.units)
        now = {unit.source.name: use for unit, use in zip(plan.units, uses, strict=True)}
    kernels = sum(len(use) for use in now.values())
    release = re.search(r"release ([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout)
    version = release[1] if release else "unknown"
    if options.update:
        BUDGET.write_text(_text(version, now), encoding="utf-8")
        print(f"cuda_budget: {kernels} kernels of {len(now)} files written to {BUDGET.relative_to(ROOT)}")
        return 0
    budget = json.loads(BUDGET.read_text(encoding="utf-8"))
    lines = compare(now, budget["files"])
    print(
        f"cuda_budget: {kernels} kernels of {len(now)} files compile without a warning; {len(lines)} outside the budget", *lines, sep="\n  "
    )
    if lines and version != budget["nvcc"]:
        print(f"cuda_budget: the budget was made by nvcc {budget['nvcc']} and this is {version}, so this is no failure")
        return 0
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
