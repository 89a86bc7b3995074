"""Anatomy with guarantees: densities of shapes, criteria of label maps, correction."""
