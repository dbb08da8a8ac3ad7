"""Corrections and their bootstrap draws as tables, small enough for a card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sustain.debias.base import Calibration
from sustain.debias.card.draws import Components, Decomposition, compress
from sustain.debias.card.parts import short
from sustain.debias.card.schema import ComponentDraws, Correction, LineDraws
from sustain.debias.linear import LinearCalibration
from sustain.debias.strata import curves_of, stratum_columns
from sustain.debias.table import Grid, Table

__all__ = ["tabulate"]

Array = NDArray[np.float64]

CHARACTERS = (
    165_000  # for tables and draws of all corrections together; the rest of a card takes 5 to 30 thousand
)
DIGITS = 9  # of a pooled correction
STRATUM_DIGITS = 6  # of one of many


@dataclass(frozen=True)
class _Curve:
    """A correction on the grid, and its refits on resampled groups (shape (n_draws, grid.n))."""

    calibration: Calibration
    stratum: str | None
    table: Table
    error: float
    refits: Array
    notes: dict[str, float]

    @property
    def linear(self) -> bool:
        return isinstance(self.calibration, LinearCalibration)


def tabulate(fitted: Sequence[Calibration], counts: Array, grid: Grid, characters: int) -> list[Correction]:
    """Tabulate the corrections, pooled ones first, with draws that share the characters left over by the tables.

    Parameters
    ----------
    counts : ndarray, shape (n_draws, n_groups)
        How often each group (row, without groups) is in each draw.
    grid : Grid
        Nodes of all tables.
    characters : int
        That the corrections may take in a card, together.

    Warns
    -----
    CardWarning
        When the draws that fit leave out more than 2% of the variance of a correction.
    """
    curves = [curve for calibration in fitted for curve in _curves(calibration, counts, grid)]
    curves.sort(key=lambda curve: curve.stratum is not None)
    written = [_written(curve) for curve in curves]
    left = characters - sum(len(str(item)) for item in written)
    bent = [Decomposition.of(curve.refits, curve.table.h) for curve in curves if not curve.linear]
    stored = iter(compress(bent, max(0, left - sum(_line_size(c) for c in curves if c.linear))))
    return [
        Correction(
            method=curve.calibration.method,
            stratum=curve.stratum,
            options=curve.calibration.get_params(),
            notes=curve.notes,
            h=h,
            dh=dh,
            max_error=short(curve.error),
            draws=_line_draws(curve) if curve.linear else _component_draws(next(stored)),
        )
        for curve, (h, dh) in zip(curves, written, strict=True)
    ]


def _curves(calibration: Calibration, counts: Array, grid: Grid) -> Iterator[_Curve]:
    """Tabulate the pooled correction, then those of the strata."""
    table, error = calibration._tabulate(grid)
    pooled = curves_of(calibration, counts, grid)
    notes = {name: short(value) for name, value in calibration._notes().items()}
    yield _Curve(calibration, None, table, error, pooled, notes)
    for code, (name, fit) in enumerate(calibration.strata_.items()):
        h, refits, worst = (1 - fit.weight) * table.h, (1 - fit.weight) * pooled, error
        if fit.own is not None:
            own, own_error = fit.own._tabulate(grid)
            h = h + fit.weight * own.h
            columns = stratum_columns(calibration._sample, code)
            refits = refits + fit.weight * curves_of(fit.own, counts[:, columns], grid)
            worst = max(error, own_error)
        about = {"weight": short(fit.weight), "n": float(fit.n)}
        yield _Curve(calibration, name, Table(grid, h), worst, refits, about)


def _written(curve: _Curve) -> tuple[list[float], list[float]]:
    """Values at the nodes, and slopes, which strata go without: they follow from the values."""
    if curve.stratum is not None:
        return [short(v, STRATUM_DIGITS) for v in curve.table.h], []
    digits = 12 if curve.linear else DIGITS
    return [short(v, digits) for v in curve.table.h], [short(v, 6) for v in curve.table.dh]


def _line_size(curve: _Curve) -> int:
    return 22 * len(curve.refits)


def _line_draws(curve: _Curve) -> LineDraws:
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
