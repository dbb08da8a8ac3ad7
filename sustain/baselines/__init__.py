"""One small real baseline, and more, for each task of SustainBench: what a new model has to beat."""
