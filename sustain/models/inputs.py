"""From packed tiles to what a network sees: standardised bands, a mask, and optionally sensor, year and place.

Everything happens on the device, from uint16: half the bytes on the way of a float16, and a quarter of the usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, ModelError

__all__ = [
    "FIRST_VIIRS_YEAR",
    "LIGHTS",
    "SITE_COLUMNS",
    "BandStatistics",
    "ExtraInputs",
    "Normal",
    "TileInputs",
    "band_statistics",
    "describe_extras",
    "site_columns",
    "sites_of",
]

LIGHTS = "NIGHTLIGHTS"
FIRST_VIIRS_YEAR = 2012
"""From this year on SustainBench's night lights are VIIRS radiances; before, DMSP digital numbers."""

SITE_COLUMNS = ("year", "lat", "lon")
"""Columns of the array that accompanies tiles, for networks that look at more than pixels."""

_CHUNK = 256


class Normal(BaseModel):
    """Mean and standard deviation of one number."""

    model_config = ConfigDict(frozen=True)

    mean: float
    std: float = Field(gt=0)


class BandStatistics(BaseModel):
    """Mean and standard deviation of each band, in physical units, over the training rows' valid pixels."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]


class ExtraInputs(BaseModel):
    """What a network sees beside the bands; nothing by default."""

    model_config = ConfigDict(frozen=True)

    lights: dict[Literal["dmsp", "viirs"], Normal] | None = Field(
        None, description="Night lights as two channels, one a sensor, each with its own statistics."
    )
    year: Normal | None = Field(None, description="A channel of the year.")
    location: bool = Field(
        False, description="Three channels: the place as a unit vector, which has no seam."
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the `SITE_COLUMNS` that must be known of each tile."""
        return (("year",) if self.lights or self.year else ()) + (("lat", "lon") if self.location else ())


def site_columns(sites: pd.DataFrame | None, needs: Sequence[str], n: int, who: str) -> NDArray[np.float32]:
    """Return the `SITE_COLUMNS` of `n` tiles as float32 ``(n, 3)``, NaN where they are not needed.

    Raises
    ------
    ModelError
        When a needed column is missing, not finite, or of another length.
    """
    columns = np.full((n, len(SITE_COLUMNS)), np.nan, dtype=np.float32)
    for name in needs:
        if sites is None or name not in sites:
            raise ModelError(
                f"{who} looks at {', '.join(needs)} beside the pixels: pass sites, a table with these columns and a "
                "row a tile (or, for a scene of one year, use for_year; sustain map --year)."
            )
        values = sites[name].to_numpy(dtype=np.float64)
        if values.shape != (n,) or not np.isfinite(values).all():
            raise ModelError(f"{who}: column {name} of sites must hold {n} finite numbers, one a tile.")
        columns[:, SITE_COLUMNS.index(name)] = values
    return columns


def sites_of(store: TileStore, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return the `SITE_COLUMNS` of some rows of a store."""
    return store.index.iloc[rows][list(SITE_COLUMNS)]


class TileInputs(nn.Module):
    """Turn tiles of DN into a network's channels.

    Each band is centred and scaled with the training split's statistics; missing values become 0, the mean, and one
    channel more says which pixels are whole, so that the network can tell a hole from average ground. After it come
    the extras: year, then place.

    Parameters
    ----------
    bands : tuple of str
        Names, in channel order.
    mean, std : ndarray of float, shape (C,)
        Of each band's DN.
    nodata : int
        DN of a missing value.
    extras : ExtraInputs
        Sensor, year, place; the statistics of lights are of DN.
    """

    def __init__(
        self,
        bands: tuple[str, ...],
        mean: NDArray[np.float64],
        std: NDArray[np.float64],
        nodata: int,
        extras: ExtraInputs | None = None,
    ) -> None:
        super().__init__()
        self.extras = extras or ExtraInputs()
        self.nodata = nodata
        self.source = list(range(len(bands)))
        self.names = list(bands)
        if self.extras.lights is not None:
            lights = bands.index(LIGHTS)
            dmsp, viirs = self.extras.lights["dmsp"], self.extras.lights["viirs"]
            # One channel becomes two; the second of them stands at the end of the bands.
            self.source.append(lights)
            self.names[lights] = f"{LIGHTS}_DMSP"
            self.names.append(f"{LIGHTS}_VIIRS")
            mean, std = np.append(mean, viirs.mean), np.append(std, viirs.std)
            mean[lights], std[lights] = dmsp.mean, dmsp.std
            self._lights = lights
        # Not in the state dict: the statistics live in model.json, the weights file holds what was learned.
        for name, values in (("mean", mean), ("std", std)):
            tensor = torch.from_numpy(np.asarray(values, dtype=np.float32)).reshape(-1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    mean: Tensor
    std: Tensor

    @property
    def n_bands(self) -> int:
        """Number of leading channels that hold standardised bands."""
        return len(self.names)

    @property
    def n_channels(self) -> int:
        """Number of channels: bands, mask, year, place."""
        return self.n_bands + 1 + (self.extras.year is not None) + 3 * self.extras.location

    def forward(self, tiles: Tensor, sites: Tensor | None = None) -> Tensor:
        """Normalise.

        Parameters
        ----------
        tiles : Tensor of uint16, shape (n, C, H, W)
        sites : Tensor of float32, shape (n, 3), optional
            `SITE_COLUMNS`; needed with extras.

        Returns
        -------
        Tensor of float32, shape (n, n_channels, H, W)
        """
        numbers = tiles.to(torch.float32)
        valid = numbers != self.nodata
        whole = valid.all(dim=1, keepdim=True).to(torch.float32)
        if self.extras.lights is not None:
            numbers, valid = numbers[:, self.source], valid[:, self.source]
            viirs = (_column(sites, "year") >= FIRST_VIIRS_YEAR)[:, None, None]
            valid[:, self._lights] &= ~viirs
            valid[:, -1] &= viirs
        bands = torch.where(valid, (numbers - self.mean) / self.std, 0.0)
        planes = [plane.reshape(-1, 1, 1, 1).expand_as(whole) for plane in self._planes(sites)]
        return torch.cat([bands, whole, *planes], dim=1)

    def _planes(self, sites: Tensor | None) -> list[Tensor]:
        planes = []
        if self.extras.year is not None:
            planes.append((_column(sites, "year") - self.extras.year.mean) / self.extras.year.std)
        if self.extras.location:
            lat, lon = torch.deg2rad(_column(sites, "lat")), torch.deg2rad(_column(sites, "lon"))
            planes += [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
        return planes


def _column(sites: Tensor | None, name: str) -> Tensor:
    if sites is None:
        raise ModelError(f"the network looks at {name} beside the pixels, and none was passed.")
    return sites[:, SITE_COLUMNS.index(name)]


def band_statistics(store: TileStore, rows: NDArray[np.int64]) -> BandStatistics:
    """Mean and standard deviation of each band over the valid pixels of some rows, in physical units.

    Sums are exact (integers), so the order of tiles does not matter. A band that never varies gets the standard
    deviation of one DN, and so reaches the network as 0.

    Raises
    ------
    DataError
        When a band has no valid pixel.
    """
    mean, std, n = _dn_statistics(store, rows)
    if (empty := n == 0).any():
        names = ", ".join(np.array(store.bands)[empty])
        raise DataError(f"{store.folder}: no valid pixel of {names} in the training split.")
    scale, offset = np.array(store.scale), np.array(store.offset)
    return BandStatistics(mean=tuple((scale * mean + offset).tolist()), std=tuple((scale * std).tolist()))


def _dn_statistics(
    store: TileStore, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    n_bands = len(store.bands)
    n, total, squares = (np.zeros(n_bands, dtype=np.int64) for _ in range(3))
    for start in range(0, len(rows), _CHUNK):
        # Missing values are 0 and add nothing.
        numbers = store.read(rows[start : start + _CHUNK]).astype(np.int64)
        n += (numbers != store.nodata).sum(axis=(0, 2, 3))
        total += numbers.sum(axis=(0, 2, 3))
        squares += (numbers**2).sum(axis=(0, 2, 3))
    mean = total / np.maximum(n, 1)
    variance = np.maximum(squares / np.maximum(n, 1) - mean**2, 0)
    return mean, np.where(variance > 0, np.sqrt(variance), 1.0), n


def describe_extras(store: TileStore, rows: NDArray[np.int64], names: Sequence[str]) -> ExtraInputs:
    """Learn the statistics of the extras that `names` asks for, from the training rows.

    Raises
    ------
    DataError
        When lights are to be split by sensor, and the band or one of the sensors is absent.
    """
    years = store.index["year"].to_numpy()
    lights: dict[Literal["dmsp", "viirs"], Normal] | None = None
    if "lights_by_sensor" in names:
        if LIGHTS not in store.bands:
            raise DataError(f"{store.folder}: lights_by_sensor needs a band {LIGHTS}; got {store.bands}.")
        k, modern, lights = store.bands.index(LIGHTS), years[rows] >= FIRST_VIIRS_YEAR, {}
        sensors: tuple[tuple[Literal["dmsp", "viirs"], NDArray[np.bool_]], ...] = (
            ("dmsp", ~modern),
            ("viirs", modern),
        )
        for sensor, chosen in sensors:
            mean, std, n = _dn_statistics(store, rows[chosen])
            if n[k] == 0:
                raise DataError(
                    f"{store.folder}: lights_by_sensor needs training sites before and from {FIRST_VIIRS_YEAR} on; "
                    f"there is none with {sensor.upper()} lights. Leave it out of train.inputs."
                )
            lights[sensor] = Normal(mean=float(mean[k]), std=float(std[k]))
    year = None
    if "year" in names:
        spread = float(years[rows].std())
        year = Normal(mean=float(years[rows].mean()), std=spread if spread > 0 else 1.0)
    return ExtraInputs(lights=lights, year=year, location="location" in names)
