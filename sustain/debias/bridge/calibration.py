"""Correction by a bridge function: the h whose mean, given the truth, is the truth."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sustain.debias.base import Calibration, check_line
from sustain.debias.bridge.moments import BridgeMoments
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes, Table, mass_on, ordered, share_changed, table_error
from sustain.errors import CalibrationError

__all__ = ["BridgeCalibration"]

Array = NDArray[np.float64]

N_FOLDS = 5
# Penalties are compared without the weight on shifts: with it the smoothest function wins too often. Less than the
# last is not tried: at ten thousand rows it meets the moments a little better and doubles the noise of h.
PENALTIES = 10.0 ** np.arange(1.0, -3.1, -0.5)
# Standard errors by which a greater penalty must be worse to be passed over, where labels have noise. Their moments
# hold derivatives of the instruments times the noise, which make the comparison itself noisy; the least loss then often
# goes to a penalty that is much too small: at a reliability of 0.6 and 400 rows, effects 25% too large, and seven times
# as variable as those of the straight line that is right there.
CLEARLY = 3.0


class BridgeCalibration(Calibration):
    """``h`` with ``E[h(prediction) - truth | truth] = 0``, as a penalised natural spline.

    Under measurement stability, P(prediction | truth) being the same in the trial, the mean of a bridge function in
    any arm is the mean truth, whatever the shape and size of the errors: nothing need be linear, normal or of one
    size. Predictions are the regressors and functions of the truth the instruments (nonparametric instrumental
    variables; Newey & Powell 2003, doi:10.1111/1468-0262.00459). The linear correction is the case of a straight h.

    Four moments are what most effects need. Two hold exactly, as they do for the linear correction: the level,
    ``E[h] = E[truth]``, and the slope of h on truth, one. Two are weighed a hundredfold: when the truth of everyone
    rises by a tenth, or by half, of its standard deviation (of nobody beyond the outermost knots), ``E[h | truth]``
    rises by as much on average, so that an effect which adds the same to everyone is recovered, be it small or
    large. ``E[h | truth]`` is there the regression of h on the instruments; as the shift goes to zero this is the
    average derivative of a series regression (Newey 1997, doi:10.1016/S0304-4076(97)00011-0). All other moments of
    the spline in the truth are met as far as a penalty on the roughness of h allows; the straight line, which is not
    rough, is what a great penalty leaves. Noise in the labels is taken as normal: then
    ``E[q(label) error] = var E[q'(label)]`` for every instrument q (Stein's lemma), which is taken off the moments.

    Parameters
    ----------
    penalty : float, optional
        Weight of the roughness, in units of the standardised prediction; by default chosen by five-fold
        cross-validation of the moments (folds of whole groups, where there are groups): the one with the least loss, or
        with `target_noise_var` the greatest whose loss is not clearly above the least. Great values give the linear
        correction, but for the moments of the shifts.
    n_knots : int
        Knots of h; the truth gets two more.
    monotone : bool
        Whether to project h on the nearest non-decreasing function, weighted by the density of the predictions.
    level, min_r2 : float
        As for `LinearCalibration`.

    Attributes
    ----------
    penalty_ : float
        Penalty used.
    j_test_ : Wald or None
        Test of the linear correction against a curved bridge, by the moments that the line leaves over (Hansen
        1982); None when the truth takes too few values.
    share_changed_ : float
        Weighted share of the calibration predictions whose correction the monotone projection changed.
    support_, table_error_ : see `TweedieCalibration`
    """

    method: ClassVar[str] = "bridge"

    def __init__(
        self,
        penalty: float | None = None,
        n_knots: int = 12,
        monotone: bool = True,
        level: float = 0.95,
        min_r2: float = 0.1,
    ) -> None:
        self.penalty = penalty
        self.n_knots = n_knots
        self.monotone = monotone
        self.level = level
        self.min_r2 = min_r2

    def _check_parameters(self) -> None:
        if self.penalty is not None and not (np.isfinite(self.penalty) and self.penalty > 0):
            raise CalibrationError(f"penalty: {self.penalty!r} is not a positive number. Pass one, or None.")
        if self.n_knots < 3:
            raise CalibrationError(f"n_knots: {self.n_knots!r}; at least 3 knots are needed.")

    def _learn(self, sample: CalibrationSample) -> None:
        line = sample.prediction_on_truth
        check_line(line, "prediction on truth", self.level, self.min_r2)
        self.sigma_ = line.sigma
        self._problem = BridgeMoments.of(sample, self.n_knots)
        folds = self._problem.sums(_fold_counts(sample))
        self.penalty_ = self._choose_penalty(folds) if self.penalty is None else float(self.penalty)
        whole = folds.sum(axis=0, keepdims=True)
        self._values = self._problem.solve(whole, self.penalty_)[0]
        self.j_test_ = self._problem.j_test()
        self.table_, self.table_error_ = self.tabulate(self.nodes())
        raw = self.exact(self.table_.grid.x)
        self.share_changed_ = share_changed(self.table_, raw, sample.y_pred, sample.weight)

    def _choose_penalty(self, folds: Array) -> float:
        """Penalty whose fit to the other folds meets the moments of the left-out fold best.

        With noisy labels the greatest penalty that is not clearly worse than the best.
        """
        problem = self._problem
        others = folds.sum(axis=0) - folds
        loss = np.stack(
            [
                problem.violation(folds, problem.solve(others, penalty, shift_weight=0.0))
                for penalty in PENALTIES
            ]
        )
        best = int(np.argmin(loss.mean(axis=1)))
        if self._sample.noise > 0:
            behind = loss - loss[best]
            error = behind.std(axis=1, ddof=1) / np.sqrt(len(folds))
            best = int(np.flatnonzero(behind.mean(axis=1) <= CLEARLY * error)[0])  # of descending penalties
        return float(PENALTIES[best])

    def exact(self, y_pred: Any) -> Array:
        """Evaluate the spline itself at `y_pred` (shape (n,)): no table and no monotone projection."""
        curve: Array = self._problem.evaluate(np.asarray(y_pred, dtype=np.float64), self._values[None])[0]
        return curve

    def tabulate(self, grid: Nodes) -> tuple[Table, float]:
        """Evaluate the correction on `grid`, with the error of the table."""
        raw = self.exact(grid.x)
        error = table_error(grid, raw, self.exact)
        return Table(grid, self._ordered(raw[None], grid)[0]), error

    def _ordered(self, curves: Array, grid: Nodes) -> Array:
        if not self.monotone:
            return curves
        weight = mass_on(grid, self._sample.y_pred, self._sample.weight)
        return np.stack([ordered(curve, weight) for curve in curves])

    def bootstrap(self, counts: Array, grid: Nodes) -> Array:
        """Curves refitted on resampled groups, shape (n_draws, grid.n)."""
        values = self._problem.solve(self._problem.sums(counts), self.penalty_)
        return self._ordered(self._problem.evaluate(grid.x, values), grid)

    def notes(self) -> dict[str, float]:
        """Numbers about the fit that a reader of the card should see."""
        notes = {"penalty": self.penalty_, "share_changed": self.share_changed_}
        if self.j_test_ is not None and np.isfinite(self.j_test_.p_value):
            notes["j_test_p"] = self.j_test_.p_value
        return notes


def _fold_counts(sample: CalibrationSample) -> Array:
    """Five folds (fewer where there are fewer groups) as counts of groups, shape (n_folds, n_groups).

    Rows are dealt out in the order of the truth.
    """
    if sample.group is not None:
        n_groups = int(sample.group.max()) + 1
        n_folds = min(N_FOLDS, n_groups)
        fold = np.arange(n_groups) % n_folds
    else:
        n_folds, fold = N_FOLDS, np.empty(sample.n, dtype=np.intp)
        fold[np.lexsort((sample.y_pred, sample.y_true))] = np.arange(sample.n) % N_FOLDS
    return np.asarray(fold == np.arange(n_folds)[:, None], dtype=np.float64)
