"""Imagery of STAC items on one pixel grid: read window by window, in the model's numbers.

odc-stac says what is in an item (`sustain.maps.imagery.stac_items`). Its loader is not used for the pixels: it places
them to an eighth of a pixel, differently in every window, so that a map would depend on how it is cut into blocks.
Pixels are read in the same way as those of rasters (`sustain.maps.imagery.warp`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from sustain.errors import DownloadError, FileFormatError, RasterError
from sustain.maps.grid import Span
from sustain.maps.imagery.bands import Imagery, ModelNumbers, NumberedRaster, has_mask, refuse_masks_of_bands
from sustain.maps.imagery.identity import identity_of
from sustain.maps.imagery.lattice import Lattice, Outline, ResamplingName, choose_lattice
from sustain.maps.imagery.mosaic import Mosaic
from sustain.maps.imagery.sentinel2 import warn_of_negative
from sustain.maps.imagery.stac_items import BandSource, ItemBands, find_bands, read_items
from sustain.maps.remote import gdal_options, is_remote, plain, remote_identity

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
    geobox, files, path
        As of `sustain.maps.imagery.scene.Scene`.
    """

    def __init__(self, item: ItemBands, outline: Outline, imagery: Imagery, lattice: Lattice) -> None:
        self.path = Path(item.name)
        self._item, self._lattice = item, lattice
        self._numbers = ModelNumbers.of(imagery)
        self.geobox = lattice.cover(outline)
        self.files = tuple(dict.fromkeys(source.href for source in item.bands))

    def read(self, window: Span) -> npt.NDArray[np.uint16]:
        """Read a window; see `sustain.maps.imagery.scene.Scene.read`.

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
        """Tell the item from others and from itself after a change; see `sustain.maps.imagery.identity.identity_of`."""
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
        href = sources[0].href
        name = f"{self._name_of(href)} ({plain(href)})"
        try:
            with rasterio.Env(**gdal_options()), rasterio.open(href) as dataset:
                bands = [_in_file(name, source, dataset) for source in sources]
                with NumberedRaster(
                    name, dataset, bands, self._numbers, self._lattice, self.geobox
                ) as raster:
                    pixels[places] = found = raster.read(window)
            self._look_at_reflectances(name, sources, places, found)
        except (RasterioError, FileFormatError) as error:
            cause = str(error.__cause__ or error).replace(href, plain(href))
            if not is_remote(href):
                raise FileFormatError(
                    f"{name}: cannot be opened or decoded ({cause}). Check the href of the item, and fetch or make the "
                    "file again. Finished blocks are kept, so that the same command goes on from them."
                ) from error
            raise DownloadError(
                f"{name}: does not answer, or not with imagery ({cause}). Check the address and the network. Finished "
                "blocks are kept, so that the same command goes on from them."
            ) from error

    def _look_at_reflectances(
        self, name: str, sources: list[BandSource], places: list[int], found: npt.NDArray[np.uint16]
    ) -> None:
        for source, place, numbers in zip(sources, places, found, strict=True):
            if source.reflectance and source.offset < 0:
                values = numbers * self._numbers.scale[place] + self._numbers.offset[place]
                warn_of_negative(name, source.band, np.where(numbers == self._numbers.nodata, np.nan, values))

    def _name_of(self, href: str) -> str:
        assets = dict.fromkeys(source.asset for source in self._item.bands if source.href == href)
        return f"{self._item.name}, asset {', '.join(assets)}"


class StacImagery(Mosaic):
    """Items on one pixel grid, read as one. It holds no open file, and may be sent to other processes.

    Parameters
    ----------
    places : sequence of str or Path
        JSON files or addresses; see `sustain.maps.imagery.stac_items.read_items`. Where items overlap, those listed
        first have precedence, pixel by pixel as in a `Mosaic`.
    imagery : Imagery
        What the model expects.
    crs : str, optional
        Coordinate system of the grid; see `sustain.maps.imagery.lattice.choose_lattice`.
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
        resampling: ResamplingName = "bilinear",
        names: Mapping[str, str] | None = None,
    ) -> None:
        items = [find_bands(item, imagery, names or {}) for item in read_items(places)]
        with ThreadPoolExecutor(_ASKED_AT_ONCE, "look-at-asset") as pool:
            outlines = list(pool.map(_look, items))
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
    """Outline of an item: that of its first band's file.

    Not ``proj:shape`` and ``proj:transform``: left from another resolution, they would name a part of the file.
    """
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


def _in_file(name: str, source: BandSource, dataset: Any) -> BandSource:
    """Find the number of a missing pixel: the item's, else the file's, else none where the file has a mask."""
    if source.index > dataset.count:
        raise RasterError(
            f"{name}: band {source.band} is its band {source.index}, but the file has {dataset.count}. Mend the item."
        )
    refuse_masks_of_bands(name, dataset)
    nodata = source.nodata if source.nodata is not None else dataset.nodatavals[source.index - 1]
    if nodata is None and not has_mask(dataset):
        raise RasterError(
            f"{name}: neither the item nor the file states the number of a missing pixel of band {source.band}, and "
            "the file has no mask. State it in raster:bands (nodata)."
        )
    return replace(source, nodata=None if nodata is None else float(nodata))
