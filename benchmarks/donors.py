"""Donor-matched trials: every unit takes the truth and the prediction of another place of its population.

A treated unit takes those of the place whose truth is nearest to its own plus the effect, a control those of the place
nearest to its own: the effect reaches the predictions through the truth alone, with the errors of real predictions.
Needs the table yeh_dhs_incountry.parquet of published predictions beside the repository (../shared/data).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.stats.natural_spline import NaturalSpline, quantile_knots

TABLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "yeh_dhs_incountry.parquet"
UNITS = 800

Array = NDArray[np.float64]
Places = NDArray[np.intp]


def nearest_other(truth: Array, units: Places, shift: float) -> Places:
    """Place of the unit whose truth is nearest to ``truth[units] + shift``, never the unit itself; `truth` ascends."""
    wanted = truth[units] + shift
    right = np.searchsorted(truth, wanted)
    # The two nearest others lie among two places on either side.
    candidates = np.clip(right[:, None] + np.arange(-2, 2), 0, truth.size - 1)
    distance = np.abs(truth[candidates] - wanted[:, None])
    distance[candidates == units[:, None]] = np.inf
    return np.asarray(candidates[np.arange(units.size), distance.argmin(axis=1)])


@dataclass
class Pool:
    """The half of a population that trials are made in, in the order of truth.

    Attributes
    ----------
    index : ndarray of int
        Rows of the survey.
    truth, predicted : ndarray
        Of those rows.
    """

    index: Places
    truth: Array
    predicted: Array

    @classmethod
    def of(cls, survey: pd.DataFrame, inside: NDArray[np.bool_]) -> Pool:
        rows = np.flatnonzero(inside)
        rows = rows[np.argsort(survey["y_true"].to_numpy()[rows], kind="stable")]
        part = survey.iloc[rows]
        return cls(rows, part["y_true"].to_numpy(), part["y_pred"].to_numpy())

    def donors(self, tau: float) -> tuple[Places, Places]:
        """Donors of every unit as treated and as control."""
        everyone = np.arange(self.truth.size)
        return nearest_other(self.truth, everyone, tau), nearest_other(self.truth, everyone, 0.0)

    def smooth(self, values: Array) -> Array:
        """Regression of `values` on a spline in the truth."""
        knots = quantile_knots(self.truth, np.ones_like(self.truth), self.truth[0], self.truth[-1], 10)
        basis = np.linalg.qr(NaturalSpline.on(knots)(self.truth))[0]
        return np.asarray(basis @ (basis.T @ values))

    def trial(self, treated_donor: Places, control_donor: Places, rng: np.random.Generator) -> pd.DataFrame:
        """Table of one trial: wealth as predicted, treated, donor."""
        units = rng.integers(0, self.truth.size, UNITS)
        treated = rng.permutation(UNITS) < UNITS // 2
        donor = np.where(treated, treated_donor[units], control_donor[units])
        return pd.DataFrame({"wealth": self.predicted[donor], "treated": treated * 1, "donor": donor})
