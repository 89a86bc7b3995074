"""docs/sampling.md: its examples run, and its table is what the samplers' closed forms give."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from sampling.oracles import BAR, ancestral_steps, ddim_steps, dpm_solver_chain, edm_steps, ode_steps, through

from medgen.maths import karras_sigmas, kept_steps, log_snr_steps

GUIDE = Path(__file__).parents[2] / "docs" / "sampling.md"


def times(steps):
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def trailing(steps):
    return kept_steps(1000, steps, "trailing")


def spread(f):
    return abs(f(1.0) - f(0.0))


CLOSED = {
    '`ancestral`, variance="beta"': lambda n: through(ancestral_steps(BAR, trailing(n), "beta"))[1],
    '`ancestral`, variance="posterior"': lambda n: through(ancestral_steps(BAR, trailing(n), "posterior"))[1],
    "`ddim`": lambda n: through(ddim_steps(BAR, trailing(n), 0.0))[1],
    "`dpm_solver`, trailing steps": lambda n: spread(lambda x: dpm_solver_chain(x, BAR, trailing(n))),
    "`dpm_solver`, `log_snr_steps`": lambda n: spread(lambda x: dpm_solver_chain(x, BAR, log_snr_steps(BAR, n))),
    "`heun`, `karras_sigmas`": lambda n: through(edm_steps(karras_sigmas(n)), 80.0)[1],
    '`ode`, "euler"': lambda n: through(ode_steps(times(n), "euler"))[1],
    '`ode`, "midpoint"': lambda n: through(ode_steps(times(n), "midpoint"))[1],
    '`ode`, "heun"': lambda n: through(ode_steps(times(n), "heun"))[1],
}


def rows():
    lines = GUIDE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| sampler | 1000"))
    counts = [int(cell) for cell in lines[start].split("|")[2:7]]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        cells = [cell.strip() for cell in line.split("|")[1:]]
        yield cells[0], counts, [float(cell) for cell in cells[1:6]]


def test_the_table_has_every_sampler():
    assert [name for name, _, _ in rows()] == list(CLOSED)


@pytest.mark.parametrize("name", CLOSED)
def test_the_table(name):
    counts, sds = next((counts, sds) for row, counts, sds in rows() if row == name)
    assert sds == pytest.approx([CLOSED[name](n) for n in counts], abs=0.0006)


def test_the_examples_run():
    result = doctest.testfile(str(GUIDE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted >= 10
    assert result.failed == 0
