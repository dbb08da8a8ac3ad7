"""Families of contrasts between places whose truth is known: which reading of the map comes closest, and why.

A correction is right under measurement stability: given the truth, predictions are the same in both arms. The map as it
is is right under outcome stability: given the prediction, the truth is the same. Where labels exist in both arms,
each can be looked at: the gap between the arms that remains given the truth, and given the prediction.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.causal.effect import estimate_effect
from sustain.causal.trial.reader import read
from sustain.debias.diagnosis.stability import stability_of
from sustain.errors import EffectError, SupportWarning
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal.result.result import EffectResult
    from sustain.debias import CalibrationCard

__all__ = ["Contrast", "contrast_scores", "contrast_table", "stability_gaps"]


class Contrast(Protocol):
    """Treated and control places among the rows of a table, such as `sustain.data.aid.AidTrial`."""

    @property
    def name(self) -> str:
        """Short name."""

    @property
    def title(self) -> str:
        """Name in words."""

    @property
    def rows(self) -> NDArray[np.intp]:
        """Positions of the contrast's places in the table."""

    @property
    def treated(self) -> NDArray[np.int64]:
        """1 or 0 for each of them."""


def contrast_table(
    contrasts: Sequence[Contrast],
    estimates: Mapping[str, Any],
    y_true: Any,
    clusters: Any,
    *,
    card: CalibrationCard | None = None,
    y_pred: Any = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Difference in means of each contrast, from the truth and from every estimate.

    Parameters
    ----------
    contrasts : sequence of Contrast
    estimates : mapping of str to array_like, shape (n,)
        Wealth of all places by method, for example cross-fitted corrections.
    y_true : array_like, shape (n,)
        Truth of all places.
    clusters : array_like, shape (n,)
        Clusters for the standard errors, such as spatial blocks.
    card : CalibrationCard, optional
        Adds the calibration's part to the standard error of every method that the card holds, and the method
        ``"response"``, after ``"none"``, where it holds one: read through the curve of all of its rows, among which the
        places may be.
    y_pred : array_like, shape (n,), optional
        Predictions as they are, of the card's model; needed with `card`.
    level : float
        Confidence level.

    Returns
    -------
    DataFrame
        One row a contrast and method: ``contrast``, ``method``, ``n_treated``, ``n_control``, ``estimate``,
        ``std_error``, ``conf_low``, ``conf_high`` (sampling of places, CRV1, and calibration),
        ``share_var_calibration``, ``truth``, ``truth_std_error``, ``error`` (estimate less truth) and
        ``error_std_error`` (of the same places, so smaller than the other two; NaN of ``"response"``, which gives no
        place a value).
    """
    import pandas as pd

    read.require_one_index(y_true=y_true, clusters=clusters, y_pred=y_pred)
    for name, values in estimates.items():
        read.require_same_index(f"estimates[{name!r}]", values, "y_true", y_true)
    truth = read.vector("y_true", y_true, missing=True)
    groups = read.labels("clusters", clusters, truth.size, like="y_true").codes
    found: dict[str, NDArray[np.float64] | None] = {
        name: read.vector(f"estimates[{name!r}]", values, truth.size, like="y_true", missing=True)
        for name, values in estimates.items()
    }
    if y_pred is not None:
        y_pred = read.vector("y_pred", y_pred, truth.size, like="y_true", missing=True)
    held: tuple[str, ...] = () if card is None else card.effect_methods[1:]
    if "response" in held:
        first = {name: found[name] for name in ("none",) if name in found}
        found = {**first, "response": None, **found}
    if held and y_pred is None:
        raise EffectError("y_pred: expected the predictions of the card's model beside card=; got None.")
    rows = []
    for contrast in contrasts:
        places = pd.DataFrame({"treated": contrast.treated, "cluster": groups[contrast.rows]})
        survey = _difference(places, truth[contrast.rows])
        for method, values in found.items():
            sized = None
            if method in held:
                with warnings.catch_warnings():
                    # Said once a contrast and method it would be a wall of text; the share is a column.
                    warnings.simplefilter("ignore", SupportWarning)
                    sized = _difference(places, y_pred[contrast.rows], card, method)
            if values is not None:
                estimate = values[contrast.rows]
                effect = _difference(places, estimate)
                error = _difference(places, estimate - truth[contrast.rows])
                off, off_error = error.estimate, error.std_error
                # The same contrast through the card has the same sampling error, and the calibration's beside it.
                sized = effect if sized is None else sized
            elif sized is not None:
                effect, off, off_error = sized, sized.estimate - survey.estimate, float("nan")
            else:
                continue
            half = critical_value(level, sized.df) * sized.std_error
            rows.append(
                {
                    "contrast": contrast.name,
                    "method": method,
                    "n_treated": effect.n_treated,
                    "n_control": effect.n_control,
                    "estimate": effect.estimate,
                    "std_error": sized.std_error,
                    "conf_low": effect.estimate - half,
                    "conf_high": effect.estimate + half,
                    "share_var_calibration": sized.share_calibration,
                    "share_outside": sized.share_outside,
                    "truth": survey.estimate,
                    "truth_std_error": survey.std_error,
                    "error": off,
                    "error_std_error": off_error,
                }
            )
    return pd.DataFrame(rows)


def contrast_scores(table: pd.DataFrame, sd: float) -> pd.DataFrame:
    """Score each method over a family of contrasts.

    Parameters
    ----------
    table : DataFrame
        From `contrast_table`.
    sd : float
        Standard deviation of the truth over all places, the unit of ``mae_sd``.

    Returns
    -------
    DataFrame
        One row a method, in order of appearance: ``method``, ``n_contrasts``, ``mae``, ``mae_sd`` (mean absolute error
        in `sd`), ``mean_error``, ``rmse``, ``slope`` (estimate on truth, with an intercept).
    """
    import pandas as pd

    rows = []
    for method, part in table.groupby("method", sort=False):
        slope = np.polyfit(part["truth"], part["estimate"], 1)[0] if len(part) > 1 else np.nan
        mae = part["error"].abs().mean()
        rows.append(
            {
                "method": method,
                "n_contrasts": len(part),
                "mae": mae,
                "mae_sd": mae / sd,
                "mean_error": part["error"].mean(),
                "rmse": np.sqrt((part["error"] ** 2).mean()),
                "slope": slope,
            }
        )
    return pd.DataFrame(rows)


def stability_gaps(contrasts: Sequence[Contrast], y_pred: Any, y_true: Any, clusters: Any) -> pd.DataFrame:
    """Say how far each contrast is from the two assumptions, with labels in both arms.

    Parameters
    ----------
    contrasts : sequence of Contrast
    y_pred, y_true : array_like, shape (n,)
        Predictions as they are, and truth, of all places.
    clusters : array_like, shape (n,)
        Clusters for the standard errors.

    Returns
    -------
    DataFrame
        One row a contrast: ``contrast``; ``truth_gap``, difference in truth between the arms at equal predictions, at
        their mean (zero under outcome stability), with ``truth_gap_std_error``; ``prediction_gap``, difference in
        predictions at equal truth, at its mean (zero under measurement stability), with ``prediction_gap_std_error``;
        and ``slope``, of prediction on truth within the arms, by which a correction divides. Gaps are from regressions
        on curves (`sustain.debias.diagnosis.curves`). Noise in the labels flattens the curve of predictions, and with
        it the second gap of arms that differ in truth is not zero even under measurement stability.
    """
    import pandas as pd

    read.require_one_index(y_true=y_true, y_pred=y_pred, clusters=clusters)
    truth = read.vector("y_true", y_true)
    prediction = read.vector("y_pred", y_pred, truth.size, like="y_true")
    groups = read.labels("clusters", clusters, truth.size, like="y_true").codes
    rows = []
    for contrast in contrasts:
        x, y = prediction[contrast.rows], truth[contrast.rows]
        found = stability_of(contrast.treated.astype(float), x, y, group=groups[contrast.rows])
        rows.append(
            {
                "contrast": contrast.name,
                "truth_gap": found.truth_gap,
                "truth_gap_std_error": found.truth_gap_std_error,
                "prediction_gap": found.prediction_gap,
                "prediction_gap_std_error": found.prediction_gap_std_error,
                "slope": _slope_within(x, y, contrast.treated),
            }
        )
    return pd.DataFrame(rows)


def _slope_within(
    prediction: NDArray[np.float64], truth: NDArray[np.float64], treated: NDArray[np.int64]
) -> float:
    """Slope of prediction on truth within the arms; NaN where the truth does not vary there."""
    along, cross = 0.0, 0.0
    for arm in (treated == 1, treated == 0):
        x, y = prediction[arm] - prediction[arm].mean(), truth[arm] - truth[arm].mean()
        along, cross = along + float(y @ y), cross + float(x @ y)
    return cross / along if along > 0 else float("nan")


def _difference(
    places: pd.DataFrame,
    outcome: NDArray[np.float64],
    card: CalibrationCard | None = None,
    method: str = "none",
) -> EffectResult:
    return estimate_effect(
        places.assign(outcome=outcome),
        outcome="outcome",
        treatment="treated",
        calibration=card,
        method=method,
        assumption="outcome" if card is None else "measurement",
        vcov={"CRV1": "cluster"},
    )
