"""Readable pure-PyTorch truth of every op."""

from medgen.ops.reference.philox import normal_from_bits, philox_bits, uniform_from_bits

__all__ = ["normal_from_bits", "philox_bits", "uniform_from_bits"]
