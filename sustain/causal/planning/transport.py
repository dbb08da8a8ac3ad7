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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.correction.card import load_card
from sustain.causal.estimate import Note
from sustain.causal.trial.reader import read
from sustain.errors import EffectError, TransportWarning
from sustain.spelling import argument
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    from sustain.debias import CalibrationCard

__all__ = ["TransportReport", "classifier_auc", "transport_checks"]

Floats = NDArray[np.float64]

ALIKE = 0.7
"""Area under the curve from which on the two samples count as different: a common reading of that number."""

MIN_UNITS = 10
"""Fewer predictions are not compared."""

TIED = 1e-3
"""Quantiles nearer than this share of the range of all count as one value."""


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
        card holds no quantiles, or all of them are one value.
    shift : float
        Median of the trial's predictions less that of the calibration's, in spreads of the latter (its interquartile
        range over 1.349). NaN where half of the calibration's are one value.
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
            f"  classifier AUC         {_shown(self.auc, '.2f')} (0.5: the two are not told apart; 1: without error)",
            f"  shift                  {_shown(self.shift, '+.2f')} standard deviations",
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
    card: CalibrationCard | str | Path,
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
    card : CalibrationCard or path of one
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
    values = read.vector("y_pred", y_pred, missing=True)
    if treated is not None:
        read.require_same_index("treated", treated, "y_pred", y_pred)
        values = values[read.arms("treated", treated, values.size) == 0]
    values = values[~np.isnan(values)]
    if values.size < MIN_UNITS:
        raise EffectError(f"y_pred: {values.size} usable predictions; {MIN_UNITS} or more can be compared.")
    reference = _reference(card, y_pred_calibration)
    auc = _binned_auc(values, reference, seed) if reference.edges.size else math.nan
    low, high = card.support
    outside = float(np.mean((values < low) | (values > high)))
    spread = card.slope_spread
    report = TransportReport(
        n=values.size,
        share_outside=outside,
        auc=auc,
        shift=reference.shift(values),
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
        Rows with the same columns; those of two tables are matched by their names. Values may be missing if the model
        takes them, as the default does.
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

    if hasattr(calibration, "columns") and hasattr(trial, "columns"):
        read.require_columns(trial, calibration.columns)
        if len(trial.columns) == len(calibration.columns):
            trial = trial[list(calibration.columns)]
    first, second = _rows("calibration", calibration), _rows("trial", trial)
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


def _rows(name: str, rows: Any) -> Floats:
    """Covariates as a table; some may be missing."""
    if hasattr(rows, "columns"):
        columns = [
            read.vector(f"{name}[{column!r}]", rows.iloc[:, place], missing=True)
            for place, column in enumerate(rows.columns)
        ]
    else:
        table = np.ma.atleast_1d(rows) if isinstance(rows, np.ma.MaskedArray) else np.atleast_1d(rows)
        table = table[:, None] if table.ndim == 1 else table
        columns = [
            read.vector(f"column {place} of {name}", column, missing=True)
            for place, column in enumerate(np.moveaxis(table, -1, 0))
        ]
    return np.column_stack(columns) if columns else np.empty((len(rows), 0))


def _shown(value: float, form: str) -> str:
    return "unknown" if math.isnan(value) else f"{value:{form}}"


@dataclass(frozen=True)
class _Reference:
    """Where the calibration's predictions lie.

    Attributes
    ----------
    edges : ndarray, shape (m,)
        Values between bins, increasing; what equals one belongs to the bin below.
    shares : ndarray, shape (m + 1,)
        Share of the calibration's predictions in each bin, none of them zero.
    quartiles : ndarray, shape (3,)
        NaN where they are not known.
    """

    edges: Floats
    shares: Floats
    quartiles: Floats

    def shift(self, values: Floats) -> float:
        low, middle, high = self.quartiles
        return float((np.median(values) - middle) / ((high - low) / 1.349)) if high > low else math.nan


def _reference(card: CalibrationCard, y_pred: ArrayLike | None) -> _Reference:
    """Bins of the calibration's predictions, from themselves or from the card's quantiles."""
    quarters = np.array([0.25, 0.5, 0.75])
    if y_pred is not None:
        known = read.vector("y_pred_calibration", y_pred, missing=True)
        known = known[~np.isnan(known)]
        if known.size < MIN_UNITS:
            raise EffectError(
                f"y_pred_calibration: {known.size} usable predictions; {MIN_UNITS} or more can be compared with."
            )
        edges = np.unique(np.quantile(known, np.arange(1, 20) / 20, method="inverted_cdf"))
        edges = edges[edges < known.max()]
        counts = np.bincount(np.searchsorted(edges, known), minlength=edges.size + 1)
        return _Reference(edges, counts / counts.sum(), np.quantile(known, quarters))
    if card.predictions is None or len(card.predictions.shares) < 2:
        return _Reference(np.empty(0), np.ones(1), np.full(3, np.nan))
    values, reached = np.array(card.predictions.values), np.array(card.predictions.shares)
    quartiles = np.interp(quarters, reached, values) if values.size > 2 else np.full(3, np.nan)
    edges, reached = _without_ties(values, reached)
    return _Reference(edges, np.diff([0.0, *reached, 1.0]), quartiles)


def _without_ties(values: Floats, reached: Floats) -> tuple[Floats, Floats]:
    """Quantiles that lie between values which many predictions share.

    Quantiles that (almost) coincide stand for one value that many predictions have, of which they do not say how many
    lie just below and how many at it. Such a run is left out, so that the bins around it are one; between two runs that
    follow each other one edge is put halfway.
    """
    near = np.diff(values) <= TIED * (values[-1] - values[0])
    tied = np.append(near, False) | np.insert(near, 0, False)
    follow = np.flatnonzero(tied[:-1] & tied[1:] & ~near)
    edges = np.append(values[~tied], (values[follow] + values[follow + 1]) / 2)
    shares = np.append(reached[~tied], (reached[follow] + reached[follow + 1]) / 2)
    order = np.argsort(edges)
    return edges[order], shares[order]


def _binned_auc(values: Floats, reference: _Reference, seed: int, n_folds: int = 5) -> float:
    """Score of a bin: how much more often the other folds' trial units fall in it than the calibration's do."""
    shares = reference.shares
    bins = np.searchsorted(reference.edges, values)
    fold = np.random.default_rng(seed).permutation(values.size) % n_folds
    total = 0.0
    for number in range(n_folds):
        inside = fold == number
        # One more than there are, so that no bin is impossible.
        others = np.bincount(bins[~inside], minlength=shares.size) + 1.0
        score = others / others.sum() / shares
        mine = score[bins[inside]]
        below = (shares * (score < mine[:, None])).sum(axis=1)
        same = (shares * (score == mine[:, None])).sum(axis=1)
        total += float((below + same / 2).sum())
    return total / values.size


def _notes(report: TransportReport) -> list[Note]:
    from sustain.debias.apply import EXPECTED_OUTSIDE

    notes = []
    if report.auc > ALIKE:
        notes.append(
            Note(
                "auc",
                f"Trial and calibration predictions are easily told apart (AUC {report.auc:.2f}, shift "
                f"{_shown(report.shift, '+.2f')} standard deviations). That alone refutes neither assumption, but the "
                "correction was learned elsewhere on the scale: prefer a stratum or a curve, and labels in the trial "
                "if there can be any.",
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
                f"{argument('transport', 'groups')}.",
            )
        )
    return notes
