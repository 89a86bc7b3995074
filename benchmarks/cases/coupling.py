"""Affine coupling, the transform alone: x and the network's output p = [s | t] are given.

Rivals: eager PyTorch, torch.compile, normflows, FrEIA, nflows, zuko. nflows and FrEIA squash s (sigmoid, arctangent), zuko and normflows
as configured here do not; `eager tanh` and `medgen tanh` are the pair with medgen's default bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Calls, Floor, Result, compare, here, sweep
from medgen.ops import affine_coupling, rq_spline_coupling

BASELINE = "eager"
LARGE = {"volume": [(4, 8, 32, 32, 32)], "image": [(1024, 12, 64, 64)]}
Transform = Callable[..., tuple[Tensor, Tensor]]


def eager(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """chunk, exp, cat, sum."""
    first, second = x.chunk(2, 1)
    s, t = p.chunk(2, 1)
    if inverse:
        return torch.cat([first, (second - t) * torch.exp(-s)], 1), -s.flatten(1).sum(1)
    return torch.cat([first, second * torch.exp(s) + t], 1), s.flatten(1).sum(1)


def eager_tanh(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    s, t = p.chunk(2, 1)
    return eager(x, torch.cat([2.0 * torch.tanh(s / 2.0), t], 1), inverse)


def medgen(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    return affine_coupling(x, p, bound="none", inverse=inverse)


def medgen_tanh(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    return affine_coupling(x, p, inverse=inverse)


class Given(torch.nn.Module):
    """A conditioner whose output is given."""

    def forward(self, *_: Any) -> Tensor:
        return self.p


def normflows(p: Tensor) -> Transform:  # noqa: ARG001  (called like the others)
    from normflows.flows import AffineCouplingBlock

    net = Given()
    block = AffineCouplingBlock(net, scale_map="exp")

    def run(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        net.p = p
        return block.inverse(x) if inverse else block(x)

    return run


def freia(p: Tensor) -> Transform:
    from FrEIA.modules import AffineCouplingOneSided

    net = Given()
    block = AffineCouplingOneSided([tuple(p.shape[1:])], subnet_constructor=lambda *_: net, clamp=2.0)

    def run(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        net.p = p
        (y,), log_det = block([x], rev=inverse)
        return y, log_det

    return run


def nflows(p: Tensor) -> Transform:
    from nflows.transforms import AffineCouplingTransform

    net, channels = Given(), p.shape[1]
    mask = (torch.arange(channels, device=here()) >= channels // 2).int()
    block = AffineCouplingTransform(mask, lambda *_: net)

    def run(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        net.p = p
        return block.inverse(x) if inverse else block(x)

    return run


def zuko(p: Tensor) -> Transform:
    from zuko.transforms import CouplingTransform, DependentTransform, MonotonicAffineTransform

    if p.dim() != 2:
        raise ValueError("last dimension only")
    mask = torch.arange(p.shape[1], device=here()) < p.shape[1] // 2

    def run(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        s, t = p.chunk(2, 1)
        transform = CouplingTransform(lambda _: DependentTransform(MonotonicAffineTransform(t, s), 1), mask)
        return transform.inv.call_and_ladj(x) if inverse else transform.call_and_ladj(x)

    return run


def libraries(x: Tensor, p: Tensor) -> tuple[dict[str, Transform], dict[str, str]]:
    """Those that are installed and can transform x; the others with the reason."""
    found, missing = {}, {}
    for make in (normflows, freia, nflows, zuko):
        try:
            run = make(p)
            run(x, p)
        except Exception as error:  # a rival that does not work is a line in the table
            missing[make.__name__] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
        else:
            found[make.__name__] = run
    return found, missing


def both_ways(transform: Transform, x: Tensor, p: Tensor, g: Tensor, h: Tensor) -> None:
    """Forward and backward."""
    x, p = x.detach().requires_grad_(), p.detach().requires_grad_()
    y, log_det = transform(x, p)
    torch.autograd.backward([y, log_det], [g, h.to(log_det.dtype)])


def accuracy(transforms: Mapping[str, Transform], x: Tensor, p: Tensor) -> dict[str, str]:
    """Largest errors of the unbounded forms against float64, on at most 4 samples."""
    x, p = x[:4], p[:4]
    y, log_det = eager(x.double(), p.double())
    notes = {}
    for name in set(transforms) & {"eager", "compile", "medgen"}:
        got = transforms[name](x, p)
        errors = ((a.double() - b).abs().max().item() for a, b in zip(got, (y, log_det), strict=True))
        notes[name] = "errors y {:.0e} log-det {:.0e}".format(*errors)
    return notes


def one_size(label: str, shape: tuple[int, ...], rounds: int, quick: bool) -> list[Result]:
    """Forward, inverse, and forward with backward. A transform moves 12 bytes an element (8 in place), with its backward 28; a copy 8."""
    torch.manual_seed(0)
    x, h = torch.randn(shape, device=here()), torch.randn(shape[0], device=here())
    p, g = 0.3 * torch.randn_like(x), torch.randn_like(x)
    out, mine, copied, scaled = torch.empty_like(x), x.clone(), torch.empty_like(x), x.clone()
    transforms: dict[str, Transform] = {"eager": eager, "eager tanh": eager_tanh, "medgen": medgen, "medgen tanh": medgen_tanh}
    if not quick:
        torch._dynamo.reset()  # each size its own code; after eight of one function torch would fall back to eager
        transforms["compile"] = torch.compile(eager, dynamic=False)
    others, notes = libraries(x, p)
    transforms |= others
    with torch.no_grad():
        notes |= accuracy({k: v for k, v in transforms.items() if k != "compile"}, x, p)
    moved: dict[str, Callable[[], Any]] = {"floor: copy": lambda: copied.copy_(x), "floor: scale in place": lambda: scaled.mul_(1.0)}
    settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "notes": notes, "work": x.numel(), "unit": "elements"}
    results = []
    for direction in (False, True):
        calls: dict[str, Callable[[], Any]] = {k: lambda f=f, d=direction: f(x, p, d) for k, f in transforms.items()}
        calls["medgen out="] = lambda d=direction: affine_coupling(x, p, bound="none", inverse=d, out=out)
        calls["medgen in place"] = lambda d=direction: affine_coupling(mine, p, bound="none", inverse=d, out=mine)
        floors = [Floor("medgen out=", [("floor: copy", 1.5)]), Floor("medgen in place", [("floor: scale in place", 1.0)])]
        with torch.no_grad():
            case = f"{label} {list(shape)} {'inverse' if direction else 'forward'}"
            results += compare(case, calls | moved, floors=floors, **settings)
    backward: Calls = {k: lambda f=f: both_ways(f, x, p, g, h) for k, f in transforms.items()}
    floors = [Floor("medgen", [("floor: copy", 3.5)])]
    return results + compare(f"{label} {list(shape)} forward and backward", {**backward, **moved}, floors=floors, **settings)


def curve(rounds: int, quick: bool) -> list[Result]:
    """Elements per second over sizes [B, 64], forward."""
    torch._dynamo.reset()
    compiled = torch.compile(eager, dynamic=True)

    def build(size: int) -> tuple[Calls, float]:
        x, p = torch.randn(size // 64, 64, device=here()), 0.3 * torch.randn(size // 64, 64, device=here())
        out = torch.empty_like(x)
        calls: dict[str, Callable[[], Any]] = {"eager": lambda: eager(x, p), "medgen": lambda: medgen(x, p)}
        calls["medgen out="] = lambda: affine_coupling(x, p, bound="none", out=out)
        if not quick:
            calls["compile"] = lambda: compiled(x, p)
        return calls, float(size)

    sizes = [2**k for k in ((10, 14) if quick else range(10, 25, 2))]
    with torch.no_grad():
        return sweep("coupling, forward", sizes, build, baseline=BASELINE, rounds=rounds, unit="elements")


def chain(shape: tuple[int, ...], layers: int, rounds: int) -> list[Result]:
    """The inverse of a flow of `layers` couplings, parameters given, transformed halves in turn: medgen between two buffers, or in one."""
    x, p = torch.randn(shape, device=here()), 0.1 * torch.randn(shape, device=here())
    first, second = torch.empty_like(x), torch.empty_like(x)

    def by_eager() -> Tensor:
        y = x
        for _ in range(layers):
            y = eager(y, p, True)[0]
        return y

    def ping_pong() -> Tensor:
        source, target, other = x, first, second
        for _ in range(layers):
            affine_coupling(source, p, bound="none", inverse=True, out=target)
            source, target, other = target, other, target
        return source

    def in_place() -> Tensor:
        affine_coupling(x, p, bound="none", inverse=True, out=first)
        for _ in range(layers - 1):
            affine_coupling(first, p, bound="none", inverse=True, out=first)
        return first

    with torch.no_grad():
        calls = {"eager": by_eager, "medgen ping-pong": ping_pong, "medgen in place": in_place}
        case = f"inverse of {layers} layers {list(shape)}"
        return compare(case, calls, baseline=BASELINE, rounds=rounds, work=layers * math.prod(shape), unit="elements")


def spline(batch: int, rounds: int) -> list[Result]:
    """Rational-quadratic splines, 8 bins, half of 64 features; eager is medgen's reference."""
    from medgen.ops.reference.rq_spline import rq_spline_coupling as reference

    x, p = torch.randn(batch, 64, device=here()), torch.randn(batch, 32 * 23, device=here())
    g, h = torch.randn_like(x), torch.randn(batch, device=here())
    transforms: dict[str, Transform] = {
        "eager": lambda x, p, inverse=False: reference(x, p, 8, 3.0, 1, 32, inverse),
        "medgen": lambda x, p, inverse=False: rq_spline_coupling(x, p, bins=8, inverse=inverse),
    }
    notes = {}
    try:
        from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline as theirs
    except ImportError:
        notes["nflows"] = "not installed"
    else:

        def nflows_spline(x: Tensor, p: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
            q = p.view(len(p), 32, 23)
            widths, heights, slopes = q[..., :8], q[..., 8:16], q[..., 16:]
            y, log_slope = theirs(x[:, 32:], widths, heights, slopes, inverse=inverse, tail_bound=3.0, tails="linear")
            return torch.cat([x[:, :32], y], 1), log_slope.sum(1)

        transforms["nflows"] = nflows_spline
    settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "notes": notes, "work": x.numel(), "unit": "elements"}
    results = []
    for direction in (False, True):
        with torch.no_grad():
            calls = {k: lambda f=f, d=direction: f(x, p, inverse=d) for k, f in transforms.items()}
            results += compare(f"spline [{batch}, 64] {'inverse' if direction else 'forward'}", calls, **settings)
    backward: Calls = {k: lambda f=f: both_ways(f, x, p, g, h) for k, f in transforms.items()}
    return results + compare(f"spline [{batch}, 64] forward and backward", backward, **settings)


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Small, vector, volume and image sizes; chains; splines; the curve."""
    nothing = torch.zeros(1, 2, device=here())
    affine_coupling(nothing, nothing)  # find or build the native ops before any clock runs
    shapes = {"small": [(16, 64)]} if quick else {"small": [(16, 64), (256, 64)], "vector": [(65536, 64)], **LARGE}
    results = [r for label, some in shapes.items() for shape in some for r in one_size(label, shape, rounds, quick)]
    results += chain((16, 4, 16, 16) if quick else (1024, 12, 64, 64), 8, rounds) + spline(256 if quick else 4096, rounds)
    return results + curve(min(rounds, 5), quick)
