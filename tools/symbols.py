"""What a native library asks of others: torch's stable C interface, CUDA's runtime, and the C and C++ runtimes. A poor man's ABI audit.

python tools/symbols.py [FILE ...]      shared libraries or objects; without any, the CPU ops, built where needed
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["foreign", "undefined"]

_STABLE = re.compile(r"aoti_torch_|torch_|cuda|__cuda")
_RUNTIMES = re.compile(r"@(GLIBC|GLIBCXX|CXXABI|GCC)_")  # symbol versions, which shared libraries name
_ATEN = re.compile(r"_Z(?!N6medgen)\w*?(2at|3c10|5torch)[0-9NEI]")  # C++ of torch itself, which changes with every release; not of ours


def undefined(path: Path) -> list[str]:
    """Symbols that a file leaves to others, but for weak ones, as `nm` prints them."""
    dynamic = ["-D"] if ".so" in path.suffixes else []
    done = subprocess.run(["nm", *dynamic, "-u", str(path)], capture_output=True, text=True, check=True)
    return [words[1] for line in done.stdout.splitlines() if len(words := line.split()) == 2 and words[0] == "U"]


def foreign(symbols: Iterable[str], *, versioned: bool) -> list[str]:
    """Those that are not allowed.

    Args:
        symbols: of `undefined`.
        versioned: a shared library's: then what is no symbol of torch's or CUDA's C interface must have a version of a runtime. In an
            object, symbols have none yet, and only C++ symbols of torch are refused.
    """
    rest = [symbol for symbol in symbols if not _STABLE.match(symbol)]
    return [symbol for symbol in rest if (not _RUNTIMES.search(symbol) if versioned else _ATEN.match(symbol))]


def _cpu_library() -> Path:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from medgen import native

    wanted = native.policy()
    return native.build(native.plan_of("cpu", wanted), wanted.cache)


def main(arguments: list[str]) -> int:
    """Print what is foreign; returns 1 where anything is."""
    status = 0
    for path in [Path(argument) for argument in arguments] or [_cpu_library()]:
        symbols = undefined(path)
        wrong = foreign(symbols, versioned=".so" in path.suffixes)
        torch = sorted({s.partition("@")[0] for s in symbols if _STABLE.match(s)})
        print(f"{path.name}: {len(symbols)} symbols of others, {len(torch)} of torch or CUDA, {len(wrong)} foreign", *wrong, sep="\n  ")
        status |= bool(wrong)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
