"""What a calibration sample says of the errors of its predictions."""
