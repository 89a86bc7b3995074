"""Faults of what a plugin declares, and of configurations."""

from __future__ import annotations

from testing.mutants.config import Advisory, Changeable, Contradictory, Lenient, Reopened, Rounded
from testing.mutants.flow import GAUSSIAN, SLOTS, Gaussian
from testing.mutants.heavy import HeavyConfig
from testing.mutants.mutant import OF_CONFIG_ALONE
from testing.mutants.others import LINEAR_TRANSLATOR, LinearTranslator

from medgen.interfaces import Generator
from medgen.registry import ConditionSlot

WITHOUT_A_MODEL = {"is_found_by_name", "spec_is_complete", "classes_are_as_declared", "verbs_are_final", *OF_CONFIG_ALONE}
SKIPPED = {"density_integrates_to_one", "samples_follow_the_density", "golden_file_holds", "cuda_agrees_with_cpu"}


@GAUSSIAN.mutant("import_is_torch_free", config=HeavyConfig)
class ImportsTorchWithItsConfig(Gaussian):
    """The module of the configuration imports torch."""


@GAUSSIAN.mutant("spec_is_complete", summary="")
class SaysNothingOfItself(Gaussian):
    """No summary."""


@GAUSSIAN.mutant("spec_is_complete", licence=" ")
class HasNoLicence(Gaussian):
    """No licence."""


@LINEAR_TRANSLATOR.mutant(
    "spec_is_complete",
    "conditions_are_as_declared",
    "translations_have_the_shape_of_the_target",
    "translations_are_repeatable",
    "translations_are_independent_of_the_batch",
    "translations_are_random_where_they_say_so",
    "cycles_lead_back_to_the_source",
    "translations_follow_a_given_style",
    "losses_are_finite_and_repeatable",
    "gradient_reaches_every_parameter",
    "comes_back_from_file",
    can={"conditions": (ConditionSlot(name="source", kind="image"), SLOTS[0])},
)
class TranslatesFromNothing(LinearTranslator):
    """Declares that its source may be missing, and does not build without."""


@GAUSSIAN.mutant("classes_are_as_declared", interfaces=("generator", "density"))
class DeclaresLessThanItIs(Gaussian):
    """Has a latent space, and keeps quiet about it."""


@GAUSSIAN.mutant("classes_are_as_declared")
class CallsItsDensityABound(Gaussian):
    """Declared as exact, implemented as a bound."""

    log_prob_kind = "bound"


@GAUSSIAN.mutant("verbs_are_final")
class WritesItsOwnVerb(Gaussian):
    """Overrides `sample`, and with it the checks."""

    def sample(self, n, **more):
        return Generator.sample(self, n, **more)


@GAUSSIAN.mutant(
    "conditions_are_as_declared", can={"conditions": (SLOTS[0], ConditionSlot(name="attributes", kind="attributes", required=True))}
)
class RequiresLessThanItDeclares(Gaussian):
    """A slot declared as required, which the model does without."""


@GAUSSIAN.mutant(*(set(GAUSSIAN.laws()) - WITHOUT_A_MODEL - SKIPPED))
class BuildsForNothing(Gaussian):
    """Refuses everything that it declares."""

    def __init__(self, config, image_spec, conditions=()):
        raise RuntimeError("refused")


# --------------------------------------------------------------------------------------------------- configurations


@GAUSSIAN.mutant("tiny_is_valid", "config_round_trip", "comes_back_from_file", config=Rounded, tiny={"width": 3, "scale": 0.75})
class LosesDecimals(Gaussian):
    """What is written of the configuration is not what was read."""


@GAUSSIAN.mutant("config_round_trip", config=Changeable)
class CanBeReconfigured(Gaussian):
    """A configuration that is not frozen."""


@GAUSSIAN.mutant("defaults_are_valid", config=Contradictory, tiny={"width": 2})
class HasInvalidDefaults(Gaussian):
    """The defaults contradict each other."""


@GAUSSIAN.mutant("unknown_keys_are_refused", config=Lenient)
class SwallowsTypingErrors(Gaussian):
    """An unknown key is taken for nothing."""


@GAUSSIAN.mutant("values_out_of_range_are_refused", config=Advisory)
class ChecksNoLimits(Gaussian):
    """Limits that are written down and not checked."""


@GAUSSIAN.mutant("configs_work_or_are_refused")
class FailsForOneLayer(Gaussian):
    """An allowed value that breaks the model."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.sizes = [1] * (config.layers - 1)

    def _log_prob(self, x, condition, noise, importance_samples):
        return super()._log_prob(x, condition, noise, importance_samples) * self.sizes[0]


@GAUSSIAN.mutant("runtime_fields_keep_the_weights", config=Reopened)
class ResizesAfterTraining(Gaussian):
    """Lets a width be overridden that its weights were trained with."""
