"""Reading a raster as if it lay on another pixel grid."""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from sustain.maps.antimeridian import counted_from_its_middle
from sustain.maps.geotiff import read_window
from sustain.maps.grid import Span
from sustain.maps.imagery.lattice import Lattice, Outline

__all__ = ["WarpedRaster"]

# Positions as good as exact, so that a pixel is the same in whatever window it is read. (rasterio 1.4 takes no 0.)
_TOLERANCE = 1e-9


class WarpedRaster:
    """A raster resampled onto a rectangle of a lattice, window by window.

    A pixel is missing where the raster's pixel at its centre is, and outside the raster; missing pixels take no part in
    the others. Pixels that lie on the lattice already are passed on as they are.

    Parameters
    ----------
    name : str
        For messages.
    dataset : rasterio.io.DatasetReader
        The raster; stays open as long as this is used.
    lattice : Lattice
    geobox : GeoBox
        The rectangle, such as `Lattice.cover` gives.
    nodata : float or None
        Stored number of a missing pixel, in every band; None where only the raster's mask or alpha band, or NaN, tells.
        A mask or alpha band counts in any case.
    """

    def __init__(
        self, name: str, dataset: Any, lattice: Lattice, geobox: GeoBox, nodata: float | None
    ) -> None:
        self.name = name
        self._stack = ExitStack()
        counted = counted_from_its_middle(name, dataset)
        method = "nearest" if lattice.holds(Outline.of(name, dataset).geobox) else lattice.resampling
        numbers: dict[str, Any] = {"src_nodata": nodata, "nodata": nodata}
        if nodata is None or not all(_can_hold(kind, nodata) for kind in dataset.dtypes):
            # No number of the raster's type is free to stand for missing pixels.
            numbers = {"nodata": math.nan, "dtype": "float64"}
        self.nodata: float = numbers["nodata"]

        def warped(how: str) -> Any:
            return self._stack.enter_context(
                WarpedVRT(
                    dataset,
                    crs=lattice.crs,
                    transform=geobox.affine,
                    height=geobox.height,
                    width=geobox.width,
                    resampling=Resampling[how],
                    tolerance=_TOLERANCE,
                    # Each band by its own missing pixels; else a band's nodata number is taken for a value.
                    UNIFIED_SRC_NODATA="NO",
                    **numbers,
                    **counted,
                )
            )

        self._nearest = warped("nearest")
        self._smooth = None if method == "nearest" else warped(method)

    def __enter__(self) -> WarpedRaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, indexes: list[int], window: Span) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Read bands (counted from 1) of a window of the rectangle: stored numbers, and where they are missing.

        Raises
        ------
        FileFormatError
            When the pixels cannot be decoded.
        """
        part = Window(window.col, window.row, window.width, window.height)
        nearest = read_window(self._nearest, indexes, part, self.name)
        missing = _is_missing(nearest, self.nodata)
        if self._smooth is None:
            return nearest, missing
        pixels = read_window(self._smooth, indexes, part, self.name)
        return pixels, missing | _is_missing(pixels, self.nodata)


def _can_hold(kind: str, number: float) -> bool:
    """Whether numbers of a raster's type can be this one."""
    if kind.startswith(("float", "complex")):
        return True
    limits = np.iinfo(kind)
    return math.isfinite(number) and number == round(number) and limits.min <= number <= limits.max


def _is_missing(pixels: npt.NDArray[Any], nodata: float) -> npt.NDArray[np.bool_]:
    """Where pixels hold the nodata number, or no number at all."""
    missing: npt.NDArray[np.bool_] = np.equal(pixels, nodata)
    if pixels.dtype.kind == "f":
        missing |= np.isnan(pixels)
    return missing
