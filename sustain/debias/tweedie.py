"""Correction by Tweedie's formula: add to a prediction what shrinkage took from it, read off the score."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sustain.debias.estimator import Calibration, check_line
from sustain.debias.mixture import Bins, choose_mixture, fit_mixtures, refit_mixtures
from sustain.debias.regression import fit_line, moments
from sustain.debias.sample import CalibrationSample
from sustain.debias.score import KernelScore, Score, kernel_bandwidth, kernel_score, scott_score
from sustain.debias.table import Grid, Table, ordered, share_changed, support_of, table_error
from sustain.errors import CalibrationError

__all__ = ["TweedieCalibration"]

Array = NDArray[np.float64]

_SCORES = ("mixture", "kde", "scott")


class TweedieCalibration(Calibration):
    """``h(x) = m(x) - sigma^2 s(m(x))``: recalibrated prediction less noise variance times its score.

    With Berkson errors, truth = m + e and e ~ N(0, sigma^2) independent of m, ``E[h | truth] = truth`` holds exactly
    for every smooth density of m: the score of the truth's density at y is the mean score of m given truth = y
    (Efron 2011, doi:10.1198/jasa.2011.tm11181; "One Map, Many Trials", arXiv:2508.01341). Unlike the linear
    correction it does not need E[prediction | truth] to be linear; it does need errors of one size, and a noise
    variance measured on rows that the model was not trained on.

    Parameters
    ----------
    score : {"mixture", "kde", "scott"}
        Estimator of the score: one to three Gaussians chosen by BIC; a variance-corrected kernel density; the
        plain kernel density with Scott's bandwidth, which is the published estimator.
    recalibrate : bool
        Whether first to replace the prediction by ``m(x) = E[truth | prediction = x]`` (a line). Without it, errors
        of level and scale in the predictions remain.
    monotone : bool
        Whether to project the correction on the nearest non-decreasing function, weighted by the density.
    bandwidth : float, optional
        Kernel standard deviation for ``score="kde"``, in the unit of the predictions; by default the
        normal-reference one for a derivative.
    variance_floor : float
        Least variance of a part of the mixture, as a share of the variance of the predictions. Narrower parts fit
        the density better and the score worse: they multiply noise by ``1 + sigma^2 / variance``.
    level, min_r2 : float
        As for `LinearCalibration`.

    Attributes
    ----------
    sigma_ : float
        Standard deviation of the truth given the prediction, less the labels' own noise.
    recalibration_ : tuple of float
        Intercept and slope of ``m``; (0, 1) without recalibration.
    score_ : MixtureScore or KernelScore
        Density of the predictions.
    share_changed_ : float
        Weighted share of the calibration predictions whose correction the monotone projection changed.
    support_ : tuple of float
        Between these predictions the score is used; beyond them the correction is a straight line with the slope
        of a normal density of the same variance (not for ``score="scott"``, which has no such guard).
    table_error_ : float
        Greatest difference between table and formula found inside the support.

    Notes
    -----
    ``score="scott", recalibrate=False, monotone=False`` is exactly the published estimator.
    """

    method: ClassVar[str] = "tweedie"

    def __init__(
        self,
        score: Literal["mixture", "kde", "scott"] = "mixture",
        recalibrate: bool = True,
        monotone: bool = True,
        bandwidth: float | None = None,
        variance_floor: float = 0.1,
        level: float = 0.95,
        min_r2: float = 0.1,
    ) -> None:
        self.score = score
        self.recalibrate = recalibrate
        self.monotone = monotone
        self.bandwidth = bandwidth
        self.variance_floor = variance_floor
        self.level = level
        self.min_r2 = min_r2

    def _check_parameters(self) -> None:
        if self.score not in _SCORES:
            raise CalibrationError(f"score: {self.score!r} is unknown. Pass one of {', '.join(_SCORES)}.")
        if self.bandwidth is not None and not (self.score == "kde" and self.bandwidth > 0):
            raise CalibrationError(
                f"bandwidth: {self.bandwidth!r} with score={self.score!r}. Pass a positive number with score='kde', "
                "or None."
            )
        if not 0 < self.variance_floor < 1:
            raise CalibrationError(f"variance_floor: {self.variance_floor!r} is not a share between 0 and 1.")

    def _fit_sample(self, sample: CalibrationSample, noise: float) -> None:
        x, y, weight = sample.y_pred, sample.y_true, sample.weight
        line = fit_line(x, y, weight, sample.group)
        check_line(line, "truth on prediction", self.level, self.min_r2)
        if self.recalibrate:
            self.recalibration_ = (line.intercept, line.slope)
            variance = line.sigma**2
        else:
            self.recalibration_ = (0.0, 1.0)
            error = y - x
            variance = float(np.average((error - np.average(error, weights=weight)) ** 2, weights=weight))
        if noise > variance:
            raise CalibrationError(
                f"target_noise_var: {noise:g} exceeds {variance:g}, the variance of the labels about the "
                "predictions. Give the variance of the labels' sampling error, in squared units of the label."
            )
        self._sample = sample
        self.target_noise_var_ = noise
        self.truth_on_prediction_ = line
        self.prediction_on_truth_ = fit_line(y, x, weight, sample.group, noise)
        self.sigma_ = math.sqrt(variance - noise)
        self.r2_, self.n_, self.n_groups_ = line.r2, line.n, sample.n_groups
        self.support_ = support_of(x, weight)
        self._variance_x = float(np.average((x - np.average(x, weights=weight)) ** 2, weights=weight))
        self.score_ = self._fit_score(x, weight)
        self.table_, self.table_error_ = self._tabulate(self._grid(2049 if self.score == "scott" else 0))
        raw = self.exact(self.table_.grid.x) if self.monotone else self.table_.h
        self.share_changed_ = share_changed(self.table_, raw, x, weight)

    def _fit_score(self, x: Array, weight: Array) -> Score:
        if self.score == "scott":
            return scott_score(x, weight)
        n = self._sample.n_effective
        self._bins = Bins.of(x, weight, n_bins=512 if self.score == "mixture" else 1024)
        mass = self._bins.mass(weight)
        if self.score == "kde":
            bandwidth = self.bandwidth or kernel_bandwidth(x, weight)
            return kernel_score(self._bins.centre, mass, bandwidth)
        self._mixtures = fit_mixtures(self._bins, mass * (n / mass.sum()), self.variance_floor)
        return choose_mixture(self._mixtures, n)

    def exact(self, y_pred: Any) -> Array:
        """Evaluate the formula itself at `y_pred` (shape (n,)): no table and no monotone projection.

        Its cost grows with the calibration sample when the score is a kernel density.
        """
        x = np.asarray(y_pred, dtype=np.float64)
        low, high = (-np.inf, np.inf) if self.score == "scott" else self.support_
        return _curve(x, self.score_, *self.recalibration_, self.sigma_**2, self._variance_x, low, high)

    def _notes(self) -> dict[str, float]:
        return {"sigma": self.sigma_, "share_changed": self.share_changed_}

    def _grid(self, n: int = 0) -> Grid:
        if self.score != "scott" or not isinstance(self.score_, KernelScore):
            return super()._grid()
        reach = 4 * self.score_.bandwidth
        return Grid(self._sample.y_pred.min() - reach, self._sample.y_pred.max() + reach, n or 1025)

    def _tabulate(self, grid: Grid) -> tuple[Table, float]:
        raw = self.exact(grid.x)
        return Table(grid, self._ordered(raw, self.score_, grid)), table_error(grid, raw, self.exact)

    def _ordered(self, h: Array, score: Score, grid: Grid) -> Array:
        if not self.monotone:
            return h
        density = score.density(grid.x)
        return ordered(h, np.maximum(density, 1e-9 * density.max()))

    def _bootstrap(self, counts: Array, grid: Grid) -> Array:
        s = self._sample
        low, high = (-np.inf, np.inf) if self.score == "scott" else self.support_
        m = moments(s.y_pred, s.y_true, s.weight, s.group, counts)
        if self.recalibrate:
            slope = m.cov_xy / m.var_x
            intercept = m.mean_y - slope * m.mean_x
            variance = (m.var_y - slope * m.cov_xy) * (s.n / (s.n - 2))
        else:
            slope, intercept = np.ones(len(counts)), np.zeros(len(counts))
            variance = m.var_x + m.var_y - 2 * m.cov_xy
        variance = np.maximum(variance - self.target_noise_var_, 0.0)
        curves = np.empty((len(counts), grid.n))
        for i, score in enumerate(self._resampled_scores(counts)):
            raw = _curve(grid.x, score, intercept[i], slope[i], variance[i], m.var_x[i], low, high)
            curves[i] = self._ordered(raw, score, grid)
        return curves

    def _resampled_scores(self, counts: Array) -> list[Score]:
        s = self._sample
        n = s.n_effective
        bins = Bins.of(s.y_pred, s.weight, n_bins=2048) if self.score == "scott" else self._bins
        rows = counts if s.group is None else counts[:, s.group]
        masses = np.stack([bins.mass(s.weight * row) for row in rows])
        masses *= n / masses.sum(axis=1, keepdims=True)
        if self.score == "mixture":
            fits = refit_mixtures(bins, masses, self._mixtures, self.variance_floor)
            return [choose_mixture(fits, n, i) for i in range(len(masses))]
        scores: list[Score] = []
        for mass in masses:
            if self.score == "scott":
                scores.append(scott_score(bins.centre, mass, n))
            else:
                bandwidth = self.bandwidth or kernel_bandwidth(bins.centre, mass, n)
                scores.append(kernel_score(bins.centre, mass, bandwidth))
        return scores


def _curve(
    x: Array,
    score: Score,
    intercept: float,
    slope: float,
    noise: float,
    variance: float,
    low: float,
    high: float,
) -> Array:
    """Tweedie's correction at `x`, straight beyond [low, high].

    The score is that of the predictions themselves; that of ``m = intercept + slope * x`` is ``score(x) / slope``.
    """
    inside = np.clip(x, low, high)
    shrinkage = noise / slope
    h = intercept + slope * inside - shrinkage * score.score(inside)
    return np.asarray(h + (slope + shrinkage / variance) * (x - inside))
