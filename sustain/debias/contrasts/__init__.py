"""Contrasts between places, and the slope of prediction on truth that each kind of them has."""
