"""Before a trial: what a map can find, and whether a calibration carries over."""
