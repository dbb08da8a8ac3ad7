"""Several scenes as one: put together window by window, on the pixel grid that they share or are brought onto."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine

from sustain.config import MapParams
from sustain.errors import ConfigError, RasterError
from sustain.maps.geotiff import open_raster
from sustain.maps.grid import Span
from sustain.maps.imagery.lattice import OFF_GRID, Outline, choose_lattice
from sustain.maps.imagery.scene import Imagery, Scene
from sustain.maps.remote import is_stac

__all__ = ["Mosaic", "Part", "n_stac", "open_imagery"]


class Part(Protocol):
    """A scene of a mosaic; `sustain.maps.imagery.scene.Scene` is one."""

    path: Path
    crs: Any
    transform: Affine
    height: int
    width: int
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
    height, width, transform, crs, files
        As of `Scene`; the smallest rectangle that contains all.

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
            Span(row - top, col - left, scene.height, scene.width)
            for scene, (row, col) in zip(self.scenes, corners, strict=True)
        ]
        self.path, self.crs = first.path, first.crs
        self.transform = first.transform @ Affine.translation(left, top)
        self.height: int = max(place.row + place.height for place in self._places)
        self.width: int = max(place.col + place.width for place in self._places)
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


@contextmanager
def open_imagery(
    scene: str | Path | Sequence[str | Path] | Mosaic, imagery: Imagery, params: MapParams | None = None
) -> Iterator[Scene | Mosaic]:
    """Open imagery, and close it at the end.

    Parameters
    ----------
    scene : str or Path, a sequence of them, or Mosaic
        A raster, several as one, or STAC items (JSON files or addresses; `sustain.maps.imagery.stac_scene`). A
        mosaic that holds no open file is passed on.
    imagery : Imagery
        What the model expects.
    params : MapParams, optional
        With ``crs``, rasters are reprojected to one grid; without it they must have the model's pixels, on one grid.
        STAC items are always brought to one grid, by default of a coordinate system that fits them.

    Yields
    ------
    Scene or Mosaic

    Raises
    ------
    ConfigError
        When there are no scenes, or rasters and STAC items are mixed.
    RasterError, FileFormatError, DownloadError
        When a scene does not fit the model, or cannot be opened.
    """
    if isinstance(scene, Mosaic):
        yield scene
        return
    places = [scene] if isinstance(scene, str | Path) else list(scene)
    if not places:
        raise ConfigError("scene: the list of scenes is empty. Pass at least one raster.")
    params = params or MapParams()
    if n_stac(places):
        if n_stac(places) < len(places):
            raise ConfigError(
                "scene: rasters and STAC items (JSON files, addresses) are mixed. Pass one kind, or describe the "
                "rasters by items too."
            )
        from sustain.maps.imagery.stac_scene import StacImagery

        yield StacImagery(places, imagery, params.crs, params.resampling, params.stac_bands)
        return
    with ExitStack() as stack:
        lattice = None
        if params.crs is not None:
            lattice = choose_lattice(
                [_outline(place) for place in places], params.crs, imagery.pixel_m, params.resampling
            )
        scenes = [stack.enter_context(Scene(place, imagery, lattice)) for place in places]
        yield scenes[0] if isinstance(scene, str | Path) else Mosaic(scenes, imagery)


def n_stac(scene: str | Path | Sequence[str | Path] | Mosaic) -> int:
    """Count the places of imagery that stand for STAC items."""
    if isinstance(scene, Mosaic):
        return 0
    return sum(is_stac(place) for place in ([scene] if isinstance(scene, str | Path) else scene))


def _outline(path: str | Path) -> Outline:
    with open_raster(path) as dataset:
        return Outline.of(str(path), dataset)


def _corner(scene: Part, first: Part) -> tuple[int, int]:
    """Row and column of a scene's upper left corner on the grid of the first."""
    if scene.crs != first.crs:
        raise RasterError(
            f"{scene.path}: its coordinate system is {scene.crs}, but that of {first.path} is {first.crs}. To have "
            "both reprojected to one grid, pass crs: a system in metres, or auto (sustain map --crs auto)."
        )
    col, row = ~first.transform @ (scene.transform.c, scene.transform.f)
    if max(abs(col - round(col)), abs(row - round(row))) > OFF_GRID:
        raise RasterError(
            f"{scene.path}: its pixels lie {col - round(col):.3f} columns and {row - round(row):.3f} rows off the grid "
            f"of {first.path}. To have both resampled to one grid, pass crs: a system in metres, or auto (sustain map "
            "--crs auto)."
        )
    return round(row), round(col)
