"""Series of pictures or of single places as regular grids in time, which forests and temporal CNNs can read."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.sustainbench.africa_crop_type import AfricaCropType
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.kenya import BANDS as KENYA_BANDS
from sustain.errors import DataError

__all__ = ["composite", "field_series", "fill_gaps", "tile_series", "yield_moments", "yield_series"]

_FIELD_STEPS = 24
_TILE_STEPS = 12
_BRIGHT_BLUE = 2000.0
"""Top-of-atmosphere reflectance x 10,000 in B2 above which a field in Kenya is under cloud."""


def composite(values: NDArray[np.floating], when: NDArray[np.floating], steps: int) -> NDArray[np.float32]:
    """Average observations within equal steps of time, and fill steps without any from their neighbours.

    Parameters
    ----------
    values : ndarray, shape (..., T)
        NaN where nothing was observed.
    when : ndarray, shape (T,)
        Time of each observation, from 0 to 1 over the whole span.
    steps : int

    Returns
    -------
    ndarray of float32, shape (..., steps)
        Finite; a series without any observation is 0.
    """
    place = np.clip((np.asarray(when) * steps).astype(int), 0, steps - 1)
    seen = np.isfinite(values)
    into = (place[:, None] == np.arange(steps)).astype(np.float32)
    counts = seen.astype(np.float32) @ into
    sums = np.where(seen, values, 0).astype(np.float32) @ into
    return fill_gaps(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))


def fill_gaps(series: NDArray[np.floating]) -> NDArray[np.float32]:
    """Interpolate NaN linearly along the last axis; ends take the nearest value, and nothing at all is 0."""
    n = series.shape[-1]
    seen, places = np.isfinite(series), np.arange(n)
    before = np.maximum.accumulate(np.where(seen, places, -1), axis=-1)
    after = np.minimum.accumulate(np.where(seen, places, n)[..., ::-1], axis=-1)[..., ::-1]
    left = np.where(before < 0, after, before) % n
    right = np.where(after == n, before, after) % n
    low, high = (np.take_along_axis(series, side, axis=-1) for side in (left, right))
    share = np.where(right > left, (places - left) / np.maximum(right - left, 1), 0)
    filled: NDArray[np.float32] = np.nan_to_num(low + share * (high - low), nan=0.0).astype(np.float32)
    return filled


def field_series(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Series of Kenya's fields: half-month means of 14 bands, NDVI and a water index; ``(n, 16, 24)``.

    Days whose blue is bright are clouds and left out, unless the field has no others.
    """
    blue, red, near, short = (KENYA_BANDS.index(band) for band in ("B2", "B4", "B8", "B11"))
    when = (np.arange(365) + 0.5) / 365
    found = []
    for i in tqdm(range(len(dataset)), desc="series", unit="field", disable=None):
        x = dataset.arrays(i)["image"].astype(np.float64)
        cloudy = x[blue] > _BRIGHT_BLUE
        if not cloudy[np.isfinite(x[blue])].all():
            x[:, cloudy] = np.nan
        indices = [_index(x[near], x[red]), _index(x[near], x[short])]
        found.append(composite(np.concatenate([x, indices]), when, _FIELD_STEPS))
    return np.stack(found)


def tile_series(dataset: AfricaCropType, i: int) -> NDArray[np.float32]:
    """Series of a tile's pixels: monthly means of the bands and NDVI; ``(4096, 11, 12)``.

    By the frames' dates where they are known, else by their order, over the year.
    """
    image = dataset.arrays(i)["image"]
    dates = dataset.dates(i)
    if dates is None:
        when = (np.arange(len(image)) + 0.5) / len(image)
    else:
        try:
            when = (pd.DatetimeIndex(dates).day_of_year.to_numpy() - 0.5) / 366
        except ValueError as error:
            raise DataError(f"tile {dataset.ids[i]}: its dates cannot be read ({error}).") from error
    red, near = dataset.bands.index("RED"), dataset.bands.index("NIR")
    cube = np.concatenate([image, _index(image[:, near], image[:, red])[:, None]], axis=1)
    pixels = np.moveaxis(cube.reshape(*cube.shape[:2], -1), 0, -1)
    return composite(np.moveaxis(pixels, 1, 0), when, _TILE_STEPS)


def yield_series(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Histograms of a season, each bin of each band a channel; ``(n, 288, 32)``."""
    return np.stack([dataset.arrays(i)["image"].reshape(-1, 32) for i in range(len(dataset))])


def yield_moments(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Mean and standard deviation, in bins, of each band's histogram at each date; ``(n, 18, 32)``."""
    found = []
    for i in range(len(dataset)):
        shares = dataset.arrays(i)["image"].astype(np.float64)
        bins = np.arange(shares.shape[1])[:, None]
        total = np.maximum(shares.sum(axis=1), 1e-9)
        mean = (shares * bins).sum(axis=1) / total
        spread = (shares * (bins - mean[:, None]) ** 2).sum(axis=1) / total
        found.append(np.concatenate([mean, np.sqrt(spread)]))
    return np.stack(found).astype(np.float32)


def _index(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Normalised difference; NaN where both are 0 or one is missing."""
    total = a + b
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total != 0, (a - b) / total, np.nan)
