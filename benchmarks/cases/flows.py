"""A training step of a RealNVP of ten couplings: loss, gradients, clipping, Adam; vectors [256, 64] and images [64, 1, 28, 28].

The same couplings, networks, normalisation, optimizer and data for all; images are squeezed to [4, 14, 14] and coupled by halves of the
channels, which nflows can do too. zuko has no convolutional couplings, and no normalisation between its layers.

`reference ops` is medgen's model on the readable PyTorch that MEDGEN_OPS=reference runs; `medgen compiled` has the loss compiled, as
`medgen train --compile` does. `networks` are the ten conditioners alone with the same optimizer: what no flow over them can beat, so the
share of a rival is how much of its time the networks take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Floor, Result, compare, here
from medgen.nn.flow import ActNorm, AffineCoupling, Chain, ConvConditioner, MlpConditioner, Squeeze, Transform
from medgen.ops.reference import affine_coupling as reference

BASELINE = "reference ops"
LAYERS = 10
WIDTH = {"vector": 128, "image": 32}
SHAPES = {"vector": (256, 64), "image": (64, 1, 28, 28)}
Loss = Callable[[Tensor], Tensor]


def conditioner(label: str, channels: int) -> nn.Module:
    """Half of the channels to scale and shift of the other half."""
    half, width = channels // 2, WIDTH[label]
    return MlpConditioner(half, 2 * half, width=width) if label == "vector" else ConvConditioner(2, half, 2 * half, width=width)


class OnReference(torch.autograd.Function):
    """The op as it is without native code: forward and gradients of the reference."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parameters: Tensor, mask: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, parameters)
        ctx.mask = mask
        return reference.affine_coupling(x, parameters, None, mask, x.shape[1] // 2, 1, 2.0, False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, parameters = ctx.saved_tensors
        return *reference.affine_gradients(*grads, x, parameters, True, ctx.mask, x.shape[1] // 2, 1, 2.0, False)[:2], None


class ReferenceCoupling(AffineCoupling):
    """`AffineCoupling` on the reference."""

    def _coupled(self, x: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        assert not inverse
        y, log_det = OnReference.apply(x, parameters, self._number)  # type: ignore[no-untyped-call]
        return y, log_det


def by_medgen(label: str, coupling: type[AffineCoupling] = AffineCoupling) -> tuple[nn.Module, Loss]:
    """`medgen.nn.flow`."""
    parts: list[Transform] = [] if label == "vector" else [Squeeze(SHAPES[label][2:])]
    channels = SHAPES[label][1] * (1 if label == "vector" else 4)
    for number in range(LAYERS):
        parts += [ActNorm(channels), coupling(conditioner(label, channels), mask="first" if number % 2 else "second")]
    flow = Chain(parts)

    def loss(x: Tensor) -> Tensor:
        z, log_det = flow(x)
        return (0.5 * z.flatten(1).square().sum(1) - log_det).mean()

    return flow, loss


def on_reference(label: str) -> tuple[nn.Module, Loss]:
    return by_medgen(label, ReferenceCoupling)


def compiled(label: str) -> tuple[nn.Module, Loss]:
    flow, loss = by_medgen(label)
    return flow, torch.compile(loss)


def networks(label: str) -> tuple[nn.Module, Loss]:
    """The conditioners on what passes through, and the mean of what they emit."""
    channels = SHAPES[label][1] * (1 if label == "vector" else 4)
    nets = nn.ModuleList(conditioner(label, channels) for _ in range(LAYERS))
    seen = torch.randn(SHAPES[label][0], channels // 2, *([] if label == "vector" else [14, 14]), device=here(), requires_grad=True)
    return nets, lambda _: torch.stack([net(seen).mean() for net in nets]).mean()


def by_nflows(label: str) -> tuple[nn.Module, Loss]:
    from nflows import distributions, flows, transforms

    parts: list[Any] = [] if label == "vector" else [transforms.SqueezeTransform()]
    channels = SHAPES[label][1] * (1 if label == "vector" else 4)
    for number in range(LAYERS):
        mask = (torch.arange(channels) >= channels // 2).int() ^ (number % 2)
        norm = transforms.ActNorm(channels)
        norm.initialized.fill_(True)
        parts += [norm, transforms.AffineCouplingTransform(mask, lambda *_: conditioner(label, channels))]
    base = distributions.StandardNormal([channels] if label == "vector" else [channels, 14, 14])
    flow = flows.Flow(transforms.CompositeTransform(parts), base)
    return flow, lambda x: -flow.log_prob(x).mean()


def by_zuko(label: str) -> tuple[nn.Module, Loss]:
    from zuko import flows

    if label == "image":
        raise ValueError("no convolutional couplings")
    flow = flows.MAF(SHAPES[label][1], transforms=LAYERS, passes=2, hidden_features=(WIDTH[label],) * 2)
    return flow, lambda x: -flow().log_prob(x).mean()


RIVALS: dict[str, Callable[[str], tuple[nn.Module, Loss]]] = {
    BASELINE: on_reference,
    "medgen": by_medgen,
    "medgen compiled": compiled,
    "nflows": by_nflows,
    "zuko": by_zuko,
    "networks": networks,
}


def stepper(model: nn.Module, loss: Loss, x: Tensor) -> Callable[[], None]:
    """One update."""
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return step


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Both shapes; quick: without the compiler."""
    results = []
    for label, shape in SHAPES.items():
        torch._dynamo.reset()  # or what was compiled for vectors makes every size of the images a symbol
        torch.manual_seed(0)
        x = torch.randn(shape, device=here())
        calls, notes = {}, {}
        for name, make in RIVALS.items():
            if quick and name == "medgen compiled":
                continue
            try:
                model, loss = make(label)
                calls[name] = stepper(model.to(here()), loss, x)
                calls[name]()
            except Exception as error:  # a rival that does not work is a line in the table
                calls.pop(name, None)
                notes[name] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
            else:
                notes[name] = f"{sum(p.numel() for p in model.parameters()):,} parameters"
        floors = [Floor(name, [("networks", 1.0)]) for name in calls if name != "networks"]
        case = f"RealNVP, {LAYERS} couplings, {list(shape)}, step"
        settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "notes": notes, "floors": floors}
        results += compare(case, calls, work=shape[0], unit="samples", **settings)
    return results
