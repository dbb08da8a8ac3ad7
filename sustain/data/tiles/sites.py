"""The table of your own tiles: which column is which, and values that can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sustain.config import TilesParams
from sustain.data.csvtable import numbers, refuse_duplicates
from sustain.errors import DataError, FileFormatError
from sustain.tables import read_table, read_text
from sustain.tables.delimited import DELIMITED

__all__ = ["read_sites", "refuse_fill_numbers"]

_RANGES = {"lat": (-90, 90), "lon": (-180, 180), "year": (1900, 2100), "n": (1, 2**31 - 1)}
_DEFAULTS: dict[str, Any] = {"year": 0, "country": "", "urban": False, "n": 1}
_URBAN = {
    "1": True,
    "0": False,
    "true": True,
    "false": False,
    "urban": True,
    "rural": False,
    "u": True,
    "r": False,
}


def read_sites(path: Path, params: TilesParams) -> pd.DataFrame:
    """Read the sites of your own tiles, sorted by id.

    Parameters
    ----------
    path : Path
        Table in any format of `sustain.tables.read_table`, a row a tile.
    params : TilesParams
        Which column is which.

    Returns
    -------
    DataFrame
        id, lat, lon, label, year, country, urban, n, and block where the table has it. Ids, countries and blocks are
        text as it is written, so that codes keep their zeros and Namibia is NA.

    Raises
    ------
    FileFormatError
        When it is no table, or has no rows.
    DataError
        When a column is missing or ids repeat, or values are missing, no numbers or out of range.
    """
    names = {"label": params.label, **params.columns}
    wanted = {name: names.get(name, name) for name in ("id", "lat", "lon", "label", *_DEFAULTS, "block")}
    needed = [wanted[name] for name in ("id", "lat", "lon", "label")] + list(params.columns.values())
    hint = (
        "Say in tiles.columns which of your columns is id, lat, lon, and in tiles.label which is the label."
    )
    table, written = read_table(path, needed, hint=hint), _as_written(path)
    if table.empty:
        raise FileFormatError(f"{path}: has a header but no rows.")
    sites = pd.DataFrame(index=table.index)
    for name, column in wanted.items():
        if column not in table:
            if name in _DEFAULTS:
                sites[name] = _DEFAULTS[name]
        elif name in ("id", "country", "block"):
            sites[name] = _given(written[column], path)
        elif name == "urban":
            sites[name] = _is_urban(written[column], path)
        else:
            sites[name] = _finite(_numbers(table, column, path, whole=name in ("year", "n")), path)
            if name in _RANGES:
                _require_range(sites[name], column, *_RANGES[name], path)
    refuse_fill_numbers(sites["label"], wanted["label"], path)
    sites = sites.astype({"year": "int32", "n": "int32"})
    refuse_duplicates(sites["id"], str(path), f"id {wanted['id']}")
    _refuse_null_island(sites, path)
    return sites.sort_values("id", ignore_index=True)


def _as_written(path: Path) -> pd.DataFrame:
    """Every value as text: of delimited text as it stands there, of other formats whole numbers without a point."""
    if path.suffix.lower() in DELIMITED:
        return read_text(path)
    table = read_table(path)
    return pd.DataFrame({name: table[name].map(_text, na_action="ignore").astype(object) for name in table})


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():  # Stata, SPSS and Excel have no whole numbers
        return str(int(value))
    return str(value)


def _numbers(table: pd.DataFrame, column: str, path: Path, *, whole: bool) -> pd.Series[float]:
    values = table[column]
    if not pd.api.types.is_numeric_dtype(values):
        return numbers(
            table.astype({column: "string"}).astype({column: object}), column, str(path), whole=whole
        )
    found = values.astype("float64")
    if whole and (wrong := ~(found % 1 == 0)).any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: column {column} holds {values.iloc[row]!r} in data row {row + 1}; expected a whole number."
        )
    return found


_FILL_NUMBERS = (-99.0, -999.0, -9999.0, -99999.0, -999999.0)


def refuse_fill_numbers(values: pd.Series[float], column: str, path: Path) -> None:
    """Refuse numbers that commonly stand for a missing value, where all others are far closer to 0."""
    filled = values.isin(_FILL_NUMBERS)
    others = values[~filled].abs()
    if filled.any() and len(others) and values[filled].abs().min() > 10 * others.max():
        row = int(np.flatnonzero(filled)[0])
        raise DataError(
            f"{path}: column {column} holds {values.iloc[row]:.15g} in data row {row + 1}, and no other value is near: "
            f"it seems to stand for a missing one ({int(filled.sum())} row(s)). Leave these rows out."
        )


_OUT_OF_RANGE = {
    "lat": "Are lat and lon exchanged (tiles.columns)?",
    "lon": "Are lat and lon exchanged (tiles.columns)? Where longitudes go from 0 to 360, subtract 360 over 180.",
    "n": "It counts observations, such as households; leave rows without any out.",
}


def _require_range(values: pd.Series[float], column: str, low: float, high: float, path: Path) -> None:
    if (wrong := (values < low) | (values > high)).any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: column {column} holds {values.iloc[row]:g} in data row {row + 1}; expected {low:g} to {high:g}. "
            f"{_OUT_OF_RANGE.get(str(values.name), 'Mend these rows, or leave them out.')}"
        )


def _refuse_null_island(sites: pd.DataFrame, path: Path) -> None:
    if (wrong := (sites["lat"] == 0) & (sites["lon"] == 0)).any():
        raise DataError(
            f"{path}: {int(wrong.sum())} row(s) lie at latitude 0, longitude 0, which stands for an unknown place; the "
            f"first is {sites['id'][wrong].iloc[0]}. Leave them out."
        )


def _given(values: pd.Series[str], path: Path) -> pd.Series[str]:
    if (empty := values.isna()).any():
        raise DataError(
            f"{path}: column {values.name} is empty in {int(empty.sum())} row(s). Fill it, or leave them out."
        )
    return values


def _finite(values: pd.Series[float], path: Path) -> pd.Series[float]:
    if (wrong := ~np.isfinite(values)).any():
        raise DataError(
            f"{path}: column {values.name} holds {int(wrong.sum())} value(s) that are not finite numbers. Leave these "
            "rows out."
        )
    return values


def _is_urban(values: pd.Series[str], path: Path) -> pd.Series[bool]:
    found = values.str.lower().map(_URBAN)
    if (wrong := found.isna()).any():
        raise DataError(
            f"{path}: column {values.name} holds {values[wrong].iloc[0]!r}; expected one of {', '.join(_URBAN)}."
        )
    return found.astype(bool)
