"""Imagery of one place and time, checked against what the model was trained on before a pixel is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from sustain.errors import RasterError
from sustain.maps.blocks import identity_of
from sustain.maps.geotiff import open_raster, read_window
from sustain.maps.grid import Span
from sustain.maps.lattice import RELATIVE, Lattice, Outline, in_metres
from sustain.maps.warp import WarpedRaster

__all__ = ["Imagery", "Scene"]


_HOW = "To have it reprojected to the model's pixels, pass crs: a system in metres, or auto (sustain map --crs auto)."


class Imagery(Protocol):
    """What a model expects of its imagery; `sustain.models.predictor.TilePredictor` and a `TileStore` have it."""

    @property
    def bands(self) -> Sequence[str]:
        """Band names, in the model's order."""

    @property
    def scale(self) -> Sequence[float]:
        """Factor of each band's stored numbers."""

    @property
    def offset(self) -> Sequence[float]:
        """Term added after scaling, for each band."""

    @property
    def nodata(self) -> int:
        """Stored number of a missing pixel."""

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, in metres."""


class Scene:
    """A GeoTIFF or VRT whose bands and numbers are those a model was trained on; and its grid, or brought onto one.

    Use it as a context manager. Bands are matched by name (the band descriptions) and delivered in the model's
    order; other bands of the file are left alone.

    Parameters
    ----------
    path : str or Path
        A uint16 raster that GDAL can open, with a description, scale, offset and nodata number on each band.
    imagery : Imagery
        What the model expects: usually the predictor itself.
    lattice : Lattice, optional
        Reproject the raster onto this pixel grid (`sustain.maps.warp`). Without one its own grid must do.

    Attributes
    ----------
    height, width : int
        Size in pixels; with a lattice, of its pixels.
    transform : Affine
        From (column, row) to coordinates.
    crs : rasterio.crs.CRS
        Projected, in metres.
    files : tuple of str
        The file, and those it is made of (a VRT's sources).

    Raises
    ------
    RasterError
        When a band is missing or named twice; when a band's type, scale, offset or nodata number is another one than
        the model's; when, without a lattice, the raster is not projected in metres, not north-up or of another pixel
        size.
    FileFormatError
        When the file cannot be read.
    """

    def __init__(self, path: str | Path, imagery: Imagery, lattice: Lattice | None = None) -> None:
        self.path = Path(path)
        with ExitStack() as stack:
            self._dataset = stack.enter_context(open_raster(self.path))
            self._indexes = self._match_bands(imagery)
            self._warped: WarpedRaster | None = None
            if lattice is None:
                self._check_grid(imagery.pixel_m)
            elif not lattice.holds(outline := Outline.of(str(self.path), self._dataset)):
                place = lattice.cover(outline)
                self._warped = stack.enter_context(
                    WarpedRaster(str(self.path), self._dataset, lattice, *place, nodata=imagery.nodata)
                )
            self._stack = stack.pop_all()
        source = self._warped or self._dataset
        self.height: int = source.height
        self.width: int = source.width
        self.transform = source.transform
        self.crs = source.crs
        self.files: tuple[str, ...] = tuple(self._dataset.files)

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window.

        Parameters
        ----------
        window : Span
            Rows and columns of the scene, inside it.

        Returns
        -------
        ndarray of uint16, shape (bands, height, width)
            Stored numbers, bands in the model's order, rows from north to south.

        Raises
        ------
        FileFormatError
            When the pixels cannot be decoded.
        """
        if self._warped is not None:
            return self._warped.read(self._indexes, window)
        return read_window(
            self._dataset, self._indexes, Window(window.col, window.row, window.width, window.height)
        )

    def identity(self) -> list[Any]:
        """Tell this scene from others and from itself after a change; JSON types."""
        return identity_of(self.files)

    def _match_bands(self, imagery: Imagery) -> list[int]:
        names = [str(text) for text in self._dataset.descriptions]
        problems = [f"{band} is missing" for band in imagery.bands if names.count(band) == 0]
        problems += [
            f"{band} appears {names.count(band)} times" for band in imagery.bands if names.count(band) > 1
        ]
        if problems:
            raise RasterError(
                f"{self.path}: the model needs the bands {', '.join(imagery.bands)}; {'; '.join(problems)}. The "
                f"raster's bands (their descriptions) are {', '.join(names)}. Name them after what they hold."
            )
        indexes = [names.index(band) + 1 for band in imagery.bands]
        for band, index, scale, offset in zip(
            imagery.bands, indexes, imagery.scale, imagery.offset, strict=True
        ):
            self._check_band(band, "type", self._dataset.dtypes[index - 1], "uint16")
            self._check_band(band, "scale", self._dataset.scales[index - 1], scale)
            self._check_band(band, "offset", self._dataset.offsets[index - 1], offset)
            self._check_band(band, "nodata number", self._dataset.nodatavals[index - 1], imagery.nodata)
        return indexes

    def _check_band(self, band: str, what: str, found: Any, expected: Any) -> None:
        if isinstance(found, str) or found is None or expected is None:
            same = found == expected
        else:
            same = math.isclose(found, expected, rel_tol=RELATIVE, abs_tol=1e-12)
        if not same:
            raise RasterError(
                f"{self.path}: band {band} has {what} {found}, but the model was trained on {what} {expected}. "
                "Rewrite the scene in the model's numbers, or train on imagery like this."
            )

    def _check_grid(self, pixel_m: float) -> None:
        crs, transform = self._dataset.crs, self._dataset.transform
        if not in_metres(crs):
            raise RasterError(
                f"{self.path}: the coordinate system is {crs or 'not set'}; a projected one in metres is needed, "
                f"so that a tile covers the same ground everywhere. {_HOW}"
            )
        if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
            raise RasterError(
                f"{self.path}: the raster is rotated or not north-up (transform {tuple(transform)[:6]}); "
                f"a north-up grid is needed. {_HOW}"
            )
        if not all(math.isclose(side, pixel_m, rel_tol=RELATIVE) for side in (transform.a, -transform.e)):
            raise RasterError(
                f"{self.path}: a pixel is {transform.a} x {-transform.e} m, but the model was trained on "
                f"{pixel_m} x {pixel_m} m. {_HOW}"
            )
