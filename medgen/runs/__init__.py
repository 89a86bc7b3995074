"""A run: the folder that a training leaves and that every other command reads."""

from medgen.runs.config import RunConfig, TrainConfig
from medgen.runs.run import Run, open_run

__all__ = ["Run", "RunConfig", "TrainConfig", "open_run"]
