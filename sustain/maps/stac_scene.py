"""Imagery of STAC items on one pixel grid: read window by window, in the model's numbers.

odc-stac says what is in an item (`sustain.maps.stac_items`). Its own loader is not asked for the pixels: it places them
to an eighth of a pixel, differently in every window that is asked for, so that a map would depend on how it is cut into
blocks. They come by the same way as those of rasters (`sustain.maps.warp`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from sustain.errors import DataWarning, DownloadError, FileFormatError, RasterError
from sustain.maps.blocks import identity_of
from sustain.maps.grid import Span
from sustain.maps.lattice import RELATIVE, Lattice, Outline, choose_lattice
from sustain.maps.mosaic import Mosaic
from sustain.maps.remote import gdal_options, is_remote, plain, remote_identity
from sustain.maps.scene import Imagery
from sustain.maps.stac_items import BandSource, ItemBands, find_bands, read_items
from sustain.maps.warp import WarpedRaster, is_missing

__all__ = ["StacImagery", "StacScene"]

_ASSETS_AT_ONCE = 8
_ASKED_AT_ONCE = 16


class StacScene:
    """One item's bands on a lattice. Files are open only while they are read, so there may be any number of items.

    Parameters
    ----------
    item : ItemBands
        Where the bands are.
    outline : Outline
        Where the item lies.
    imagery : Imagery
        The model's numbers.
    lattice : Lattice

    Attributes
    ----------
    height, width, transform, crs, files, path
        As of `sustain.maps.scene.Scene`.
    """

    def __init__(self, item: ItemBands, outline: Outline, imagery: Imagery, lattice: Lattice) -> None:
        self.path = Path(item.name)
        self._item, self._lattice = item, lattice
        self._scale, self._offset = tuple(imagery.scale), tuple(imagery.offset)
        self._nodata = imagery.nodata
        self.crs = lattice.crs
        self.transform, self.height, self.width = lattice.cover(outline)
        self.files = tuple(dict.fromkeys(source.href for source in item.bands))

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window; see `sustain.maps.scene.Scene.read`.

        Numbers are turned into the model's (scale and offset). A value that these cannot hold is missing, with a
        `DataWarning`.

        Raises
        ------
        DownloadError
            When an asset's address does not answer.
        FileFormatError
            When an asset cannot be opened or decoded.
        """
        pixels = np.empty((len(self._item.bands), *window.shape), dtype=np.uint16)

        def read_asset(href: str) -> None:
            places = [i for i, source in enumerate(self._item.bands) if source.href == href]
            self._read_asset(places, window, pixels)

        with ThreadPoolExecutor(min(_ASSETS_AT_ONCE, len(self.files)), "read-asset") as pool:
            for _ in pool.map(read_asset, self.files):  # raises what a thread raised
                pass
        return pixels

    def identity(self) -> list[Any]:
        """Tell the item from others and from itself after a change; see `sustain.maps.blocks.identity_of`."""
        about = [
            [source.asset, plain(source.href), source.index, source.scale, source.offset, repr(source.nodata)]
            for source in self._item.bands
        ]
        return [self._item.name, about, *(self._file_identity(href) for href in self.files)]

    def _file_identity(self, href: str) -> list[Any]:
        if not is_remote(href):
            return identity_of([href])
        try:
            return remote_identity(href)
        except DownloadError as error:
            raise DownloadError(
                f"{self._name_of(href)}: {error}. Check the address and the network; finished blocks are kept, so that "
                "the same command goes on from them."
            ) from error

    def _read_asset(self, places: list[int], window: Span, pixels: npt.NDArray[np.uint16]) -> None:
        """Read the bands at these places of the model's order, which lie in one file."""
        sources = [self._item.bands[place] for place in places]
        first = sources[0]
        name = f"{self._name_of(first.href)} ({plain(first.href)})"
        try:
            with rasterio.Env(**gdal_options()), rasterio.open(first.href) as dataset:
                # Together where one number is missing in all: GDAL warps every band of a file to read one.
                alike: dict[str, list[int]] = {}
                for place, source in zip(places, sources, strict=True):
                    alike.setdefault(repr(_nodata_of(name, source, dataset)), []).append(place)
                for text, group in alike.items():
                    nodata = float(text)
                    with WarpedRaster(
                        name, dataset, self._lattice, self.transform, self.height, self.width, nodata
                    ) as raster:
                        stored = raster.read([self._item.bands[place].index for place in group], window)
                    for place, band in zip(group, stored, strict=True):
                        pixels[place] = self._in_model_numbers(name, place, band, nodata)
        except (RasterioError, FileFormatError) as error:
            cause = error.__cause__ or error
            if not is_remote(first.href):
                raise FileFormatError(
                    f"{name}: cannot be opened or decoded ({cause}). Check the href of the item, and fetch or make the "
                    "file again. Finished blocks are kept, so that the same command goes on from them."
                ) from error
            raise DownloadError(
                f"{name}: does not answer, or not with imagery ({cause}). Check the address and the network. Finished "
                "blocks are kept, so that the same command goes on from them."
            ) from error

    def _in_model_numbers(
        self, name: str, place: int, stored: npt.NDArray[Any], nodata: float
    ) -> npt.NDArray[np.uint16]:
        source = self._item.bands[place]
        scale, offset = self._scale[place], self._offset[place]
        factor, term = source.scale / scale, (source.offset - offset) / scale
        missing = is_missing(stored, nodata)
        if math.isclose(factor, 1, rel_tol=RELATIVE) and abs(term) < RELATIVE:
            numbers = np.rint(stored.astype(np.float64))
        else:
            numbers = np.rint(stored * factor + term)
        limits = np.iinfo(np.uint16)
        held = (numbers >= limits.min) & (numbers <= limits.max) & (numbers != self._nodata)
        if not (held | missing).all():
            warnings.warn(
                f"{name}: some values of band {source.band} cannot be written in the model's numbers, which go from "
                f"{limits.min * scale + offset:g} to {limits.max * scale + offset:g} without the missing number "
                f"{self._nodata}; these pixels are missing.",
                DataWarning,
                stacklevel=2,
            )
        return np.where(held & ~missing, numbers, self._nodata).astype(np.uint16)

    def _name_of(self, href: str) -> str:
        assets = dict.fromkeys(source.asset for source in self._item.bands if source.href == href)
        return f"{self._item.name}, asset {', '.join(assets)}"


class StacImagery(Mosaic):
    """Items on one pixel grid, read as one. It holds no open file, and may be sent to other processes.

    Parameters
    ----------
    places : sequence of str or Path
        JSON files or addresses; see `sustain.maps.stac_items.read_items`. Where items overlap, those listed first have
        precedence, pixel by pixel as in a `Mosaic`.
    imagery : Imagery
        What the model expects.
    crs : str, optional
        Coordinate system of the grid; see `sustain.maps.lattice.choose_lattice`.
    resampling : {"nearest", "bilinear", "cubic", "average"}
    names : mapping, optional
        What items call a band of the model, where they call it otherwise.

    Raises
    ------
    DownloadError, FileFormatError, ConfigError, RasterError
        As `read_items`, `find_bands` and `choose_lattice`.
    """

    def __init__(
        self,
        places: Sequence[str | Path],
        imagery: Imagery,
        crs: str | None = None,
        resampling: Literal["nearest", "bilinear", "cubic", "average"] = "bilinear",
        names: Mapping[str, str] | None = None,
    ) -> None:
        items = [find_bands(item, imagery, names or {}) for item in read_items(places)]
        outlines = [item.outline or _look(item) for item in items]
        lattice = choose_lattice(outlines, crs or "auto", imagery.pixel_m, resampling)
        super().__init__(
            [
                StacScene(item, outline, imagery, lattice)
                for item, outline in zip(items, outlines, strict=True)
            ],
            imagery,
        )

    def identity(self) -> list[Any]:
        """Tell the items from others and from themselves after a change; asks each address once."""
        with ThreadPoolExecutor(_ASKED_AT_ONCE, "ask-asset") as pool:
            return list(pool.map(lambda scene: scene.identity(), self.scenes))


def _look(item: ItemBands) -> Outline:
    """Outline of an item that does not state one: that of its first band's file."""
    source = item.bands[0]
    name = f"{item.name}, asset {source.asset} ({plain(source.href)})"
    try:
        with rasterio.Env(**gdal_options()), rasterio.open(source.href) as dataset:
            return Outline.of(name, dataset)
    except RasterioError as error:
        kind = DownloadError if is_remote(source.href) else FileFormatError
        raise kind(
            f"{name}: does not answer, or is no raster ({error}). Check the href of the item."
        ) from error


def _nodata_of(name: str, source: BandSource, dataset: Any) -> float:
    """Find the number of a missing pixel: the item's, else the file's."""
    if source.index > dataset.count:
        raise RasterError(
            f"{name}: band {source.band} is its band {source.index}, but the file has {dataset.count}. Mend the item."
        )
    nodata = source.nodata if source.nodata is not None else dataset.nodatavals[source.index - 1]
    if nodata is None:
        raise RasterError(
            f"{name}: neither the item nor the file states the number of a missing pixel of band {source.band}. State "
            "it in raster:bands (nodata)."
        )
    return float(nodata)
