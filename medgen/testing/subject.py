"""`Subject`: a family under test: its small models, and deterministic input for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgen.factory import build, config_class
from medgen.interfaces import Batch, Condition, Model, Noise, PreparesOnData, Step, Translator
from medgen.registry import ConditionSlot, ConditionSpec, Declared, FamilySpec, ImageSpec, Intensity, find_family, get_host
from medgen.registry.config import Config

__all__ = ["SHAPES", "Case", "Subject"]

SHAPES: dict[int, tuple[int, ...]] = {0: (), 1: (16,), 2: (8, 12), 3: (4, 4, 8)}
"""Shape of the arrays for each number of axes: lengths divisible by four, not all equal."""

_CHANNELS = {"intensity": 2, "labels": 3, "features": 3}
_WEIGHTS, _X, _SLOT = 0xA11, 0xDA7A, 0xC0DE  # seeds


@dataclass(frozen=True)
class Case:
    """What one model is built for.

    Args:
        name: for messages: "2-D labels given label".
        image_spec: the arrays it models.
        conditions: its slots.
        targets: the slots that its training learns from.
    """

    name: str
    image_spec: ImageSpec
    conditions: tuple[ConditionSpec, ...] = ()
    targets: tuple[ConditionSpec, ...] = ()

    def __str__(self) -> str:
        return self.name


class Subject:
    """A family under test.

    Everything it makes is a function of its arguments: no global random state, and samples numbered like those of `Noise`.

    Args:
        spec: the family; its classes may live anywhere, no entry point is needed.
        distribution, version: who declares it.
        golden: folder of golden files.
        plugin: the module of its entry point, if it has one.
    """

    def __init__(
        self,
        spec: FamilySpec,
        distribution: str = "(not-installed)",
        version: str = "0",
        *,
        golden: str | Path | None = None,
        plugin: str | None = None,
    ) -> None:
        self.spec = spec
        self.declared = Declared(spec, distribution, version)
        self.golden = None if golden is None else Path(golden)
        self.plugin = plugin
        self._states: dict[tuple[Case, bool, int], dict[str, Any]] = {}

    @classmethod
    def of(cls, family: str, *, golden: str | Path | None = None) -> Subject:
        """An installed family, by name."""
        return cls.installed(find_family(family), golden=golden)

    @classmethod
    def installed(cls, declared: Declared, *, golden: str | Path | None = None) -> Subject:
        """An installed family."""
        modules = [p.module for p in get_host().plugins for items in p.items.values() if any(i == declared for i in items)]
        plugin = modules[0].partition(":")[0] if modules else None
        return cls(declared.spec, declared.distribution, declared.version, golden=golden, plugin=plugin)

    # ------------------------------------------------------------------------------------------------ cases

    @property
    def config_class(self) -> type[Config]:
        """The family's configuration class."""
        return config_class(self.declared)

    def cases(self, *, content: str | None = None, dims: Sequence[int] | None = None, conditioned: bool | None = None) -> list[Case]:
        """One case per number of axes, content, and set of slots and training targets: those required, and all.

        Args:
            content: only of this kind.
            dims: only these numbers of axes.
            conditioned: only those with slots, or without.
        """
        return [
            case
            for case in self._cases
            if (content is None or case.image_spec.content == content)
            and (dims is None or case.image_spec.dim in dims)
            and (conditioned is None or bool(case.conditions) == conditioned)
        ]

    def main(self, *, conditioned: bool | None = None) -> list[Case]:
        """One case per number of axes: its usual content, with all slots."""
        found: dict[int, Case] = {}
        for case in self.cases(conditioned=conditioned):
            best = found.setdefault(case.image_spec.dim, case)
            if best.image_spec.content == case.image_spec.content:
                found[case.image_spec.dim] = case  # those with more slots come later
        return list(found.values())

    @property
    def small(self) -> Case:
        """The case with all slots and the fewest values, for laws that build many models."""
        full = max(len(case.conditions + case.targets) for case in self._cases)
        return min(
            (c for c in self._cases if len(c.conditions + c.targets) == full),
            key=lambda c: (c.image_spec.content == "labels", c.image_spec.numel),
        )

    @property
    def typical(self) -> Case:
        """Images where it builds for them, else the most axes: for laws that are looked at once."""
        return max(self.main(), key=lambda case: (case.image_spec.dim == 2, case.image_spec.dim))

    @cached_property
    def _cases(self) -> list[Case]:
        can, found = self.spec.capabilities, []
        needed = tuple(tuple(slot for slot in slots if slot.required) for slots in (can.conditions, can.targets))
        for dim in sorted(can.spatial_dims):
            for content in _contents(dim, can.contents):
                for slots, targets in dict.fromkeys((needed, (can.conditions, can.targets))):
                    found.append(self.case(dim, content, slots=slots, targets=targets))
        return found

    def case(
        self,
        dim: int,
        content: str | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        channels: int | None = None,
        slots: Sequence[ConditionSlot] | None = None,
        targets: Sequence[ConditionSlot] | None = None,
    ) -> Case:
        """The case of one's own.

        Args:
            dim: number of axes.
            content: by default the first that suits the number of axes.
            shape, channels: of the arrays; `SHAPES`, and 2 (intensity) or 3.
            slots, targets: by default all that the family takes.
        """
        can = self.spec.capabilities
        content = _contents(dim, can.contents)[0] if content is None else content
        slots = can.conditions if slots is None else slots
        targets = can.targets if targets is None else targets
        shape = SHAPES[dim] if shape is None else shape
        spec = self._image_spec(shape, content, _CHANNELS[content] if channels is None else channels)
        given = " given " + ", ".join(slot.name for slot in slots) if slots else ""
        given += " trained on " + ", ".join(slot.name for slot in targets) if targets else ""
        concrete = (tuple(self._slot(slot, spec) for slot in some) for some in (slots, targets))
        return Case(f"{dim}-D {content} {list(spec.size)}{given}", spec, *concrete)

    def _image_spec(self, shape: tuple[int, ...], content: str, channels: int) -> ImageSpec:
        span = self.spec.capabilities.value_range
        intensity = Intensity(range=span) if content == "intensity" else Intensity(clip=False)
        spacing = tuple(1.0 + 0.5 * axis for axis in range(len(shape))) if shape else None
        return ImageSpec(channels=channels, shape=shape, spacing=spacing, content=content, intensity=intensity)  # type: ignore[arg-type]

    def _slot(self, slot: ConditionSlot, target: ImageSpec) -> ConditionSpec:
        if slot.kind == "label":
            return ConditionSpec(name=slot.name, kind="label", names=("first", "second", "third"))
        if slot.kind == "attributes":
            return ConditionSpec(name=slot.name, kind="attributes", names=("age", "dose"), mean=(60.0, 1.0), sd=(10.0, 0.5))
        # an unpaired translator compares both sides; all others must tell the channels of source and target apart
        channels = target.channels if self.spec.capabilities.training == "unpaired" else target.channels + 1
        image = self._image_spec(target.shape, "labels" if slot.content == "labels" else "intensity", channels)
        return ConditionSpec(name=slot.name, kind="image", image=image)

    # ----------------------------------------------------------------------------------------------- models

    def model(
        self,
        case: Case,
        *,
        dtype: torch.dtype = torch.float32,
        perturbed: bool = True,
        seed: int = 0,
        config: dict[str, Any] | None = None,
        fresh: bool = False,
    ) -> Model:
        """A tiny model of its own, in evaluation mode.

        Args:
            case: what it is built for.
            dtype: of its parameters.
            perturbed: with random numbers added to every parameter, so that layers that start at zero hide nothing.
            seed: of the initial weights.
            config: instead of the family's `tiny`.
            fresh: prepared and perturbed again. Else a model like one that was made before is built and takes its state: less time, and no
                difference, which is for the laws of persistence to show.

        Raises:
            AssertionError: the family does not build it, though it declares that it does.
        """
        try:
            values = self.spec.tiny if config is None else config
            model = build(self.declared, case.image_spec, case.conditions, targets=case.targets, seed=seed, config=values)
        except Exception as error:
            raise AssertionError(
                f"family {self.spec.name!r} must build for {case} with its `tiny` config, as its capabilities say; "
                f"got {type(error).__name__}: {error}"
            ) from error
        key = (case, perturbed, seed)
        if config is None and not fresh and key in self._states:
            try:
                model.load_state_dict(self._states[key])
            except Exception:  # comes_back_from_file says what is wrong with it
                return self.model(case, dtype=dtype, perturbed=perturbed, seed=seed, fresh=True)
            return model.to(dtype).eval()
        if isinstance(model, PreparesOnData):
            with torch.no_grad():
                model.prepare(lambda: [self.batch(case, 64)])
        if perturbed:
            perturb(model)
        if config is None:
            self._states[key] = copy.deepcopy(model.state_dict())
        return model.to(dtype).eval()

    # ------------------------------------------------------------------------------------------------ input

    def x(self, case: Case, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """n arrays [n, C, *S] in model units."""
        return _array(case.image_spec, Noise(_X + seed, torch.arange(n)), dtype)

    def condition(self, case: Case, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Condition:
        """A value of every slot for n samples; another `seed` gives other values for every sample."""
        return self._values(case.conditions, n, seed, dtype)

    def targets(self, case: Case, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Condition:
        """The same of its training targets."""
        return self._values(case.targets, n, seed, dtype)

    def _values(self, slots: Sequence[ConditionSpec], n: int, seed: int, dtype: torch.dtype) -> Condition:
        index, values = torch.arange(n), {}
        for number, slot in enumerate(slots):
            noise = Noise(_SLOT + seed, index + 1000 * number)
            if slot.image is not None:
                values[slot.name] = _array(slot.image, noise, dtype)
            elif slot.kind == "attributes":
                values[slot.name] = noise.normal(slot.size, dtype=dtype)
            else:
                values[slot.name] = (index + seed) % slot.size
        return Condition(values)

    def batch(self, case: Case, n: int, *, seed: int = 0) -> Batch:
        """What the family trains on."""
        return Batch(self.x(case, n, seed=seed), self.condition(case, n, seed=seed), torch.arange(n), self.targets(case, n, seed=seed))

    def step(self, n: int, *, number: int = 0) -> Step:
        """Where a training is."""
        return Step(number, 10, Noise(7, torch.arange(n)))

    def latent(self, model: Any, n: int, *, seed: int = 0) -> Tensor:
        """n standard normal latents."""
        return Noise(seed, torch.arange(n)).normal(*model.latent_shape, stream=3, dtype=model.dtype)

    def source(self, model: Translator, condition: Condition) -> tuple[Tensor, Condition]:
        """A translator's input, and the other slots."""
        return condition.values["source"], condition.only(condition.values.keys() - {"source"})


def perturb(model: Model, seed: int = 0) -> None:
    """Add noise to every parameter, deterministically: a tenth for vectors, 0.3 / sqrt(fan-in) for matrices and kernels."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 9
            draw = Noise(_WEIGHTS + seed, torch.tensor([number])).normal(*parameter.shape, dtype=torch.float64)[0]
            parameter.add_((0.3 / max(1, fan_in) ** 0.5 * draw).to(parameter))


def _contents(dim: int, contents: Sequence[str]) -> list[str]:
    """Vectors are features, and arrays with axes are not, where the family leaves a choice."""
    features = [c for c in contents if c == "features"]
    others = [c for c in contents if c != "features"]
    return (features or others) if dim == 0 else (others or features)


def _array(spec: ImageSpec, noise: Noise, dtype: torch.dtype) -> Tensor:
    if spec.content == "features":
        return noise.normal(*spec.size, dtype=dtype)
    if spec.content == "labels":
        classes = noise.integers(spec.channels, *spec.shape)
        return torch.nn.functional.one_hot(classes, spec.channels).movedim(-1, 1).to(dtype)
    low, high = spec.intensity.range
    return low + (high - low) * noise.uniform(*spec.size, dtype=dtype)
