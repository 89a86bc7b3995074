"""The conformance suite: the laws that every family must keep, for plugin authors and for `medgen check`.

from medgen.testing import FamilySuite

class TestMine(FamilySuite):
    family = "mine"
"""

from medgen.registry import require

require("hypothesis", "testing")

from medgen.testing import laws  # noqa: E402 (after the message about the missing extra)
from medgen.testing.check import run_laws  # noqa: E402
from medgen.testing.law import LAWS, Law, Outcome, SkipLaw, check_law, law, laws_for  # noqa: E402
from medgen.testing.subject import Case, Subject  # noqa: E402
from medgen.testing.suite import FamilySuite  # noqa: E402

__all__ = ["LAWS", "Case", "FamilySuite", "Law", "Outcome", "SkipLaw", "Subject", "check_law", "law", "laws", "laws_for", "run_laws"]
