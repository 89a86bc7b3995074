"""Generative adversarial networks for medgen."""
