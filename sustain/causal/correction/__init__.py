"""A card's correction of an effect, and the calibration's part of its variance."""
