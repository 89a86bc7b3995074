"""What a family implements."""

from medgen.interfaces.batch import Batch, Step
from medgen.interfaces.condition import Condition, check_condition
from medgen.interfaces.model import INTERFACES, DensityModel, Generator, LatentModel, Model, Translator, evaluating
from medgen.interfaces.noise import Noise, as_noise
from medgen.interfaces.phases import Phase, PreparesOnData

__all__ = [
    "INTERFACES",
    "Batch",
    "Condition",
    "DensityModel",
    "Generator",
    "LatentModel",
    "Model",
    "Noise",
    "Phase",
    "PreparesOnData",
    "Step",
    "Translator",
    "as_noise",
    "check_condition",
    "evaluating",
]
