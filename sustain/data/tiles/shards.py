"""What a packed tile's numbers mean, and the ``.npy`` files that hold tiles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sustain.data.npy import growing_npy
from sustain.errors import FileFormatError
from sustain.files import require_free_space

__all__ = ["MAX_DN", "HasTileFormat", "TileFormat", "shard_path", "write_shard"]

MAX_DN = 65535


class TileFormat(BaseModel):
    """The meaning of a tile's numbers: ``value = scale * DN + offset`` band by band, and DN 0 is missing.

    Packed tiles, the model trained on them and the imagery it maps must agree in this.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    bands: tuple[str, ...] = Field(min_length=1)
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: int = Field(0, ge=0, le=0, description="DN of a missing value.")
    pixel_m: float = Field(gt=0, description="Side of a pixel, in metres.")
    tile_px: int = Field(gt=0, description="Side of a tile, in pixels.")

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if not len(self.bands) == len(set(self.bands)) == len(self.scale) == len(self.offset):
            raise ValueError("bands must differ, and scale and offset must have one number a band")
        if not np.isfinite([*self.scale, *self.offset]).all() or min(self.scale) <= 0:
            raise ValueError("scale must be positive, and scale and offset finite")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one tile, ``(C, H, W)``."""
        return len(self.bands), self.tile_px, self.tile_px

    def differences(self, other: TileFormat) -> str:
        """Say in which entries another format differs from this one; empty where in none."""
        return "; ".join(
            f"{name} is {getattr(other, name)}, not {getattr(self, name)}"
            for name in TileFormat.model_fields
            if getattr(other, name) != getattr(self, name)
        )

    def encode(
        self, values: NDArray[np.floating], missing: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        """Turn physical values into DN.

        Parameters
        ----------
        values : ndarray, shape (C, H, W)
            Physical values; finite wherever `missing` is False.
        missing : ndarray of bool, shape (C, H, W)
            Becomes DN 0.

        Returns
        -------
        tile : ndarray of uint16, shape (C, H, W)
        limited : ndarray of int, shape (C,)
            How many values of each band lay beyond the ends of the range and were set to the nearer end.
        """
        tile = np.empty(values.shape, dtype=np.uint16)
        limited = np.zeros(len(values), dtype=np.int64)
        for k, (scale, offset) in enumerate(zip(self.scale, self.offset, strict=True)):
            # Band by band, so that the work stays in the processor's cache. float32 resolves a hundredth of a DN at the
            # top of every range, and halves the time.
            numbers = values[k].astype(np.float32) - np.float32(offset)
            with np.errstate(over="ignore"):  # a wild value becomes infinite, and is limited below
                numbers /= np.float32(scale)
            np.rint(numbers, out=numbers)
            numbers[missing[k]] = 1
            if numbers.min() < 1 or numbers.max() > MAX_DN:
                limited[k] = np.count_nonzero((numbers < 1) | (numbers > MAX_DN))
                np.clip(numbers, 1, MAX_DN, out=numbers)
            tile[k] = numbers
            tile[k][missing[k]] = self.nodata
        return tile, limited

    def decode(self, tiles: NDArray[np.uint16], band: str) -> NDArray[np.float32]:
        """Return one band of tiles ``(n, C, H, W)`` as physical values ``(n, H, W)``, missing ones NaN."""
        k = self.bands.index(band)
        numbers = tiles[:, k]
        values = numbers.astype(np.float32) * np.float32(self.scale[k]) + np.float32(self.offset[k])
        return np.where(numbers == self.nodata, np.float32(np.nan), values)


class HasTileFormat:
    """What has a `TileFormat` has its entries as attributes of its own."""

    format: TileFormat

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, in channel order."""
        return self.format.bands

    @property
    def scale(self) -> tuple[float, ...]:
        """``value = scale * DN + offset``, a number a band."""
        return self.format.scale

    @property
    def offset(self) -> tuple[float, ...]:
        """``value = scale * DN + offset``, a number a band."""
        return self.format.offset

    @property
    def nodata(self) -> int:
        """DN of a missing value."""
        return self.format.nodata

    @property
    def pixel_m(self) -> float:
        """Side of a pixel, in metres."""
        return self.format.pixel_m

    @property
    def tile_px(self) -> int:
        """Side of a tile, in pixels."""
        return self.format.tile_px


def shard_path(folder: Path, shard: int) -> Path:
    """Return the path of a shard file."""
    return folder / f"shard-{shard:04d}.npy"


def write_shard(folder: Path, shard: int, tiles: Iterator[NDArray[np.uint16]], most: int) -> int:
    """Write at most `most` of some tiles as one shard, or nothing if there is none; return how many there were.

    Raises
    ------
    FileFormatError
        When a tile has another shape than the first one.
    DiskSpaceError
        When there is no room for a shard of `most` tiles.
    """
    first = next(tiles, None)
    if first is None:
        return 0
    require_free_space(folder, most * first.nbytes, "a shard of tiles")
    with growing_npy(shard_path(folder, shard), "u2", first.shape) as file:
        for tile in chain([first], islice(tiles, most - 1)):
            if tile.shape != first.shape:
                raise FileFormatError(f"a tile has shape {tile.shape}, but the first one {first.shape}.")
            file.extend(tile[None])
    return file.shape[0]
