"""Public tensor ops. Each has a readable truth in `medgen.ops.reference`."""

from medgen.ops.philox import philox_integers, philox_normal, philox_uniform

__all__ = ["philox_integers", "philox_normal", "philox_uniform"]
