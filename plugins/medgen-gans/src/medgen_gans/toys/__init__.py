"""Small experiments on what adversarial training does and where it fails."""
