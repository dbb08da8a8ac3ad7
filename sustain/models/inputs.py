"""From packed tiles to what a network sees: standardised bands, a mask, and optionally sensor, year and place.

Everything happens on the device, from uint16: half the bytes on the way of a float16, and a quarter of the usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, ModelError
from sustain.models.sites import SITE_COLUMNS
from sustain.models.statistics import LIGHTS, dn_statistics

__all__ = ["FIRST_VIIRS_YEAR", "ExtraInputs", "Normal", "TileInputs", "describe_extras"]

FIRST_VIIRS_YEAR = 2012
"""From this year on SustainBench's night lights are VIIRS radiances; before, DMSP digital numbers."""


class Normal(BaseModel):
    """Mean and standard deviation of one number."""

    model_config = ConfigDict(frozen=True)

    mean: float
    std: float = Field(gt=0)


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
        bands = ((numbers - self.mean) / self.std).masked_fill_(~valid, 0.0)
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
            mean, std, n = dn_statistics(store, rows[chosen])
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
