"""Predict, then debias, by bootstrap: any estimator, predicted outcomes or regressors, clusters.

With ``theta`` the estimate from true values, and ``gamma`` the same estimator on predicted values,
``theta_labelled - Omega (gamma_labelled - gamma_unlabelled)`` is right whatever the predictions are worth, because both
``gamma`` estimate the same thing; `Omega` is chosen so that the difference takes away most variance (Kluger, Lu, Zrnic,
Wang and Bates 2025, arXiv:2501.18577). Only point estimates are needed: a bootstrap gives all covariances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.estimate import Note
from sustain.causal.labels.coefficients import RegressionCoefficients
from sustain.causal.labels.result import note_lines
from sustain.causal.labels.small_samples import Part, few_notes
from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DebiasedEstimates", "predict_then_debias"]

Floats = NDArray[np.float64]
Estimator = Callable[["pd.DataFrame"], ArrayLike]
Tuning = Literal["full", "diagonal", "none"]

FAILING = 0.2
"""Share of draws without an estimate from which on none is given: an arm in one cluster is missing in a third."""


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
    df : ndarray, shape (p,)
        Degrees of freedom of intervals: of a regression by `least_squares` those that the labelled units (or clusters
        with labels) leave each coefficient, see `sustain.causal.labels.small_samples`; of any other estimator
        labelled units (or clusters) less p.
    notes : tuple of Note
        What a reader should know, such as that few labels or few clusters say little.
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
    df: Floats = field(default_factory=lambda: np.array(math.inf))
    notes: tuple[Note, ...] = ()

    @property
    def std_errors(self) -> Floats:
        """Bootstrap standard errors, shape (p,)."""
        return np.sqrt(np.diag(self.cov))

    def conf_int(self, level: float = 0.95, method: Literal["normal", "percentile"] = "normal") -> Floats:
        """Confidence intervals, shape (p, 2): with the bootstrap's errors (``"normal"``), or its percentiles.

        The former is by Student's t with `df` degrees of freedom.
        """
        df = np.broadcast_to(self.df, self.estimates.shape)
        half = np.array([critical_value(level, each, EffectError) for each in df]) * self.std_errors
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
        return "\n".join([*lines, *note_lines(self.notes)])


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
        `sustain.causal.least_squares`.
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
        When a column or a cluster is missing, there are fewer than two labelled or unlabelled units (clusters), the
        estimator gives something that is not finite, or does so in a fifth of the draws: an arm (or category) that lies
        in a single cluster, or whose labels do, is missing in a third of them.
    """
    read.require_columns(data, (*predicted, *predicted.values(), *(() if clusters is None else (clusters,))))
    if not predicted:
        raise EffectError("predicted: name at least one true column and the column of its predictions.")
    n_boot = read.whole("n_boot", n_boot, "50 draws or more: fewer cannot describe a variance", least=50)
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
    group = None if clusters is None else read.labels(f"column {clusters!r}", data[clusters]).codes

    def estimates(rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        has, lacks = rows[labelled[rows]], rows[~labelled[rows]]
        parts = data.iloc[has], stand_in.iloc[has], stand_in.iloc[lacks]
        first, second, third = (_numbers(estimator, part) for part in parts)
        return first, second, third

    theta, gamma, gamma_u = estimates(np.arange(len(data)))
    factor, df = _small_sample(estimator, data.iloc[np.flatnonzero(labelled)], labelled, group, theta.size)
    resample = _resampler(labelled, group)
    rng = np.random.default_rng(seed)
    drawn: list[tuple[Floats, Floats, Floats]] = []
    failed = 0
    while len(drawn) < n_boot:
        try:
            drawn.append(estimates(resample(rng)))
        except EffectError as error:
            # A draw without an arm, a category, or any label estimates nothing; it is drawn again.
            failed += 1
            if failed > max(10, FAILING * (failed + len(drawn))):
                raise EffectError(
                    f"estimator: {failed} of {failed + len(drawn)} resamples gave no estimate ({error}) An arm or a "
                    "category has one or two labels, or lies in one or two clusters, so that nothing is seen of how "
                    "they differ. Use more labels, or cluster at a finer level."
                ) from error
    thetas = np.stack([first for first, _, _ in drawn])
    gaps = np.stack([second - third for _, second, third in drawn])
    omega = _omega(thetas, gaps, tuning)
    draws = thetas - gaps @ omega.T
    return DebiasedEstimates(
        estimates=theta - omega @ (gamma - gamma_u),
        cov=np.atleast_2d(np.cov(draws, rowvar=False)) * np.sqrt(np.outer(factor, factor)),
        labels_only=theta,
        naive=gamma_u,
        labels_only_std_error=thetas.std(axis=0, ddof=1) * np.sqrt(factor),
        omega=omega,
        draws=draws,
        n_labelled=n,
        n_unlabelled=n_unlabelled,
        df=df,
        notes=_notes(df, labelled, group, failed, n_boot),
    )


def _small_sample(
    estimator: Estimator,
    rows: pd.DataFrame,
    labelled: NDArray[np.bool_],
    group: NDArray[np.intp] | None,
    p: int,
) -> tuple[Floats, Floats]:
    """Factor on the bootstrap's variances, and degrees of freedom, each shape (p,)."""
    codes = None if group is None else np.unique(group[labelled], return_inverse=True)[1]
    if isinstance(estimator, RegressionCoefficients):
        design = estimator.design(rows)
        loadings = design.basis @ design.back.T
        none = np.zeros(len(rows))  # the bootstrap tells the variance
        parts = [Part(none, column, design.basis, codes) for column in loadings.T]
        if any(part.alone for part in parts):
            raise EffectError(
                "clusters: a single cluster or unit decides a coefficient (an arm or a category lies in one, or all "
                "its labels do), so that nothing is seen of how these differ. Use more labels, or cluster at a finer "
                "level."
            )
        return np.array([part.factor for part in parts]), np.array([part.df for part in parts])
    m = len(rows) if codes is None else int(codes.max()) + 1
    return np.full(p, m / (m - 1)), np.full(p, float(max(1, m - p)))


def _notes(
    df: Floats, labelled: NDArray[np.bool_], group: NDArray[np.intp] | None, failed: int, n_boot: int
) -> tuple[Note, ...]:
    held = (
        f"{int(labelled.sum())} labels"
        if group is None
        else f"{np.unique(group[labelled]).size} clusters with labels"
    )
    notes = few_notes(float(df.min()), group is not None, held)
    if not failed:
        return notes
    text = (
        f"{failed} resamples gave no estimate and were drawn again, beside {n_boot} that did: an arm or a category has "
        "few labels, or lies in few clusters, and its standard error is likely too small."
    )
    return (*notes, Note("failed_draws", text))


def _numbers(estimator: Estimator, rows: pd.DataFrame) -> Floats:
    if rows.empty:
        raise EffectError("no labelled or no unlabelled unit in the resample.")
    values = np.atleast_1d(np.asarray(estimator(rows), dtype=float))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise EffectError(
            f"estimator: gave {values!r} on {len(rows)} rows, expected finite numbers of shape (p,). In a resample an "
            "arm or a category may be empty: use more labels, or clusters with several units."
        )
    return values


def _resampler(
    labelled: NDArray[np.bool_], group: NDArray[np.intp] | None
) -> Callable[[np.random.Generator], NDArray[np.intp]]:
    """Draws rows with replacement: labelled and unlabelled apart, or whole clusters."""
    if group is None:
        has, lacks = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        return lambda rng: np.concatenate([rng.choice(has, has.size), rng.choice(lacks, lacks.size)])
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1])
    mixed = sum(labelled[rows].any() for rows in members), sum((~labelled[rows]).any() for rows in members)
    if min(mixed) < 2:
        raise EffectError(
            f"clusters: {mixed[0]} hold labelled and {mixed[1]} unlabelled units; both need at least 2. Cluster at a "
            "finer level."
        )
    return lambda rng: np.concatenate([members[code] for code in rng.integers(0, len(members), len(members))])


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
