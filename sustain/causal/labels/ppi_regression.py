"""Labels in the trial: prediction-powered regressions of the truth (PPI++)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.estimate import Note
from sustain.causal.labels.ppi import given_factor, joint_groups, kept_by_tuning, tuned_factor
from sustain.causal.labels.result import PPIResult
from sustain.causal.labels.small_samples import Part, add_up, few_notes
from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.stats.least_squares import Regressors

__all__ = ["ppi_ols"]

Floats = NDArray[np.float64]


def ppi_ols(
    x: ArrayLike,
    y: ArrayLike,
    y_pred: ArrayLike,
    x_unlabelled: ArrayLike,
    y_pred_unlabelled: ArrayLike,
    *,
    lam: float | None = None,
    clip: bool = False,
    clusters: ArrayLike | None = None,
    clusters_unlabelled: ArrayLike | None = None,
) -> list[PPIResult]:
    """Coefficients of a regression of the truth on `x`.

    Parameters
    ----------
    x, x_unlabelled : array_like, shape (n, k) and (N, k)
        Regressors; include a column of ones for a constant. Columns of two tables are matched by their names.
    y, y_pred, y_pred_unlabelled, lam, clip, clusters, clusters_unlabelled
        As in `ppi_mean`. One factor serves all coefficients: it makes the sum of their variances least, and so depends
        on the units of the regressors.

    Returns
    -------
    list of PPIResult, length k
        In the order of the columns of `x`. A coefficient that a single cluster (or unit) decides has no standard error:
        it is NaN, and a note says so.

    Raises
    ------
    EffectError
        As `ppi_mean`; when columns of `x` are linearly dependent among the labelled or the unlabelled units, or the two
        have other names; and when single clusters decide all coefficients.
    """
    truth = read.vector("y", y)
    f = read.vector("y_pred", y_pred, truth.size, like="y")
    f_u = read.vector("y_pred_unlabelled", y_pred_unlabelled)
    n, n_u = truth.size, f_u.size
    others = {"x_unlabelled": x_unlabelled, "clusters_unlabelled": clusters_unlabelled}
    read.require_index_of("y", y, y_pred=y_pred, x=x, clusters=clusters)
    read.require_index_of("y_pred_unlabelled", y_pred_unlabelled, **others)
    design, design_u, names = _designs(x, x_unlabelled, n, n_u)
    group, group_u = joint_groups(clusters, clusters_unlabelled, n, n_u)
    own, _ = _orthogonal(design, names), _orthogonal(design_u, names)
    every = _orthogonal(np.vstack([design, design_u]), names)

    # From here on in an orthonormal basis of the columns, and so safe whatever their scale is.
    z, z_u, back = every.basis[:n], every.basis[n:], every.back
    (basis, upper), (basis_u, upper_u) = np.linalg.qr(z), np.linalg.qr(z_u)
    on_truth, on_f = (np.linalg.solve(upper, basis.T @ v) for v in (truth, f))
    on_f_u = np.linalg.solve(upper_u, basis_u.T @ f_u)
    loading, loading_u = (part @ back.T * (n + n_u) for part in (z, z_u))

    def scores(at: Floats) -> tuple[Floats, Floats, Floats]:
        of = (truth, z, loading), (f, z, loading), (f_u, z_u, loading_u)
        first, second, third = ((v - part @ at)[:, None] * load for v, part, load in of)
        return first, second, third

    kept = 1.0
    lam = given_factor(lam)
    if lam is None:
        kept = _kept(n - design.shape[1])
        g, g_f, g_u = scores(on_truth + on_f_u - on_f)
        cross = float(np.sum((g - g.mean(axis=0)) * (g_f - g_f.mean(axis=0)))) / n
        spread = float(np.var(np.vstack([g_f, g_u]), axis=0, ddof=1).sum())
        lam = tuned_factor(cross, spread, n, n_u, clip)
    if lam == 0:  # the labels alone, and so their own regressors alone
        loading = own.basis @ own.back.T * n
    at = on_truth + lam * (on_f_u - on_f)
    g, g_f, g_u = scores(at)
    psi, psi_u = ((score - score.mean(axis=0)) / len(score) for score in (g - lam * g_f, lam * g_u))
    results = []
    for k, estimate in enumerate(back @ at):
        parts = [Part(psi[:, k], loading[:, k] / n, basis, group, kept)]
        if lam != 0:
            parts.append(Part(psi_u[:, k], lam * loading_u[:, k] / n_u, basis_u, group_u))
        results.append(_result(float(estimate), names[k], lam, parts, n, n_u))
    if all(np.isnan(result.std_error) for result in results):
        raise EffectError(
            "clusters: each coefficient is decided by a single cluster (such as an arm that lies in one), so that "
            "nothing is seen of how clusters differ. Cluster at a finer level."
        )
    return results


def _result(estimate: float, name: str, lam: float, parts: list[Part], n: int, n_u: int) -> PPIResult:
    labels = parts[0]
    clustered = labels.group is not None
    unit = "cluster" if clustered else "unit"
    if any(part.alone for part in parts):
        text = (
            f"A single {unit} decides the coefficient of {name}, so that nothing is seen of how {unit}s differ, and no "
            "standard error can be given."
        )
        nothing = np.full(n + n_u, np.nan)
        return PPIResult(estimate, np.nan, (lam,), n, n_u, nothing, np.nan, (Note(f"single_{unit}", text),))
    total = add_up(parts)
    influence = [part.scaled for part in parts] + ([np.zeros(n_u)] if len(parts) == 1 else [])
    held = (
        f"{labels.n_groups} {'clusters with labels' if clustered else 'labels'}, of which few bear on {name}"
    )
    return PPIResult(
        estimate,
        total.std_error,
        (lam,),
        n,
        n_u,
        np.concatenate(influence),
        total.df,
        few_notes(total.df, clustered, held),
    )


def _kept(df: int) -> float:
    if df < 2:
        raise EffectError(
            f"lam: labels that leave {df} degrees of freedom cannot tune a factor and show how units differ. Pass "
            "lam=1 (predictions as they are) or lam=0 (labels alone), or label more."
        )
    return kept_by_tuning(df)


def _orthogonal(design: Floats, names: Sequence[str]) -> Regressors:
    """Basis of the columns, with their own constant as the first, for then the others are centred."""
    flat = np.flatnonzero((design == design[:1]).all(axis=0) & (design[:1] != 0).all(axis=0))
    if flat.size == 0:
        return Regressors.of(design, names, constant=False, error=EffectError)
    order = np.r_[flat[0], np.delete(np.arange(design.shape[1]), flat[0])]
    found = Regressors.of(design[:, order[1:]], [names[k] for k in order[1:]], error=EffectError)
    back = np.empty_like(found.back)
    back[order] = found.back
    back[flat[0]] /= design[0, flat[0]]
    return Regressors(found.basis, found.root, back)


def _designs(x: Any, x_unlabelled: Any, n: int, n_u: int) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Both tables of regressors with the columns of the first, by name where both have names."""
    design, names = read.matrix("x", x, n, like="y")
    design_u, names_u = read.matrix("x_unlabelled", x_unlabelled, n_u, like="y_pred_unlabelled")
    if hasattr(x, "columns") and hasattr(x_unlabelled, "columns"):
        if set(names) != set(names_u):
            missing, more = sorted(set(names) - set(names_u)), sorted(set(names_u) - set(names))
            raise EffectError(
                "x, x_unlabelled: have different columns ("
                + "; ".join(
                    f"only {name} has {', '.join(map(repr, found))}"
                    for name, found in (("x", missing), ("x_unlabelled", more))
                    if found
                )
                + "). Make the same regressors of both, dummies of the same categories included."
            )
        design_u = design_u[:, [names_u.index(name) for name in names]]
    if design.shape[1] != design_u.shape[1] or design.shape[1] == 0:
        raise EffectError(
            f"x, x_unlabelled: have {design.shape[1]} and {design_u.shape[1]} columns. Pass the same "
            "regressors for both, one or more."
        )
    return design, design_u, names
