"""`medgen reject RUN -n N --out FOLDER`: points of a run's density, to a power or within ranges, by rejection sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgen.cli.common import make_parser
from medgen.cli.work import add_run, parse_run, progress_bar
from medgen.errors import ConfigError, RunError
from medgen.registry import suggestion

if TYPE_CHECKING:
    from torch import Tensor

    from medgen.registry import ImageSpec

__all__ = ["run"]

_EXAMPLES = """\
  medgen reject runs/kde -n 5000000 --out points                 exact draws of a kernel density, memory-mapped in points/points.npy
  medgen reject runs/kde -n 1000 --within EDVI 80 120 --out some.csv
  medgen reject runs/kde -n 10000 --temperature 2 --out flat     P^(1/2), through kernels that provably cover it
  medgen reject runs/kde -n 1000 --proposal gaussian --envelope quartile --out paper
  medgen reject runs/kde -n 10000 --proposal runs/flow --out through_a_flow

A pilot says what to expect, and refuses what would take longer than --patience. An interrupted command into a folder is simply repeated:
it goes on where it stopped, to the same points.
"""

_DRAWS = 20_000  # of the density, that mixtures are fitted to


def run(argv: Sequence[str]) -> int:
    """Draw by rejection; returns the exit code."""
    parser = make_parser("reject", "Draw points of a run's density P: to a power, or within ranges, by rejection sampling.", _EXAMPLES)
    add_run(parser)
    parser.add_argument("-n", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument(
        "--out", required=True, help="folder (points.npy in model units, resumable), or a .csv or .npz file (in the data's)"
    )
    parser.add_argument("--proposal", default="kernels", help="kernels (default: of the target), gaussian, mixture, or another RUN")
    parser.add_argument("--widen", type=float, default=1.0, help="factor on the bandwidth of kernels, at least 1 (default 1)")
    parser.add_argument("--components", type=int, default=8, help="Gaussians in a mixture (default 8)")
    parser.add_argument("--envelope", default="auto", help="k of k Q >= P: auto (default: a proof, else max), max, quartile, or ln k")
    parser.add_argument("--temperature", type=float, default=1.0, help="T of P^(1/T) (default 1)")
    parser.add_argument(
        "--within", nargs=3, action="append", default=[], metavar=("COLUMN", "LOW", "HIGH"), help="range of a column, by name or number"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all noise (default 0)")
    parser.add_argument("--devices", type=int, default=1, help="processes (CPU) or GPUs that share the work (default 1)")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds; what would take longer is refused (default 3600)")
    parser.add_argument("--switch", action="store_true", help="propose from the target's own kernels rather than refusing")
    options, overrides = parse_run(parser, argv)
    out = Path(options.out)
    if out.suffix and out.suffix not in (".csv", ".npz"):
        raise ConfigError(f"--out must be a folder, or a file that ends in .csv or .npz; got {out}.")

    from medgen.runs import Run
    from medgen.sampling.rejection import Target, density_of, reject

    done = Run.open(options.run, **overrides)
    device = done.device(options.device)
    spec, density = done.model.image_spec, density_of(done.model.to(device))
    target = Target(density, temperature=options.temperature, keep=[_condition(spec, *words) for words in options.within])
    proposal, data = _proposal(options, target, device)
    with progress_bar("rejection", options.n, show=not options.quiet) as bar:
        found = reject(
            target,
            proposal,
            options.n,
            seed=options.seed,
            envelope=_envelope(options.envelope),
            data=data,
            out=None if out.suffix else out,
            devices=options.devices,
            patience=options.patience,
            switch=options.switch,
            progress=bar,
        )
    if out.suffix:
        _write(found.points, spec, out)
    print(f"{out}: {found}")
    return 0


def _condition(spec: ImageSpec, column: str, low: str, high: str) -> Any:
    """A range in the units of the data, as one in model units."""
    from medgen.sampling.rejection import within

    if spec.dim:
        raise ConfigError(f"--within is for tables; the run models arrays of shape {spec.size}.")
    names = list(spec.channel_names)
    if column not in names and not (column.isdecimal() and int(column) < spec.channels):
        known = names or [str(c) for c in range(spec.channels)]
        raise ConfigError(f"the run has no column {column!r}{suggestion(column, known)} It has {', '.join(known[:12])}.")
    place = names.index(column) if column in names else int(column)
    try:
        a, b = (float(word) * spec.intensity.scale(place) + spec.intensity.offset(place) for word in (low, high))
    except ValueError:
        raise ConfigError(f"--within takes a column and two numbers; got {column} {low} {high}.") from None
    condition = within(place, a, b)
    condition.__name__ = f"{low} <= {column} <= {high}"
    return condition


def _proposal(options: Any, target: Any, device: Any) -> tuple[Any, Tensor | None]:
    """The proposal, and points of P for its envelope."""
    import torch

    from medgen.interfaces import Noise
    from medgen.nn import Parzen
    from medgen.runs import Run
    from medgen.sampling.rejection import Gaussian, GaussianMixture, density_of, kernels

    kind, density = options.proposal, target.density
    own = isinstance(density, Parzen)
    if kind == "kernels":
        return (kernels(target, options.widen) if own else density), None
    if options.widen != 1.0:
        raise ConfigError(f"--widen is for kernels; got --proposal {kind}.")
    draws = density.draw(Noise(options.seed, torch.arange(2**61, 2**61 + _DRAWS, device=device)))
    points = density.points if own else draws
    if kind == "gaussian":
        return Gaussian.fit(points), points
    if kind == "mixture":
        return GaussianMixture.fit(draws, options.components, seed=options.seed), points
    if not Path(kind).is_dir():
        raise RunError(f"--proposal must be kernels, gaussian, mixture, or the folder of a run; got {kind!r}.")
    other = Run.open(kind).model.to(device)
    if other.image_spec.size != Run.open(options.run).model.image_spec.size:
        raise RunError(f"{kind} models arrays of shape {other.image_spec.size}, not those of {options.run}.")
    return density_of(other), points


def _envelope(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word


def _write(points: Tensor, spec: ImageSpec, path: Path) -> None:
    from medgen.data.intensity import to_stored
    from medgen.data.writers import write_csv, write_npz

    values = to_stored(points.view(len(points), *spec.size), spec)
    if path.suffix == ".npz":
        return write_npz({"x": values}, path)
    if spec.dim:
        raise ConfigError(f"a .csv file is for tables; the run models arrays of shape {spec.size}. Use .npz or a folder.")
    return write_csv(values, spec.channel_names or tuple(f"channel_{c}" for c in range(spec.channels)), path)
