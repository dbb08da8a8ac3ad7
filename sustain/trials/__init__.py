"""What a pipeline's trials are: lists of trials, contrasts between places, and their results."""
