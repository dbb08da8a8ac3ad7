"""Corrections and their bootstrap draws as tables, small enough for a card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.debias.card.draws import Components, Decomposition, compress
from sustain.debias.card.parts import short
from sustain.debias.card.schema import ComponentDraws, Correction, LineDraws
from sustain.debias.table import Nodes, Table

__all__ = ["FittedCorrection", "FittedCurve", "tabulate"]

Array = NDArray[np.float64]

DIGITS = 9  # of a pooled correction
STRATUM_DIGITS = 6  # of one of many
_LINE_SIZE = 22  # characters of a draw of a line


@dataclass(frozen=True)
class FittedCurve:
    """A correction on the nodes of a card.

    Attributes
    ----------
    stratum : str or None
        Stratum that it is for; None for the pooled one.
    table : Table
    error : float
        Greatest difference of the table from the formula inside the support.
    refits : ndarray, shape (n_draws, n_nodes)
        The correction refitted on resampled groups.
    notes : dict of str to float
        Numbers that a reader of the card should see.
    """

    stratum: str | None
    table: Table
    error: float
    refits: Array
    notes: dict[str, float]


class FittedCorrection(Protocol):
    """What a card asks of a fitted correction."""

    @property
    def method(self) -> str:
        """Name in the card."""

    @property
    def straight(self) -> bool:
        """Whether the correction and all its refits are straight lines."""

    @property
    def own_strata(self) -> frozenset[str]:
        """Strata that have a correction of their own."""

    @property
    def weaknesses_(self) -> dict[str, str]:
        """What is weak about this correction beside its sample, by subject."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Options."""

    def nodes(self) -> Nodes:
        """Nodes on which it wants to be tabulated."""

    def curves(self, counts: Array, grid: Nodes) -> Iterator[FittedCurve]:
        """Tabulate the pooled correction, then those of strata; `counts` as for `tabulate`."""


def tabulate(
    fitted: Sequence[FittedCorrection], counts: Array, grid: Nodes, characters: int
) -> list[Correction]:
    """Tabulate the corrections, pooled ones first, with draws that share the characters left over by the tables.

    Parameters
    ----------
    counts : ndarray, shape (n_draws, n_groups)
        How often each group (row, without groups) is in each draw.
    grid : Nodes
        Nodes of all tables.
    characters : int
        That the corrections may take in a card, together.

    Warns
    -----
    CardWarning
        When the draws that fit leave out more than 2% of the variance of a correction.
    """
    curves = [(item, curve) for item in fitted for curve in item.curves(counts, grid)]
    curves.sort(key=lambda pair: pair[1].stratum is not None)
    written = [_written(curve, item.straight) for item, curve in curves]
    left = characters - sum(len(str(values)) for values in written)
    left -= sum(_LINE_SIZE * len(curve.refits) for item, curve in curves if item.straight)
    bent = [Decomposition.of(curve.refits, curve.table.h) for item, curve in curves if not item.straight]
    stored = iter(compress(bent, max(0, left)))
    return [
        Correction(
            method=item.method,
            stratum=curve.stratum,
            options=item.get_params(),
            notes={name: short(value) for name, value in curve.notes.items()},
            h=h,
            dh=dh,
            max_error=short(curve.error),
            draws=_line_draws(curve) if item.straight else _component_draws(next(stored)),
        )
        for (item, curve), (h, dh) in zip(curves, written, strict=True)
    ]


def _written(curve: FittedCurve, straight: bool) -> tuple[list[float], list[float]]:
    """Values at the nodes, and slopes, which strata go without: they follow from the values."""
    if curve.stratum is not None:
        return [short(v, STRATUM_DIGITS) for v in curve.table.h], []
    digits = 12 if straight else DIGITS
    return [short(v, digits) for v in curve.table.h], [short(v, 6) for v in curve.table.dh]


def _line_draws(curve: FittedCurve) -> LineDraws:
    # A weighed mean of lines is a line: h = (x - intercept) / slope.
    grid = curve.table.grid
    slope = (grid.stop - grid.start) / (curve.refits[:, -1] - curve.refits[:, 0])
    intercept = grid.start - slope * curve.refits[:, 0]
    return LineDraws(intercept=[short(v) for v in intercept], slope=[short(v) for v in slope])


def _component_draws(parts: Components) -> ComponentDraws:
    return ComponentDraws(
        scale=parts.scale,
        scores=parts.scores.T.tolist(),
        curves=parts.curves.tolist(),
        max_error=short(parts.max_error),
    )
