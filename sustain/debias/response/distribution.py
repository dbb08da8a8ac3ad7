"""The two distributions of truth behind the predictions of controls and of treated.

An effect needs little of a distribution; a headcount needs its tails. Expectation and maximisation from the
calibration's distribution leave them too much alone when they are stopped early, and make peaks of noise when they are
not. So both arms start from a smooth tilt of the calibration's distribution, which has few parameters and is hardly
held back. Each then takes half its start from the other arm, moved by the difference in means, because arms have much
of their shape in common. A few steps of expectation and maximisation let the predictions correct this.

When to stop is a choice, and what it leaves of bias is not in a sampling error. What two other choices say, no step at
all from the tilts and four times as many, is taken for its size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermevander
from numpy.typing import NDArray

from sustain.debias.response.unfolding import Response, moved, unfold

__all__ = ["Moves", "Sides", "stopped_otherwise", "tilted", "unfold_sides", "unfolding_moves"]

Array = NDArray[np.float64]

DEGREE = 3
"""Of the polynomial in truth by whose exponential the calibration's distribution is tilted."""

RIDGE = 1.0
"""Precision of the tilt's coefficients: they are of the size of one."""

SHARE, STEPS = 0.5, 10
"""Share of each start that is the other arm's, moved; and steps of expectation and maximisation from it."""

LATE_STEPS = 4 * STEPS
"""Steps of the later stop that bounds the bias of an early one."""

FAR = 3.0  # standard deviations of the truth beyond which a tilt stays
NEWTON, HALVINGS = 30, 6  # steps of a tilt at most, and of how often one is halved
CLOSE = 1e-10  # gain in log-likelihood, of which a step is the last
STEP = 1e-3  # share of an arm that is moved to one cell to see what follows


class Sides(NamedTuple):
    """Distributions of truth, shape (..., truth.n), of controls and treated.

    ``tilted``: the tilts of the calibration's distribution that they started from; ``tilts``: their coefficients.
    """

    control: Array
    treated: Array
    tilted: tuple[Array, Array]
    tilts: tuple[Array, Array]


class Moves(NamedTuple):
    """Derivatives of two distributions by the shares of cells, shape (m, truth.n), but for constants within an arm.

    ``control_by_treated``: the controls' distribution by the treated's shares; and so on.
    """

    control_by_control: Array
    control_by_treated: Array
    treated_by_control: Array
    treated_by_treated: Array


def unfold_sides(
    response: Response,
    control: Array,
    treated: Array,
    n_control: float,
    n_treated: float,
    start: tuple[Array, Array] | None = None,
) -> Sides:
    """Unfold the predictions of both arms of one population.

    Parameters
    ----------
    response : Response
    control, treated : ndarray, shape (..., m)
        Shares of the cells of predictions.
    n_control, n_treated : float
        Effective numbers of units.
    start : tuple of ndarray, optional
        Coefficients of the tilts to start from.
    """
    first = (None, None) if start is None else start
    coefficients, alone = [], []
    for observed, n, known in ((control, n_control, first[0]), (treated, n_treated, first[1])):
        found, a = tilted(response, observed, n, known)
        coefficients.append(a)
        alone.append(found)
    shift = (alone[1] - alone[0]) @ response.truth.x
    starts = (
        (1 - SHARE) * alone[0] + SHARE * moved(alone[1], -shift, response.truth),
        (1 - SHARE) * alone[1] + SHARE * moved(alone[0], shift, response.truth),
    )
    return Sides(
        unfold(response, control, starts[0], STEPS),
        unfold(response, treated, starts[1], STEPS),
        (alone[0], alone[1]),
        (coefficients[0], coefficients[1]),
    )


def stopped_otherwise(
    response: Response, control: Array, treated: Array, found: Sides
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Give the two distributions by an earlier stop (the tilts) and by a later one; arguments as `unfold_sides`."""
    more = LATE_STEPS - STEPS
    late = (
        unfold(response, control, found.control, more),
        unfold(response, treated, found.treated, more),
    )
    return found.tilted, late


def tilted(response: Response, observed: Array, n: float, start: Array | None = None) -> tuple[Array, Array]:
    """Tilt of the calibration's distribution that explains observed shares best.

    The distribution is ``f(y) exp(a' B(y))``, normed, with Hermite's polynomials B in the standardised truth; a
    maximises ``n sum_x q(x) log p(x) - a'a / 2`` by Fisher's scoring.

    Returns
    -------
    distribution : ndarray, shape (..., truth.n)
    a : ndarray, shape (..., DEGREE)
    """
    basis = _basis(response)
    draws = np.broadcast_shapes(observed.shape[:-1], response.matrix.shape[:-2])
    a = np.zeros((*draws, DEGREE)) if start is None else np.array(np.broadcast_to(start, (*draws, DEGREE)))
    score, found, expected = _likelihood(response, basis, observed, n, a)
    for _ in range(NEWTON):
        posterior = found * _back(response, observed / expected)
        gradient = n * (posterior - found) @ basis - RIDGE * a
        centred = basis - (found @ basis)[..., None, :]
        rise = np.swapaxes(found[..., None] * centred, -1, -2) @ response.matrix
        information = n * (rise / expected[..., None, :]) @ np.swapaxes(rise, -1, -2) + RIDGE * np.eye(DEGREE)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        factor = np.ones((*draws, 1))
        for _ in range(HALVINGS):
            new = _likelihood(response, basis, observed, n, a + factor * step)[0]
            worse = new < score
            if not np.any(worse):
                break
            factor = np.where(worse[..., None], factor / 2, factor)
        else:
            factor = np.where(worse[..., None], 0.0, factor)
        a = a + factor * step
        before = score
        score, found, expected = _likelihood(response, basis, observed, n, a)
        if np.all(score - before < CLOSE):
            break
    return found, a


def unfolding_moves(
    response: Response, control: Array, treated: Array, n_control: float, n_treated: float, found: Sides
) -> Moves:
    """Differentiate `unfold_sides`, without draws, by finite differences."""
    each = STEP * np.eye(control.size)
    n = n_control, n_treated
    by_control = unfold_sides(response, (1 - STEP) * control + each, treated, *n, found.tilts)
    by_treated = unfold_sides(response, control, (1 - STEP) * treated + each, *n, found.tilts)
    return Moves(
        (by_control.control - found.control) / STEP,
        (by_treated.control - found.control) / STEP,
        (by_control.treated - found.treated) / STEP,
        (by_treated.treated - found.treated) / STEP,
    )


def _basis(response: Response) -> Array:
    truth, prior = response.truth.x, response.distribution
    centre = prior @ truth
    scale = np.sqrt(prior @ (truth - centre) ** 2)
    return np.asarray(hermevander(np.clip((truth - centre) / scale, -FAR, FAR), DEGREE)[:, 1:])


def _likelihood(
    response: Response, basis: Array, observed: Array, n: float, a: Array
) -> tuple[Array, Array, Array]:
    """Penalised log-likelihood, distribution, and expected shares of cells."""
    power = a @ basis.T
    found = response.distribution * np.exp(power - power.max(axis=-1, keepdims=True))
    found = found / found.sum(axis=-1, keepdims=True)
    expected = (found[..., None, :] @ response.matrix)[..., 0, :]
    score = n * (observed * np.log(expected)).sum(axis=-1) - RIDGE * (a**2).sum(axis=-1) / 2
    return score, found, expected


def _back(response: Response, ratio: Array) -> Array:
    return np.asarray((response.matrix @ ratio[..., None])[..., 0])
