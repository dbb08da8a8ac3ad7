"""How a card does on labelled places that it was not made from, and its corrections as curves to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sustain.debias.card.card import CalibrationCard
from sustain.debias.sample import as_sample
from sustain.errors import CalibrationError
from sustain.stats.line import fit_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["correction_curves", "evaluate_card"]


def evaluate_card(card: CalibrationCard, y_pred: Any, y_true: Any) -> dict[str, dict[str, float]]:
    """Compare every correction of a card with labels that it has not seen.

    Parameters
    ----------
    card : CalibrationCard
    y_pred, y_true : array_like, shape (n,)
        Predictions and labels of places outside the calibration sample.

    Returns
    -------
    dict
        For ``"none"`` and each correction: ``slope`` of the (corrected) prediction on the label, which a
        correction brings to 1; ``rmse`` and ``bias`` (mean of prediction minus label), in the label's unit. A
        correction makes contrasts right and single places noisier, so `rmse` rises while `slope` nears 1.

    Raises
    ------
    CalibrationError
        When lengths differ, a value is not finite, or there are fewer than 20 pairs.
    """
    sample = as_sample(y_pred, y_true, None, None, None)
    scores = {}
    for method in card.methods:
        corrected = card.transform(sample.y_pred, method=method, check_support=False)
        line = fit_line(
            sample.y_true, corrected, sample.weight, None, card.target_noise_var, CalibrationError
        )
        error = corrected - sample.y_true
        scores[method] = {
            "slope": float(line.slope),
            "rmse": float(np.sqrt(np.mean(error**2))),
            "bias": float(error.mean()),
        }
    return scores


def correction_curves(card: CalibrationCard, n: int = 101, level: float = 0.95) -> pd.DataFrame:
    """Tabulate every correction over the support with its pointwise band.

    Parameters
    ----------
    card : CalibrationCard
    n : int
        Points along the support.
    level : float
        Level of the band, from quantiles of the card's bootstrap draws.

    Returns
    -------
    DataFrame
        Columns ``x`` (prediction), ``method``, ``h`` (corrected), ``lo``, ``hi``.
    """
    import pandas as pd

    x = np.linspace(*card.support, n)
    tail = (1 - level) / 2
    curves = []
    for method in card.methods:
        low, high = np.quantile(card.draws(method)(x), [tail, 1 - tail], axis=0)
        h = card.transform(x, method=method)
        curves.append(pd.DataFrame({"x": x, "method": method, "h": h, "lo": low, "hi": high}))
    return pd.concat(curves, ignore_index=True)
