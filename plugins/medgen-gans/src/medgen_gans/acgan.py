"""`acgan`, `sgan`: the discriminator also tells the class.

Papers: Conditional Image Synthesis with Auxiliary Classifier GANs (Odena, Olah, Shlens, 2017) | https://arxiv.org/abs/1610.09585
Improved Techniques for Training GANs (Salimans et al., 2016) | https://arxiv.org/abs/1606.03498
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise, Phase, Step, evaluating
from medgen.nn.adversarial import Judgement, diversity
from medgen.registry import ConditionSpec, ImageSpec
from medgen_gans.config import AcganConfig, SganConfig
from medgen_gans.gan import Adversarial, label_of, one_hot

__all__ = ["Acgan", "Classifying", "Sgan"]

_CLASS = 1  # noise stream of classes that nobody gave
_LABEL = "label"


class Classifying(Adversarial):
    """G(z, y), and D(x) -> real or fake, and the class. Samples that lack a label take part in the game only.

    L_D = L_S + w (CE of real samples that have a label + CE of fakes), L_G = L_S' + w CE of fakes, w = `class_weight`.
    Sampling without a label draws classes evenly.

    Args:
        config, image_spec, conditions: as in `medgen.Model`; without a slot for the label it is a plain GAN.
        joint: see `medgen.nn.adversarial.Discriminator`.
    """

    config: AcganConfig

    def __init__(self, config: AcganConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec], *, joint: bool) -> None:
        self.classes = next((spec.size for spec in conditions if spec.name == _LABEL), 0)
        heads = {"classes": self.classes, "joint": joint and self.classes > 0}
        super().__init__(config, image_spec, conditions, width=config.condition_width, required=(_LABEL,), judged=False, heads=heads)

    def phases(self) -> Sequence[Phase]:
        """Discriminator, then generator."""
        return self._players(self._discriminator_loss, self._generator_loss)

    def classify(self, x: Tensor) -> Tensor:
        """p(class | x) [B, K] by the discriminator, without gradients and in evaluation mode.

        Raises:
            ConfigError: the model was built without a label.
        """
        x = self._checked_x(x, self.image_spec)
        with evaluating(self):
            classes = self._judge(x, Condition()).classes
        if classes is None:
            raise ConfigError("this model has no classes: it was trained on data without a label.")
        return classes.softmax(1)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return one_hot(self._drawn(self._labelled(condition, noise), noise, self.config.temperature), self.image_spec)

    def _labelled(self, condition: Condition, noise: Noise) -> Condition:
        """A class for every sample: the given one, or one drawn evenly."""
        if not self.classes:
            return Condition()
        drawn = noise.integers(self.classes, stream=_CLASS)
        value = condition.values.get(_LABEL)
        return Condition({_LABEL: drawn if value is None else torch.where(condition.mask(_LABEL), value, drawn)})

    def _discriminator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        given, said = self._labelled(batch.condition, step.noise), dict[str, Tensor]()
        with torch.no_grad():
            fake = self._drawn(given, step.noise)

        def classes(on_real: Judgement, on_fake: Judgement) -> Mapping[str, Tensor]:
            if on_real.classes is None or on_fake.classes is None:
                return {"class_real": on_real.score.new_zeros(())}
            known = batch.condition.mask(_LABEL) if _LABEL in batch.condition else torch.zeros(len(batch), dtype=torch.bool)
            known, label = known.to(batch.x.device).to(batch.x.dtype), given.values[_LABEL]
            wrong = F.cross_entropy(on_real.classes, label, reduction="none")
            share = known.sum().clamp(min=1.0)
            said["class_accuracy"] = ((on_real.classes.argmax(1) == label) * known).sum() / share
            terms = {"class_real": self.config.class_weight * (wrong * known).sum() / share}
            if self.config.class_on_fake:
                terms["class_fake"] = self.config.class_weight * F.cross_entropy(on_fake.classes, label)
            return terms

        return {**self.game.discriminator(lambda x: self._judge(x, given), batch.x, fake, step, also=classes), **said}

    def _generator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        given, said = self._labelled(batch.condition, step.noise), dict[str, Tensor]()
        fake = self._drawn(given, step.noise)

        def classes(_: Judgement, on_fake: Judgement) -> Mapping[str, Tensor]:
            if on_fake.classes is None:
                return {"class": on_fake.score.new_zeros(())}
            label = given.values[_LABEL]
            said["class_accuracy"] = (on_fake.classes.argmax(1) == label).to(fake.dtype).mean()
            return {"class": self.config.class_weight * F.cross_entropy(on_fake.classes, label)}

        losses = self.game.generator(lambda x: self._judge(x, given), fake, step, batch.x, also=classes)
        return {**losses, **said, "diversity": diversity(fake, batch.x, given.values.get(_LABEL), label_of(batch.condition))}


class Acgan(Classifying):
    """Two heads: real or fake, and the class, of generated samples too."""

    def __init__(self, config: AcganConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions, joint=False)


class Sgan(Classifying):
    """One head with K+1 classes, the last of which, fake, has logit 0: D(x) = Z / (Z + 1) with Z = sum_k exp(l_k).

    With `class_weight` 2 the discriminator's loss is twice L_lab + L_unl of the paper, L_lab = E[logsumexp(l) - l_y] over samples that have
    a label, L_unl = 1/2 E[softplus(-z(x))] + 1/2 E[softplus(z(G))], z = logsumexp(l). The generator is conditional, the paper's is not.
    """

    config: SganConfig

    def __init__(self, config: SganConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions, joint=True)
