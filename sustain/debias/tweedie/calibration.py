"""Correction by Tweedie's formula: add to a prediction what shrinkage took from it, read off the score."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sustain.debias.base import Calibration, check_line
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes, Table, ordered, share_changed, table_error
from sustain.debias.tweedie.error_variance import NoiseVariance, fit_noise, mean_ratio, prefers_one_size
from sustain.debias.tweedie.mixture import Bins, choose_mixture, fit_mixtures, refit_mixtures
from sustain.debias.tweedie.score import (
    KernelScore,
    MixtureScore,
    Score,
    kernel_bandwidth,
    kernel_score,
    scott_score,
)
from sustain.errors import CalibrationError, WeakCalibrationWarning
from sustain.stats.covariance import critical_value, robust_or_clustered
from sustain.stats.line import fit_line, weighted_moments

__all__ = ["TweedieCalibration", "TweedieFormula"]

Array = NDArray[np.float64]

_SCORES = ("mixture", "kde", "scott")
RUNAWAY = 1.5
"""Where v averages to more than this times the variance of all errors, a log-quadratic v does not describe them."""
OFF_SCALE = 0.2
"""A slope of the corrected predictions on the labels that differs from one by more than this is warned of."""
OFF_LEVEL = 0.05
"""A mean of the corrected predictions further than this from that of the labels is warned of, in sd of the labels."""
SMOOTHING = 0.25
"""Standard deviation, as a share of that of the errors, by which a mixture is smoothed before it is differentiated."""


@dataclass(frozen=True)
class TweedieFormula:
    """Tweedie's correction with all its parts estimated.

    The score and the noise are functions of the prediction x itself, not of ``m = intercept + slope * x``.

    Attributes
    ----------
    intercept, slope : float
        Of ``m``.
    noise : NoiseVariance
        Variance of the truth given the prediction.
    score : Score
        Density of the predictions.
    variance : float
        Of the predictions; sets the slope beyond the support.
    low, high : float
        The support.
    second_order : bool
        Whether the term of second order in v is there.
    """

    intercept: float
    slope: float
    noise: NoiseVariance
    score: Score
    variance: float
    low: float
    high: float
    second_order: bool = False

    def __call__(self, x: Array) -> Array:
        """Evaluate at `x`; straight beyond the support."""
        inside = np.clip(x, self.low, self.high)
        s, v = self.score.score(inside), self.noise(inside)
        first, second = self.noise.log_derivatives(inside)
        h = self.intercept + self.slope * inside - v * (s + first) / self.slope
        if self.second_order:
            # (v v' p)'' / p, where v' = v first and v'' = v (first^2 + second).
            factor = first * (s**2 + self.score.slope(inside)) + 2 * s * (2 * first**2 + second)
            factor += 4 * first**3 + 6 * first * second
            h -= v**2 * factor / (2 * self.slope**3)
        tail = self.slope + self.noise.level / (self.slope * self.variance)
        return np.asarray(h + tail * (x - inside))


class TweedieCalibration(Calibration):
    """``h(x) = m(x) - v(x) s(m) - v'``: recalibrated prediction less noise variance times its score.

    With Berkson errors, truth = m + e and e ~ N(0, sigma^2) independent of m, ``E[h | truth] = truth`` holds exactly
    for every smooth density of m: the score of the truth's density at y is the mean score of m given truth = y
    (Efron 2011, doi:10.1198/jasa.2011.tm11181; "One Map, Many Trials", arXiv:2508.01341). Unlike the linear
    correction it does not need E[prediction | truth] to be linear; it does need errors that are nearly normal, and a
    noise variance measured on rows that the model was not trained on.

    Where the errors' variance v changes with the prediction, h is ``m - (v p)' / p = m - v s - v'`` to first order in
    v; the next term is ``(v v' p)'' / (2 p)``. All derivatives are with respect to m.

    Parameters
    ----------
    score : {"mixture", "kde", "scott"}
        Estimator of the score: one to three Gaussians chosen by BIC, smoothed by a quarter of the errors' standard
        deviation; a variance-corrected kernel density; the plain kernel density with Scott's bandwidth, which is the
        published estimator.
    recalibrate : bool
        Whether first to replace the prediction by ``m(x) = E[truth | prediction = x]`` (a line). Without it, errors
        of level and scale in the predictions remain.
    heteroskedastic : bool, optional
        Whether v is a log-quadratic function of the prediction instead of one number. By default it is where the
        criterion of Hannan and Quinn prefers that and v averages to the variance of all errors (at most 1.5 times it;
        else the form does not describe them), and never with ``score="scott"``.
    second_order : bool
        Whether to add the term of second order in v. It helps while v changes little over a standard deviation of
        the errors, and does harm beyond: the series need not converge.
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
    heteroskedastic_ : bool
        Whether v varies.
    noise_ : NoiseVariance
        v(x), the variance of the truth given the prediction.
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

    Raises
    ------
    CalibrationError
        At the fit, also when the correction comes out flat.

    Warns
    -----
    WeakCalibrationWarning
        At the fit, when on the very labels the slope of the corrected predictions is clearly not one (by more than
        0.2), or their mean clearly not that of the labels (by more than 5% of a standard deviation; not without
        recalibration): the errors are not what the formula assumes. Kept in `weaknesses_`, and in a card.

    Notes
    -----
    ``score="scott", recalibrate=False, monotone=False`` is exactly the published estimator.

    The mean of h given the truth averages over predictions a standard deviation of the errors apart, so detail of the
    density that is finer than that cannot matter to it; it only multiplies noise. This is why a mixture is smoothed,
    keeping its mean and variance; a single Gaussian is left as it is.
    """

    method: ClassVar[str] = "tweedie"

    def __init__(
        self,
        score: Literal["mixture", "kde", "scott"] = "mixture",
        recalibrate: bool = True,
        heteroskedastic: bool | None = None,
        second_order: bool = False,
        monotone: bool = True,
        bandwidth: float | None = None,
        variance_floor: float = 0.1,
        level: float = 0.95,
        min_r2: float = 0.1,
    ) -> None:
        self.score = score
        self.recalibrate = recalibrate
        self.heteroskedastic = heteroskedastic
        self.second_order = second_order
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
        if self.score == "scott" and (self.heteroskedastic or self.second_order):
            raise CalibrationError(
                f"heteroskedastic: {self.heteroskedastic!r}, second_order: {self.second_order!r} with score='scott', "
                "the published estimator, which has errors of one size. Pass score='mixture' or 'kde'."
            )
        if self.second_order and self.heteroskedastic is False:
            raise CalibrationError(
                "second_order: errors of one size have no such term. Pass heteroskedastic=True."
            )
        if not 0 < self.variance_floor < 1:
            raise CalibrationError(f"variance_floor: {self.variance_floor!r} is not a share between 0 and 1.")

    def _learn(self, sample: CalibrationSample) -> None:
        x, y, weight, noise = sample.y_pred, sample.y_true, sample.weight, sample.noise
        line = sample.truth_on_prediction
        check_line(line, "truth on prediction", self.level, self.min_r2)
        if self.recalibrate:
            self.recalibration_ = (line.intercept, line.slope)
            error = y - line.intercept - line.slope * x
            variance = line.sigma**2
        else:
            self.recalibration_ = (0.0, 1.0)
            error = y - x - np.average(y - x, weights=weight)
            variance = float(np.average(error**2, weights=weight))
        if noise > variance:
            raise CalibrationError(
                f"target_noise_var: {noise:g} exceeds {variance:g}, the variance of the labels about the "
                "predictions. Give the variance of the labels' sampling error, in squared units of the label."
            )
        self.sigma_ = math.sqrt(variance - noise)
        self._centre = float(np.average(x, weights=weight))
        self._variance_x = float(np.average((x - self._centre) ** 2, weights=weight))
        self._bins = Bins.of(x, weight, n_bins={"mixture": 512, "kde": 1024, "scott": 2048}[self.score])
        scale = sample.n_effective / weight.sum()
        mass, squares = (self._bins.mass(weight * scale * column) for column in (np.ones_like(x), error**2))
        self.noise_ = self._choose_noise(mass, squares, variance - noise, error)
        self.score_ = self._fit_score(mass)
        self._formula = self._formula_of(*self.recalibration_, self.noise_, self.score_, self._variance_x)
        self.table_, self.table_error_ = self.tabulate(self._own_nodes(2049))
        raw = self.exact(self.table_.grid.x) if self.monotone else self.table_.h
        self.share_changed_ = share_changed(self.table_, raw, x, weight)
        self._look_at_moments(sample)

    def _look_at_moments(self, s: CalibrationSample) -> None:
        """Warn when corrected predictions are off in level or scale on their own sample; refuse them when flat."""
        corrected = self.table_(s.y_pred)
        if not np.ptp(corrected) > 1e-9 * np.ptp(s.y_true):
            raise CalibrationError(
                "Tweedie's correction came out flat: made non-decreasing, it gives all predictions one value, so that "
                "these errors are not what the formula assumes. Use LinearCalibration, for effects "
                "method='response', or calibrate on more rows."
            )
        line = fit_line(s.y_true, corrected, s.weight, s.group, s.noise, CalibrationError)
        low, high = line.slope_interval(self.level, CalibrationError)
        if abs(line.slope - 1) > OFF_SCALE and not low <= 1 <= high:
            self._weak(
                "scale",
                f"The corrected predictions rise by {line.slope:.3g} [{low:.3g}, {high:.3g}] for one unit of the "
                "labels that they were learned from, not by 1",
            )
        if not self.recalibrate:
            return  # the published estimator takes the level of the predictions as it is
        error = corrected - s.y_true
        off, mean = (float(np.average(values, weights=s.weight)) for values in (error, s.y_true))
        cov, df = robust_or_clustered((s.weight * (error - off) / s.n)[:, None], s.group, s.weight)
        spread = math.sqrt(max(0.0, float(np.average((s.y_true - mean) ** 2, weights=s.weight)) - s.noise))
        if abs(off) > max(OFF_LEVEL * spread, critical_value(self.level, df) * math.sqrt(cov[0, 0])):
            self._weak(
                "level",
                f"The mean of the corrected predictions is {abs(off):.3g} {'above' if off > 0 else 'below'} that of "
                f"the labels that they were learned from ({abs(off) / spread:.0%} of the labels' standard deviation)",
            )

    def _weak(self, subject: str, told: str) -> None:
        said = (
            f"{told}: these errors are not what Tweedie's formula assumes (nearly normal, of a size that depends "
            "smoothly on a prediction that does not pile up at one value). Use LinearCalibration, for effects "
            "method='response', or look at diagnose()."
        )
        self.weaknesses_[f"tweedie {subject}"] = said
        warnings.warn(said, WeakCalibrationWarning, stacklevel=7)

    def _choose_noise(self, mass: Array, squares: Array, level: float, error: Array) -> NoiseVariance:
        sample = self._sample
        known = sample.noise
        self.heteroskedastic_ = self.score != "scott" and self.heteroskedastic is not False
        found = self._fit_noise(mass[None], squares[None], np.array([level]))[0]
        if self.heteroskedastic is None and self.heteroskedastic_ and level > 0:
            share = error**2 / (known + found(sample.y_pred))
            dispersion = float(np.average((share - 1) ** 2, weights=sample.weight)) / 2
            basis = found.basis(self._bins.centre)
            runaway = mean_ratio(found.coefficients, basis, mass) > RUNAWAY
            if runaway or prefers_one_size(
                found.coefficients, basis, mass, squares, level, known, dispersion
            ):
                self.heteroskedastic_ = False
                return self._fit_noise(mass[None], squares[None], np.array([level]))[0]
        return found

    def _fit_noise(self, mass: Array, squares: Array, level: Array) -> list[NoiseVariance]:
        """Noise variances from the rows and squared errors in each bin, one a draw."""
        level, scale = np.maximum(level, 0.0), math.sqrt(self._variance_x)
        constant = NoiseVariance(1.0, np.zeros(3), self._centre, scale, *self._limits())
        coefficients = np.zeros((len(level), 3))
        if self.heteroskedastic_:
            basis = constant.basis(self._bins.centre)
            coefficients = fit_noise(basis, mass, squares, level, self._sample.noise)
            if self.heteroskedastic is None:
                away = [
                    mean_ratio(c, basis, rows) > RUNAWAY for c, rows in zip(coefficients, mass, strict=True)
                ]
                coefficients[away] = 0.0  # in a draw as in the sample
        return [
            replace(constant, level=float(v), coefficients=c)
            for v, c in zip(level, coefficients, strict=True)
        ]

    def _fit_score(self, mass: Array) -> Score:
        x, weight = self._sample.y_pred, self._sample.weight
        if self.score == "mixture":
            self._mixtures = fit_mixtures(self._bins, mass, self.variance_floor)
            chosen = choose_mixture(self._mixtures, self._sample.n_effective)
            return chosen.smoothed(self._smoothing(self.noise_.level, self.recalibration_[1]))
        if self.score == "scott":
            return scott_score(x, weight)
        return kernel_score(self._bins.centre, mass, self.bandwidth or kernel_bandwidth(x, weight))

    def _smoothing(self, level: float, slope: float) -> float:
        """Variance by which a mixture is smoothed: that of the errors, in the unit of x, times a constant."""
        return SMOOTHING**2 * level / slope**2

    def _limits(self) -> tuple[float, float]:
        return (-math.inf, math.inf) if self.score == "scott" else self.support_

    def _formula_of(
        self, intercept: float, slope: float, noise: NoiseVariance, score: Score, variance: float
    ) -> TweedieFormula:
        return TweedieFormula(
            intercept, slope, noise, score, variance, *self._limits(), second_order=self.second_order
        )

    def exact(self, y_pred: Any) -> Array:
        """Evaluate the formula itself at `y_pred` (shape (n,)): no table and no monotone projection.

        Its cost grows with the calibration sample when the score is a kernel density.
        """
        return self._formula(np.asarray(y_pred, dtype=np.float64))

    def notes(self) -> dict[str, float]:
        """Numbers about the fit that a reader of the card should see."""
        return {"sigma": self.sigma_, "share_changed": self.share_changed_}

    def nodes(self) -> Nodes:
        """Nodes on which a card should tabulate this correction."""
        return self._own_nodes(1025)

    def _own_nodes(self, n: int) -> Nodes:
        if self.score != "scott" or not isinstance(self.score_, KernelScore):
            return super().nodes()
        reach = 4 * self.score_.bandwidth
        return Nodes(self._sample.y_pred.min() - reach, self._sample.y_pred.max() + reach, n)

    def tabulate(self, grid: Nodes) -> tuple[Table, float]:
        """Evaluate the correction on `grid`, with the error of the table."""
        raw = self.exact(grid.x)
        return Table(grid, self._ordered(raw, self.score_, grid)), table_error(grid, raw, self.exact)

    def _ordered(self, h: Array, score: Score, grid: Nodes) -> Array:
        if not self.monotone:
            return h
        density = score.density(grid.x)
        return ordered(h, np.maximum(density, 1e-9 * density.max()))

    def bootstrap(self, counts: Array, grid: Nodes) -> Array:
        """Curves refitted on resampled groups, shape (n_draws, grid.n)."""
        s = self._sample
        m = weighted_moments(s.y_pred, s.y_true, s.weight, s.group, counts)
        if self.recalibrate:
            slope = m.cov_xy / m.var_x
            intercept = m.mean_y - slope * m.mean_x
            variance = (m.var_y - slope * m.cov_xy) * (s.n / (s.n - 2))
            centre = intercept
        else:
            slope, intercept = np.ones(len(counts)), np.zeros(len(counts))
            variance = m.var_x + m.var_y - 2 * m.cov_xy
            centre = m.mean_y - m.mean_x
        masses, squares = self._resampled_bins(counts, centre, slope)
        noises = self._fit_noise(masses, squares, variance - self._sample.noise)
        scores = self._resampled_scores(masses)
        curves = np.empty((len(counts), grid.n))
        for i, (noise, score) in enumerate(zip(noises, scores, strict=True)):
            if isinstance(score, MixtureScore):
                score = score.smoothed(self._smoothing(noise.level, slope[i]))
            raw = self._formula_of(intercept[i], slope[i], noise, score, m.var_x[i])(grid.x)
            curves[i] = self._ordered(raw, score, grid)
        return curves

    def _resampled_bins(self, counts: Array, intercept: Array, slope: Array) -> tuple[Array, Array]:
        """Rows and squared errors in each bin, shape (n_draws, n_bins) each."""
        s, bins = self._sample, self._bins
        masses, squares = (np.empty((len(counts), bins.centre.size)) for _ in range(2))
        for i, count in enumerate(counts):
            weight = s.weight * (count if s.group is None else count[s.group])
            weight *= s.n_effective / weight.sum()
            masses[i] = bins.mass(weight)
            squares[i] = bins.mass(weight * (s.y_true - intercept[i] - slope[i] * s.y_pred) ** 2)
        return masses, squares

    def _resampled_scores(self, masses: Array) -> list[Score]:
        n, centre = self._sample.n_effective, self._bins.centre
        if self.score == "mixture":
            fits = refit_mixtures(self._bins, masses, self._mixtures, self.variance_floor)
            return [choose_mixture(fits, n, i) for i in range(len(masses))]
        if self.score == "scott":
            return [scott_score(centre, mass, n) for mass in masses]
        return [
            kernel_score(centre, mass, self.bandwidth or kernel_bandwidth(centre, mass, n)) for mass in masses
        ]
