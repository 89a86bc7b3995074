"""`medgen anatomy`: one module per command."""
