"""The calibration card: its content as a typed document, what is done with it, and how it is put together."""

from sustain.debias.card.card import CalibrationCard

__all__ = ["CalibrationCard"]
