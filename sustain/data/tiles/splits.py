"""Spatial splits: whole blocks of ground go to one part, so that neighbours are never on both sides.

What a block split does not do: a tile near the edge of its block shows some ground of the next one, and DHS displaces
sites by up to 2 km (urban) or 5 km (rural, a few 10 km). Held-out sites near an edge may therefore share pixels with a
training tile; none is dropped for it. Choose blocks well above the size of a tile and the displacement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.errors import DataError
from sustain.sphere import EARTH_RADIUS_KM

__all__ = ["assign_splits", "spatial_block"]

Part = TypeVar("Part", bound=str)

_KM_PER_DEGREE = EARTH_RADIUS_KM * np.pi / 180


def spatial_block(lat: ArrayLike, lon: ArrayLike, km: float) -> NDArray[np.str_]:
    """Name the block that each place lies in, on a grid of equal distances.

    Rows are `km` high. Within a row columns are `km` wide along the row's middle parallel, so blocks cover about the
    same ground at any latitude (a sinusoidal grid); the last column of a row is narrower.

    Parameters
    ----------
    lat, lon : array_like, shape (n,)
        Degrees.
    km : float
        Side of a block.

    Returns
    -------
    ndarray of str, shape (n,)
        Names such as ``"b10-r00905-c01802"``: side in km, row from the south pole, column from 180 degrees west.

    Raises
    ------
    DataError
        When lengths differ, a coordinate is not finite or out of range, or `km` is not positive.
    """
    lat, lon = np.asarray(lat, dtype=float), np.asarray(lon, dtype=float)
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise DataError(
            f"lat and lon must be one-dimensional and equally long; got {lat.shape} and {lon.shape}."
        )
    if not (np.isfinite(km) and km > 0):
        raise DataError(f"km is {km}; expected a positive number of kilometres.")
    bad = ~((np.abs(lat) <= 90) & (np.abs(lon) <= 180))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        hint = " Are lat and lon swapped?" if abs(lat[first]) > 90 and abs(lon[first]) <= 90 else ""
        raise DataError(
            f"{int(bad.sum())} place(s) with lat/lon missing or out of range; "
            f"the first is lat {lat[first]}, lon {lon[first]}.{hint}"
        )
    row = np.floor((lat + 90) * _KM_PER_DEGREE / km).astype(int)
    middle = np.radians(np.clip((row + 0.5) * km / _KM_PER_DEGREE - 90, -90, 90))
    east = np.where(lon == 180, 0.0, lon + 180)  # 180 degrees east and west are one meridian
    column = np.floor(east * np.cos(middle) * _KM_PER_DEGREE / km).astype(int)
    return np.array([f"b{km:g}-r{r:05d}-c{c:05d}" for r, c in zip(row, column, strict=True)], dtype=np.str_)


def assign_splits(blocks: ArrayLike, shares: Mapping[Part, float], seed: int) -> NDArray[np.str_]:
    """Give whole blocks to parts, so that the parts' numbers of sites come close to the shares.

    Blocks come in random order; each goes to the part that is filled least, relative to its share. So no part
    exceeds its share by more than one block.

    Parameters
    ----------
    blocks : array_like of str, shape (n,)
        Block of each site.
    shares : mapping
        Name of a part -> share of the sites; positive, adding up to 1.
    seed : int
        Seed of the order.

    Returns
    -------
    ndarray of str, shape (n,)
        Name of the part of each site. It depends on the blocks' names and sizes and the seed, not on the order of rows.

    Raises
    ------
    DataError
        When shares are not positive or do not add up to 1, or when a part would be empty.
    """
    blocks = np.asarray(blocks, dtype=np.str_)
    if not shares or any(share <= 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise DataError(f"shares must be positive and add up to 1; got {dict(shares)}.")
    names, inverse, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    if len(names) < len(shares):
        raise DataError(
            f"{len(names)} spatial block(s) cannot fill {len(shares)} parts ({', '.join(shares)}): a part would "
            "be empty. Use smaller blocks (block_km), or more sites."
        )
    parts = list(shares)
    target = np.array([shares[part] for part in parts]) * len(blocks)
    filled = np.zeros(len(parts))
    chosen = np.empty(len(names), dtype=int)
    for block in np.random.default_rng(seed).permutation(len(names)):
        part = int(np.argmin(filled / target))
        chosen[block] = part
        filled[part] += sizes[block]
    return np.array(parts, dtype=np.str_)[chosen[inverse]]
