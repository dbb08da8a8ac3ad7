"""Whether a curve is the same whatever the treatment: E[response | given, treatment] = curve(given).

Measurement stability says so of predictions given the truth, outcome stability of the truth given predictions. The
curve is a natural cubic spline with knots at quantiles, because a straight line where it is bent refutes what holds
wherever the arms differ in `given`; beside it stand the treatment and the treatment times `given`, of which the test is
that both are zero. The treatment may be 0 and 1 or any number, such as a distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.errors import StatisticsError
from sustain.stats.hotelling import Joint, joint_test
from sustain.stats.least_squares import Regressors
from sustain.stats.line import EXACT

__all__ = ["FEWEST", "CurveTest", "Regression", "Spline", "finish", "knots_for", "same_curve"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

FEWEST, MOST = 3, 16
"""Knots."""
OUTER = 0.01  # share of rows beyond each outermost knot, where the curve is straight
APART = 0.01  # standard deviations at least between knots
PER_CLUSTER = 5  # rows that a cluster counts for when knots are


@dataclass(frozen=True)
class CurveTest:
    """How a curve differs between the arms, or by a unit of a treatment that is not 0 and 1.

    Attributes
    ----------
    gap, gap_std_error : float
        Difference in the response, treated less control, at the (weighted) mean of what is given.
    slope_gap, slope_gap_std_error : float
        How the difference grows with what is given, per unit of it.
    p_value : float
        That both are zero, by F with (2, `df`) degrees of freedom. NaN, with a `df` of 0, where nothing can be said:
        response and given are one curve exactly, or one cluster decides.
    df : float
    seen : float
        Constant difference that the test finds at the 5% level in 80% of samples like this.
    knots : int
        Of the spline, chosen by the number of rows and clusters.
    """

    gap: float
    gap_std_error: float
    slope_gap: float
    slope_gap_std_error: float
    p_value: float
    df: float
    seen: float
    knots: int


@dataclass(frozen=True)
class Spline:
    """Natural cubic spline without its constant, in standard units; see Hastie et al. (2009, section 5.2.1).

    Attributes
    ----------
    mean, sd : float
        Of the values that it is made for.
    knots : ndarray, shape (k,), increasing
        In standard units; with fewer than three the curve is a line.
    """

    mean: float
    sd: float
    knots: Floats

    @classmethod
    def of(cls, values: Floats, n: int, weight: Floats | None = None) -> Spline:
        """With `n` knots at (weighted) quantiles of `values`, fewer where these are tied."""
        weight = np.ones(values.size) if weight is None else weight
        mean = float(np.average(values, weights=weight))
        sd = math.sqrt(np.average((values - mean) ** 2, weights=weight)) or 1.0
        # Each knot is one of the values, so that there is a curve through all knots and columns are independent.
        order = np.argsort(values, kind="stable")
        upto = np.cumsum(weight[order])
        # Of equal weights the nearest to position share * (n - 1); what is added to it is against rounding.
        position = (
            upto[-1] / values.size * (np.linspace(OUTER, 1 - OUTER, n) * (values.size - 1) + 0.5 - 1e-9)
        )
        wanted = (values[order[np.searchsorted(upto, position)]] - mean) / sd
        knots = [wanted[0]]
        for knot in wanted[1:]:
            if knot - knots[-1] > APART:
                knots.append(knot)
        return cls(mean, sd, np.array(knots))

    @property
    def width(self) -> int:
        """Number of columns."""
        return max(1, int(self.knots.size) - 1)

    def __call__(self, values: Floats) -> Floats:
        """Basis at `values`, shape (..., k - 1), the straight line first."""
        z = (values - self.mean) / self.sd
        columns = [z]
        if self.knots.size > 2:
            last, before = self.knots[-1], self.knots[-2]
            tail = self._bent(z, before, last)
            columns += [self._bent(z, knot, last) - tail for knot in self.knots[:-2]]
        return np.stack(columns, axis=-1)

    @staticmethod
    def _bent(z: Floats, knot: float, last: float) -> Floats:
        bent = np.maximum(z - knot, 0.0) ** 3 - np.maximum(z - last, 0.0) ** 3
        return np.asarray(bent / (last - knot))


@dataclass(frozen=True)
class Regression:
    """The response on a curve, the treatment, its product with what is given, and covariates.

    Attributes
    ----------
    response, treatment : ndarray, shape (n,)
    curve : ndarray, shape (n, c)
        Columns of the curve, the straight line first.
    product : ndarray, shape (n,)
        What is given, from its mean; it is multiplied by the treatment.
    covariates : ndarray, shape (n, p)
    names : sequence of str
        Of what is given, of the treatment, and of the covariates, for errors.
    weight : ndarray, shape (n,), optional
        Sampling weights.
    error : type of StatisticsError
        What is raised when columns are dependent.
    """

    response: Floats
    treatment: Floats
    curve: Floats
    product: Floats
    covariates: Floats
    names: Sequence[str]
    weight: Floats | None = None
    error: type[StatisticsError] = StatisticsError

    def gaps(self) -> Floats:
        """Gap and slope gap."""
        found, which = self._solved()
        return np.asarray(which @ found.solve(self.response))

    def joint(self, group: Codes | None) -> Joint:
        """Gap and slope gap, and the test that they are zero."""
        found, which = self._solved()
        result = joint_test(found, self.response, which, group)
        left = found.root * found.residual(self.response)
        spread = found.root * (self.response - np.average(self.response, weights=self.weight))
        if left @ left <= (1 - EXACT) * (spread @ spread):
            return result._replace(p_value=math.nan, df=0.0)  # residuals of an exact curve are rounding
        return result

    def _solved(self) -> tuple[Regressors, Floats]:
        given, treatment, *others = self.names
        line, bent = self.curve[:, :1], self.curve[:, 1:]
        columns = np.column_stack(
            [line, self.treatment, self.covariates, self.treatment * self.product, bent]
        )
        labels = (
            *(given, treatment, *others, f"{treatment} times {given}"),
            *(f"curve of {given}" for _ in range(bent.shape[1])),
        )
        which = np.zeros((2, columns.shape[1] + 1))
        which[0, 2] = which[1, 3 + self.covariates.shape[1]] = 1.0
        return Regressors.of(columns, labels, self.weight, error=self.error), which


def same_curve(
    response: Floats,
    given: Floats,
    treatment: Floats,
    covariates: Floats,
    names: Sequence[str],
    group: Codes | None = None,
    weight: Floats | None = None,
    error: type[StatisticsError] = StatisticsError,
) -> CurveTest:
    """Test that the curve of `response` over `given` does not change with the treatment.

    Parameters
    ----------
    response, given : ndarray, shape (n,)
    treatment : ndarray, shape (n,)
    covariates : ndarray, shape (n, p)
    names : sequence of str
        Of `given`, the treatment and the covariates.
    group : ndarray of int, shape (n,), optional
        Cluster codes.
    weight : ndarray, shape (n,), optional
        Sampling weights above zero; only their ratios matter.
    error : type of StatisticsError
        What is raised.

    Raises
    ------
    StatisticsError
        When columns are linearly dependent, such as a treatment whose treated rows are given one value only.
    """
    spline = Spline.of(given, knots_for(given.size, group, weight), weight)
    product = given - np.average(given, weights=weight)
    fitted = Regression(response, treatment, spline(given), product, covariates, names, weight, error)
    return finish(fitted.joint(group), spline)


def knots_for(n: int, group: Codes | None, weight: Floats | None = None) -> int:
    """Half the root of the number of rows, a cluster counting for five at most; 3 to 16. Kish's number with weights."""
    rows = n if weight is None else float(weight.sum() ** 2 / np.square(weight).sum())
    if group is not None:
        rows = min(rows, PER_CLUSTER * np.unique(group).size)
    return int(np.clip(round(math.sqrt(rows) / 2), FEWEST, MOST))


def finish(joint: Joint, spline: Spline) -> CurveTest:
    """Put the numbers together."""
    error = np.sqrt(np.diag(joint.cov))
    return CurveTest(
        gap=float(joint.estimate[0]),
        gap_std_error=float(error[0]),
        slope_gap=float(joint.estimate[1]),
        slope_gap_std_error=float(error[1]),
        p_value=joint.p_value,
        df=joint.df,
        seen=_seen(joint),
        knots=int(spline.knots.size),
    )


def _seen(joint: Joint) -> float:
    from scipy.special import fdtri, ncfdtrinc

    if not joint.df > 0:
        return math.nan
    df = min(joint.df, 1e4)
    noncentral = float(ncfdtrinc(2, df, 0.2, fdtri(2, df, 0.95)))
    return math.sqrt(noncentral / np.linalg.inv(joint.cov)[0, 0])
