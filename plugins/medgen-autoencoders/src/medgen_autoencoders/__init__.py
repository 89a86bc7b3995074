"""Autoencoder families of medgen."""
