"""The moments that define a bridge function, as sums from which any resample is solved at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import CalibrationSample
from sustain.debias.table import support_of
from sustain.stats.covariance import Wald, robust_or_clustered, wald_test
from sustain.stats.natural_spline import NaturalSpline, quantile_knots

__all__ = ["BridgeMoments"]

Array = NDArray[np.float64]

SHIFTS = (0.1, 0.5)  # of the truth, in its standard deviations: a small and a large effect
SHIFT_WEIGHT = 100.0  # of the moment of either, beside one for every other moment
_ROWS = 4096  # rows at a time when products of bases are summed


@dataclass(frozen=True)
class BridgeMoments:
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
        The sample, standardised, the variance of its labels' noise included.
    instruments, slopes : ndarray, shape (n, m)
        q and its derivative at every row.
    shifted : ndarray, shape (n, m, len(SHIFTS))
        Change of q at every row when its truth is moved by each shift, over the shift.
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

    @classmethod
    def of(cls, sample: CalibrationSample, n_knots: int) -> BridgeMoments:
        """Set the problem up for a sample."""
        weight = sample.weight
        centre_x, scale_x = _centre_and_scale(sample.y_pred, weight)
        centre_y, scale_y = _centre_and_scale(sample.y_true, weight)
        x, y = (sample.y_pred - centre_x) / scale_x, (sample.y_true - centre_y) / scale_y
        low, high = ((edge - centre_x) / scale_x for edge in sample.support)
        spline = NaturalSpline.on(quantile_knots(x, weight, low, high, n_knots))
        truth_spline = NaturalSpline.on(quantile_knots(y, weight, *support_of(y, weight), n_knots + 2))

        def instruments(at: Array) -> Array:
            # The outer two functions of the spline are combinations of the others with one and the truth.
            return np.column_stack([np.ones_like(at), at, truth_spline(at)[:, 1:-1]])

        step = 1e-4
        slopes = (instruments(y + step) - instruments(y - step)) / (2 * step)
        rows = replace(sample, y_pred=x, y_true=y, noise=sample.noise / scale_y**2)
        values = instruments(y)
        room = np.maximum(truth_spline.knots[-1] - y, 0.0)
        shifted = np.stack([(instruments(y + np.minimum(t, room)) - values) / t for t in SHIFTS], axis=2)
        tail = scale_x / scale_y / sample.prediction_on_truth.slope
        return cls(centre_x, scale_x, centre_y, scale_y, spline, tail, rows, values, slopes, shifted)

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
        products[:, :, k] -= self.rows.noise * self.slopes[part]
        products[:, :, k + 1 + m :] = self.shifted[part]
        products *= rows.weight[part][:, None, None]
        return products

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

    def violation(self, sums: Array, values: Array) -> Array:
        """Squared length of the moments of h, by instruments that are orthonormal in each part, shape (n_parts,)."""
        b, r, _ = self._split(sums)
        return np.asarray(np.sum((np.einsum("dik,dk->di", b, values) - r) ** 2, axis=1))

    def evaluate(self, x: Array, values: Array) -> Array:
        """Evaluate h at predictions in their own unit, one row a draw."""
        basis, tail = self._basis((x - self.centre_x) / self.scale_x)
        return np.asarray(self.centre_y + self.scale_y * (values @ basis.T + tail))

    def _basis(self, x: Array) -> tuple[Array, Array]:
        """Basis at the nearest place within the knots, and what the straight tail adds beyond them."""
        inside = np.clip(x, self.spline.knots[0], self.spline.knots[-1])
        return self.spline(inside), self.tail_slope * (x - inside)

    def j_test(self) -> Wald | None:
        """Test that the linear correction meets the moments of the spline instruments as well."""
        q, rows = self.instruments, self.rows
        if q.shape[1] < 3:
            return None
        weight, n = rows.weight[:, None], rows.n
        line = np.column_stack([np.ones(n), rows.y_pred])
        crossed = (q * weight).T @ line / n
        target = ((q * rows.y_true[:, None] - self.rows.noise * self.slopes) * weight).mean(axis=0)
        bread = np.linalg.inv(crossed[:2])
        coefficients = bread @ target[:2]
        error = line @ coefficients - rows.y_true
        pieces = (q * error[:, None] + self.rows.noise * self.slopes) * weight
        # Moments left over, with the influence of the two estimated coefficients taken into account.
        left = pieces[:, 2:] - pieces[:, :2] @ (crossed[2:] @ bread).T
        moments = left.mean(axis=0)
        cov, df = robust_or_clustered((left - weight * moments) / n, rows.group, rows.weight)
        return wald_test(moments, cov, df)


def _centre_and_scale(x: Array, weight: Array) -> tuple[float, float]:
    centre = float(np.average(x, weights=weight))
    return centre, float(np.sqrt(np.average((x - centre) ** 2, weights=weight)))
