"""Imagery of one place and time, checked against what the model was trained on before a pixel is used."""

from __future__ import annotations

import math
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from sustain.errors import DownloadError, FileFormatError, RasterError
from sustain.maps.geotiff import open_raster, read_window
from sustain.maps.grid import Span
from sustain.maps.imagery.bands import (
    Imagery,
    ModelNumbers,
    NumberedRaster,
    StoredBand,
    has_mask,
    refuse_masks_of_bands,
)
from sustain.maps.imagery.identity import identity_of
from sustain.maps.imagery.lattice import Lattice, Outline, in_metres, is_square
from sustain.maps.remote import ON_THE_WEB

__all__ = ["Imagery", "Scene"]


_HOW = "To have it reprojected to the model's pixels, pass crs: a system in metres, or auto (sustain map --crs auto)."


class Scene:
    """A GeoTIFF or VRT with the bands of a model, in the model's numbers; on its own pixel grid, or brought onto one.

    Use it as a context manager. Bands are matched by name (the band descriptions) and delivered in the model's
    order; other bands of the file are left alone. Stored numbers of another type, scale or offset are turned into the
    model's.

    Parameters
    ----------
    path : str or Path
        A raster that GDAL can open, with a description, scale and offset on each band (floats without either are plain
        values), and a nodata number, a mask or an alpha band.
    imagery : Imagery
        What the model expects: usually the predictor itself.
    lattice : Lattice, optional
        Reproject the raster onto this pixel grid (`sustain.maps.imagery.warp`). Without one its own grid must do.

    Attributes
    ----------
    geobox : GeoBox
        Its pixels; with a lattice, those of the lattice. The coordinate system is projected, in metres.
    files : tuple of str
        The file, and those it is made of (a VRT's sources).

    Raises
    ------
    RasterError
        When a band is missing or named twice; when it does not state its scale and offset, or how a missing pixel is
        told; when, without a lattice, the raster is not projected in metres, not north-up or of another pixel size.
    FileFormatError
        When the file cannot be read.
    """

    def __init__(self, path: str | Path, imagery: Imagery, lattice: Lattice | None = None) -> None:
        self.path = Path(path)
        with ExitStack() as stack:
            self._dataset = stack.enter_context(open_raster(self.path))
            refuse_masks_of_bands(str(self.path), self._dataset)
            self._bands = self._match_bands(imagery)
            numbers = ModelNumbers.of(imagery)
            untouched = self._holds(numbers)
            if lattice is None:
                self._check_grid(imagery.pixel_m)
            outline = Outline.of(str(self.path), self._dataset)
            self.geobox = outline.geobox
            if lattice is None:
                lattice = Lattice(self.geobox.crop((1, 1)), "nearest")
            elif not lattice.holds(self.geobox):
                self.geobox, untouched = lattice.cover(outline), False
            self._numbered: NumberedRaster | None = None
            if not untouched:
                self._numbered = stack.enter_context(
                    NumberedRaster(str(self.path), self._dataset, self._bands, numbers, lattice, self.geobox)
                )
            self._stack = stack.pop_all()
        self.files: tuple[str, ...] = _files_of(self._dataset)

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
            The model's numbers, bands in its order, rows from north to south. A value that they cannot hold is
            missing, with a `DataWarning`.

        Raises
        ------
        FileFormatError
            When the pixels cannot be decoded.
        DownloadError
            When they cannot, and the raster is a VRT with sources on the web.
        RasterError
            When most values cannot be written in the model's numbers: they are in other units.
        """
        try:
            if self._numbered is not None:
                return self._numbered.read(window)
            part = Window(window.col, window.row, window.width, window.height)
            return read_window(self._dataset, [band.index for band in self._bands], part)
        except FileFormatError as error:
            if not any(file.startswith(ON_THE_WEB) for file in self.files):
                raise
            cause = re.sub(r"\?[^\s']+", "", str(error.__cause__ or error))  # a query may be a signature
            raise DownloadError(
                f"{self.path}: one of its sources on the web does not answer, or not with imagery ({cause}). Check the "
                "addresses and the network. Finished blocks are kept, so that the same command goes on from them."
            ) from error

    def identity(self) -> list[Any]:
        """Tell this scene from others and from itself after a change; JSON types."""
        return identity_of(self.files)

    def _match_bands(self, imagery: Imagery) -> list[StoredBand]:
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
        return [
            self._stored(band, names.index(band) + 1, scale, offset)
            for band, scale, offset in zip(imagery.bands, imagery.scale, imagery.offset, strict=True)
        ]

    def _stored(self, band: str, index: int, scale: float, offset: float) -> StoredBand:
        """Find out in which numbers a band is kept; `scale` and `offset` are the model's."""
        dataset = self._dataset
        kind = dataset.dtypes[index - 1]
        stated = dataset.scales[index - 1], dataset.offsets[index - 1]
        nodata = dataset.nodatavals[index - 1]
        if not kind.startswith(("uint", "int", "float")):
            raise RasterError(
                f"{self.path}: band {band} has type {kind}; whole or floating numbers are needed."
            )
        # GDAL gives 1 and 0 where nothing is stated. Floats are values then; whole numbers may mean anything.
        if stated == (1, 0) and (scale, offset) != (1, 0) and not kind.startswith("float"):
            raise RasterError(
                f"{self.path}: band {band} is {kind} and states neither scale nor offset, but the model's is {scale:g} "
                f"* number {offset:+g}. State them (gdal_edit -scale ... -offset ...); values as they are may be "
                "written as floats."
            )
        if not all(map(math.isfinite, stated)) or stated[0] == 0:
            raise RasterError(
                f"{self.path}: band {band} has scale {stated[0]} and offset {stated[1]}; they must be finite numbers, "
                "the scale not 0. Mend them (gdal_edit -scale ... -offset ...)."
            )
        if nodata is None and not has_mask(dataset):
            raise RasterError(
                f"{self.path}: band {band} has neither a nodata number nor a mask, so its missing pixels cannot be "
                "told from others. Set one (gdal_edit -a_nodata)."
            )
        return StoredBand(band, index, *stated, nodata)

    def _holds(self, numbers: ModelNumbers) -> bool:
        """Whether the file's numbers are the model's, missing ones too."""
        return not has_mask(self._dataset) and all(
            self._dataset.dtypes[band.index - 1] == "uint16"
            and band.nodata == numbers.nodata
            and numbers.same(band)
            for band in self._bands
        )

    def _check_grid(self, pixel_m: float) -> None:
        crs, transform = self._dataset.crs, self._dataset.transform
        if crs is None:
            raise RasterError(f"{self.path}: the coordinate system is not set. Set it (gdal_edit -a_srs).")
        if not in_metres(crs):
            raise RasterError(
                f"{self.path}: the coordinate system is {crs}; a projected one in metres is needed, "
                f"so that a tile covers the same ground everywhere. {_HOW}"
            )
        if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
            raise RasterError(
                f"{self.path}: the raster is rotated or not north-up (transform {tuple(transform)[:6]}); "
                f"a north-up grid is needed. {_HOW}"
            )
        if not is_square(transform, pixel_m):
            raise RasterError(
                f"{self.path}: a pixel is {transform.a} x {-transform.e} m, but the model was trained on "
                f"{pixel_m} x {pixel_m} m. {_HOW}"
            )


def _files_of(dataset: Any) -> tuple[str, ...]:
    """Files that a raster is made of; of a VRT of VRTs, which GDAL does not look into, those of the inner ones too."""
    found: dict[str, None] = {}
    waiting = list(dataset.files)
    while waiting:
        file = waiting.pop(0)
        if file not in found and file != dataset.name and file.lower().endswith(".vrt"):
            with rasterio.open(file) as inner:
                waiting += inner.files
        found[file] = None
    return tuple(found)
