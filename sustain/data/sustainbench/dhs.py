"""SustainBench's DHS files: the label table, and the tiles inside the ``dhs_*.tar.gz`` archives.

The format and its traps, as the files really are (not as the official loaders expect them):

- a label and its count are NaN when fewer than five observations stand behind it, so each task has its own rows;
- a tile is ``{survey}/{id}.npz`` with one key ``x``, float32 ``(8, H, W)``, **row 0 at the south edge**;
- a missing pixel is 0, not NaN: 0 kelvin in TEMP1 tells a missing observation from a dark one;
- ids hold a ``#`` (``AL-2008-5#-00000001``), which URLs and shells take for something else.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sustain.errors import DataError, FileFormatError

__all__ = [
    "BANDS",
    "COLUMNS",
    "LABELS",
    "LABELS_FILE",
    "MIN_OBSERVATIONS",
    "archives",
    "iter_tiles",
    "read_labels",
]

BANDS = ("BLUE", "GREEN", "RED", "SWIR1", "SWIR2", "TEMP1", "NIR", "NIGHTLIGHTS")
"""Channels of a tile, in file order. NIR comes after the thermal band."""

LABELS_FILE = "dhs_final_labels.csv"
MIN_OBSERVATIONS = 5
"""SustainBench publishes no label with fewer observations behind it."""


class Label(NamedTuple):
    """A label column, the column with its number of observations, and its unit."""

    column: str
    n_column: str
    unit: str


LABELS = {
    label.column: label
    for label in (
        Label("asset_index", "n_asset", "index points"),
        Label("water_index", "n_water", "1-5"),
        Label("sanitation_index", "n_sanitation", "1-5"),
        Label("under5_mort", "n_under5_mort", "deaths per 1000"),
        Label("women_edu", "n_women_edu", "years"),
        Label("women_bmi", "n_women_bmi", "kg m-2"),
    )
}

COLUMNS = (
    *("DHSID_EA", "cname", "year", "lat", "lon", "n_asset", "asset_index", "n_water", "water_index"),
    *("n_sanitation", "sanitation_index", "under5_mort", "n_under5_mort", "women_edu", "women_bmi"),
    *("n_women_edu", "n_women_bmi", "cluster_id", "adm1fips", "adm1dhs", "urban"),
)

_MEMBER = re.compile(r"(?:^|/)(?P<survey>[A-Z0-9]{2}-[0-9]{4}-[0-9A-Z]#)/(?P<id>(?P=survey)-[0-9]+)\.npz$")
_MAX_SIDE = 1024
_MAX_MEMBER_BYTES = 4 * len(BANDS) * _MAX_SIDE**2 + 4096  # a stored (uncompressed) npz of the largest tile


def read_labels(path: str | Path, label: str = "asset_index") -> pd.DataFrame:
    """Read the survey sites of the label table.

    Parameters
    ----------
    path : str or Path
        ``dhs_final_labels.csv``, or a table of the same columns.
    label : str
        One of `LABELS`.

    Returns
    -------
    DataFrame
        One row a site, sorted by id: id, country, year (int32), lat, lon (float64, degrees, displaced), urban (bool),
        n (float64, observations behind the label), label (float64). The label is NaN, as SustainBench has it, where
        fewer than `MIN_OBSERVATIONS` stand behind it: every row is returned, and a task uses those with a label.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    FileFormatError
        When the file is not a CSV table, or lacks columns.
    DataError
        When `label` is unknown, or when ids repeat, coordinates are impossible, a label is infinite, or no row is left.
    """
    path = Path(path)
    if label not in LABELS:
        raise DataError(f"label is {label!r}; expected one of {', '.join(LABELS)}.")
    needed = {"DHSID_EA", "cname", "year", "lat", "lon", "urban", label, LABELS[label].n_column}
    table = _read_csv(path, needed)
    for column in ("year", "lat", "lon", label, LABELS[label].n_column):
        table[column] = _numbers(path, table[column])
    table = table.rename(
        columns={"DHSID_EA": "id", "cname": "country", label: "label", LABELS[label].n_column: "n"}
    )
    _check(path, table)
    table["label"] = table["label"].where(table["n"] >= MIN_OBSERVATIONS)
    if table["label"].isna().all():
        raise DataError(
            f"{path}: no row has a {label} with at least {MIN_OBSERVATIONS} observations behind it."
        )
    sites = table[["id", "country", "year", "lat", "lon", "urban", "n", "label"]].astype({"year": "int32"})
    sites["urban"] = sites["urban"] == "U"
    return sites.sort_values("id", ignore_index=True)


def _read_csv(path: Path, needed: set[str]) -> pd.DataFrame:
    try:
        # Namibia's country code is "NA": only an empty field is missing here.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: not a CSV table ({error}). Fetch or make it again.") from error
    if missing := sorted(needed - set(table.columns)):
        raise FileFormatError(
            f"{path}: missing column {', '.join(missing)}; found {', '.join(map(str, table.columns))}. "
            "Expected SustainBench's dhs_final_labels.csv."
        )
    return table


def _numbers(path: Path, column: pd.Series[str]) -> pd.Series[float]:
    numbers = pd.to_numeric(column.mask(column.str.lower() == "nan"), errors="coerce").astype("float64")
    wrong = numbers.isna() & column.notna() & (column.str.lower() != "nan")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: column {column.name} holds {column.iloc[row]!r} in data row {row + 1}; "
            "expected a number or nothing."
        )
    return numbers


def _check(path: Path, table: pd.DataFrame) -> None:
    def some(rows: pd.Series[bool]) -> str:
        ids = table.loc[rows, "id"].astype(str).tolist()
        return f"{len(ids)} row(s), such as {', '.join(ids[:3])}"

    lat, lon = table["lat"], table["lon"]
    if (empty := table["id"].isna()).any():
        raise DataError(f"{path}: {int(empty.sum())} row(s) without DHSID_EA; every site needs its id.")
    if (twice := table["id"].duplicated(keep=False)).any():
        raise DataError(f"{path}: DHSID_EA repeats in {some(twice)}. Keep one row per site.")
    if (off := ~(lat.abs() <= 90) | ~(lon.abs() <= 180)).any():
        swapped = (lat.abs() > 90) & (lon.abs() <= 90)
        hint = " lat and lon look swapped." if swapped.any() else ""
        raise DataError(
            f"{path}: lat/lon missing or out of range (|lat| <= 90, |lon| <= 180) in {some(off)}: "
            f"lat {lat[off].iloc[0]}, lon {lon[off].iloc[0]}.{hint} Mend the columns lat and lon."
        )
    if (null := (lat == 0) & (lon == 0)).any():
        raise DataError(
            f"{path}: lat and lon are both exactly 0 in {some(null)}. DHS writes 0, 0 where a site has no "
            "position; remove these rows."
        )
    if (bad := ~table["urban"].isin(["U", "R"])).any():
        raise DataError(
            f"{path}: urban must be 'U' or 'R', but is {table.loc[bad, 'urban'].iloc[0]!r} in {some(bad)}."
        )
    if (bad := ~(table["year"] % 1 == 0)).any():
        raise DataError(
            f"{path}: year must be a whole number, but is {table.loc[bad, 'year'].iloc[0]} in {some(bad)}."
        )
    if (bad := np.isinf(table["label"]) | np.isinf(table["n"])).any():
        raise DataError(f"{path}: infinite label or number of observations in {some(bad)}.")


def archives(folder: str | Path) -> list[Path]:
    """Return the ``dhs_*.tar.gz`` files of a folder, sorted by name.

    Raises
    ------
    FileNotFoundError
        When the folder is missing or holds none.
    """
    found = sorted(Path(folder).glob("dhs_*.tar.gz"))
    if not found:
        raise FileNotFoundError(
            f"{folder}: no dhs_*.tar.gz in this folder. Run the acquire stage, or fetch the files."
        )
    return found


def iter_tiles(archive: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Read an archive from front to back, one tile at a time; nothing is unpacked to disk.

    Parameters
    ----------
    archive : str or Path
        A ``dhs_*.tar.gz``.

    Yields
    ------
    id : str
        ``DHSID_EA``.
    x : ndarray
        float32 ``(8, H, W)`` as published: bands of `BANDS`, row 0 south, missing 0.

    Raises
    ------
    FileFormatError
        When the archive or a tile is truncated, damaged, too large, or not what its name promises. The message names
        the member. Other files, links and special members of the archive are passed over, never opened.
    """
    archive = Path(archive)
    last = "its start"
    try:
        # Strictly forward ("r|"), so that memory and disk stay bounded whatever the archive's size; through gzip's own
        # reader, because tarfile's takes a stream that breaks off between two members for a whole one.
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                match = _MEMBER.search(member.name)
                if not member.isreg() or match is None:
                    continue
                last = f"member {member.name}"
                if member.size > _MAX_MEMBER_BYTES:
                    raise FileFormatError(
                        f"{archive}: {last} has {member.size} bytes; a tile has at most {_MAX_MEMBER_BYTES}."
                    )
                file = tar.extractfile(member)
                yield match["id"], _read_npz(b"" if file is None else file.read(), f"{archive}: {last}")
            while stream.read(1 << 20):  # to the end, where the checksum of the whole is compared
                pass
    except FileNotFoundError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise FileFormatError(
            f"{archive}: the archive is truncated, damaged or unreadable at or after {last} ({error}). "
            "Fetch it again."
        ) from error


def _read_npz(content: bytes, where: str) -> np.ndarray:
    """Read key ``x`` without ever trusting the header: no pickles, and no allocation before the size is checked."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as npz, npz.open("x.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = read_header(stream)
            if dtype != np.float32 or fortran_order or len(shape) != 3 or shape[0] != len(BANDS):
                raise FileFormatError(
                    f"{where} holds {dtype} {shape}{' in Fortran order' if fortran_order else ''}; "
                    f"expected float32 ({len(BANDS)}, H, W)."
                )
            if not 0 < shape[1] <= _MAX_SIDE or not 0 < shape[2] <= _MAX_SIDE:
                raise FileFormatError(f"{where} has shape {shape}; a side must have 1 to {_MAX_SIDE} pixels.")
            n_bytes = 4 * shape[0] * shape[1] * shape[2]
            data = stream.read(n_bytes + 1)  # one more, so that the end is reached and the checksum compared
    except KeyError as error:
        raise FileFormatError(
            f"{where} has no array x. Expected SustainBench's npz with one key, x."
        ) from error
    except (zipfile.BadZipFile, EOFError, zlib.error, ValueError, NotImplementedError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{where} is not a readable npz ({error}). Fetch the archive again.") from error
    if len(data) != n_bytes:
        raise FileFormatError(f"{where} holds {len(data)} bytes of data; its shape {shape} needs {n_bytes}.")
    return np.frombuffer(data, dtype=dtype).reshape(shape)
