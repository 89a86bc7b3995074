"""Integration: torch.compile, CUDA and its graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medgen.interfaces import Noise, Translator, evaluating
from medgen.testing.expect import close, expect, same_bits
from medgen.testing.law import SkipLaw, law
from medgen.testing.subject import Case, Subject
from medgen.testing.verbs import Inputs, call, inputs_of, known_of, verbs_of

N = 4


@law("integration")
def compiles(subject: Subject) -> None:
    """torch.compile captures each verb (codes where there is no other) in one graph, really runs it, and gives what eager mode gives."""
    case = subject.typical
    model: Any = subject.model(case)
    given = inputs_of(subject, model, case, N)
    verbs = verbs_of(model)
    for verb in [verb for verb in verbs if verb not in ("encode", "decode")] or verbs:
        graphs: list[int] = []
        runs: list[int] = []

        def backend(graph: torch.fx.GraphModule, _: Any, graphs: list[int] = graphs, runs: list[int] = runs) -> Callable[..., Any]:
            graphs.append(sum(node.op in ("call_function", "call_method", "call_module") for node in graph.graph.nodes))

            def counted(*arguments: Any) -> Any:
                runs.append(len(graphs))
                return graph.forward(*arguments)

            return counted

        torch._dynamo.reset()
        compiled = torch.compile(_hook(model, verb, given), backend=backend, fullgraph=True)
        with evaluating(model):
            got = compiled()
        torch._dynamo.reset()
        expect(sum(graphs) > 0, f"{case}: torch.compile must capture `{verb}`; it captured no operation in {len(graphs)} graphs.")
        expect(bool(runs), f"{case}: the compiled graphs of `{verb}` must be run; none was.")
        close(got, call(model, verb, given), f"{case}: `{verb}` compiled and eager", relative=1e-4, absolute=1e-5)


def _hook(model: Any, verb: str, given: Inputs) -> Callable[[], Tensor]:
    """The verb's own computation, without the checks around it: those look at values, which breaks a graph."""
    condition, noise = given.condition, Noise(given.seed, torch.arange(len(given), device=given.x.device))
    known = known_of(model, noise).expand_as(given.x)
    hooks: dict[str, Callable[[], Any]] = {
        "sample": lambda: model._sample(len(given), condition, noise),
        "inpaint": lambda: model._inpaint(given.x * known, known, condition, noise),
        "log_prob": lambda: model._log_prob(given.x, condition, noise, 1),
        "translate": lambda: model._translate(condition.values["source"], condition, None),
        "encode": lambda: model._encode(given.x, condition).mean,
        "decode": lambda: model._decode(given.z, condition),
    }
    return hooks[verb]


@law("integration")
def tensors_stay_on_their_device(subject: Subject) -> None:
    """With weights and input on another device than the CPU, no verb mixes in a tensor of the CPU or returns one."""
    case = subject.typical
    model: Any = subject.model(case).to("meta")  # a device without memory, which every machine has
    given, followed = inputs_of(subject, subject.model(case), case, N).to("meta"), 0
    for verb in verbs_of(model):
        try:
            with torch.no_grad(), _OneDevice():
                found = _hook(model, verb, given)()
        except AssertionError as error:
            raise AssertionError(f"{case}: `{verb}` must keep to the device of the model; got {error}") from error
        except Exception:
            continue  # what looks at values can be followed on a device with memory only
        followed += 1
        expect(found.device.type == "meta", f"{case}: `{verb}` must give a tensor on the device of the model; got one on {found.device}.")
    if not followed:
        raise SkipLaw("its verbs look at values, so they cannot be followed without them")


class _OneDevice(TorchDispatchMode):
    """Refuses operations between tensors of two devices, but for copies, CPU indices and single numbers; and moves to the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor) and leaf.dim() > 0]
        devices = {tensor.device.type for tensor in tensors}
        name = func.name()
        expect(len(devices) < 2 or "copy_" in name or "index" in name, f"{name} of tensors on {sorted(devices)}")
        to = (kwargs or {}).get("device")
        moved = name == "aten::_to_copy" and to is not None and torch.device(to).type not in devices
        expect(not moved or "cpu" in devices, f"a tensor of the model's device moved to {to}")
        return func(*args, **(kwargs or {}))


@law("integration")
def cuda_agrees_with_cpu(subject: Subject) -> None:
    """On a CUDA device every verb gives what it gives on the CPU, from the same noise, and its result lies on the device."""
    device = _cuda()
    for case in subject.main():
        model = subject.model(case, dtype=torch.float64)
        given = inputs_of(subject, model, case, N, dtype=torch.float64)
        wanted = {verb: call(model, verb, given) for verb in verbs_of(model)}
        model.to(device)
        for verb, result in wanted.items():
            got = call(model, verb, given.to(device))
            expect(got.device.type == "cuda", f"{case}: `{verb}` of a model on {device} must give a tensor there; got {got.device}.")
            close(got.cpu(), result, f"{case}: `{verb}` on CUDA and on the CPU", relative=1e-6, absolute=1e-6)


@law("integration", applies=lambda spec: spec.capabilities.graph_safe)
def graph_replay_gives_the_same_bits(subject: Subject) -> None:
    """The sampling or translating step, captured as a CUDA graph and replayed, gives the bits of a plain call."""
    device = _cuda()
    case: Case = subject.typical
    model: Any = subject.model(case).to(device)
    given = inputs_of(subject, model, case, N).to(device)
    verb = "translate" if isinstance(model, Translator) else "sample"
    run = _hook(model, verb, given)
    with evaluating(model):
        wanted = run().clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = run()
        captured.zero_()
        graph.replay()
    same_bits(captured, wanted, f"{case}: `{verb}` replayed and called")


def _cuda() -> torch.device:
    if not torch.cuda.is_available():
        raise SkipLaw("there is no CUDA device")
    return torch.device("cuda")
