"""Correction by a bridge function: the h whose mean, given the truth, is the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sustain.debias.estimator import Calibration, check_line
from sustain.debias.regression import Wald, fit_line, robust_covariance, wald_test
from sustain.debias.sample import CalibrationSample
from sustain.debias.spline import NaturalSpline, quantile_knots
from sustain.debias.table import Grid, Table, mass_on, ordered, share_changed, support_of, table_error
from sustain.errors import CalibrationError

__all__ = ["BridgeCalibration"]

Array = NDArray[np.float64]

N_FOLDS = 5
# Penalties are compared without the weight on shifts: with it the smoothest function wins too often. Less than the
# last is not tried: at ten thousand rows it meets the moments a little better and doubles the noise of h.
PENALTIES = 10.0 ** np.arange(1.0, -3.1, -0.5)
SHIFTS = (0.1, 0.5)  # of the truth, in its standard deviations: a small and a large effect
SHIFT_WEIGHT = 100.0  # of the moment of either, beside one for every other moment
_ROWS = 4096  # rows at a time when products of bases are summed


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
        cross-validation of the moments (folds of whole groups, where there are groups). Great values give the
        linear correction, but for the moments of the shifts.
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

    def _fit_sample(self, sample: CalibrationSample, noise: float) -> None:
        x, y, weight = sample.y_pred, sample.y_true, sample.weight
        line = fit_line(y, x, weight, sample.group, noise)
        check_line(line, "prediction on truth", self.level, self.min_r2)
        self._sample = sample
        self.target_noise_var_ = noise
        self.prediction_on_truth_ = line
        self.truth_on_prediction_ = fit_line(x, y, weight, sample.group)
        self.r2_, self.sigma_, self.n_, self.n_groups_ = line.r2, line.sigma, line.n, sample.n_groups
        self.support_ = support_of(x, weight)
        self._problem = Moments.of(sample, noise, self.support_, line.slope, self.n_knots)
        folds = self._problem.sums(_fold_counts(sample))
        self.penalty_ = self._choose_penalty(folds) if self.penalty is None else float(self.penalty)
        whole = folds.sum(axis=0, keepdims=True)
        self._values = self._problem.solve(whole, self.penalty_)[0]
        self.j_test_ = self._problem.j_test(sample)
        self.table_, self.table_error_ = self._tabulate(self._grid())
        self.share_changed_ = share_changed(self.table_, self.exact(self.table_.grid.x), x, weight)

    def _choose_penalty(self, folds: Array) -> float:
        """Penalty whose fit to the other folds meets the moments of the left-out fold best."""
        problem = self._problem
        others = folds.sum(axis=0) - folds
        loss = [
            problem.violation(folds, problem.solve(others, penalty, shift_weight=0.0))
            for penalty in PENALTIES
        ]
        return float(PENALTIES[int(np.argmin(loss))])

    def exact(self, y_pred: Any) -> Array:
        """Evaluate the spline itself at `y_pred` (shape (n,)): no table and no monotone projection."""
        curve: Array = self._problem.evaluate(np.asarray(y_pred, dtype=np.float64), self._values[None])[0]
        return curve

    def _tabulate(self, grid: Grid) -> tuple[Table, float]:
        raw = self.exact(grid.x)
        error = table_error(grid, raw, self.exact)
        return Table(grid, self._ordered(raw[None], grid)[0]), error

    def _ordered(self, curves: Array, grid: Grid) -> Array:
        if not self.monotone:
            return curves
        weight = mass_on(grid, self._sample.y_pred, self._sample.weight)
        return np.stack([ordered(curve, weight) for curve in curves])

    def _bootstrap(self, counts: Array, grid: Grid) -> Array:
        values = self._problem.solve(self._problem.sums(counts), self.penalty_)
        return self._ordered(self._problem.evaluate(grid.x, values), grid)

    def _influence_of(self, nodes: Array) -> Array:
        from sustain.debias.influence import bridge_influence

        return bridge_influence(self, nodes)

    def _notes(self) -> dict[str, float]:
        notes = {"penalty": self.penalty_, "share_changed": self.share_changed_}
        if self.j_test_ is not None and np.isfinite(self.j_test_.p_value):
            notes["j_test_p"] = self.j_test_.p_value
        return notes


@dataclass(frozen=True)
class Moments:
    """Moments of a bridge function in standardised units, as sums that any resample can be made of.

    With regressors B (splines in the prediction) and instruments q (one, the truth, splines in the truth), the
    moments of h = B c are ``E[q B'] c - E[q truth] + noise E[q']``.

    Attributes
    ----------
    centre_x, scale_x, centre_y, scale_y : float
        Standardisation.
    spline : NaturalSpline
        B, on the standardised prediction.
    tail_slope : float
        Slope of h beyond the outermost knots, that of the linear correction: there are too few rows to learn one.
    rows : CalibrationSample
        The sample, standardised.
    instruments, slopes : ndarray, shape (n, m)
        q and its derivative at every row.
    shifted : ndarray, shape (n, m, len(SHIFTS))
        Change of q at every row when its truth is moved by each shift, over the shift.
    noise : float
        Variance of the labels' error in standardised units.
    """

    centre_x: float
    scale_x: float
    centre_y: float
    scale_y: float
    spline: NaturalSpline
    tail_slope: float
    rows: CalibrationSample
    instruments: Array
    slopes: Array
    shifted: Array
    noise: float

    @classmethod
    def of(
        cls, sample: CalibrationSample, noise: float, support: tuple[float, float], slope: float, n_knots: int
    ) -> Moments:
        """Set the problem up for a sample."""
        weight = sample.weight
        centre_x, scale_x = _centre_and_scale(sample.y_pred, weight)
        centre_y, scale_y = _centre_and_scale(sample.y_true, weight)
        x, y = (sample.y_pred - centre_x) / scale_x, (sample.y_true - centre_y) / scale_y
        low, high = ((edge - centre_x) / scale_x for edge in support)
        spline = NaturalSpline.on(quantile_knots(x, weight, low, high, n_knots))
        truth_spline = NaturalSpline.on(quantile_knots(y, weight, *support_of(y, weight), n_knots + 2))

        def instruments(at: Array) -> Array:
            # The outer two functions of the spline are combinations of the others with one and the truth.
            return np.column_stack([np.ones_like(at), at, truth_spline(at)[:, 1:-1]])

        step = 1e-4
        slopes = (instruments(y + step) - instruments(y - step)) / (2 * step)
        rows = replace(sample, y_pred=x, y_true=y)
        values = instruments(y)
        room = np.maximum(truth_spline.knots[-1] - y, 0.0)
        shifted = np.stack([(instruments(y + np.minimum(t, room)) - values) / t for t in SHIFTS], axis=2)
        tail = scale_x / scale_y / slope
        noise /= scale_y**2
        return cls(centre_x, scale_x, centre_y, scale_y, spline, tail, rows, values, slopes, shifted, noise)

    def sums(self, counts: Array) -> Array:
        """Sum the products of instruments with (B, truth, instruments), and their shifts, by resample.

        Parameters
        ----------
        counts : ndarray, shape (n_draws, n_groups)
            How often each group (row, without groups) is counted.

        Returns
        -------
        ndarray, shape (n_draws, m, k + 1 + m + len(SHIFTS))
        """
        rows, q = self.rows, self.instruments
        m, k = q.shape[1], self.spline.knots.size
        width = k + 1 + m + len(SHIFTS)
        total = np.zeros((len(counts), m * width))
        for begin in range(0, rows.n, _ROWS):
            part = slice(begin, begin + _ROWS)
            products = self._products(part)
            number = np.arange(rows.n)[part] if rows.group is None else rows.group[part]
            total += counts[:, number] @ products.reshape(len(products), -1)
        return total.reshape(len(counts), m, width)

    def _products(self, part: slice) -> Array:
        """Terms of `sums`, one a row."""
        rows, q = self.rows, self.instruments
        m, k = q.shape[1], self.spline.knots.size
        basis, tail = self._basis(rows.y_pred[part])
        other = np.column_stack([basis, rows.y_true[part] - tail, q[part]])
        products = np.empty((len(other), m, k + 1 + m + len(SHIFTS)))
        np.multiply(q[part][:, :, None], other[:, None, :], out=products[:, :, : k + 1 + m])
        products[:, :, k] -= self.noise * self.slopes[part]
        products[:, :, k + 1 + m :] = self.shifted[part]
        products *= rows.weight[part][:, None, None]
        return products

    def along(self, direction: Array) -> Array:
        """Sum of every row's own terms of `sums` times `direction` (shape (m, width)), shape (n,)."""
        starts = range(0, self.rows.n, _ROWS)
        parts = [np.einsum("nij,ij->n", self._products(slice(i, i + _ROWS)), direction) for i in starts]
        return np.concatenate(parts)

    def _split(self, sums: Array) -> tuple[Array, Array, Array]:
        """Moments of B, of the truth and of the shifts by instruments made orthonormal in each resample."""
        m, k = self.instruments.shape[1], self.spline.knots.size
        mean = sums / sums[:, :1, k + 1 : k + 2]
        gram = mean[:, :, k + 1 : k + 1 + m]
        ridge = 1e-10 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(m)
        solved: Array = np.linalg.solve(np.linalg.cholesky(gram + ridge), mean).astype(np.float64)
        return solved[:, :, :k], solved[:, :, k], solved[:, :, k + 1 + m :]

    def solve(self, sums: Array, penalty: float, shift_weight: float = SHIFT_WEIGHT) -> Array:
        """Values of h at the knots (standardised) for every resample, shape (n_draws, k).

        They make ``|Q (b h - r)|^2 + penalty * roughness`` least, where the rows of Q are the instruments and the
        root of `shift_weight` times each shift, under level and slope (Lagrange multipliers).
        """
        b, r, shifts = self._split(sums)
        k, level = self.spline.knots.size, 2
        extra = np.sqrt(shift_weight) * np.swapaxes(shifts, 1, 2)
        all_b, all_r = (
            np.concatenate([b, extra @ b], axis=1),
            np.concatenate([r[:, :, None], extra @ r[:, :, None]], axis=1),
        )
        system = np.zeros((len(sums), k + level, k + level))
        system[:, :k, :k] = np.swapaxes(all_b, 1, 2) @ all_b + penalty * self.spline.roughness
        system[:, :k, k:] = np.swapaxes(b[:, :level], 1, 2)
        system[:, k:, :k] = b[:, :level]
        right = np.concatenate([np.swapaxes(all_b, 1, 2) @ all_r, r[:, :level, None]], axis=1)
        return np.asarray(np.linalg.solve(system, right)[:, :k, 0])

    def violation(self, sums: Array, values: Array) -> float:
        """Squared length of the moments of h, by the instruments that are orthonormal in each part; mean of parts."""
        b, r, _ = self._split(sums)
        return float(np.mean(np.sum((np.einsum("dik,dk->di", b, values) - r) ** 2, axis=1)))

    def evaluate(self, x: Array, values: Array) -> Array:
        """Evaluate h at predictions in their own unit, one row a draw."""
        basis, tail = self._basis((x - self.centre_x) / self.scale_x)
        return np.asarray(self.centre_y + self.scale_y * (values @ basis.T + tail))

    def _basis(self, x: Array) -> tuple[Array, Array]:
        """Basis at the nearest place within the knots, and what the straight tail adds beyond them."""
        inside = np.clip(x, self.spline.knots[0], self.spline.knots[-1])
        return self.spline(inside), self.tail_slope * (x - inside)

    def j_test(self, sample: CalibrationSample) -> Wald | None:
        """Test that the linear correction meets the moments of the spline instruments as well."""
        q, rows = self.instruments, self.rows
        if q.shape[1] < 3:
            return None
        weight, n = rows.weight[:, None], rows.n
        line = np.column_stack([np.ones(n), rows.y_pred])
        crossed = (q * weight).T @ line / n
        target = ((q * rows.y_true[:, None] - self.noise * self.slopes) * weight).mean(axis=0)
        bread = np.linalg.inv(crossed[:2])
        coefficients = bread @ target[:2]
        error = line @ coefficients - rows.y_true
        pieces = (q * error[:, None] + self.noise * self.slopes) * weight
        # Moments left over, with the influence of the two estimated coefficients taken into account.
        left = pieces[:, 2:] - pieces[:, :2] @ (crossed[2:] @ bread).T
        moments = left.mean(axis=0)
        cov, df = robust_covariance(left - moments, rows.group)
        return wald_test(moments, cov, df)


def _centre_and_scale(x: Array, weight: Array) -> tuple[float, float]:
    centre = float(np.average(x, weights=weight))
    return centre, float(np.sqrt(np.average((x - centre) ** 2, weights=weight)))


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
