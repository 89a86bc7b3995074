"""Adversarial training: losses, regularisers, remedies, discriminators, and the players' phases."""

from medgen.nn.adversarial.discriminator import Discriminator, Judgement, MultiScaleDiscriminator, Normalisation, normalisation
from medgen.nn.adversarial.losses import ADVERSARIAL_LOSSES, AdversarialLoss, LossName, adversarial_loss
from medgen.nn.adversarial.players import CollapseAlarm, Game, players
from medgen.nn.adversarial.regularisers import (
    SpectralNorm,
    clip_weights,
    gradient_penalty,
    r1_penalty,
    spectral_norm,
    update_spectral_norms,
)
from medgen.nn.adversarial.remedies import (
    FeatureDistance,
    ImagePool,
    InstanceNoise,
    MinibatchDiscrimination,
    VirtualBatchNorm,
    diversity,
    feature_matching,
)

__all__ = [
    "ADVERSARIAL_LOSSES",
    "AdversarialLoss",
    "CollapseAlarm",
    "Discriminator",
    "FeatureDistance",
    "Game",
    "ImagePool",
    "InstanceNoise",
    "Judgement",
    "LossName",
    "MinibatchDiscrimination",
    "MultiScaleDiscriminator",
    "Normalisation",
    "SpectralNorm",
    "VirtualBatchNorm",
    "adversarial_loss",
    "clip_weights",
    "diversity",
    "feature_matching",
    "gradient_penalty",
    "normalisation",
    "players",
    "r1_penalty",
    "spectral_norm",
    "update_spectral_norms",
]
