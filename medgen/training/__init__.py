"""Training: the loop on Lightning Fabric, exact resume, guards."""

from medgen.runs.config import TrainConfig
from medgen.training.verb import resume, train

__all__ = ["TrainConfig", "resume", "train"]
