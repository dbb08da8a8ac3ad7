"""Several scenes as one: put together window by window, on the pixel grid that they share or are brought onto."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from sustain.errors import RasterError
from sustain.maps.geotiff import crs_of
from sustain.maps.grid import Span
from sustain.maps.imagery.bands import Imagery
from sustain.maps.imagery.lattice import OFF_GRID

__all__ = ["Mosaic", "Part"]


class Part(Protocol):
    """A scene of a mosaic; `sustain.maps.imagery.scene.Scene` is one."""

    path: Path
    geobox: GeoBox
    files: tuple[str, ...]

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window."""

    def identity(self) -> list[Any]:
        """Tell it from others, and from itself after a change; JSON types."""


class Mosaic:
    """Scenes of one coordinate system and pixel grid, read as one.

    Where scenes overlap, a pixel comes from the first that has a value in every band; where none has, from the first
    that has any.

    Parameters
    ----------
    scenes : sequence of Part
        The first has precedence. They are closed by those who opened them.
    imagery : Imagery
        What the model expects.

    Attributes
    ----------
    path : Path
        The first scene, for messages.
    geobox : GeoBox
        The smallest rectangle that contains all.
    files : tuple of str
        Those of all scenes.

    Raises
    ------
    RasterError
        When a scene lies on another grid than the first.
    """

    def __init__(self, scenes: Sequence[Part], imagery: Imagery) -> None:
        self._nodata = imagery.nodata
        self._n_bands = len(imagery.bands)
        self.scenes = list(scenes)
        first = self.scenes[0]
        corners = [_corner(scene, first) for scene in self.scenes]
        top, left = min(row for row, _ in corners), min(col for _, col in corners)
        self._places = [
            Span(row - top, col - left, *scene.geobox.shape)
            for scene, (row, col) in zip(self.scenes, corners, strict=True)
        ]
        self.path = first.path
        height = max(place.row + place.height for place in self._places)
        width = max(place.col + place.width for place in self._places)
        self.geobox = first.geobox.translate_pix(left, top).crop((height, width))
        self.files: tuple[str, ...] = tuple(file for scene in self.scenes for file in scene.files)

    def identity(self) -> list[Any]:
        """Tell the scenes from others, their order from another order, and each from itself after a change."""
        return [scene.identity() for scene in self.scenes]

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window; see `Scene.read`. Pixels of no scene hold the nodata number."""
        pixels = np.full((self._n_bands, *window.shape), self._nodata, dtype=np.uint16)
        for scene, place in zip(self.scenes, self._places, strict=True):
            top, left = max(window.row, place.row), max(window.col, place.col)
            bottom = min(window.row + window.height, place.row + place.height)
            right = min(window.col + window.width, place.col + place.width)
            if top >= bottom or left >= right:
                continue
            held = pixels[:, top - window.row : bottom - window.row, left - window.col : right - window.col]
            if (held != self._nodata).all():
                continue
            new = scene.read(Span(top - place.row, left - place.col, bottom - top, right - left))
            # Whole pixels, never bands of different scenes (days) in one.
            empty = (held == self._nodata).all(axis=0)
            partial = (held == self._nodata).any(axis=0)
            take = empty | (partial & (new != self._nodata).all(axis=0))
            held[:, take] = new[:, take]
        return pixels


def _corner(scene: Part, first: Part) -> tuple[int, int]:
    """Row and column of a scene's upper left corner on the grid of the first."""
    crs, expected = crs_of(scene.geobox), crs_of(first.geobox)
    if crs != expected:
        raise RasterError(
            f"{scene.path}: its coordinate system is {crs}, but that of {first.path} is {expected}. To have "
            "both reprojected to one grid, pass crs: a system in metres, or auto (sustain map --crs auto)."
        )
    col, row = ~first.geobox.affine @ (scene.geobox.affine.c, scene.geobox.affine.f)
    if max(abs(col - round(col)), abs(row - round(row))) > OFF_GRID:
        raise RasterError(
            f"{scene.path}: its pixels lie {col - round(col):.3f} columns and {row - round(row):.3f} rows off the grid "
            f"of {first.path}. To have both resampled to one grid, pass crs: a system in metres, or auto (sustain map "
            "--crs auto)."
        )
    return round(row), round(col)
