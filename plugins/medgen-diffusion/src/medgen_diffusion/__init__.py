"""Diffusion families of medgen."""
