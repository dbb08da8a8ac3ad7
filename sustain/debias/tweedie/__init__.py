"""Tweedie's correction: calibrated predictions, their score, and the noise between the two."""
