"""What a model may know of a tile's site beside the pixels: year and place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.data.tiles.packed import TileStore
from sustain.errors import ModelError

__all__ = ["SITE_COLUMNS", "site_columns", "sites_of"]

SITE_COLUMNS = ("year", "lat", "lon")
"""Columns of the array that accompanies tiles, for networks that look at more than pixels."""


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
