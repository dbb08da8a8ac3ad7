"""Linear calibration correction (LCC): regress the prediction on the truth, then invert the line."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sustain.debias.base import Calibration, check_line
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes, Table
from sustain.errors import CalibrationError
from sustain.stats.covariance import critical_value
from sustain.stats.fieller import fieller_set
from sustain.stats.line import weighted_moments

__all__ = ["LinearCalibration"]

Array = NDArray[np.float64]


class LinearCalibration(Calibration):
    """Linear calibration correction: ``h(x) = (x - a) / b`` with ``prediction = a + b * truth + noise``.

    Under measurement stability, P(prediction | truth) being the same in the trial, the mean of ``h`` in any arm is
    the mean truth whenever E[prediction | truth] is linear. An effect estimated from predictions is multiplied by
    ``1 / b``. This is the method-of-moments correction of an outcome measured with systematic error (Nab et al.
    2019, doi:10.1002/sim.8359); it is not regression calibration, which predicts truth from prediction. Noise in the
    labels flattens the slope and is taken off: ``b = Cov(prediction, label) / (Var(label) - target_noise_var)``.

    Parameters
    ----------
    level : float
        Confidence level at which the slope must differ from zero.
    min_r2 : float
        Squared correlation under which a fit is called weak.

    Attributes
    ----------
    slope_, intercept_ : float
        ``b`` and ``a`` of prediction on truth.
    cov_ : ndarray, shape (2, 2)
        Covariance of (intercept, slope): HC1, or CRV1 by `groups`.
    r2_, sigma_ : float
        Squared correlation; standard deviation of the prediction given the truth.
    n_, n_groups_ : int
        Pairs and clusters (``n_groups_`` is None without groups).
    support_ : tuple of float
        Range of predictions in which the correction was learned.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=500)
    >>> predicted = 0.6 * truth + rng.normal(scale=0.3, size=500)
    >>> calibration = LinearCalibration().fit(predicted, truth)
    >>> float(np.round(np.polyfit(truth, calibration.transform(predicted), 1)[0], 6))
    1.0
    """

    method: ClassVar[str] = "linear"
    straight: ClassVar[bool] = True

    def __init__(self, level: float = 0.95, min_r2: float = 0.1) -> None:
        self.level = level
        self.min_r2 = min_r2

    def _learn(self, sample: CalibrationSample) -> None:
        line = sample.prediction_on_truth
        check_line(line, "prediction on truth", self.level, self.min_r2)
        self.intercept_, self.slope_, self.cov_, self.sigma_ = (
            line.intercept,
            line.slope,
            line.cov,
            line.sigma,
        )
        self.table_, self.table_error_ = self.tabulate(self.nodes())

    def slope_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the slope ``b``."""
        self._require_fit()
        return self.prediction_on_truth_.slope_interval(level, CalibrationError)

    def factor_interval(self, level: float = 0.95, method: str = "delta") -> tuple[float, float]:
        """Confidence interval of ``1 / b``, by which naive effects are multiplied.

        Parameters
        ----------
        level : float
            Confidence level.
        method : {"delta", "fieller"}
            Fieller's interval is exact under normality and never symmetric; unbounded when the slope may be zero
            at `level`.
        """
        self._require_fit()
        critical = critical_value(level, self.prediction_on_truth_.df, CalibrationError)
        error = self.prediction_on_truth_.slope_se
        if method == "delta":
            margin = critical * error / self.slope_**2
            return 1 / self.slope_ - margin, 1 / self.slope_ + margin
        if method == "fieller":
            return fieller_set(1.0, 0.0, self.slope_, error**2, critical).hull
        raise CalibrationError(f"method: {method!r} is unknown. Pass 'delta' or 'fieller'.")

    def tabulate(self, grid: Nodes) -> tuple[Table, float]:
        """Evaluate the correction on `grid`, with the error of the table."""
        return Table(grid, (grid.x - self.intercept_) / self.slope_), 0.0

    def bootstrap(self, counts: Array, grid: Nodes) -> Array:
        """Curves refitted on resampled groups, shape (n_draws, grid.n)."""
        s = self._sample
        m = weighted_moments(s.y_true, s.y_pred, s.weight, s.group, counts)
        slope = m.cov_xy / (m.var_x - s.noise)
        intercept = m.mean_y - slope * m.mean_x
        return np.asarray((grid.x - intercept[:, None]) / slope[:, None])
