"""A run: the folder that a training leaves and that every other command reads."""

from medgen.runs.apply import Scores, batches_of, reconstruct_to, sample_format, score
from medgen.runs.conditions import ConditionSource
from medgen.runs.config import RunConfig, TrainConfig
from medgen.runs.inpaint import inpaint_to
from medgen.runs.run import METRIC_COLUMNS, Run, open_run
from medgen.runs.sample import sample_cells, sample_to_folder
from medgen.runs.translate import Translation, Work, translate_dataset
from medgen.runs.translate_files import style_of, translate_to

__all__ = [
    "METRIC_COLUMNS",
    "ConditionSource",
    "Run",
    "RunConfig",
    "Scores",
    "TrainConfig",
    "Translation",
    "Work",
    "batches_of",
    "inpaint_to",
    "open_run",
    "reconstruct_to",
    "sample_cells",
    "sample_format",
    "sample_to_folder",
    "score",
    "style_of",
    "translate_dataset",
    "translate_to",
]
