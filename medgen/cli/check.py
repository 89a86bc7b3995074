"""`medgen check`: the laws of a family, or of every family of a distribution."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from medgen.cli.common import make_parser, print_json, print_table
from medgen.errors import ConfigError
from medgen.registry import require

__all__ = ["run"]

_EXAMPLES = """\
  medgen check vae                          every law that the family's capabilities call for
  medgen check medgen-autoencoders          every family of a distribution
  medgen check mine --only sampling         one group of laws, or one law
  medgen check mine --waive compiles='its solver loops until it converges'
  medgen check mine --write-golden golden   record weights and outputs, to be kept in version control
  medgen check mine --golden golden         they still load, and still give those outputs

A waiver is strict: a waived law that holds is a failure. Exit code 0 where every law holds, else 1.
"""


def run(argv: Sequence[str]) -> int:
    """Check laws and report them; returns 0 where all hold, else 1."""
    parser = make_parser("check", "Check that a family keeps the laws of medgen.", _EXAMPLES)
    parser.add_argument("name", help="a family, or a distribution")
    parser.add_argument("--only", metavar="GROUP", help="one group of laws, or one law")
    parser.add_argument("--waive", metavar="LAW=REASON", action="append", default=[], help="a law that may be broken, and why; repeatable")
    parser.add_argument("--golden", metavar="DIR", help="folder of golden files to check against")
    parser.add_argument("--write-golden", metavar="DIR", help="write the golden files instead of checking")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    require("hypothesis", "testing")
    from medgen.testing.check import subjects_of

    subjects = subjects_of(options.name, golden=options.golden)
    if options.write_golden:
        from medgen.testing.golden import write_golden

        for subject in subjects:
            print(write_golden(subject, options.write_golden))
        return 0
    return _check(subjects, _waivers(options.waive), options.only, options.json)


def _check(subjects: list[Any], waivers: dict[str, str], only: str | None, as_json: bool) -> int:
    from medgen.testing.check import iter_laws, waivers_of

    found = {}
    for subject, own in zip(subjects, waivers_of(subjects, waivers), strict=True):
        name = subject.declared.qualified
        found[name] = list(iter_laws(subject, waivers=own, only=only))
        if not as_json:
            _print(name, found[name])
    if as_json:
        print_json({name: [_as_json(outcome) for outcome in outcomes] for name, outcomes in found.items()})
    return int(any(outcome.state == "failed" for outcomes in found.values() for outcome in outcomes))


def _waivers(words: Sequence[str]) -> dict[str, str]:
    waivers = {}
    for word in words:
        law, equals, reason = word.partition("=")
        if not equals:
            raise ConfigError(f"--waive takes LAW=REASON; got {word!r}.")
        waivers[law.strip()] = reason
    return waivers


def _print(name: str, outcomes: list[Any]) -> None:
    print(name)
    rows = [(o.law.group, o.law.name, _STATES[o.state], f"{o.seconds:.2f} s", _remark(o)) for o in outcomes]
    print_table(("group", "law", "state", "time", "what holds, or why not judged"), rows)
    for outcome in outcomes:
        if outcome.state == "failed":
            print(f"\nFAILED {outcome.law.name} ({outcome.law.summary})\n  " + outcome.reason.replace("\n", "\n  "))
    counts = {state: sum(o.state == state for o in outcomes) for state in _STATES}
    print(f"\n{name}: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count) + f" in {_seconds(outcomes):.1f} s\n")
    sys.stdout.flush()


_STATES = {"passed": "passed", "failed": "FAILED", "waived": "waived", "skipped": "skipped"}


def _remark(outcome: Any) -> str:
    return outcome.law.summary if outcome.state in ("passed", "failed") else f"{outcome.state}: {outcome.reason}"


def _seconds(outcomes: list[Any]) -> float:
    return sum(outcome.seconds for outcome in outcomes)


def _as_json(outcome: Any) -> dict[str, Any]:
    return {
        "law": outcome.law.name,
        "group": outcome.law.group,
        "summary": outcome.law.summary,
        "state": outcome.state,
        "reason": outcome.reason,
        "seconds": round(outcome.seconds, 4),
    }
