"""Units that are in the trial and in the calibration sample: the covariance of both parts of the error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimate import Estimate, Note
from sustain.causal.fit import FittedDesign
from sustain.causal.trial.reader import read
from sustain.errors import CardError, EffectError
from sustain.spelling import argument
from sustain.stats.keys import refuse_lookalikes
from sustain.stats.line import fit_line

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["Overlap"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """The rows that a card was built from, and the column by which a trial's units are known among them.

    Attributes
    ----------
    id : str
        Column of the trial's data and of `rows`.
    rows : DataFrame
        Calibration rows, as the card was built from them.
    y_pred, y_true, weights : str
        Columns of `rows`; `weights` may be None.
    """

    id: str
    rows: pd.DataFrame
    y_pred: str = "y_pred"
    y_true: str = "y_true"
    weights: str | None = None

    @classmethod
    def parse(cls, overlap: Mapping[str, Any]) -> Overlap:
        """Read the argument as `estimate_effect` documents it."""
        if not isinstance(overlap, Mapping) or not {"id", "rows"} <= set(overlap) <= set(cls.__annotations__):
            raise EffectError(
                f"overlap: got {sorted(map(str, overlap)) if isinstance(overlap, Mapping) else overlap!r}, expected "
                "{'id': column, 'rows': calibration rows} with, if named otherwise, y_pred, y_true and weights."
            )
        found = cls(**overlap)
        if not hasattr(found.rows, "columns"):
            raise EffectError(f"overlap: rows is {type(found.rows).__name__}, expected a pandas DataFrame.")
        named = (found.id, found.y_pred, found.y_true, *([found.weights] if found.weights else []))
        missing = [name for name in named if name not in found.rows.columns]
        if missing:
            raise EffectError(f"overlap: the calibration rows have no column {missing[0]!r}.")
        return found

    def applied(self, card: CalibrationCard, fitted: FittedDesign, end: Estimate) -> tuple[Estimate, Note]:
        """Corrected effect with the covariance of the trial's and the calibration's part of its error, and a note.

        Influences of both parts are summed within units, or within clusters where `vcov` clusters, and multiplied.

        Parameters
        ----------
        fitted : FittedDesign
        end : Estimate
            Corrected effect.

        Raises
        ------
        CardError
            When the rows are not those that the card was built from.
        EffectError
            When the correction is not the pooled linear one, `vcov` is spatial, or clusters by a column that the rows
            lack.
        """
        if end.method != "linear" or math.isnan(end.slope):
            raise EffectError(
                f"overlap: for the pooled linear correction only, not for {end.method!r}: a card's draws do not say "
                f"which row moved them. Leave the shared units out of the trial, or use {argument('method', 'linear')}."
            )
        units, vcov = fitted.units, fitted.vcov
        if vcov.kind in ("conley", "block") or len(vcov.columns) > 1:
            kind = vcov.kind if len(vcov.columns) < 2 or vcov.kind != "CRV1" else "two-way clustered"
            raise EffectError(
                f"overlap: not with a {kind} vcov. Cluster by one column that trial and calibration rows have, or "
                "leave the shared units out of the trial."
            )
        column = self.id if vcov.kind == "HC1" else vcov.columns[0]
        if column not in self.rows.columns:
            raise EffectError(
                f"overlap: the calibration rows have no column {column!r}, by which vcov clusters."
            )
        psi, on_slope = fitted.estimator.influence(units.outcome), self._slope_influence(card)
        ours, theirs = read.joint_labels(
            f"overlap: column {column!r}", units.extra[column], self.rows[column]
        )
        trial = np.bincount(ours.codes, psi, minlength=ours.n)
        calibration = np.bincount(theirs.codes, on_slope, minlength=ours.n)
        covariance = -end.estimate / end.slope**2 * float(trial @ calibration)
        ours, theirs = read.joint_labels(
            f"overlap: column {self.id!r}", units.extra[self.id], self.rows[self.id]
        )
        refuse_lookalikes(
            read,
            [ours.names[code] for code in np.unique(ours.codes)],
            [theirs.names[code] for code in np.unique(theirs.codes)],
            f"overlap: the trial's column {self.id!r}",
            "the calibration rows",
        )
        shared = int(np.isin(ours.codes, theirs.codes).sum())
        error = math.sqrt(max(0.0, end.variance + 2 * covariance))
        said = (
            f"{shared} of {units.n} units are in the calibration sample."
            if shared
            else f"None of the {units.n} units is in the calibration sample by {self.id!r}; where some should be, "
            "compare how both tables write it."
        )
        text = (
            f"{said} The covariance of trial and calibration takes the standard error from {end.std_error:.4g} to "
            f"{error:.4g}."
        )
        return replace(end, covariance=covariance), Note("overlap", text)

    def _slope_influence(self, card: CalibrationCard) -> Floats:
        table = self.rows
        if len(table) < card.sample.n:
            raise CardError(
                f"overlap: got {len(table)} calibration rows, but the card was built from {card.sample.n}. Pass all of "
                "them: each has a part in the error of the slope."
            )
        weight = read.weights(
            "overlap: weights", None if self.weights is None else table[self.weights], len(table)
        )
        line = fit_line(
            read.vector(f"overlap: column {self.y_true!r}", table[self.y_true]),
            read.vector(f"overlap: column {self.y_pred!r}", table[self.y_pred]),
            weight / weight.mean(),
            None,
            card.target_noise_var,
            EffectError,
        )
        if not math.isclose(line.slope, card.slope, rel_tol=1e-6):
            raise CardError(
                f"overlap: the calibration rows have slope {line.slope:.6g}, but the card's is {card.slope:.6g}. Pass "
                "the rows that the card was built from, with their weights."
            )
        return np.asarray(line.influence[:, 1])
