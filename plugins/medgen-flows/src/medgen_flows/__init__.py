"""Normalizing-flow families of medgen."""
