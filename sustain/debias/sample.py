"""The calibration sample: labels beside out-of-sample predictions, checked once on the way in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError

__all__ = [
    "MIN_PAIRS",
    "CalibrationSample",
    "as_codes",
    "as_sample",
    "as_vector",
    "noise_variance",
    "require_same_index",
]

Array = NDArray[np.float64]

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


def as_vector(name: str, values: Any, n: int | None = None) -> Array:
    """Check one column of finite numbers.

    Parameters
    ----------
    name : str
        Name of the argument, for the error.
    values : array_like, shape (n,)
        What the caller passed.
    n : int, optional
        Length that the column must have.

    Raises
    ------
    CalibrationError
        When `values` is not one-dimensional, not numeric, not finite, masked, or of another length.
    """
    _require_unmasked(name, values)
    kind = np.asarray(values).dtype
    if kind.kind in "mM":
        raise CalibrationError(f"{name}: expected numbers, got {kind}. Pass numbers (such as years).")
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{name}: expected numbers, got {type(values).__name__} ({error}).") from error
    if vector.ndim != 1:
        raise CalibrationError(f"{name}: expected one dimension, got shape {vector.shape}. Pass one column.")
    if n is not None and vector.size != n:
        raise CalibrationError(
            f"{name}: has {vector.size} values, but y_pred has {n}. Pass one value per pair."
        )
    bad = ~np.isfinite(vector)
    if bad.any():
        raise CalibrationError(
            f"{name}: {int(bad.sum())} of {vector.size} values are NaN or infinite "
            f"(first at row {int(bad.argmax())}). Drop those rows before calibrating."
        )
    return vector


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
        Cluster of each row (survey, spatial block, ...), of any hashable, sortable kind.
    strata : array_like, shape (n,), optional
        Stratum of each row (urban or rural, country, ...).

    Raises
    ------
    CalibrationError
        On fewer than 20 pairs, different lengths or (among pandas objects) indexes, missing, masked or infinite values,
        constant predictions or labels, or weights that are negative or all zero.
    """
    predictions = as_vector("y_pred", y_pred)
    labels = as_vector("y_true", y_true, predictions.size)
    beside = {"y_true": y_true, "sample_weight": sample_weight, "groups": groups, "strata": strata}
    for name, values in beside.items():
        require_same_index(name, values, "y_pred", y_pred)
    n = predictions.size
    weight = _weights(sample_weight, n)
    stratum, names = (None, ()) if strata is None else as_codes("strata", strata, n)
    group = None if groups is None else as_codes("groups", groups, n)[0]
    sample = CalibrationSample(predictions, labels, weight, group, stratum, names)
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


def _weights(sample_weight: Any, n: int) -> Array:
    if sample_weight is None:
        return np.ones(n)
    weight = as_vector("sample_weight", sample_weight, n)
    if (weight < 0).any():
        raise CalibrationError(
            f"sample_weight: {int((weight < 0).sum())} weights are negative (least {weight.min():g}). "
            "Pass weights of zero or more."
        )
    if not weight.any():
        raise CalibrationError(f"sample_weight: all {n} weights are zero. Pass some above zero.")
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def as_codes(name: str, labels: Any, n: int) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Codes ``0, 1, ...`` of `labels`, and the names that they stand for, sorted as text.

    Raises
    ------
    CalibrationError
        When there is not one label a row, or some are missing or masked.
    """
    _require_unmasked(name, labels)
    values = np.asarray(labels)
    if values.shape != (n,):
        raise CalibrationError(
            f"{name}: has shape {values.shape}, but y_pred has {n} rows. Pass one per pair."
        )
    # Codes are taken from text, so that mixed kinds sort; a missing value would become a cluster called "nan".
    if values.dtype.kind == "O":
        import pandas as pd  # knows every kind of missing value; numbers and plain text need it not

        missing = pd.isna(values)
    else:
        missing = values != values
    if np.any(missing):
        raise CalibrationError(
            f"{name}: {int(np.sum(missing))} values are missing. Give one for every row, or drop those rows."
        )
    names, codes = np.unique(values.astype(str), return_inverse=True)
    return codes.astype(np.intp), tuple(str(item) for item in names)


def require_same_index(name: str, values: Any, other_name: str, other: Any) -> None:
    """Raise `CalibrationError` when both are pandas objects with different indexes.

    Rows are matched by position, so that two columns in a different order would be paired wrongly without a sign.
    """
    left: Any = getattr(values, "index", None)
    right: Any = getattr(other, "index", None)
    if hasattr(left, "equals") and hasattr(right, "equals") and not left.equals(right):
        raise CalibrationError(
            f"{other_name} and {name} are pandas objects with different indexes. Align them first "
            f"(for example {name}.loc[{other_name}.index]), or pass .to_numpy() of both."
        )


def _require_unmasked(name: str, values: Any) -> None:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise CalibrationError(
            f"{name}: {int(np.ma.getmaskarray(values).sum())} of {values.size} values are masked. Leave these rows out "
            "of all columns; what lies under a mask is no value."
        )
