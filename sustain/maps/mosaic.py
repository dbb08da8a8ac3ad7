"""Several scenes as one: put together window by window, on the pixel grid that they share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from affine import Affine

from sustain.errors import ConfigError, RasterError
from sustain.maps.grid import Span
from sustain.maps.scene import Imagery, Scene

__all__ = ["Mosaic", "open_imagery"]

# Share of a pixel by which corners may miss the common grid: what decimal text does to coordinates, no more.
_OFF_GRID = 1e-3


class Mosaic:
    """Scenes of one coordinate system and pixel grid, read as one.

    Each scene must fit the model by itself (see `sustain.maps.scene.Scene`). Nothing is resampled. Where scenes
    overlap, a pixel comes from the first that has a value in every band; where none has, from the first that has any.

    Parameters
    ----------
    paths : sequence of str or Path
        The first has precedence.
    imagery : Imagery
        What the model expects.

    Attributes
    ----------
    path : Path
        The first scene, for messages.
    height, width, transform, crs, files
        As of `Scene`; the smallest rectangle that contains all.

    Raises
    ------
    ConfigError
        When there are no paths.
    RasterError
        When a scene does not fit the model, or lies on another grid than the first.
    """

    def __init__(self, paths: Sequence[str | Path], imagery: Imagery) -> None:
        if not paths:
            raise ConfigError("scene: the list of scenes is empty. Pass at least one raster.")
        self._nodata = imagery.nodata
        self._n_bands = len(imagery.bands)
        with ExitStack() as stack:
            self._scenes = [stack.enter_context(Scene(path, imagery)) for path in paths]
            first = self._scenes[0]
            corners = [_corner(scene, first) for scene in self._scenes]
            self._stack = stack.pop_all()
        top, left = min(row for row, _ in corners), min(col for _, col in corners)
        self._places = [
            Span(row - top, col - left, scene.height, scene.width)
            for scene, (row, col) in zip(self._scenes, corners, strict=True)
        ]
        self.path, self.crs = first.path, first.crs
        self.transform = first.transform @ Affine.translation(left, top)
        self.height: int = max(place.row + place.height for place in self._places)
        self.width: int = max(place.col + place.width for place in self._places)
        self.files: tuple[str, ...] = tuple(file for scene in self._scenes for file in scene.files)

    def __enter__(self) -> Mosaic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window; see `Scene.read`. Pixels of no scene hold the nodata number."""
        pixels = np.full((self._n_bands, *window.shape), self._nodata, dtype=np.uint16)
        for scene, place in zip(self._scenes, self._places, strict=True):
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


def open_imagery(scene: str | Path | Sequence[str | Path], imagery: Imagery) -> Scene | Mosaic:
    """Open a scene, or several as one; see `Scene` and `Mosaic`."""
    return Scene(scene, imagery) if isinstance(scene, str | Path) else Mosaic(scene, imagery)


def _corner(scene: Scene, first: Scene) -> tuple[int, int]:
    """Row and column of a scene's upper left corner on the grid of the first."""
    if scene.crs != first.crs:
        raise RasterError(
            f"{scene.path}: its coordinate system is {scene.crs}, but that of {first.path} is {first.crs}. Reproject "
            f"it to that scene's grid (gdalwarp -t_srs {first.crs} -tap)."
        )
    col, row = ~first.transform @ (scene.transform.c, scene.transform.f)
    if max(abs(col - round(col)), abs(row - round(row))) > _OFF_GRID:
        raise RasterError(
            f"{scene.path}: its pixels lie {col - round(col):.3f} columns and {row - round(row):.3f} rows off the grid "
            f"of {first.path}. Warp both to one grid (gdalwarp -tap)."
        )
    return round(row), round(col)
