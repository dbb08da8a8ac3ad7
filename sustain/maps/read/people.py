"""People, or other counts, of a raster on cells of its own, shared out over the cells of a map.

No count is lost or made: what lies in a cell of people goes to the cells of the map in proportion to the part of it
that each covers, as if people lived evenly in it.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
from affine import Affine
from rasterio.windows import Window

from sustain.errors import DataWarning, GridWarning, RasterError
from sustain.maps.geotiff import open_raster, read_values, value_bands
from sustain.maps.places import system_of
from sustain.maps.read.ground import CellAreas

__all__ = ["People", "open_people"]

Floats = npt.NDArray[np.float64]
Edges = tuple[float, float, float, float]  # left, top, right, bottom in pixels

_SAME = 1e-4  # of a cell: grids that differ by less are one
_MOST_PARTS = 64  # into which the side of a cell of the map is cut for smaller cells of people
_CRUMBS = 4  # along the side of a cell of people, where the two grids are not parallel
_NO_COUNT = 1e30  # larger numbers are none


@contextmanager
def open_people(
    source: rasterio.io.DatasetReader, path: str | Path | None, *, per_km2: bool
) -> Iterator[People | None]:
    """Open a raster of counts (or densities) beside a map, and say in the end what is to be known; None without."""
    if path is None:
        yield None
        return
    with open_raster(path) as other:
        people = People(source, other, per_km2=per_km2)
        yield people
        people.warn()


class People:
    """Counts of a raster on the cells of a map.

    Numbers below zero, infinite, above 1e30 or the largest of an integer type (65535 of uint16) are no counts: they
    stand for missing ones that the file does not declare. Where no count is known, there is nobody.

    Parameters
    ----------
    source : rasterio.io.DatasetReader
        The map.
    other : rasterio.io.DatasetReader
        Raster of counts, with one band.
    per_km2 : bool
        Whether `other` holds densities, in people per square kilometre, rather than people per cell.

    Attributes
    ----------
    parts : (int, int)
        Into how many parts the cells of the map are cut, across and down, where those of people are smaller.

    Raises
    ------
    RasterError
        When `other` has no coordinate system, or several bands.
    """

    def __init__(
        self, source: rasterio.io.DatasetReader, other: rasterio.io.DatasetReader, *, per_km2: bool = False
    ) -> None:
        if len(value_bands(other)) != 1:
            raise RasterError(
                f"{other.name}: weights are one band, and this raster has {len(value_bands(other))}. Cut one out "
                "(gdal_translate -b)."
            )
        self._map, self._other = source, other
        (band,) = value_bands(other)
        whole = np.issubdtype(np.dtype(other.dtypes[band - 1]), np.integer)
        top = np.iinfo(other.dtypes[band - 1]).max if whole else np.inf
        # Between the largest number and the one before it.
        largest = (top - 0.5) * other.scales[band - 1] + other.offsets[band - 1] if whole else np.inf
        self._no_count = min(_NO_COUNT, largest)
        ours, theirs = system_of(source), system_of(other)
        self._areas = CellAreas(other) if per_km2 else None
        self._degrees = theirs.is_geographic  # then the same place lies 360 degrees further on as well
        same = ours.equals(theirs, ignore_axis_order=True)
        # From pixels of people to those of the map, where nothing but a rotation and a scale lies in between.
        self._direct: Affine | None = ~source.transform @ other.transform if same else None
        self._to_theirs = None if same else pyproj.Transformer.from_crs(ours, theirs, always_xy=True)
        self._to_ours = None if same else pyproj.Transformer.from_crs(theirs, ours, always_xy=True)
        self._parallel = self._direct is not None and max(abs(self._direct.b), abs(self._direct.d)) < _SAME
        sides = self._sides()
        self.parts = (_parts(sides[0]), _parts(sides[1]))
        # Cells of people that are much larger than those of the map are cut, so that few crumbs do for each piece.
        longest = max(side * parts for side, parts in zip(sides, self.parts, strict=True))
        self._cut = max(1, int(np.ceil(longest)))
        self._n_cells = self._n_uncovered = self._n_odd = 0
        self._least_odd = 0.0

    def counts(self, row: int, col: int, height: int, width: int) -> Floats:
        """People on the parts of a window of the map's cells, shape (height * parts down, width * parts across).

        NaN where the raster of people does not reach.
        """
        across, down = self.parts
        n_rows, n_cols = height * down, width * across
        found, covered = np.zeros((n_rows, n_cols)), np.zeros((n_rows, n_cols), dtype=np.bool_)
        share = self._shares_parallel if self._parallel else self._shares_by_points
        for turn in self._turns(row, col, height, width):
            share(turn, (row, col, height, width), found, covered)
        found[~covered] = np.nan
        return found

    @property
    def raster(self) -> rasterio.io.DatasetReader:
        """Raster of the counts."""
        return self._other

    def on_own_cells(self) -> People:
        """Give the same counts on the cells of their own raster."""
        return People(self._other, self._other, per_km2=self._areas is not None)

    def known(self, counts: Floats) -> Floats:
        """Give counts on cells that a zone meets, nobody where the raster does not reach, and remember how many."""
        uncovered = np.isnan(counts)
        self._n_cells += counts.size
        self._n_uncovered += int(uncovered.sum())
        return np.where(uncovered, 0.0, counts)

    def warn(self) -> None:
        """Say what a reader of means by these counts must know."""
        name = self._other.name
        if (how := self._how()) is not None:
            warnings.warn(
                f"{name}: weights lie on other cells than {self._map.name} ({how}). They are shared out over the map's "
                "cells by area; no count is lost.",
                GridWarning,
                stacklevel=5,
            )
        if self._n_odd:
            warnings.warn(
                f"{name}: {self._n_odd} of the numbers read are no weights (such as {self._least_odd:g}) and are taken "
                "for missing, as nobody. If they stand for missing weights, declare them (gdal_edit.py -a_nodata).",
                DataWarning,
                stacklevel=5,
            )
        if self._n_uncovered:
            warnings.warn(
                f"{name}: weights do not reach everywhere; {self._n_uncovered / self._n_cells:.1%} of the cells that "
                "the zones meet lie beyond them, and count for nothing.",
                DataWarning,
                stacklevel=5,
            )

    def _how(self) -> str | None:
        """How the cells of people lie to those of the map; None where they fit."""
        if self._direct is None:
            return "in another coordinate system"
        if not self._parallel:
            return "rotated"
        scale = np.array([self._direct.a * self.parts[0], self._direct.e * self.parts[1]])
        start = np.array([self._direct.c * self.parts[0], self._direct.f * self.parts[1]])
        if (np.abs(scale - np.round(scale)) > _SAME).any() or (np.abs(np.round(scale)) < 1).any():
            return f"{abs(self._direct.a):.4g} by {abs(self._direct.e):.4g} of its cells"
        if (np.abs(start - np.round(start)) > _SAME).any():
            part = (start - np.round(start)) / self.parts
            return f"shifted by {abs(part[0]):.3g} of a cell across and {abs(part[1]):.3g} down"
        return None

    def _sides(self) -> tuple[float, float]:
        """Sides of a cell of people in the middle of the map, across and down, in cells of the map."""
        start = np.array([[self._map.width / 2 - 0.5], [self._map.height / 2 - 0.5]])
        col, row = self._theirs(*(start + np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])))
        lengths = np.hypot(col[1:] - col[0], row[1:] - row[0])
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            return 1.0, 1.0
        return float(1 / lengths[0]), float(1 / lengths[1])

    def _theirs(self, col: Floats, row: Floats) -> tuple[Floats, Floats]:
        """Places on the map's pixels, on the pixels of people."""
        x, y = self._map.transform @ (np.asarray(col, dtype=float), np.asarray(row, dtype=float))
        if self._to_theirs is not None:
            x, y = self._to_theirs.transform(x, y)
        return _onto(~self._other.transform, x, y)

    def _window(self, row: int, col: int, height: int, width: int) -> Edges:
        """Edges of a window of the map on the pixels of people, before any turn."""
        along = np.linspace(0, 1, 9)
        col_edge = np.concatenate([along, along, 0 * along, 0 * along + 1]) * width + col
        row_edge = np.concatenate([0 * along, 0 * along + 1, along, along]) * height + row
        x, y = self._theirs(col_edge, row_edge)
        there = np.isfinite(x) & np.isfinite(y)
        if not there.any():
            return 0.0, 0.0, 0.0, 0.0
        x, y = x[there], y[there]
        if self._degrees and self._direct is None and self._other.transform.b == 0:
            circle = 360 / abs(self._other.transform.a)
            x = x[0] + (x - x[0] + circle / 2) % circle - circle / 2
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def _turns(self, row: int, col: int, height: int, width: int) -> list[tuple[float, Edges]]:
        """List how often round the Earth (in pixels of people) a window of the map meets them, with its edges there."""
        left, top, right, bottom = self._window(row, col, height, width)
        circle = 360 / abs(self._other.transform.a) if self._degrees and self._other.transform.b == 0 else 0.0
        turns = [turn * circle for turn in (-2, -1, 0, 1, 2)] if circle else [0.0]
        return [
            (turn, (left + turn, top, right + turn, bottom))
            for turn in turns
            if right + turn > 0
            and left + turn < self._other.width
            and bottom > 0
            and top < self._other.height
        ]

    def _read(self, edges: Edges, margin: int) -> tuple[Floats, int, int]:
        """People of the cells between some edges, and the row and column at which they begin."""
        left, top = (max(0, int(np.floor(edge)) - margin) for edge in edges[:2])
        right = min(self._other.width, int(np.ceil(edges[2])) + margin)
        bottom = min(self._other.height, int(np.ceil(edges[3])) + margin)
        window = Window(left, top, max(0, right - left), max(0, bottom - top))
        if window.width < 1 or window.height < 1:
            return np.zeros((0, 0)), top, left
        numbers = read_values(self._other, value_bands(self._other), window, fills=True)[0]
        odd = (numbers < 0) | (numbers > self._no_count)
        if odd.any():
            self._n_odd += int(odd.sum())
            self._least_odd = float(numbers[odd].min())
        numbers = np.where(odd | np.isnan(numbers), 0.0, numbers)
        if self._areas is not None:
            numbers = numbers * self._areas(top, left, window.height, window.width)
        return numbers, top, left

    def _shares_parallel(
        self,
        turn: tuple[float, Edges],
        window: tuple[int, int, int, int],
        found: Floats,
        covered: npt.NDArray[np.bool_],
    ) -> None:
        """Add the counts where the sides of all cells are parallel: exactly, by the lengths that they share."""
        direct = self._direct or Affine.identity()
        (shift, edges), (row, col, height, width) = turn, window
        numbers, top, left = self._read(edges, 1)
        if not numbers.size:
            return
        by_axis = []
        for begin, n, parts, scale, start, off, first, n_theirs in (
            (row, height, self.parts[1], direct.e, direct.f, 0.0, top, numbers.shape[0]),
            (col, width, self.parts[0], direct.a, direct.c, shift, left, numbers.shape[1]),
        ):
            place = (begin + np.arange(n * parts + 1) / parts - start) / scale + off
            # A grid that differs by rounding is the same.
            place = np.where(np.abs(place - np.round(place)) < _SAME, np.round(place), place)
            low, high = np.minimum(place[:-1], place[1:]), np.maximum(place[:-1], place[1:])
            cell = first + np.arange(n_theirs)
            by_axis.append(
                np.clip(np.minimum(high[:, None], cell + 1) - np.maximum(low[:, None], cell), 0, None)
            )
        down, across = by_axis
        found += down @ numbers @ across.T
        covered |= (down.sum(axis=1) > 0)[:, None] & (across.sum(axis=1) > 0)

    def _shares_by_points(
        self,
        turn: tuple[float, Edges],
        window: tuple[int, int, int, int],
        found: Floats,
        covered: npt.NDArray[np.bool_],
    ) -> None:
        """Add the counts of other cells: each is cut into crumbs, and a crumb goes to the cells in which it lies.

        Crumbs are taken for rectangles along the map's cells, so that cells which lie nearly like those of the map are
        shared out nearly exactly.
        """
        (_, edges), (row, col, height, width) = turn, window
        numbers, first_row, first_col = self._read(edges, 2)
        if not numbers.size:
            return
        cut, (across, down) = self._cut, self.parts
        top, left = (
            max(first_row * cut, int(edges[1] * cut) - 2),
            max(first_col * cut, int(edges[0] * cut) - 2),
        )
        bottom = min((first_row + numbers.shape[0]) * cut, int(edges[3] * cut) + 3)
        right = min((first_col + numbers.shape[1]) * cut, int(edges[2] * cut) + 3)
        pieces = np.ix_(np.arange(top, bottom) // cut - first_row, np.arange(left, right) // cut - first_col)
        each = numbers[pieces] / (cut * _CRUMBS) ** 2
        rows, cols = np.mgrid[top : bottom + 1, left : right + 1]
        x, y = self._ours(cols / cut, rows / cut, window)
        x, y = (x - col) * across, (y - row) * down
        crumb_x, crumb_y = (_side(z) / _CRUMBS for z in (x, y))
        flat, there = found.reshape(-1), covered.reshape(-1)
        steps = (np.arange(_CRUMBS) + 0.5) / _CRUMBS
        for u, v in itertools.product(steps, steps):
            at = [
                (1 - v) * ((1 - u) * z[:-1, :-1] + u * z[:-1, 1:])
                + v * ((1 - u) * z[1:, :-1] + u * z[1:, 1:])
                for z in (x, y)
            ]
            for in_x, part_x in _neighbours(at[0], crumb_x, width * across):
                for in_y, part_y in _neighbours(at[1], crumb_y, height * down):
                    inside = (part_x > 0) & (part_y > 0)
                    place = in_y[inside] * (width * across) + in_x[inside]
                    flat += np.bincount(place, (each * part_x * part_y)[inside], minlength=flat.size)
                    there[place] = True

    def _ours(self, col: Floats, row: Floats, window: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
        """Places on the pixels of people, on the map's pixels; longitudes are those of a window of it."""
        x, y = self._other.transform @ (col, row)
        if self._to_ours is not None:
            x, y = self._to_ours.transform(x, y)
        if self._map.crs.is_geographic:
            top, left, height, width = window
            middle, _ = self._map.transform @ (left + width / 2, top + height / 2)
            with np.errstate(invalid="ignore"):
                x = middle + (x - middle + 180) % 360 - 180
        return _onto(~self._map.transform, x, y)


def _parts(side: float) -> int:
    """Parts of a cell of the map about as long as a cell of people, whose side is in cells of the map."""
    return int(np.clip(np.round(1 / side), 1, _MOST_PARTS))


def _onto(pixels: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Pixels of places; NaN for those that a projection does not have, which pyproj puts at infinity."""
    there = np.isfinite(x) & np.isfinite(y)
    col, row = pixels @ (np.where(there, x, np.nan), np.where(there, y, np.nan))
    return col, row


def _side(place: Floats) -> Floats:
    """Length along one axis of the map of cells whose corners are given, as of rectangles of the same spread."""
    return np.hypot(place[:-1, 1:] - place[:-1, :-1], place[1:, :-1] - place[:-1, :-1])


def _neighbours(middle: Floats, side: Floats, n: int) -> list[tuple[npt.NDArray[np.int64], Floats]]:
    """Give the two of n cells in which crumbs of less than a cell lie along one axis, and the part in each."""
    with np.errstate(invalid="ignore", divide="ignore"):
        low = middle - side / 2
        first = np.where(np.isfinite(low), np.clip(np.floor(low), -2, n), -2).astype(np.int64)
        part = np.nan_to_num(np.clip((first + 1 - low) / side, 0, 1), nan=0.0)
    return [
        (first, np.where((first >= 0) & (first < n), part, 0.0)),
        (first + 1, np.where((first >= -1) & (first < n - 1), 1 - part, 0.0)),
    ]
