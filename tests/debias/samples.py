"""Samples for the tests of this room."""

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def pairs(n=400, seed=0, slope=0.65, noise=0.5, skewed=True):
    """Predictions and truths: skewed truth, shrunken predictions with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 0.7, size=n) - 1.4 if skewed else rng.normal(size=n)
    return 0.1 + slope * truth + rng.normal(scale=noise, size=n) * 0.6, truth


def real(name):
    """Table of the shared folder, or a skip that says what is missing."""
    import pandas as pd

    path = SHARED / name
    if not path.exists():
        pytest.skip(f"real table {name} is not beside the repository (../shared/data)")
    return pd.read_parquet(path)
