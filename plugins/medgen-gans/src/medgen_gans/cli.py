"""`medgen gan-toys EXPERIMENT`: what adversarial training does on problems whose answer is known. Imports torch only when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgen.cli.common import make_parser, print_table
from medgen.cli.options import parse
from medgen.errors import ConfigError

__all__ = ["EXPERIMENTS", "run"]

_EXAMPLES = """\
  medgen gan-toys saddle --eta 0.1 --steps 200
  medgen gan-toys modes --games vanilla wgan_gp    a few minutes on one core
  medgen gan-toys optimum
  medgen gan-toys shift --out pictures"""


def run(argv: Sequence[str]) -> int:
    """Run one experiment: a table on the terminal, a picture in a folder; returns the exit code."""
    parser = make_parser("gan-toys", "Adversarial training on problems whose answer is known.", _EXAMPLES)
    parser.add_argument("experiment", choices=list(EXPERIMENTS), metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    parser.add_argument("--out", default="gan-toys", metavar="DIR", help="folder for the picture (default gan-toys)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every random number (default 0)")
    parser.add_argument("--steps", type=int, metavar="N", help="saddle: steps (200); modes: updates of the generator (2000; wgan_gp 1000)")
    parser.add_argument("--eta", type=float, default=0.1, metavar="ETA", help="saddle: size of a step (0.1)")
    parser.add_argument("--games", nargs="+", metavar="GAME", help="modes: some of vanilla, balanced, r1, wgan_gp (all)")
    options = parse(parser, argv)
    if options.steps is not None and options.steps < 1:
        raise ConfigError(f"--steps must be at least 1; got {options.steps}.")
    figure = EXPERIMENTS[options.experiment](options)
    path = Path(options.out) / f"{options.experiment}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")
    return 0


def _saddle(options: argparse.Namespace) -> Any:
    import numpy as np

    from medgen_gans.toys.saddle import alternating, draw_saddle, simultaneous

    steps = options.steps or 200
    norms = {"simultaneous": simultaneous(options.eta, steps), "alternating": alternating(options.eta, steps)}
    rows = []
    for name, path in norms.items():
        length = np.linalg.norm(path, axis=1)
        rows.append((name, f"{length.max():.4g}", f"{length[-1]:.4g}"))
    print_table(("updates", "greatest distance", "last"), rows)
    print(f"(1 + eta^2)^(steps / 2) = {(1 + options.eta**2) ** (steps / 2):.4g}")
    return draw_saddle(options.eta, steps)


def _modes(options: argparse.Namespace) -> Any:
    from medgen_gans.toys.modes import GAMES, draw_modes, keeps

    names = options.games or list(GAMES)
    if stray := sorted(set(names) - set(GAMES)):
        raise ConfigError(f"--games must be some of {', '.join(GAMES)}; got {', '.join(stray)}.")
    runs = {}
    for name in names:
        runs[name] = keeps(name, options.steps, seed=options.seed)
        rows = [
            (name, str(s.step), str(s.count.modes), str(s.count.kept), f"{s.count.share:.1%}", f"{s.count.divergence:.3f}")
            for s in runs[name]
        ]
        print_table(("game", "step", "modes", "with 20", "good", "KL"), rows)
    return draw_modes(runs)


def _optimum(options: argparse.Namespace) -> Any:
    from medgen_gans.toys.known import best_discriminator, draw_optimum

    found = {alpha: best_discriminator(alpha, seed=options.seed) for alpha in (1.0, 0.9)}
    rows = [(f"{alpha:g}", f"{one.error:.3f}", f"{one.value:.4f}", f"{one.wanted_value:.4f}") for alpha, one in found.items()]
    print_table(("target", "largest error of D", "value", "closed form"), rows)
    return draw_optimum(found)


def _shift(options: argparse.Namespace) -> Any:
    from medgen_gans.toys.known import critic_distance, draw_shift

    found = [critic_distance(length, seed=options.seed) for length in (0.5, 1.0, 2.0, 4.0)]
    print_table(("|m|", "estimate", "error"), [(f"{s.length:g}", f"{s.estimate:.3f}", f"{s.error:.1%}") for s in found])
    return draw_shift(found)


EXPERIMENTS = {"saddle": _saddle, "modes": _modes, "optimum": _optimum, "shift": _shift}
