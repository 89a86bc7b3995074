"""Translation families of medgen."""
