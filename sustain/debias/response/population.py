"""Learn the response of calibration rows: of all as one population, and of each of their populations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.curve import fit_curve
from sustain.debias.response.kernel import fit_kernel
from sustain.debias.response.model import Between, Population, ResponseModel
from sustain.debias.response.noisy_labels import fit_noisy, quantiles_on, truth_behind
from sustain.debias.response.own_curves import own_curves, shapes_of
from sustain.debias.response.pooling import Pooled, pool
from sustain.debias.sample import MIN_PAIRS, CalibrationSample
from sustain.debias.table import Nodes, quantiles_of, support_of
from sustain.errors import CalibrationError
from sustain.stats.combinations import combined_label
from sustain.stats.natural_spline import NaturalSpline
from sustain.stats.random_effects import random_effects

__all__ = ["fit_model", "truth_quantiles", "with_populations"]

Array = NDArray[np.float64]
Parts = tuple[str, ...]

N_TRUTH, N_CELLS = 81, 80
"""Nodes in truth and cells of predictions of a response matrix."""

ROWS_A_BIN, MOST_BINS = 20, 40
"""Fewest rows between two quantiles of the truth, and most bins between them."""

OWN_DISTRIBUTION = 200
"""Rows from which a population's quantiles of truth are its own; of fewer they are those of all rows, moved to its
mean and standard deviation."""

POOLED_SHAPES = 3
"""Shapes of a population's curve in which others are drawn on: level, slope and a bend."""

HELD = 2.5
"""Of a population's curve, the weight of its integrated squared second derivative against a squared residual; a curve
by itself has six times this at least (`sustain.debias.response.curve.LEAST_PENALTY`): nothing else holds it."""

KNOWN_SPREAD = 5
"""Populations from which how they differ is known well enough for those of few rows."""

LEAST_SCALE = 0.1  # of a population's truths, as a share of that of all rows
BEYOND_TRUTH = 0.75  # of the nodes in truth beyond its outer quantiles, in standard deviations
BEYOND_CELLS = 0.25  # of the cells beyond the support of the predictions, as a share of it


def fit_model(sample: CalibrationSample) -> ResponseModel:
    """Learn the response of a sample: all its rows as one population, then each stratum of it."""
    if sample.noise > 0:
        curve, kernel, truth, distribution = fit_noisy(sample)
        shares = truth_shares(sample.n)
        quantiles = quantiles_on(truth, distribution, shares)
    else:
        curve = fit_curve(sample)
        low, high = support_of(sample.y_true, sample.weight)
        truth = Nodes(low - BEYOND_TRUTH * curve.scale, high + BEYOND_TRUTH * curve.scale, N_TRUTH)
        kernel = fit_kernel(sample, curve, truth)
        shares, quantiles = truth_quantiles(sample, truth)
    low, high = sample.support
    beyond = BEYOND_CELLS * (high - low)
    model = ResponseModel(
        truth=truth,
        cells=Nodes(low - beyond, high + beyond, N_CELLS + 1),
        centre=curve.centre,
        scale=curve.scale,
        knots=curve.spline.knots,
        kernel=kernel,
        pooled=Population(sample.n, curve.values, curve.cov, curve.cov_df, 1.0, shares, quantiles),
    )
    return with_populations(model, sample)


def truth_quantiles(sample: CalibrationSample, truth: Nodes) -> tuple[Array, Array]:
    """Shares and quantiles of the truth; behind noisy labels of its distribution on nodes."""
    shares = truth_shares(sample.n)
    if sample.noise > 0:
        return shares, quantiles_on(truth, truth_behind(sample, truth), shares)
    return shares, quantiles_of(sample.y_true, sample.weight, shares)


def truth_shares(n: int) -> Array:
    """Shares of the quantiles that `n` rows give: as many as leave `ROWS_A_BIN` rows between two."""
    n_bins = int(np.clip(n // ROWS_A_BIN, 2, MOST_BINS))
    return np.arange(1, n_bins) / n_bins


def with_populations(model: ResponseModel, sample: CalibrationSample) -> ResponseModel:
    """Add the populations of a sample to the model of all its rows.

    One column of strata gives a population a stratum. Several give one to each combination of labels, and to each
    label of the first column (of the first two, ...), for units of which no more is known. Strata of fewer than 20
    rows have the curve of all rows and, where five populations or more tell it, how these differ in its covariance.
    """
    depth = len(sample.stratum_parts[0]) if sample.stratum_parts else 0
    populations: dict[str, Population] = {}
    between: Between | None = None
    within: Between | None = None
    for length in range(1, depth + 1):
        prefixes = sorted({parts[:length] for parts in sample.stratum_parts})
        members = {prefix: _rows_of(sample, prefix) for prefix in prefixes}
        members = {prefix: rows for prefix, rows in members.items() if rows.size >= MIN_PAIRS}
        if len(members) < 2:
            populations |= {combined_label(prefix): model.pooled for prefix in members}
            continue
        found, spread = _populations(model, sample, members)
        twice = [name for name in found if name in populations]
        if twice:
            raise CalibrationError(
                f"strata: a label of the first column and a combination of labels would both be named {twice[0]!r}. "
                "Rename one of them."
            )
        populations |= found
        if between is None:
            between = spread
        else:
            within = spread
    if depth == 1:
        known = between is not None and between.n >= KNOWN_SPREAD
        few = replace(model.pooled, cov=model.pooled.cov + (between.cov if known and between else 0.0))
        populations = dict.fromkeys(sample.stratum_names, few) | populations
    return replace(model, populations=populations, between=between, within=within)


def _rows_of(sample: CalibrationSample, prefix: Parts) -> NDArray[np.intp]:
    codes = [code for code, parts in enumerate(sample.stratum_parts) if parts[: len(prefix)] == prefix]
    return np.flatnonzero(np.isin(np.asarray(sample.stratum), codes))


def _populations(
    model: ResponseModel, sample: CalibrationSample, members: dict[Parts, NDArray[np.intp]]
) -> tuple[dict[str, Population], Between | None]:
    parts = [sample.take(rows) for rows in members.values()]
    shapes, coordinates = shapes_of(model, sample)
    own = own_curves(model, parts, shapes)
    factors = _factors(list(members))
    few = slice(0, POOLED_SHAPES)
    pooled = pool(own.estimates[:, few], own.variances[:, few, few], factors)
    common = coordinates @ model.pooled.values
    roughness = HELD * shapes.T @ NaturalSpline.on(model.knots).roughness @ shapes
    scale = random_effects(own.log_scale, own.log_scale_var)
    trust = scale.sd**2 / (scale.sd**2 + own.log_scale_var)
    spreads = np.exp(scale.mean + trust * (own.log_scale - scale.mean))
    found = {}
    for place, (prefix, part) in enumerate(zip(members, parts, strict=True)):
        shares, quantiles = _distribution(model, part)
        variance = own.variances[place]
        mean, precision = _of_others(
            pooled, place, variance[few, few], own.estimates[place, few], common.size
        )
        held = roughness / own.residual_variances[place]
        information = np.linalg.inv(variance)
        cov = np.linalg.inv(information + precision + held)
        # Further bends are drawn towards none, not towards the common ones: where a curve is flat by mistake, nothing
        # can be read back.
        values = cov @ (information @ (common + own.estimates[place]) + precision @ (common + mean))
        found[combined_label(prefix)] = Population(
            n=part.n,
            values=shapes @ values,
            cov=shapes @ cov @ shapes.T,
            df=float(own.df[place]) + len(parts) - 1,
            spread=float(spreads[place]),
            shares=shares,
            quantiles=quantiles,
        )
    if factors:
        # About the curve of the first label, which is in the calibration sample.
        new, n = pooled.own + sum(pooled.factors[1:]), len(parts) - int(factors[0].max())
    else:
        new, n = pooled.own + pooled.mean_cov + np.outer(pooled.mean, pooled.mean), len(parts)
    return found, Between(shapes[:, few] @ new @ shapes[:, few].T, n) if n > 1 else None


def _of_others(
    pooled: Pooled, place: int, variance: Array, estimate: Array, n_shapes: int
) -> tuple[Array, Array]:
    """Give what other populations say of one: mean, and precision, in all shapes.

    A best prediction is what others say times what the population itself says; the latter is taken out again.
    """
    own, both = np.linalg.inv(variance), np.linalg.inv(pooled.cov[place])
    mean, precision = np.zeros(n_shapes), np.zeros((n_shapes, n_shapes))
    few = slice(0, len(own))
    precision[few, few] = both - own
    mean[few] = np.linalg.solve(both - own, both @ pooled.found[place] - own @ estimate)
    return mean, precision


def _factors(prefixes: Sequence[Parts]) -> list[NDArray[np.intp]]:
    """Level of each combination in each factor; none where a single factor tells them apart."""
    if len(prefixes[0]) == 1:
        return []
    return [
        np.unique([prefix[place] for prefix in prefixes], return_inverse=True)[1]
        for place in range(len(prefixes[0]))
    ]


def _distribution(model: ResponseModel, part: CalibrationSample) -> tuple[Array, Array]:
    """Shares and quantiles of the truth in a population."""
    if part.n >= OWN_DISTRIBUTION:
        return truth_quantiles(part, model.truth)
    centre = float(np.average(part.y_true, weights=part.weight))
    variance = float(np.average((part.y_true - centre) ** 2, weights=part.weight)) - part.noise
    scale = np.sqrt(max(variance, 0.0)) / model.scale
    return model.pooled.shares, centre + (model.pooled.quantiles - model.centre) * max(scale, LEAST_SCALE)
