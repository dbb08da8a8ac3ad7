"""The calibration sample: labels beside out-of-sample predictions, checked once, and what is computed of them once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.label_noise import noise_of_rows, noise_variance
from sustain.debias.table import support_of
from sustain.errors import AtomWarning, CalibrationError, WeakCalibrationWarning
from sustain.spelling import Placeholder, argument
from sustain.stats.atoms import atoms
from sustain.stats.columns import ColumnReader
from sustain.stats.combinations import columns_of, read_combinations
from sustain.stats.line import Line, fit_line

__all__ = ["MIN_PAIRS", "CalibrationSample", "as_sample", "read", "warn_of", "weak_slopes"]

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

read = ColumnReader(CalibrationError)
"""Reads every column that is passed to a calibration."""

MIN_PAIRS = 20
"""Fewer pairs than this are refused: the slope of so small a sample is mostly noise."""

FEW_PAIRS = 100
"""Fewer pairs than this are warned of."""

WEAK_R2 = 0.2
"""Predictions that explain less of the labels' variance than this are warned of, wherever they are used."""

USELESS_R2 = 0.1
"""Less than this, and without groups, no card is built: a slope this loose is that of the sample's places alone."""

WEAK_RELIABILITY = 0.6
"""Labels of a reliability below this are warned of: the response behind them is no nearer the truth than a line."""

WEAK_SLOPE = 0.2
"""A slope of prediction on truth below this is warned of: its correction multiplies noise by five or more."""


@dataclass(frozen=True)
class CalibrationSample:
    """Checked calibration rows, all of some weight; lines, support and strata are computed when asked for, and kept.

    Attributes
    ----------
    y_pred, y_true : ndarray, shape (n,), float64
        Predictions and labels, in the target's unit.
    weight : ndarray, shape (n,), float64
        Sampling weights above zero, scaled to a mean of one.
    group : ndarray, shape (n,), int, or None
        Cluster of each row, as codes ``0 .. n_groups - 1``.
    stratum : ndarray, shape (n,), int, or None
        Stratum of each row, as codes into `stratum_names`.
    stratum_names : tuple of str
        Names of the strata, sorted.
    stratum_parts : tuple of tuple of str
        The labels of each stratum: one for each column of them, from coarse to fine.
    noise : float
        Variance of the labels' own sampling error; the mean over rows where they differ.
    index : pandas.Index or None
        Index of the columns as they were passed, against which later columns are checked.
    passed : ndarray of bool, shape (n_passed,), or None
        Which of the rows that were passed are in the sample; None for all of them. Rows of no weight are not, so that
        nothing that is computed of a sample can count them. Later columns have all the rows: see `kept`.
    noise_rows : ndarray, shape (n,), or None
        Variance of each label's sampling error; None where it is one for all.
    """

    y_pred: Array
    y_true: Array
    weight: Array
    group: Codes | None = None
    stratum: Codes | None = None
    stratum_names: tuple[str, ...] = ()
    noise: float = 0.0
    index: Any = None
    passed: NDArray[np.bool_] | None = None
    noise_rows: Array | None = None
    stratum_parts: tuple[tuple[str, ...], ...] = ()

    @property
    def n(self) -> int:
        """Number of pairs."""
        return int(self.y_pred.size)

    @property
    def n_passed(self) -> int:
        """Number of pairs that were passed, those of no weight too: the length of any column beside them."""
        return self.n if self.passed is None else self.passed.size

    def kept(self, column: NDArray[Any]) -> NDArray[Any]:
        """Rows of the sample of a column that was passed beside it, shape (n_passed,)."""
        return column if self.passed is None else column[self.passed]

    @property
    def n_groups(self) -> int | None:
        """Number of clusters, or None when rows are taken as independent."""
        return None if self.group is None else int(self.group.max(initial=-1)) + 1

    @property
    def in_one_group(self) -> bool:
        """Whether all pairs lie in one cluster."""
        return self.n_groups in (0, 1)

    @property
    def n_effective(self) -> float:
        """Kish's effective sample size, ``(sum w)^2 / sum w^2``."""
        return float(self.weight.sum() ** 2 / np.square(self.weight).sum())

    @cached_property
    def reliability(self) -> float:
        """Share of the labels' variance that is no sampling error, ``1 - noise / Var(label)``."""
        centre = np.average(self.y_true, weights=self.weight)
        return 1.0 - self.noise / float(np.average((self.y_true - centre) ** 2, weights=self.weight))

    @cached_property
    def prediction_on_truth(self) -> Line:
        """Line of the prediction on the truth, the labels' noise taken off.

        Clustered, unless all pairs lie in one cluster (as those of a stratum may). Raises `CalibrationError` where the
        labels vary less than their noise.
        """
        group = None if self.in_one_group else self.group
        return fit_line(self.y_true, self.y_pred, self.weight, group, self.noise, CalibrationError)

    @cached_property
    def truth_on_prediction(self) -> Line:
        """Line of the truth on the prediction."""
        group = None if self.in_one_group else self.group
        return fit_line(self.y_pred, self.y_true, self.weight, group, error=CalibrationError)

    @cached_property
    def support(self) -> tuple[float, float]:
        """Range of the predictions in which a correction is learned."""
        return support_of(self.y_pred, self.weight)

    @cached_property
    def strata(self) -> dict[str, CalibrationSample]:
        """Pairs of each stratum, as samples of their own; none where all of a stratum were without weight."""
        return {name: self.take(self._rows_of(code)) for code, name in enumerate(self.stratum_names)}

    @cached_property
    def strata_with_lines(self) -> dict[str, CalibrationSample]:
        """Strata of `MIN_PAIRS` pairs or more whose labels vary by more than their noise."""
        found = {}
        for name, part in self.strata.items():
            try:
                if part.n >= MIN_PAIRS and np.isfinite(part.prediction_on_truth.slope):
                    found[name] = part
            except CalibrationError:  # labels that vary less than their noise have no slope
                continue
        return found

    def groups_of(self, stratum: str) -> Codes:
        """Numbers in this sample of the groups (pairs, without groups) of one of `strata`, in their order there."""
        rows = self._rows_of(self.stratum_names.index(stratum))
        return rows if self.group is None else np.unique(self.group[rows])

    def _rows_of(self, code: int) -> Codes:
        return np.flatnonzero(self.stratum == code)

    @cached_property
    def weaknesses(self) -> dict[str, str]:
        """What makes any correction learned from this sample weak, in words by subject."""
        said = {}
        r2 = self.prediction_on_truth.r2
        if r2 < WEAK_R2:
            said["strength"] = (
                f"predictions explain {r2:.1%} of the variance of the labels, under {WEAK_R2:.0%}: too little to "
                "correct with, unless nothing better is to be had and intervals may be wide. Use a better model."
            )
        if self.reliability < WEAK_RELIABILITY:
            said["labels"] = (
                f"the labels' reliability is {self.reliability:.2f}, under {WEAK_RELIABILITY}: much of what they "
                "say is sampling error, and a response curve read back through it is no better than a line. Use "
                "labels from more households, and report method='linear' beside it."
            )
        if self.n < FEW_PAIRS:
            said["few pairs"] = (
                f"{self.n} calibration pairs are few: below {FEW_PAIRS} a correction is known too badly for its "
                "intervals to be trusted. Calibrate on more rows."
            )
        slopes = {"all pairs": self.prediction_on_truth.slope}
        slopes |= {
            f"stratum {name}": part.prediction_on_truth.slope for name, part in self.strata_with_lines.items()
        }
        said |= weak_slopes(slopes)
        for subject, values in (("predictions", self.y_pred), ("truth", self.y_true)):
            found = atoms(values, self.weight)
            if found:
                said[f"atoms in {subject}"] = _atoms_said(subject, values, found)
        return said

    def warn_of_weaknesses(self, stacklevel: int) -> None:
        """Warn of each of `weaknesses`, by `WeakCalibrationWarning` or, of atoms, `AtomWarning`."""
        warn_of(self.weaknesses, stacklevel + 1)

    def require_strength(self) -> None:
        """Raise `CalibrationError` on predictions that tell almost nothing, where no groups show how stable that is."""
        r2 = self.prediction_on_truth.r2
        if self.group is None and r2 < USELESS_R2:
            raise CalibrationError(
                f"y_pred: predictions explain {r2:.1%} of the variance of the labels, under {USELESS_R2:.0%}, and no "
                "groups are given. A slope this loose may be that of these places alone, so no card is made of it. "
                f"Use a better model, or pass {argument('groups', Placeholder('column'))} (surveys, spatial blocks), "
                "between which it must hold."
            )

    def require_substance(self) -> None:
        """Raise `CalibrationError` on fewer than 20 pairs, or on predictions or labels that do not vary."""
        _require_pairs(self.n)
        for name, values in (("y_pred", self.y_pred), ("y_true", self.y_true)):
            if np.ptp(values) <= 1e-12 * max(1e-300, float(np.abs(values).max())):
                raise CalibrationError(
                    f"{name}: every value is {values[0]:g}, so there is nothing to calibrate. Check the column."
                )

    def take(self, rows: NDArray[Any]) -> CalibrationSample:
        """Rows of the sample, as a sample; clusters are numbered afresh, strata keep their codes."""
        weight = self.weight[rows]
        mean = float(weight.mean()) if weight.size else 1.0  # no rows are refused later, by name
        group = None if self.group is None else np.unique(self.group[rows], return_inverse=True)[1]
        noise, noise_rows = self.noise, None
        if self.noise_rows is not None and weight.size:
            noise_rows = self.noise_rows[rows]
            noise = float(np.average(noise_rows, weights=weight))
        return CalibrationSample(
            self.y_pred[rows],
            self.y_true[rows],
            weight / mean,
            group,
            None if self.stratum is None else self.stratum[rows],
            self.stratum_names,
            noise,
            noise_rows=noise_rows,
            stratum_parts=self.stratum_parts,
        )


def as_sample(
    y_pred: Any,
    y_true: Any,
    sample_weight: Any = None,
    groups: Any = None,
    strata: Any = None,
    target_noise_var: Any = 0.0,
) -> CalibrationSample:
    """Check calibration rows and put them into a `CalibrationSample`.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels of the same places.
    sample_weight : array_like, shape (n,), optional
        Non-negative sampling weights; only their ratios matter. Rows of no weight are left out.
    groups : array_like, shape (n,), optional
        Cluster of each row (survey, spatial block, ...).
    strata : array_like, shape (n,), or several such columns, optional
        Stratum of each row (urban or rural, country, ...). Of several columns (a DataFrame, a mapping, a list of
        columns; from coarse to fine) every combination of labels is a stratum, named as
        `sustain.stats.combinations` says.
    target_noise_var : float or array_like, shape (n,)
        Variance of the labels' own sampling error, for all of them or for each. Methods other than the response curve
        take the mean.

    Raises
    ------
    CalibrationError
        On fewer than 20 pairs, different lengths or (among pandas objects) indexes, missing, masked or infinite values,
        constant predictions or labels, weights that are negative or all zero, or a noise that is no variance.
    """
    predictions = read.vector("y_pred", y_pred)
    n = predictions.size
    labels = read.vector("y_true", y_true, n)
    _require_pairs(n)  # first: of no rows, the mean of their noise is no number either
    index = read.require_one_index(
        y_pred=y_pred,
        y_true=y_true,
        sample_weight=sample_weight,
        groups=groups,
        target_noise_var=target_noise_var,
        **({} if strata is None else columns_of("strata", strata)),
    )
    weight = read.weights("sample_weight", sample_weight, n)
    stratum, names, parts = (None, (), ()) if strata is None else read_combinations(read, "strata", strata, n)
    group = None if groups is None else read.labels("groups", groups, n).codes
    noise_rows = noise_of_rows(target_noise_var, n)
    noise = noise_variance(target_noise_var) if noise_rows is None else 0.0
    passed = None
    if not weight.all():
        passed = weight > 0
        predictions, labels, weight = predictions[passed], labels[passed], weight[passed]
        group = None if group is None else np.unique(group[passed], return_inverse=True)[1]
        stratum = None if stratum is None else stratum[passed]
        noise_rows = None if noise_rows is None else noise_rows[passed]
        if weight.size < MIN_PAIRS:
            raise CalibrationError(
                f"sample_weight: only {weight.size} weights are above zero; at least {MIN_PAIRS} pairs must count."
            )
    if noise_rows is not None:
        noise = float(np.average(noise_rows, weights=weight))
        noise_rows = None if np.ptp(noise_rows) == 0 else noise_rows
    sample = CalibrationSample(
        predictions,
        labels,
        weight / weight.mean(),
        group,
        stratum,
        names,
        noise,
        index,
        passed,
        noise_rows,
        parts,
    )
    sample.require_substance()
    if sample.in_one_group:
        raise CalibrationError(
            "groups: all rows are in one group (or all that have a weight). Pass at least two clusters, or no groups."
        )
    return sample


def weak_slopes(slopes: Mapping[str, float]) -> dict[str, str]:
    """Weakness ``"weak slope"`` where a slope, by what it is the slope of, is above zero and below `WEAK_SLOPE`."""
    weak = {where: slope for where, slope in slopes.items() if 0 < slope < WEAK_SLOPE}
    if not weak:
        return {}
    told = ", ".join(f"{slope:.3g} ({where})" for where, slope in weak.items())
    return {
        "weak slope": f"the slope of prediction on truth is {told}: below {WEAK_SLOPE} a correction multiplies the "
        "noise of predictions by more than five. Use a better model, or expect intervals that say little."
    }


def warn_of(weaknesses: Mapping[str, str], stacklevel: int) -> None:
    """Warn of weaknesses, by `WeakCalibrationWarning` or, of atoms, `AtomWarning`."""
    for subject, sentence in weaknesses.items():
        kind = AtomWarning if subject.startswith("atoms") else WeakCalibrationWarning
        warnings.warn(f"{subject}: {sentence}", kind, stacklevel=stacklevel + 1)


def _atoms_said(subject: str, values: Array, found: list[tuple[float, float]]) -> str:
    """Say which values many rows have, and what that does; a value of fewer than `MIN_PAIRS` rows is not named."""
    told = []
    for value, share in sorted(found, key=lambda atom: -atom[1])[:3]:
        at = {values.min(): "the least, ", values.max(): "the greatest, "}.get(value, "")
        named = f"{value:.4g}" if np.count_nonzero(values == value) >= MIN_PAIRS else "one value"
        told.append(f"{share:.0%} of the rows at {at}{named}")
    if len(found) > 3:
        told.append(f"and of {len(found) - 3} more values, {sum(share for _, share in found):.0%} in all")
    meant = (
        "a place there can have any of many truths, which no correction tells apart"
        if subject == "predictions"
        else "no line and no smooth curve in truth describes predictions there, so that linear and Tweedie's "
        "corrections can be off in either direction, even where the naive effect is nearly right"
    )
    return (
        f"{', '.join(told)}, far more than beside it: {meant}. Report the naive effect beside a corrected one, or "
        "calibrate and estimate on the other rows, and say so."
    )


def _require_pairs(n: int) -> None:
    if n < MIN_PAIRS:
        raise CalibrationError(
            f"y_pred: {n} pairs are too few to calibrate with; at least {MIN_PAIRS} are needed."
        )
