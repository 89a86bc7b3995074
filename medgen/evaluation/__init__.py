"""Metrics with recipes and intervals. The functions on arrays are here; each metric's own module has its formula."""

from medgen.evaluation.bootstrap import bootstrap_mean, subsample
from medgen.evaluation.comparison import Compared, Comparison, compare
from medgen.evaluation.distances import nearest
from medgen.evaluation.distribution import mmd_permutation_test
from medgen.evaluation.features import Extractor, extract
from medgen.evaluation.hallucination import LesionChanges, landmark_shift, lesion_changes, structure_shift
from medgen.evaluation.latents import evaluate_latents
from medgen.evaluation.measure import evaluate_density, evaluate_pairs, paired_values
from medgen.evaluation.network import load_extractor
from medgen.evaluation.plan import MetricPlan, metric_plan, plan_of
from medgen.evaluation.regions import contrast_ratio, demyelination_dice, dice, lesion_dice, region_discrepancy
from medgen.evaluation.score import Score
from medgen.evaluation.sets import evaluate_sets
from medgen.evaluation.subjects import SubjectTable, subject_table
from medgen.evaluation.table import load_scores, load_subjects, render, rich_table, save_scores
from medgen.evaluation.verb import evaluate

__all__ = [
    "Compared",
    "Comparison",
    "Extractor",
    "LesionChanges",
    "MetricPlan",
    "Score",
    "SubjectTable",
    "bootstrap_mean",
    "compare",
    "contrast_ratio",
    "demyelination_dice",
    "dice",
    "evaluate",
    "evaluate_density",
    "evaluate_latents",
    "evaluate_pairs",
    "evaluate_sets",
    "extract",
    "landmark_shift",
    "lesion_changes",
    "lesion_dice",
    "load_extractor",
    "load_scores",
    "load_subjects",
    "metric_plan",
    "mmd_permutation_test",
    "nearest",
    "paired_values",
    "plan_of",
    "region_discrepancy",
    "render",
    "rich_table",
    "save_scores",
    "structure_shift",
    "subject_table",
    "subsample",
]
