"""The response as a picture: curve, scatter and distribution of truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sustain.debias.response.model import ResponseModel
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_response"]

COLOUR = (
    "#CC79A7"  # Okabe and Ito's reddish purple: of the response, wherever methods are told apart by colour
)
BAND = (0.1, 0.9)


def draw_response(model: ResponseModel, ax: Axes | None = None, stratum: object = None) -> Axes:
    """Draw mean prediction by truth with its 95% band, the middle 80% of predictions, and the line of identity."""
    from matplotlib import pyplot

    if ax is None:
        ax = pyplot.subplots(layout="constrained")[1]
    population = model.population(stratum)
    response = model.response(population)
    truth = model.truth.x
    low, high = model.ends
    inside = (truth >= low) & (truth <= high)
    error = np.sqrt(np.einsum("jk,kl,jl->j", model.basis, population.cov, model.basis))
    half = critical_value(0.95, population.df) * error
    edges = response.edges
    below = np.column_stack([np.zeros(truth.size), np.cumsum(response.matrix, axis=1)])
    lower, upper = (np.array([np.interp(share, row, edges) for row in below]) for share in BAND)
    ax.fill_between(
        truth[inside],
        lower[inside],
        upper[inside],
        color=COLOUR,
        alpha=0.2,
        linewidth=0,
        label="middle 80% of predictions",
    )
    ax.fill_between(
        truth,
        response.curve - half,
        response.curve + half,
        color=COLOUR,
        alpha=0.5,
        linewidth=0,
        label="95% band",
    )
    ax.plot(truth[inside], response.curve[inside], color=COLOUR, label="mean prediction")
    ax.plot(truth, response.curve, color=COLOUR, linestyle=":", linewidth=1)
    ends = [truth[0], truth[-1]]
    ax.plot(ends, ends, color="0.4", linestyle="--", linewidth=1, label="prediction = truth")
    shape = response.distribution / response.distribution.max()
    bottom = ax.get_ylim()[0]
    room = 0.15 * (ax.get_ylim()[1] - bottom)
    ax.fill_between(
        truth, bottom, bottom + room * shape, color="0.7", linewidth=0, label="distribution of truth"
    )
    ax.set_ylim(bottom=bottom)
    ax.set_xlim(*ends)
    ax.set_xlabel("truth")
    ax.set_ylabel("prediction")
    ax.legend(frameon=False, fontsize="small")
    return ax
