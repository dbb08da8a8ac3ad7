"""Numbers that stand for a tile, which linear models and forests read."""
