"""Packed tiles with labels and a split."""
