"""Label maps out of latents, and latents out of label maps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgen.data import to_model
from medgen.data.intensity import label_values
from medgen.errors import DataError, RunError
from medgen.interfaces import LatentModel, Model, evaluating
from medgen.nn import fast_bfloat16
from medgen_anatomy.shape_vae import soft_dice

__all__ = ["Precision", "ShapeDecoder"]

Precision = Literal["auto", "float32", "bfloat16"]

_LEAST_WEIGHTS = 2**17  # smaller networks gain nothing from bfloat16


class ShapeDecoder:
    """A model of 2-D label maps, asked in batches of a fixed size: numbers of latents that belong together are always decoded together.

    Args:
        model: with latents, trained on label maps.
        precision: of the network; auto takes bfloat16 where the device multiplies it.
        batch: maps at once.

    Raises:
        RunError: another kind of model.
    """

    def __init__(self, model: Model, precision: Precision = "auto", batch: int = 256) -> None:
        spec = model.image_spec
        if not isinstance(model, LatentModel):
            raise RunError(f"{type(model).__name__} has no latents; `medgen list --interface latent` shows the families that have.")
        if spec.content != "labels" or spec.dim != 2 or spec.channels < 2:
            raise RunError(f"the model must be trained on 2-D label maps; this one is on {spec.dim}-D {spec.content} of size {spec.size}.")
        if precision == "auto":
            large = sum(p.numel() for p in model.parameters()) >= _LEAST_WEIGHTS
            precision = "bfloat16" if large and fast_bfloat16(model.device) else "float32"
        self.model, self.precision, self.batch = model, precision, batch
        self.numbers: NDArray[np.uint8] = np.array(label_values(spec)).astype(np.uint8)

    @property
    def dim(self) -> int:
        """Values of a latent."""
        return int(np.prod(self.model.latent_shape))

    def _arithmetic(self) -> Any:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def encode(self, maps: NDArray[Any]) -> Tensor:
        """Posterior means [B, D], float32, of stored label maps [B, H, W]."""
        found = []
        with evaluating(self.model):
            for start in range(0, len(maps), self.batch):
                part = torch.from_numpy(np.ascontiguousarray(maps[start : start + self.batch])[:, None])
                x = to_model(part, self.model.image_spec).to(self.model.device)
                found.append(self.model.encode(x).mean.flatten(1).float().cpu())
        return torch.cat(found) if found else torch.empty(0, self.dim)

    def refined(self, z: Tensor, maps: NDArray[Any], steps: int, rate: float) -> Tensor:
        """Latents [B, D] whose decoding has more overlap with stored label maps [B, H, W]: Adam on 1 - soft Dice, from z on.

        Of all latents on the way the best is kept, each map for itself.

        Args:
            z: where to begin.
            maps: on the model's grid.
            steps: of Adam; 0 gives z.
            rate: of Adam: what a value of z may change in a step.
        """
        parts = [self._refined(z[at : at + self.batch], maps[at : at + self.batch], steps, rate) for at in range(0, len(z), self.batch)]
        return torch.cat(parts) if parts and steps else z

    def _refined(self, start: Tensor, maps: NDArray[Any], steps: int, rate: float) -> Tensor:
        x = to_model(torch.from_numpy(np.ascontiguousarray(maps)[:, None]), self.model.image_spec).to(self.model.device)
        with evaluating(self.model), torch.enable_grad():
            z = start.to(self.model.device).clone().requires_grad_()
            optimizer = torch.optim.Adam([z], rate)
            best, least = z.detach().clone(), torch.full((len(z),), torch.inf, device=z.device)
            for step in range(steps + 1):
                loss = 1.0 - soft_dice(self.model.decode(z.view(len(z), *self.model.latent_shape)), x).mean(1)
                better = loss.detach() < least
                best, least = torch.where(better[:, None], z.detach(), best), torch.where(better, loss.detach(), least)
                if step < steps:
                    (z.grad,) = torch.autograd.grad(loss.sum(), z)
                    optimizer.step()
        return best.cpu()

    def probabilities(self, z: Tensor) -> Tensor:
        """What the model decodes, [B, K, H, W], float32, on the CPU, for at most `batch` latents [B, D].

        Raises:
            DataError: it is not finite.
        """
        with evaluating(self.model), self._arithmetic():
            x = self.model.decode(z.view(len(z), *self.model.latent_shape)).float().cpu()
        if not bool(x.isfinite().all()):
            raise DataError("the model decodes values that are not finite.")
        return x

    def maps(self, z: Tensor) -> NDArray[np.uint8]:
        """Stored label maps [B, H, W] of at most `batch` latents [B, D]: the likeliest class of each pixel."""
        return self.numbers[self.probabilities(z).argmax(1).numpy()]
