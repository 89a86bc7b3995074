"""Training: the loop on Lightning Fabric, exact resume, guards."""

from medgen.runs.config import TrainConfig
from medgen.training.train import resume, train

__all__ = ["TrainConfig", "resume", "train"]
