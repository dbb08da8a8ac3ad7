"""The response of predictions to truth in one population or several, as unfolding and a card need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.kernel import ResponseKernel
from sustain.debias.response.unfolding import Response
from sustain.debias.table import Nodes
from sustain.errors import CalibrationError
from sustain.stats.columns import matched_label
from sustain.stats.combinations import combined_label
from sustain.stats.natural_spline import NaturalSpline

__all__ = ["Between", "Population", "ResponseModel", "spread_over"]

Array = NDArray[np.float64]

TIED = 1e-4  # distance of quantiles that are one value, in standard deviations


@dataclass(frozen=True)
class Population:
    """What calibration rows say of one population's response.

    Attributes
    ----------
    n : int
        Calibration rows.
    values : ndarray, shape (k,)
        Of the response curve at the knots of the model.
    cov : ndarray, shape (k, k)
        Their covariance.
    df : float
        Its degrees of freedom.
    spread : float
        By which the residuals of the model's kernel are multiplied.
    shares, quantiles : ndarray, shape (m,)
        Quantiles of the truth.
    """

    n: int
    values: Array
    cov: Array
    df: float
    spread: float
    shares: Array
    quantiles: Array


@dataclass(frozen=True)
class Between:
    """How far the response curves of populations differ, beyond their sampling error.

    Attributes
    ----------
    cov : ndarray, shape (k, k)
        Mean square of the values of populations' curves about that of all rows, or of their first label.
    n : int
        Populations that it was learned from.
    """

    cov: Array
    n: int


@dataclass(frozen=True)
class ResponseModel:
    """How truth becomes predictions, in all calibration rows and in each of their populations.

    Attributes
    ----------
    truth : Nodes
        Nodes of the truth.
    cells : Nodes
        Edges of the cells of predictions.
    centre, scale : float
        Mean and standard deviation of the truth, by which the knots are standardised.
    knots : ndarray, shape (k,)
    kernel : ResponseKernel
    pooled : Population
        All rows.
    populations : mapping of str to Population
        By stratum; where several columns tell strata apart, by the labels of the first of them too.
    between : Between or None
        Of populations, and of those of the first column where there are several.
    within : Between or None
        Of the combinations of several columns that have their first label in common.
    """

    truth: Nodes
    cells: Nodes
    centre: float
    scale: float
    knots: Array
    kernel: ResponseKernel
    pooled: Population
    populations: Mapping[str, Population] = field(default_factory=dict)
    between: Between | None = None
    within: Between | None = None

    @cached_property
    def basis(self) -> Array:
        """Values of the curve at the nodes of the truth by those at its knots, shape (truth.n, k)."""
        return NaturalSpline.on(self.knots)((self.truth.x - self.centre) / self.scale)

    @property
    def ends(self) -> tuple[float, float]:
        """Truths between which the curve was learned."""
        return self.centre + self.scale * self.knots[0], self.centre + self.scale * self.knots[-1]

    def population(self, stratum: object = None) -> Population:
        """Look up a stratum; all rows without one.

        Parameters
        ----------
        stratum : object
            A label, or a tuple of labels, one for each column of strata. Of a combination that is not known, the
            population of its first labels is given, with how its combinations differ in its covariance.

        Raises
        ------
        CalibrationError
            On unknown strata.
        """
        if stratum is None:
            return self.pooled
        labels = stratum if isinstance(stratum, tuple) else (stratum,)
        for length in range(len(labels), 0, -1):
            name = matched_label(self.populations, combined_label(labels[:length]))
            if name is not None:
                found = self.populations[name]
                if length == len(labels) or self.within is None:
                    return found
                df = min(found.df, self.within.n - 1)
                return replace(found, cov=found.cov + self.within.cov, df=df)
        known = ", ".join(self.populations) or "none: build the card with strata="
        raise CalibrationError(
            f"strata: the response of {combined_label(labels)!r} is not known; known strata: {known}."
        )

    def response(
        self, population: Population, scores: Array | None = None, *, elsewhere: bool = False
    ) -> Response:
        """Response of a population; with scores, one for each of them as the leading axis.

        The scatter about the curve and the distribution of truth do not move with the scores: over resamples of rows
        they moved an effect far less than the curve, and against it.

        Parameters
        ----------
        population : Population
        scores : ndarray, shape (n, k), optional
            By which the curve leaves its estimate, along the columns of the Cholesky factor of its covariance. Rows of
            standard normal numbers give draws; the same rows move all populations alike, as what they share does.
        elsewhere : bool
            Whether the units are from a population that is not in the calibration sample: `population` is then that of
            all rows, and how populations differ is in the covariance.
        """
        values = population.values
        if scores is not None:
            cov = population.cov
            if elsewhere and self.between is not None:
                cov = cov + self.between.cov
            values = values + scores @ _factor(cov).T
        curve = np.asarray(values @ self.basis.T)
        return Response(
            truth=self.truth,
            edges=self.cells.x,
            curve=curve,
            matrix=self.kernel.matrix(curve, self.truth, self.cells.x, population.spread),
            distribution=spread_over(self.truth, population.shares, population.quantiles, self.scale),
            ends=self.ends,
            scale=self.scale,
        )


def _factor(cov: Array) -> Array:
    """Cholesky factor, also of a covariance that is singular or was rounded."""
    size, axes = np.linalg.eigh(cov)
    upper = np.linalg.qr((axes * np.sqrt(np.maximum(size, 0.0))).T)[1]
    return np.asarray((upper * np.where(np.diag(upper) < 0, -1.0, 1.0)[:, None]).T)


def spread_over(truth: Nodes, shares: Array, quantiles: Array, scale: float) -> Array:
    """Distribution on nodes that has the given quantiles: straight between them by normal scores, and so beyond.

    Quantiles that tie are an atom: the node nearest to them has its share. Outermost ones that tie are the end.

    Parameters
    ----------
    truth : Nodes
    shares, quantiles : ndarray, shape (k,)
    scale : float
        Standard deviation, for tails that the quantiles say nothing of.

    Returns
    -------
    ndarray, shape (truth.n,)
        Sums to one; no node is without weight.
    """
    from scipy.special import ndtr, ndtri  # here: the import of a correction stays light

    scores = ndtri(shares)
    edges = truth.x[:-1] + truth.step / 2
    found = np.interp(edges, quantiles, scores)
    for end, beyond in ((0, edges < quantiles[0]), (-1, edges > quantiles[-1])):
        # By the slope over several quantiles: that of the outermost two alone is mostly noise.
        step = 1 if end == 0 else -1
        inner = min(3, quantiles.size - 1) * step + end
        width = abs(quantiles[end] - quantiles[inner])
        slope = abs(scores[end] - scores[inner]) / width if width > 1e-3 * scale else 1.0 / scale
        found[beyond] = scores[end] + slope * (edges[beyond] - quantiles[end])
        if quantiles.size > 1 and abs(quantiles[end] - quantiles[end + step]) < TIED * scale:
            found[beyond] = -np.inf * step  # an atom at the end of a scale has nothing beyond
    up_to = np.concatenate([[0.0], ndtr(found), [1.0]])
    density = np.diff(up_to) + 1e-7
    return np.asarray(density / density.sum())
