"""Bands of a file in a model's numbers: scale and offset applied, missing pixels known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags

from sustain.errors import DataWarning, RasterError
from sustain.maps.grid import Span
from sustain.maps.imagery.lattice import RELATIVE, Lattice
from sustain.maps.imagery.warp import WarpedRaster

__all__ = ["Imagery", "ModelNumbers", "NumberedRaster", "StoredBand", "has_mask", "refuse_masks_of_bands"]

_ENOUGH = 1000  # pixels to judge a band's units by; a strip at a scene's edge may well be all cloud


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


@dataclass(frozen=True)
class StoredBand:
    """Where one of a model's bands is kept in a file, and in which numbers: value = scale * number + offset.

    Attributes
    ----------
    band : str
        Name in the model.
    index : int
        Band of the file, counted from 1.
    nodata : float or None
        Stored number of a missing pixel; None where only a mask, an alpha band or NaN tells.
    """

    band: str
    index: int
    scale: float
    offset: float
    nodata: float | None


@dataclass(frozen=True)
class ModelNumbers:
    """The numbers that a model takes: uint16, value = scale * number + offset for each band."""

    bands: tuple[str, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: int

    @classmethod
    def of(cls, imagery: Imagery) -> ModelNumbers:
        """Numbers of a model, without the model."""
        return cls(tuple(imagery.bands), tuple(imagery.scale), tuple(imagery.offset), imagery.nodata)

    def same(self, band: StoredBand) -> bool:
        """Whether a file's scale and offset of a band are the model's."""
        place = self.bands.index(band.band)
        return math.isclose(band.scale, self.scale[place], rel_tol=RELATIVE) and math.isclose(
            band.offset, self.offset[place], rel_tol=RELATIVE, abs_tol=1e-12
        )

    def convert(
        self, name: str, band: StoredBand, stored: npt.NDArray[Any], missing: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.uint16]:
        """Turn a file's numbers of one band into the model's.

        Parameters
        ----------
        name : str
            For messages.
        band : StoredBand
        stored : ndarray
            The file's numbers.
        missing : ndarray of bool
            Where there is none.

        Returns
        -------
        ndarray of uint16
            A value that the model's numbers cannot hold is missing, with a `DataWarning`.

        Raises
        ------
        RasterError
            When most of `stored` cannot be held: these are other units, or an unstated number of missing pixels.
        """
        place = self.bands.index(band.band)
        scale, offset = self.scale[place], self.offset[place]
        with np.errstate(over="ignore", invalid="ignore"):  # of missing pixels, or not held below
            if self.same(band):
                numbers = stored if stored.dtype == np.uint16 else np.rint(stored.astype(np.float64))
            else:
                numbers = np.rint(
                    stored.astype(np.float64) * (band.scale / scale) + (band.offset - offset) / scale
                )
            limits = np.iinfo(np.uint16)
            held = (numbers >= limits.min) & (numbers <= limits.max) & (numbers != self.nodata)
        lost = ~(held | missing)
        if lost.any():
            span = f"{limits.min * scale + offset:g} to {limits.max * scale + offset:g}"
            if lost.size >= _ENOUGH and 2 * np.count_nonzero(lost) > lost.size:
                low, high = (float(end) * band.scale + band.offset for end in _ends(stored[lost]))
                raise RasterError(
                    f"{name}: most values of band {band.band} cannot be written in the model's numbers, which go from "
                    f"{span}; they go from {low:g} to {high:g} (scale {band.scale:g}, offset {band.offset:g}). They "
                    "are in other units than the model's, or a number stands for missing pixels that the file does not "
                    "state. Mend the scale and offset, or the nodata number, or rewrite the imagery."
                )
            warnings.warn(
                f"{name}: some values of band {band.band} cannot be written in the model's numbers, which go from "
                f"{span} without the missing number {self.nodata}; these pixels are missing.",
                DataWarning,
                stacklevel=2,
            )
        return np.where(held & ~missing, numbers, self.nodata).astype(np.uint16)


class NumberedRaster:
    """Bands of a raster on a rectangle of a lattice, in a model's numbers. Use it as a context manager.

    Parameters
    ----------
    name : str
        For messages.
    dataset : rasterio.io.DatasetReader
        The raster; stays open as long as this is used. Its mask or alpha band counts, beside nodata numbers and NaN.
    bands : sequence of StoredBand
        The model's bands that lie in it.
    numbers : ModelNumbers
    lattice : Lattice
    geobox : GeoBox
        The rectangle, such as `Lattice.cover` gives.
    """

    def __init__(
        self,
        name: str,
        dataset: Any,
        bands: Sequence[StoredBand],
        numbers: ModelNumbers,
        lattice: Lattice,
        geobox: GeoBox,
    ) -> None:
        self.name, self._bands, self._numbers = name, bands, numbers
        # Together where one number is missing in all: GDAL warps every band of a file to read one.
        alike: dict[str, list[int]] = {}
        for place, band in enumerate(bands):
            alike.setdefault(repr(band.nodata), []).append(place)
        with ExitStack() as stack:
            self._groups = [
                (
                    group,
                    stack.enter_context(WarpedRaster(name, dataset, lattice, geobox, bands[group[0]].nodata)),
                )
                for group in alike.values()
            ]
            self._stack = stack.pop_all()

    def __enter__(self) -> NumberedRaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window of the rectangle, bands in the order in which they were given.

        Raises
        ------
        FileFormatError
            When the pixels cannot be decoded.
        RasterError
            When most of them cannot be written in the model's numbers.
        """
        pixels = np.empty((len(self._bands), *window.shape), dtype=np.uint16)
        for group, raster in self._groups:
            found = raster.read([self._bands[place].index for place in group], window)
            for place, stored, missing in zip(group, *found, strict=True):
                pixels[place] = self._numbers.convert(self.name, self._bands[place], stored, missing)
        return pixels


def refuse_masks_of_bands(name: str, dataset: Any) -> None:
    """Raise `RasterError` where bands have masks of their own, which GDAL leaves out when it warps."""
    if any(not flags for flags in dataset.mask_flag_enums):
        raise RasterError(
            f"{name}: its bands have a mask each. Write missing pixels as a nodata number, or as one mask of all bands."
        )


def has_mask(dataset: Any) -> bool:
    """Whether a raster has a mask or an alpha band, which tells missing pixels whatever their numbers."""
    return ColorInterp.alpha in dataset.colorinterp or any(
        MaskFlags.per_dataset in flags for flags in dataset.mask_flag_enums
    )


def _ends(values: npt.NDArray[Any]) -> tuple[Any, Any]:
    return values.min(), values.max()
