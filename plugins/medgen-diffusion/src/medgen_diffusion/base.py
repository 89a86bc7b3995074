"""`Diffusion`: what the diffusion families share: network, units, conditions, guidance, and sampling in a memory budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Batch, ChoosesArithmetic, Condition, Generator, Inpainter, Noise, PreparesOnData, Step
from medgen.nn import InferenceNet, forward_bytes
from medgen.registry import ConditionSpec, ImageSpec
from medgen.sampling import Known, guided
from medgen_diffusion.config import NetworkConfig
from medgen_diffusion.memory import fitting
from medgen_diffusion.network import Denoise, Network, Scaling

__all__ = ["HIDE", "Diffusion"]

HIDE = 2
"""Noise stream of which samples lose their condition; families draw from streams 0, 1 and, in `log_prob`, from 16 on."""

_STATES = 8  # arrays of x's size that a sampler holds beside the network's activations


class Diffusion(Generator, Inpainter, ChoosesArithmetic, PreparesOnData):
    """A model that samples, and fills in what is not known, by running a denoising network from noise to data.

    Args:
        config, image_spec, conditions: as in `medgen.Model`.
        outputs: channels of the network's output over those of x.
        rounds: of each step when filling in; see `medgen.sampling.Known`.
        standardise: see `Scaling`.

    Raises:
        ConfigError: guidance without conditions.
    """

    config: NetworkConfig

    def __init__(
        self,
        config: NetworkConfig,
        image_spec: ImageSpec,
        conditions: Sequence[ConditionSpec],
        *,
        outputs: int = 1,
        rounds: int = 1,
        standardise: bool = False,
    ) -> None:
        super().__init__(config, image_spec, conditions)
        if config.guidance != 1 and not conditions:
            raise ConfigError(f"`guidance` needs a model with conditions; got guidance {config.guidance:g} and none.")
        self.required_conditions = () if config.condition_dropout else tuple(c.name for c in conditions)
        self.output_range = image_spec.bounds
        self.scaling = Scaling(image_spec, standardise=standardise)
        self.network = Network(config, image_spec, conditions, required=self.required_conditions, outputs=outputs)
        self._rounds = rounds
        self._inference = InferenceNet(config.precision, compiled=config.compile)
        self._bytes: dict[tuple[object, ...], int] = {}

    def arithmetic(self) -> str:
        """Of the network when sampling."""
        return str(self._inference.dtype(self.network.net, self.network.probe)).removeprefix("torch.")

    @abstractmethod
    def _draw(self, denoise: Denoise, noise: Noise, known: Known | None) -> Tensor:
        """x_0 [B, C, *S] in units of the diffusion, from noise, and from what is known of it."""

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Measure the scale of data that have none of their own."""
        self.scaling.fit(batches())

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return self._finished(self._drawn(n, condition, noise))

    def _inpaint(self, x: Tensor, mask: Tensor, condition: Condition, noise: Noise) -> Tensor:
        return torch.where(mask, x, self._finished(self._drawn(len(x), condition, noise, (self.scaling(x), mask))))

    def _drawn(self, n: int, condition: Condition, noise: Noise, given: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """In as many turns as the memory asks for; `given` are known values and where they are known."""
        parts = []
        for rows in self._turns(n, condition, noise):
            known = None if given is None else Known(given[0][rows], given[1][rows], self._rounds)
            parts.append(self._draw(self._denoiser(condition[rows], noise[rows]), noise[rows], known))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _finished(self, u: Tensor) -> Tensor:
        """Model units of finished samples: within their bounds, label maps one-hot."""
        x = self.scaling.inverse(u)
        if self.image_spec.content == "labels":
            return F.one_hot(x.argmax(1), self.image_spec.channels).movedim(-1, 1).to(x.dtype)
        return x if self.output_range is None else x.clamp(*self.output_range)

    def _denoiser(self, condition: Condition, noise: Noise) -> Denoise:
        """The network under the conditions of the samples, guided where asked."""
        net = self._inference.of(self.network.net, self.network.probe)
        like = torch.empty((), device=self.device, dtype=self.dtype).expand(len(noise), *self.image_spec.size)
        if self.config.guidance == 1 or not self.conditions:
            return self.network.given(condition, like, net)
        return guided(self.network.with_and_without(condition, like, net), self.config.guidance)

    def _turns(self, n: int, condition: Condition, noise: Noise) -> Iterator[slice]:
        """Rows that are drawn at once: all of them, or as many as fit into the budget."""
        size = n
        if self.config.sampling_memory is not None and n:
            size = self._fitting(n, condition[:1], noise[:1])
        return (slice(start, min(start + size, n)) for start in range(0, max(n, 1), max(size, 1)))

    def _fitting(self, n: int, condition: Condition, noise: Noise) -> int:
        """How many samples fit: the network's peak for one, measured once, and the sampler's own arrays."""
        device, state = self.device.type, self.image_spec.numel * self.dtype.itemsize
        key = (device, self.arithmetic(), torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        if key not in self._bytes:
            x = torch.zeros(1, *self.image_spec.size, device=self.device, dtype=self.dtype)
            t = torch.zeros(1, device=self.device, dtype=torch.int64)
            self._bytes[key] = forward_bytes(self._denoiser(condition, noise), x, t)
        return fitting(self.config.sampling_memory or 0.0, n, self._bytes[key] + _STATES * state, state)

    def _seen(self, condition: Condition, step: Step) -> Condition:
        """What of the condition this training step sees."""
        if self.config.condition_dropout == 0 or not self.training or not condition.values:
            return condition
        keep = step.noise.uniform(stream=HIDE) >= self.config.condition_dropout
        return Condition(condition.values, {name: condition.mask(name) & keep for name in condition.values})
