"""Predict, then debias, by bootstrap: any estimator, predicted outcomes or regressors, clusters.

With ``theta`` the estimate from true values, and ``gamma`` the same estimator on predicted values,
``theta_labelled - Omega (gamma_labelled - gamma_unlabelled)`` is right whatever the predictions are worth, because both
``gamma`` estimate the same thing; `Omega` is chosen so that the difference takes away most variance (Kluger, Lu, Zrnic,
Wang and Bates 2025, arXiv:2501.18577). Only point estimates are needed: a bootstrap gives all covariances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.labels.ppi import cluster_labels, clustered_df
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DebiasedEstimates", "least_squares", "predict_then_debias"]

Floats = NDArray[np.float64]
Estimator = Callable[["pd.DataFrame"], ArrayLike]
Tuning = Literal["full", "diagonal", "none"]


@dataclass(frozen=True)
class DebiasedEstimates:
    """Estimates that a few labels correct and many predictions sharpen.

    Attributes
    ----------
    estimates : ndarray, shape (p,)
    cov : ndarray, shape (p, p)
        Bootstrap covariance.
    labels_only, naive : ndarray, shape (p,)
        The estimator on the labelled units alone, and on the predictions of the unlabelled ones.
    labels_only_std_error : ndarray, shape (p,)
        By the same bootstrap, so that the gain can be seen.
    omega : ndarray, shape (p, p)
        Tuning matrix.
    draws : ndarray, shape (n_boot, p)
    n_labelled, n_unlabelled : int
    df : float
        Degrees of freedom of intervals: infinite for independent units, and with clusters those that hold labels, less
        one.
    """

    estimates: Floats
    cov: Floats
    labels_only: Floats
    naive: Floats
    labels_only_std_error: Floats
    omega: Floats
    draws: Floats = field(repr=False, compare=False)
    n_labelled: int
    n_unlabelled: int
    df: float = math.inf

    @property
    def std_errors(self) -> Floats:
        """Bootstrap standard errors, shape (p,)."""
        return np.sqrt(np.diag(self.cov))

    def conf_int(self, level: float = 0.95, method: Literal["normal", "percentile"] = "normal") -> Floats:
        """Confidence intervals, shape (p, 2): normal with the bootstrap's errors, or its percentiles.

        With clusters the former is Student's t with `df` degrees of freedom.
        """
        half = critical_value(level, self.df) * self.std_errors
        if method == "normal":
            return np.column_stack([self.estimates - half, self.estimates + half])
        if method == "percentile":
            return np.quantile(self.draws, [0.5 - level / 2, 0.5 + level / 2], axis=0).T
        raise EffectError(f"method: got {method!r}, expected 'normal' or 'percentile'.")

    def __str__(self) -> str:
        lines = [
            f"{self.n_labelled} labelled and {self.n_unlabelled} other units",
            f"{'':4}{'estimate':>10}{'std.error':>11}{'95% interval':>24}"
            f"{'labels only':>13}{'std.error':>11}{'naive':>10}",
        ]
        for number, (low, high) in enumerate(self.conf_int()):
            lines.append(
                f"{number:<4}{self.estimates[number]:>10.4g}{self.std_errors[number]:>11.4g}"
                f"{f'{low:.4g} to {high:.4g}':>24}{self.labels_only[number]:>13.4g}"
                f"{self.labels_only_std_error[number]:>11.4g}{self.naive[number]:>10.4g}"
            )
        return "\n".join(lines)


def predict_then_debias(
    data: pd.DataFrame,
    estimator: Estimator,
    *,
    predicted: Mapping[str, str],
    clusters: str | None = None,
    tuning: Tuning = "diagonal",
    n_boot: int = 400,
    seed: int = 0,
) -> DebiasedEstimates:
    """Estimate with labels on some units and predictions on all.

    Parameters
    ----------
    data : DataFrame
        One row a unit. Labelled are the rows in which no true column is missing; which ones are must be random.
    estimator : callable
        Takes rows of `data` and gives numbers, shape (p,) or one; it reads the true columns by their names. See
        `least_squares`.
    predicted : mapping of str to str
        For each true column the column of its predictions, which must not be missing: outcomes or regressors.
    clusters : str, optional
        Column of clusters, which are then resampled whole, labelled and unlabelled rows together.
    tuning : {"diagonal", "full", "none"}
        ``diagonal``: each estimate is sharpened by its own counterpart; ``full``: by all of them, which wants many
        labels; ``none``: the identity, no tuning.
    n_boot, seed : int
        Draws, 50 or more, and their seed.

    Returns
    -------
    DebiasedEstimates

    Raises
    ------
    EffectError
        When a column or a cluster is missing, there are fewer than two labelled or unlabelled units (clusters), or the
        estimator gives something that is not finite.
    """
    for name in (*predicted, *predicted.values(), *(() if clusters is None else (clusters,))):
        if name not in data.columns:
            raise EffectError(f"no column {name!r} in data; it has {', '.join(map(str, data.columns))}.")
    if not predicted:
        raise EffectError("predicted: name at least one true column and the column of its predictions.")
    if n_boot < 50:
        raise EffectError(f"n_boot: {n_boot} draws cannot describe a variance. Pass 50 or more.")
    if tuning not in ("full", "diagonal", "none"):
        raise EffectError(f"tuning: got {tuning!r}, expected 'diagonal', 'full' or 'none'.")
    truth, proxies = list(predicted), list(predicted.values())
    if data[proxies].isna().to_numpy().any():
        raise EffectError(f"predicted: {', '.join(proxies)} hold missing values. Leave these units out.")
    labelled = data[truth].notna().all(axis=1).to_numpy()
    n, n_unlabelled = int(labelled.sum()), int((~labelled).sum())
    if min(n, n_unlabelled) < 2:
        raise EffectError(
            f"{n} labelled and {n_unlabelled} unlabelled units; both need at least 2. With labels for all, no "
            "predictions are needed."
        )
    stand_in = data.assign(**{name: data[proxy] for name, proxy in predicted.items()})
    group = None
    if clusters is not None:
        group = np.unique(cluster_labels(data[clusters], clusters), return_inverse=True)[1]

    def estimates(rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        has, lacks = rows[labelled[rows]], rows[~labelled[rows]]
        parts = data.iloc[has], stand_in.iloc[has], stand_in.iloc[lacks]
        first, second, third = (_numbers(estimator, part) for part in parts)
        return first, second, third

    every = np.arange(len(data))
    theta, gamma, gamma_u = estimates(every)
    rng = np.random.default_rng(seed)
    drawn = [estimates(rows) for rows in _resamples(labelled, group, n_boot, rng)]
    thetas = np.stack([first for first, _, _ in drawn])
    gaps = np.stack([second - third for _, second, third in drawn])
    omega = _omega(thetas, gaps, tuning)
    draws = thetas - gaps @ omega.T
    return DebiasedEstimates(
        estimates=theta - omega @ (gamma - gamma_u),
        cov=np.atleast_2d(np.cov(draws, rowvar=False)),
        labels_only=theta,
        naive=gamma_u,
        labels_only_std_error=thetas.std(axis=0, ddof=1),
        omega=omega,
        draws=draws,
        n_labelled=n,
        n_unlabelled=n_unlabelled,
        df=clustered_df(group, labelled),
    )


def least_squares(outcome: str, regressors: Sequence[str], weights: str | None = None) -> Estimator:
    """Coefficients of a regression of `outcome` on a constant and `regressors`, for `predict_then_debias`.

    Parameters
    ----------
    outcome : str
    regressors : sequence of str
        Columns; none gives the mean, and one of 0 and 1 a mean and a difference in means.
    weights : str, optional
        Column of weights.

    Returns
    -------
    callable
        From rows to the coefficients, the constant first, shape (1 + k,).
    """

    def fit(rows: pd.DataFrame) -> Floats:
        design = np.column_stack(
            [np.ones(len(rows)), *(rows[name].to_numpy(dtype=float) for name in regressors)]
        )
        response = rows[outcome].to_numpy(dtype=float)
        if weights is not None:
            root = np.sqrt(rows[weights].to_numpy(dtype=float))
            design, response = design * root[:, None], response * root
        return np.asarray(np.linalg.lstsq(design, response, rcond=None)[0])

    return fit


def _numbers(estimator: Estimator, rows: pd.DataFrame) -> Floats:
    values = np.atleast_1d(np.asarray(estimator(rows), dtype=float))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise EffectError(
            f"estimator: gave {values!r} on {len(rows)} rows, expected finite numbers of shape (p,). In a resample an "
            "arm or a category may be empty: use more labels, or clusters with several units."
        )
    return values


def _resamples(
    labelled: NDArray[np.bool_], group: NDArray[np.intp] | None, n_boot: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """Rows of each draw: labelled and unlabelled apart, or whole clusters."""
    if group is None:
        has, lacks = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        return [
            np.concatenate([rng.choice(has, has.size), rng.choice(lacks, lacks.size)]) for _ in range(n_boot)
        ]
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1])
    mixed = sum(labelled[rows].any() for rows in members), sum((~labelled[rows]).any() for rows in members)
    if min(mixed) < 2:
        raise EffectError(
            f"clusters: {mixed[0]} hold labelled and {mixed[1]} unlabelled units; both need at least 2. Cluster at a "
            "finer level."
        )
    draws: list[NDArray[np.intp]] = []
    while len(draws) < n_boot:
        rows = np.concatenate([members[code] for code in rng.integers(0, len(members), len(members))])
        # A draw without a labelled or an unlabelled unit estimates nothing; with few clusters it is drawn again.
        if labelled[rows].any() and not labelled[rows].all():
            draws.append(rows)
    return draws


def _omega(thetas: Floats, gaps: Floats, tuning: Tuning) -> Floats:
    p = thetas.shape[1]
    if tuning == "none":
        return np.eye(p)
    centred, spread = thetas - thetas.mean(axis=0), gaps - gaps.mean(axis=0)
    if tuning == "diagonal":
        variance = np.square(spread).sum(axis=0)
        share = (centred * spread).sum(axis=0) / np.where(variance > 0, variance, 1.0)
        return np.diag(np.where(variance > 0, share, 0.0))
    return np.asarray(np.linalg.lstsq(spread, centred, rcond=None)[0]).T
