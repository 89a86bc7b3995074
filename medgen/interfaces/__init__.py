"""What a family implements."""

from typing import Any

from medgen.interfaces.arithmetic import ChoosesArithmetic
from medgen.interfaces.attributes import FollowsAttributes
from medgen.interfaces.batch import Batch, Step
from medgen.interfaces.bound import DecomposesBound
from medgen.interfaces.condition import Condition, check_condition
from medgen.interfaces.cycle import Cycles
from medgen.interfaces.inpaint import Inpainter
from medgen.interfaces.model import DensityModel, Generator, LatentModel, Model, Translator, evaluating
from medgen.interfaces.noise import Noise, as_noise
from medgen.interfaces.phases import Phase, PreparesOnData
from medgen.interfaces.styles import FollowsStyle

__all__ = [
    "INTERFACES",
    "Batch",
    "ChoosesArithmetic",
    "Condition",
    "Cycles",
    "DecomposesBound",
    "DensityModel",
    "FollowsAttributes",
    "FollowsStyle",
    "Generator",
    "Inpainter",
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

INTERFACES: dict[str, type[Any]] = {
    "generator": Generator,
    "density": DensityModel,
    "translator": Translator,
    "latent": LatentModel,
    "inpainter": Inpainter,
}
"""The class behind each interface name of a `FamilySpec`."""
