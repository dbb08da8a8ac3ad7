"""Learn the response of calibration rows: curve, kernel and distribution of truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.curve import fit_curve
from sustain.debias.response.kernel import fit_kernel
from sustain.debias.response.model import Population, ResponseModel
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes, quantiles_of, support_of

__all__ = ["fit_model", "truth_quantiles"]

Array = NDArray[np.float64]

N_TRUTH, N_CELLS = 81, 80
"""Nodes in truth and cells of predictions of a response matrix."""

ROWS_A_BIN, MOST_BINS = 20, 40
"""Fewest rows between two quantiles of the truth, and most bins between them."""

BEYOND_TRUTH = 0.75  # of the nodes in truth beyond its outer quantiles, in standard deviations
BEYOND_CELLS = 0.25  # of the cells beyond the support of the predictions, as a share of it


def fit_model(sample: CalibrationSample) -> ResponseModel:
    """Learn the response of a sample, all its rows taken as one population."""
    curve = fit_curve(sample)
    low, high = support_of(sample.y_true, sample.weight)
    truth = Nodes(low - BEYOND_TRUTH * curve.scale, high + BEYOND_TRUTH * curve.scale, N_TRUTH)
    low, high = sample.support
    beyond = BEYOND_CELLS * (high - low)
    return ResponseModel(
        truth=truth,
        cells=Nodes(low - beyond, high + beyond, N_CELLS + 1),
        centre=curve.centre,
        scale=curve.scale,
        knots=curve.spline.knots,
        kernel=fit_kernel(sample, curve, truth),
        pooled=Population(sample.n, curve.values, curve.cov, curve.cov_df, 1.0, *truth_quantiles(sample)),
    )


def truth_quantiles(sample: CalibrationSample) -> tuple[Array, Array]:
    """Shares and quantiles of the truth: as many as leave `ROWS_A_BIN` rows between two."""
    n_bins = int(np.clip(sample.n // ROWS_A_BIN, 2, MOST_BINS))
    shares = np.arange(1, n_bins) / n_bins
    return shares, quantiles_of(sample.y_true, sample.weight, shares)
