"""How each family of models turns its config into layer groups."""
