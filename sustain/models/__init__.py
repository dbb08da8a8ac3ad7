"""Networks that predict wealth from tiles: training, prediction, baselines."""
