"""The calibration card: what it holds, how it is built, written and read."""
