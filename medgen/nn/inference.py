"""`InferenceNet`: a network as sampling runs it, in bfloat16 where the device is fast at that and the output stays near float32's."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medgen.interfaces import evaluating

__all__ = ["InferenceNet", "fast_bfloat16"]

Forward = Callable[..., Tensor]
Probe = Callable[[], Iterable[Sequence[Tensor | None]]]
"""() -> the inputs of some calls. They may depend on the shape and device of the network, but on no sample."""

# What bfloat16 may change, relative to the output's root mean square: the error, and how much longer or shorter the output gets.
# Error as good as random hardly matters to samplers, which average it: on the Gaussian oracle 5 % of it at every call moved the standard
# deviation of the samples by at most 0.003. A common factor does not average out: 1.003 moved it by 0.001 (v) to 0.04 (eps, DDIM, cosine).
# A U-Net trained for 700 steps had 0.003 to 0.004 and at most 0.0009.
_ERROR, _GAIN = 0.01, 0.002

_LEAST_WEIGHTS = (
    2**17
)  # below, float32 is faster: 128,000 weights of a residual network ran at 0.7, 190,000 of a U-Net at 1.3 times its speed
_LEAST_POSITIONS = 1024  # below, torch's group normalisation of channels that come last takes twice as long on a CPU
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class InferenceNet:
    """What to call in place of a network with float32 weights while it draws samples.

    In bfloat16 that is a copy of the network with rounded weights, channels last in images and volumes; the network, its gradients and its
    training stay as they are. "auto" takes the copy where the processor multiplies bfloat16, no autocast is on, the network has at least
    2^17 weights (smaller ones gain nothing), and on a probe the output differs from float32's by at most 1 % in the root mean square and
    0.2 % in length. That is a function of weights and device, never of the samples, and is found out once for the same weights.

    Args:
        precision: "auto"; "float32"; or "bfloat16", whatever the probe says.
        compiled: run it through `torch.compile` as well; where that fails it goes on without, and a warning says why.

    >>> net, probe = nn.Linear(2, 2), lambda: [(torch.ones(1, 2),)]
    >>> InferenceNet().of(net, probe) is net  # so small a network gains nothing
    True
    >>> InferenceNet("bfloat16").of(net, probe)(torch.ones(1, 2)).dtype
    torch.float32
    """

    def __init__(self, precision: Literal["auto", "float32", "bfloat16"] = "auto", *, compiled: bool = False) -> None:
        self.precision, self.compiled = precision, compiled
        self._rounded: _Rounded | None = None
        self._near: bool | None = None
        self._full: _Compiled | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles start anew: what is kept here follows from the network."""
        return partial(InferenceNet, self.precision, compiled=self.compiled), ()

    def of(self, net: nn.Module, probe: Probe) -> Forward:
        """What to call with the inputs of `net`, given its weights of this moment; to be asked before each draw, not at each step.

        Inputs of one axis, like times, are never rounded; the output is float32.

        Args:
            net: (x [B, C, *S], ...) -> [B, C', *S].
            probe: see `Probe`; x has as many samples as are needed for some thousand values in all.
        """
        if not self._may_round(net):
            return self._in_full(net)
        if self._rounded is None or not self._rounded.is_of(net):
            self._rounded, self._near = _Rounded(net, _first(probe), compiled=self.compiled), None
        elif self._rounded.follow():
            self._near = None
        if self._near is None:
            self._near = self.precision == "bfloat16" or _near(net, self._rounded, probe())
        return self._rounded if self._near else self._in_full(net)

    def dtype(self, net: nn.Module, probe: Probe) -> torch.dtype:
        """In what `of` computes, but for autocast."""
        if isinstance(self.of(net, probe), _Rounded):
            return torch.bfloat16
        return next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)

    def _may_round(self, net: nn.Module) -> bool:
        weights = [p for p in net.parameters() if p.is_floating_point()]
        if self.precision == "float32" or not weights or any(p.dtype != torch.float32 for p in weights):
            return False
        if self.precision == "bfloat16":
            return True
        device, size = weights[0].device, sum(p.numel() for p in weights)
        return size >= _LEAST_WEIGHTS and fast_bfloat16(device) and not torch.is_autocast_enabled(device.type)

    def _in_full(self, net: nn.Module) -> Forward:
        if not self.compiled:
            return net
        if self._full is None or self._full.net is not net:
            self._full = _Compiled(net)
        return self._full


class _Rounded:
    """A copy in bfloat16: float32 in, float32 out."""

    def __init__(self, net: nn.Module, x: Tensor, *, compiled: bool) -> None:
        few = x.device.type == "cpu" and math.prod(x.shape[2:]) < _LEAST_POSITIONS
        self._layout = torch.preserve_format if few else _LAYOUTS.get(x.dim(), torch.preserve_format)
        self._source = net
        with torch.inference_mode(mode=False):  # what is made in that mode could not follow the weights later
            self._copy = copy.deepcopy(net).eval().requires_grad_(False).to(torch.bfloat16)
        if self._layout is not torch.preserve_format:
            self._copy.to(memory_format=self._layout)  # type: ignore[call-overload]
        self._run: Forward = _Compiled(self._copy) if compiled else self._copy

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        x, *rest = inputs
        assert x is not None
        rounded = (value if value is None or value.dim() < 2 else value.to(torch.bfloat16) for value in rest)
        return self._run(x.to(torch.bfloat16, memory_format=self._layout), *rounded).float()

    def is_of(self, net: nn.Module) -> bool:
        """Whether it is a copy of `net`, as that is apart from its weights."""
        pairs = zip(_tensors(self._copy), _tensors(net), strict=False)
        return self._source is net and all(a.device == b.device and a.shape == b.shape for a, b in pairs)

    def follow(self) -> bool:
        """Take over the weights of this moment; whether any of them is new."""
        new = []  # by value: fused optimizers do not count up `_version`
        with torch.inference_mode(mode=False), torch.no_grad():
            for mine, theirs in zip(_tensors(self._copy), _tensors(self._source), strict=True):
                value = theirs.to(mine.dtype)
                new.append((mine != value).any())
                mine.copy_(value)
        return bool(torch.stack(new).any())


class _Compiled:
    """A network through `torch.compile`, or as it is once that has failed."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self._run: Forward | None = None

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        try:
            if self._run is None:
                self._run = torch.compile(self.net)
            return self._run(*inputs)
        except Exception as error:
            if self._run is self.net:
                raise
            reason = next((line for line in str(error).splitlines() if line.strip()), "")
            warnings.warn(
                f"sampling goes on without compilation: {type(error).__name__}: {reason.strip()[:200]}. "
                "Install a C++ compiler (g++ or clang++) if there is none, or set `compile` to false.",
                stacklevel=2,
            )
            self._run = self.net
            return self._run(*inputs)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bfloat16: CPUs with AMX, AVX512-BF16 or the same of Arm, CUDA from sm_80."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bfloat16()


@cache
def _cpu_has_bfloat16() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch
        return bool(torch.cpu._is_avx512_bf16_supported())
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16"))


def _near(net: nn.Module, rounded: Forward, probe: Iterable[Sequence[Tensor | None]]) -> bool:
    """Whether the outputs agree. Sums stay on the device, and NaN and infinities do not agree."""
    error = power = along = torch.zeros((), dtype=torch.float64)
    with evaluating(net):
        for inputs in probe:
            exact = net(*inputs).double()
            off = rounded(*inputs).double() - exact
            error, power, along = (
                total.to(off.device) + (a * b).sum() for total, a, b in ((error, off, off), (power, exact, exact), (along, off, exact))
            )
    return bool((error <= _ERROR**2 * power) & (along.abs() <= _GAIN * power))


def _tensors(net: nn.Module) -> Iterable[Tensor]:
    return chain(net.parameters(), net.buffers())


def _first(probe: Probe) -> Tensor:
    x = next(iter(probe()))[0]
    assert x is not None
    return x
