"""The calibration sample: labels beside out-of-sample predictions, checked once on the way in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError
from sustain.stats.columns import ColumnReader

__all__ = ["MIN_PAIRS", "CalibrationSample", "as_sample", "noise_variance", "read"]

Array = NDArray[np.float64]

read = ColumnReader(CalibrationError)
"""Reads every column that is passed to a calibration."""

MIN_PAIRS = 20
"""Fewer pairs than this are refused: the slope of so small a sample is mostly noise."""


@dataclass(frozen=True)
class CalibrationSample:
    """Checked calibration rows.

    Attributes
    ----------
    y_pred, y_true : ndarray, shape (n,), float64
        Predictions and labels, in the target's unit.
    weight : ndarray, shape (n,), float64
        Sampling weights, scaled to a mean of one.
    group : ndarray, shape (n,), int, or None
        Cluster of each row, as codes ``0 .. n_groups - 1``.
    stratum : ndarray, shape (n,), int, or None
        Stratum of each row, as codes into `stratum_names`.
    stratum_names : tuple of str
        Names of the strata, sorted.
    """

    y_pred: Array
    y_true: Array
    weight: Array
    group: NDArray[np.intp] | None = None
    stratum: NDArray[np.intp] | None = None
    stratum_names: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of pairs."""
        return int(self.y_pred.size)

    @property
    def n_used(self) -> int:
        """Number of pairs whose weight is not zero."""
        return int(np.count_nonzero(self.weight))

    @property
    def n_groups(self) -> int | None:
        """Number of clusters, or None when rows are taken as independent."""
        return None if self.group is None else int(self.group.max()) + 1

    @property
    def n_groups_used(self) -> int | None:
        """Number of clusters of pairs whose weight is not zero, or None when rows are taken as independent."""
        return None if self.group is None else int(np.unique(self.group[self.weight > 0]).size)

    @property
    def in_one_group(self) -> bool:
        """Whether all pairs that count lie in one cluster."""
        return self.n_groups_used in (0, 1)

    @property
    def n_effective(self) -> float:
        """Kish's effective sample size, ``(sum w)^2 / sum w^2``."""
        return float(self.weight.sum() ** 2 / np.square(self.weight).sum())

    def require_substance(self) -> None:
        """Raise `CalibrationError` on fewer than 20 pairs, or on predictions or labels that do not vary."""
        if self.n < MIN_PAIRS:
            raise CalibrationError(
                f"y_pred: {self.n} pairs are too few to calibrate with; at least {MIN_PAIRS} are needed."
            )
        if self.n_used < MIN_PAIRS:
            raise CalibrationError(
                f"sample_weight: only {self.n_used} weights are above zero; at least {MIN_PAIRS} pairs must count."
            )
        used = self.weight > 0
        for name, values in (("y_pred", self.y_pred[used]), ("y_true", self.y_true[used])):
            if np.ptp(values) <= 1e-12 * max(1e-300, float(np.abs(values).max())):
                raise CalibrationError(
                    f"{name}: every value is {values[0]:g}, so there is nothing to calibrate. Check the column."
                )

    def take(self, rows: NDArray[Any]) -> CalibrationSample:
        """Rows of the sample, as a sample; clusters are numbered afresh, strata keep their codes."""
        weight = self.weight[rows]
        mean = float(weight.mean()) if weight.any() else 1.0  # rows of no weight are refused later, by name
        group = None if self.group is None else np.unique(self.group[rows], return_inverse=True)[1]
        return CalibrationSample(
            self.y_pred[rows],
            self.y_true[rows],
            weight / mean,
            group,
            None if self.stratum is None else self.stratum[rows],
            self.stratum_names,
        )


def as_sample(
    y_pred: Any, y_true: Any, sample_weight: Any = None, groups: Any = None, strata: Any = None
) -> CalibrationSample:
    """Check calibration rows and put them into a `CalibrationSample`.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels of the same places.
    sample_weight : array_like, shape (n,), optional
        Non-negative sampling weights; only their ratios matter.
    groups : array_like, shape (n,), optional
        Cluster of each row (survey, spatial block, ...).
    strata : array_like, shape (n,), optional
        Stratum of each row (urban or rural, country, ...).

    Raises
    ------
    CalibrationError
        On fewer than 20 pairs, different lengths or (among pandas objects) indexes, missing, masked or infinite values,
        constant predictions or labels, or weights that are negative or all zero.
    """
    predictions = read.vector("y_pred", y_pred)
    n = predictions.size
    labels = read.vector("y_true", y_true, n)
    read.require_index_of(
        "y_pred", y_pred, y_true=y_true, sample_weight=sample_weight, groups=groups, strata=strata
    )
    weight = read.weights("sample_weight", sample_weight, n)
    stratum, names = (None, ()) if strata is None else read.labels("strata", strata, n)
    group = None if groups is None else read.labels("groups", groups, n).codes
    sample = CalibrationSample(predictions, labels, weight / weight.mean(), group, stratum, names)
    sample.require_substance()
    if sample.in_one_group:
        raise CalibrationError(
            "groups: all rows are in one group (or all that have a weight). Pass at least two clusters, or no groups."
        )
    return sample


def noise_variance(target_noise_var: float) -> float:
    """Check `target_noise_var`; raises `CalibrationError` unless it is one number, zero or more."""
    try:
        value = float(target_noise_var)
    except (TypeError, ValueError) as error:
        raise CalibrationError(
            f"target_noise_var: got {type(target_noise_var).__name__}, expected one variance for all labels, such as "
            "their mean sampling variance."
        ) from error
    if not (np.isfinite(value) and value >= 0):
        raise CalibrationError(
            f"target_noise_var: {target_noise_var!r} is not a variance. Pass zero or more."
        )
    return value
