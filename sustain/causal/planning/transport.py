"""Does a calibration carry over to a trial? What can be seen without labels there.

A trial's predictions may differ from the calibration's because its places are poorer or richer. Under measurement
stability that is harmless as long as they lie within the support; under outcome stability it is harmless when what a
prediction means is the same. So a difference refutes neither; it says how much rests on the assumption. What no
prediction can show is a slope of its own: for that the card knows how much slopes differed between its groups.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.correction.card import load_card
from sustain.causal.estimate import Note
from sustain.debias.sample import read
from sustain.errors import CalibrationError, EffectError, TransportWarning
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["TransportReport", "classifier_auc", "transport_checks"]

Floats = NDArray[np.float64]

ALIKE = 0.7
"""Area under the curve from which on the two samples count as different: a common reading of that number."""


@dataclass(frozen=True)
class TransportReport:
    """How a trial's predictions lie among those of the calibration sample.

    Attributes
    ----------
    n : int
        Trial units compared.
    share_outside : float
        Share of them outside the card's support.
    auc : float
        How well a classifier tells trial from calibration predictions: 0.5 not at all, 1 without error. NaN where the
        card holds no quantiles.
    shift : float
        Median of the trial's predictions less that of the calibration's, in spreads of the latter (its interquartile
        range over 1.349).
    slope, slope_sd, slope_std_error : float
        Slope of prediction on truth; how much it differs between the card's groups (NaN if unknown); its standard
        error.
    n_groups : int
        Groups that `slope_sd` rests on.
    notes : tuple of Note
    untreated : bool
        Whether treated units were left out.
    """

    n: int
    share_outside: float
    auc: float
    shift: float
    slope: float
    slope_sd: float
    slope_std_error: float
    n_groups: int
    notes: tuple[Note, ...]
    untreated: bool = False

    @property
    def slope_range(self) -> tuple[float, float]:
        """Range in which the slope of a new group lies with about 95%; NaN when the spread is unknown.

        By Student's t with the groups less one, of which the spread is known.
        """
        if math.isnan(self.slope_sd):
            return math.nan, math.nan
        half = critical_value(0.95, self.n_groups - 1) * math.hypot(self.slope_sd, self.slope_std_error)
        return self.slope - half, self.slope + half

    def summary(self) -> str:
        """Plain text."""
        lines = [
            f"Transport: {self.n} predictions of {'untreated ' if self.untreated else ''}trial units against the "
            "calibration sample's",
            f"  outside the support    {self.share_outside:.1%}",
            f"  classifier AUC         {self.auc:.2f} (0.5: the two are not told apart; 1: without error)",
            f"  shift                  {self.shift:+.2f} standard deviations",
        ]
        if not math.isnan(self.slope_sd):
            low, high = self.slope_range
            lines.append(
                f"  slope of a new group   {low:.2f} to {high:.2f} (slope {self.slope:.2f}, spread {self.slope_sd:.2f} "
                f"over {self.n_groups} groups)"
            )
        return "\n".join([*lines, *(f"  {note.kind}: {note}" for note in self.notes)])

    def __str__(self) -> str:
        return self.summary()


def transport_checks(
    y_pred: ArrayLike,
    card: CalibrationCard,
    *,
    treated: ArrayLike | None = None,
    y_pred_calibration: ArrayLike | None = None,
    seed: int = 0,
) -> TransportReport:
    """Compare a trial's predictions with those that the card was learned on.

    Parameters
    ----------
    y_pred : array_like, shape (n,)
        Raw predictions of the trial's units; NaN and masked ones are left out.
    card : CalibrationCard
        Its quantiles stand for the calibration's predictions.
    treated : array_like, shape (n,), optional
        0 and 1: only control units are compared, because the effect itself moves the others.
    y_pred_calibration : array_like, optional
        The calibration's predictions themselves, where they are at hand.
    seed : int
        Folds of the classifier.

    Returns
    -------
    TransportReport

    Warns
    -----
    TransportWarning
        When the samples are easily told apart, or much of the trial lies outside the support.
    """
    known = load_card(card)
    if known is None:
        raise EffectError("card: got None, expected the card that the predictions are to be compared with.")
    card = known
    values = _numbers(y_pred, "y_pred")
    if np.isinf(values).any():
        raise EffectError("y_pred: holds infinite values. Mark missing predictions as NaN.")
    if treated is not None:
        try:
            read.require_same_index("treated", treated, "y_pred", y_pred)
        except CalibrationError as error:
            raise EffectError(str(error)) from error
        arm = _numbers(treated, "treated")
        if arm.shape != values.shape:
            raise EffectError(f"treated: got shape {arm.shape} for {values.shape} predictions.")
        if not np.isin(arm, (0.0, 1.0)).all():
            raise EffectError("treated: must hold 0 and 1 only.")
        values = values[arm == 0]
    values = values[~np.isnan(values)]
    if values.ndim != 1 or values.size < 10:
        raise EffectError(f"y_pred: {values.size} usable predictions; 10 or more can be compared.")
    edges, shares = _calibration_bins(card, y_pred_calibration)
    auc = _binned_auc(values, edges, shares, seed) if edges.size else math.nan
    low, high = card.support
    outside = float(np.mean((values < low) | (values > high)))
    spread = card.slope_spread
    report = TransportReport(
        n=values.size,
        share_outside=outside,
        auc=auc,
        shift=_shift(values, edges, shares),
        slope=card.slope,
        slope_sd=math.nan if spread is None else spread.sd,
        slope_std_error=math.sqrt(card.slope_cov[1, 1]),
        n_groups=0 if spread is None else spread.n_groups,
        notes=(),
        untreated=treated is not None,
    )
    notes = _notes(report)
    for note in notes:
        if note.kind in ("auc", "support"):
            warnings.warn(str(note), TransportWarning, stacklevel=2)
    return replace(report, notes=tuple(notes))


def classifier_auc(
    calibration: Any, trial: Any, *, n_folds: int = 5, seed: int = 0, model: Any = None
) -> float:
    """Area under the curve of a classifier that tells trial rows from calibration rows, out of fold.

    For predictions together with covariates, where both samples are at hand.

    Parameters
    ----------
    calibration, trial : array_like or DataFrame, shape (n, k)
        Rows with the same columns.
    n_folds, seed : int
    model : scikit-learn classifier, optional
        By default boosted trees.

    Returns
    -------
    float
        0.5 when nothing tells them apart.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    first, second = (np.asarray(rows, dtype=float) for rows in (calibration, trial))
    first, second = (rows[:, None] if rows.ndim == 1 else rows for rows in (first, second))
    if first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2 * n_folds:
        raise EffectError(
            f"calibration, trial: shapes {first.shape} and {second.shape}; expected the same columns and at least "
            f"{2 * n_folds} rows each."
        )
    chosen = HistGradientBoostingClassifier(max_iter=50, random_state=seed) if model is None else model
    which = np.r_[np.zeros(len(first)), np.ones(len(second))]
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    score = cross_val_predict(chosen, np.vstack([first, second]), which, cv=folds, method="predict_proba")[
        :, 1
    ]
    return float(roc_auc_score(which, score))


def _numbers(values: ArrayLike, name: str) -> Floats:
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan)  # what lies under a mask is no value
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise EffectError(f"{name}: expected numbers ({error}).") from error


def _calibration_bins(card: CalibrationCard, y_pred: ArrayLike | None) -> tuple[Floats, Floats]:
    """Edges between bins, and the share of the calibration's predictions in each."""
    if y_pred is not None:
        known = _numbers(y_pred, "y_pred_calibration")
        edges = np.unique(np.quantile(known[~np.isnan(known)], np.arange(1, 20) / 20))
        counts = np.bincount(np.searchsorted(edges, known[~np.isnan(known)]), minlength=edges.size + 1)
        return edges, counts / counts.sum()
    if card.predictions is None or len(card.predictions.shares) < 2:
        return np.empty(0), np.ones(1)
    return np.array(card.predictions.values), np.diff([0.0, *card.predictions.shares, 1.0])


def _binned_auc(values: Floats, edges: Floats, shares: Floats, seed: int, n_folds: int = 5) -> float:
    """Score of a bin: how much more often the other folds' trial units fall in it than the calibration's do."""
    bins = np.searchsorted(edges, values)
    fold = np.random.default_rng(seed).permutation(values.size) % n_folds
    total = 0.0
    for number in range(n_folds):
        inside = fold == number
        others = (
            np.bincount(bins[~inside], minlength=shares.size) + 1.0
        )  # one more, so that no bin is impossible
        score = others / others.sum() / shares
        mine = score[bins[inside]]
        below = (shares * (score < mine[:, None])).sum(axis=1)
        same = (shares * (score == mine[:, None])).sum(axis=1)
        total += float((below + same / 2).sum())
    return total / values.size


def _shift(values: Floats, edges: Floats, shares: Floats) -> float:
    if edges.size < 3:
        return math.nan
    reached = np.cumsum(shares)[:-1]
    low, middle, high = np.interp([0.25, 0.5, 0.75], reached, edges)
    return float((np.median(values) - middle) / ((high - low) / 1.349))


def _notes(report: TransportReport) -> list[Note]:
    from sustain.debias.apply import EXPECTED_OUTSIDE

    notes = []
    if report.auc > ALIKE:
        notes.append(
            Note(
                "auc",
                f"Trial and calibration predictions are easily told apart (AUC {report.auc:.2f}, shift "
                f"{report.shift:+.2f} standard deviations). That alone refutes neither assumption, but the correction "
                "was learned elsewhere on the scale: prefer a stratum or a curve, and labels in the trial if there "
                "can be any.",
            )
        )
    if report.share_outside > EXPECTED_OUTSIDE:
        notes.append(
            Note(
                "support",
                f"{report.share_outside:.1%} of the trial's predictions lie outside the card's support.",
            )
        )
    if report.slope_sd > report.slope_std_error:
        notes.append(
            Note(
                "spread",
                f"Slopes differ between the card's groups by {report.slope_sd:.2f}, more than the slope's standard "
                f"error of {report.slope_std_error:.2f}. In a country that the card has not seen, pass "
                "transport='groups'.",
            )
        )
    return notes
