"""Public tensor ops. Each has a readable truth in `medgen.ops.reference`."""

from medgen.ops.affine_coupling import additive_coupling, affine_coupling
from medgen.ops.coupling_chain import CouplingLayer, coupling_chain
from medgen.ops.ddpm_sample import ddpm_sample, ddpm_sample_mlp
from medgen.ops.ddpm_step import StepTable, ddpm_step, step_table
from medgen.ops.library import OpLibrary, op_libraries
from medgen.ops.made import made_invert
from medgen.ops.parzen import parzen_log_density, parzen_topk
from medgen.ops.philox import philox_integers, philox_normal, philox_uniform
from medgen.ops.rejection import RejectionStep, parzen_draw, rejection_step
from medgen.ops.rq_spline import rq_spline_coupling

__all__ = [
    "CouplingLayer",
    "OpLibrary",
    "RejectionStep",
    "StepTable",
    "additive_coupling",
    "affine_coupling",
    "coupling_chain",
    "ddpm_sample",
    "ddpm_sample_mlp",
    "ddpm_step",
    "made_invert",
    "op_libraries",
    "parzen_draw",
    "parzen_log_density",
    "parzen_topk",
    "philox_integers",
    "philox_normal",
    "philox_uniform",
    "rejection_step",
    "rq_spline_coupling",
    "step_table",
]
