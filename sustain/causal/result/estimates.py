"""What an effect estimate holds: the numbers, their intervals, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.response import ResponseEffect
from sustain.causal.estimate import Estimate, Interval, IntervalMethod, Note
from sustain.causal.result.between_assumptions import visible_share_path
from sustain.errors import EffectError
from sustain.stats.covariance import p_value
from sustain.stats.fieller import FiellerSet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BRACKET", "About", "EffectEstimates", "Product", "end_labels"]

BRACKET = (
    "outcome stability",
    "measurement stability",
)  # what the ends of a bracket suppose, the naive one first


def end_labels(term: str, ends: Sequence[Estimate]) -> tuple[str, ...]:
    """Names of a term's reported estimates: the term and, of two, the assumption that each supposes."""
    return (term,) if len(ends) == 1 else tuple(f"{term} ({supposed})" for supposed in BRACKET)


class About(NamedTuple):
    """What a table says of a specification beside its numbers.

    Attributes
    ----------
    covariates, fixed_effects : tuple of str
        Columns adjusted for, and absorbed.
    clusters : tuple of (str, int)
        Columns that errors are clustered by, and how many clusters each has.
    weights : str
        Column of weights; empty without.
    card, card_sha256 : str
        The card's target and predictor, and its hash; empty without a card.
    """

    covariates: tuple[str, ...] = ()
    fixed_effects: tuple[str, ...] = ()
    clusters: tuple[tuple[str, int], ...] = ()
    weights: str = ""
    card: str = ""
    card_sha256: str = ""


class Product(NamedTuple):
    """Coefficient of a product of the treatment with a covariate, by how much the effect moves with it."""

    term: str
    naive: Estimate
    corrected: Estimate | None

    @property
    def main(self) -> Estimate:
        """The corrected coefficient, where there is a correction."""
        return self.naive if self.corrected is None else self.corrected


@dataclass(frozen=True, repr=False)
class EffectEstimates:
    """The effect of a treatment on an outcome that was read off a map: the numbers, and what they rest on.

    Attributes
    ----------
    term, outcome : str
        Columns of treatment and outcome.
    main : Estimate
        The estimate that the method and the assumption lead to.
    naive : Estimate
        The estimate on the predictions as they are.
    corrected : Estimate or None
        The estimate with the correction, when one was asked for and the assumption allows it.
    method, assumption, estimator, vcov : str
        What was asked for, in words; `assumption` is None when none was named.
    level : float
        Confidence level of intervals by default.
    n, n_treated, n_control, n_dropped : int
        Units used, in all and by arm, and rows left out for missing values.
    share_outside : float
        Share of the estimator's weight on predictions outside the card's support; NaN without a correction.
    n_effective : float
        r2 * n: how many surveyed units the n mapped ones are worth to a corrected effect, where truth varies within the
        arms as it does in the calibration sample and before the calibration's own error; NaN without a correction,
        and in panels and within fixed effects, of which the card's r2 says nothing.
    unit : str
        Unit of the effect, where known.
    notes : tuple of Note
        What a reader must know; each is a string with a `kind`.
    rows : ndarray of int, shape (n,)
        Positions in the data of the units used.
    influence : ndarray, shape (n,)
        Each unit's share in the trial's error of `estimate`; sums of its products are the trial's variance.
    n_params : int
        Estimated coefficients, for small-sample factors of that variance.
    r2 : float
        Share of the labels' variance that the card's predictions explain; NaN without a card.
    path_slope : float
        The card's slope of prediction on truth, which `path` goes along; NaN without a card.
    products : tuple of Product
        Coefficients of products of the treatment with covariates, from a formula with ``treated * x``.
    response : ResponseEffect or None
        With ``method="response"``: the trial's own slope, the effect if every unit gains alike, and the unfolded
        distributions of truth.
    about : About
        Covariates, fixed effects, clusters and card, for tables.
    index, values : pandas.Index and ndarray of shape (n,), or None
        Row labels and outcomes of the units used, by which the data are known again.
    """

    term: str
    outcome: str
    main: Estimate
    naive: Estimate
    corrected: Estimate | None
    method: str
    assumption: str | None
    estimator: str
    vcov: str
    level: float
    n: int
    n_treated: int
    n_control: int
    n_dropped: int = 0
    share_outside: float = math.nan
    n_effective: float = math.nan
    unit: str = ""
    notes: tuple[Note, ...] = field(default=())
    rows: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp), compare=False)
    influence: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), compare=False)
    n_params: int = 0
    r2: float = math.nan
    path_slope: float = math.nan
    products: tuple[Product, ...] = ()
    response: ResponseEffect | None = None
    about: About = field(default_factory=About)
    index: pd.Index | None = field(default=None, compare=False)
    values: NDArray[np.float64] | None = field(default=None, compare=False)

    @property
    def estimate(self) -> float:
        """The effect. With ``assumption="bracket"`` the corrected end; see `bracket` for both."""
        return self.main.estimate

    @property
    def std_error(self) -> float:
        """Standard error of `estimate`, trial and calibration together."""
        return self.main.std_error

    @property
    def df(self) -> float:
        """Degrees of freedom of the interval."""
        return self.main.df

    @property
    def statistic(self) -> float:
        """Estimate over standard error."""
        return self.main.statistic

    @property
    def pvalue(self) -> float:
        """Two-sided p-value of no effect. With ``assumption="bracket"`` the larger of both ends' p-values."""
        return max(p_value(end.statistic, end.df) for end in self.reported)

    @property
    def share_calibration(self) -> float:
        """Share of the variance that the calibration sample contributes, 0..1."""
        return self.main.share_calibration

    @property
    def share_trial(self) -> float:
        """Share of the variance that the trial's own units contribute, 0..1."""
        return 1.0 - self.share_calibration

    @property
    def reported(self) -> tuple[Estimate, ...]:
        """The estimate that is meant; with ``assumption="bracket"`` both."""
        return self.bracket or (self.main,)

    @property
    def bracket(self) -> tuple[Estimate, Estimate] | None:
        """With ``assumption="bracket"`` both ends: outcome stability (naive), measurement stability."""
        if self.assumption != "bracket" or self.corrected is None:
            return None
        return self.naive, self.corrected

    @property
    def products_reported(self) -> tuple[tuple[str, tuple[Estimate, ...]], ...]:
        """Term and estimate of every product; with ``assumption="bracket"`` both ends, as of the effect itself."""
        return tuple(
            (item.term, (item.main,))
            if self.bracket is None or item.corrected is None
            else (item.term, (item.naive, item.corrected))
            for item in self.products
        )

    def conf_int(self, level: float | None = None, method: IntervalMethod = "delta") -> Interval:
        """Confidence interval of the effect.

        Parameters
        ----------
        level : float, optional
            Confidence level; `self.level` by default.
        method : {"delta", "fieller", "bootstrap"}
            ``delta``: symmetric, with trial and calibration variance. ``fieller``: for a linear correction,
            right also when the slope is weak, and then possibly (-inf, inf); `fieller` tells its true shape.
            ``bootstrap``: the calibration's part from the card's bootstrap draws, in a normal interval.

        Returns
        -------
        (low, high) : tuple of float
            With ``assumption="bracket"`` from the lowest to the highest limit of both ends.
        """
        limits = [end.conf_int(self.level if level is None else level, method) for end in self.reported]
        return min(low for low, _ in limits), max(high for _, high in limits)

    def fieller(self, level: float | None = None) -> FiellerSet:
        """Fieller's confidence set of a linear correction, which need not be an interval."""
        return self.main.fieller(self.level if level is None else level)

    def path(self, shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> pd.DataFrame:
        """Effects between both assumptions, by how much of the contrast the image shows only through the outcome.

        See `sustain.causal.result.between_assumptions.visible_share_path`.

        Raises
        ------
        EffectError
            When the result holds no correction, or a share is outside 0 to 1.
        """
        if self.corrected is None:
            raise EffectError(
                f"path: method is {self.method!r} and assumption {self.assumption!r}, so there is one end only. "
                "Estimate with a correction and assumption None, 'measurement' or 'bracket'."
            )
        return visible_share_path(self.naive, self.corrected, self.path_slope, self.level, shares)
