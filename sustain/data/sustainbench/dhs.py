"""SustainBench's DHS files: the label table, and the tiles inside the ``dhs_*.tar.gz`` archives.

The format and its traps, as the files really are (not as the official loaders expect them):

- a label and its count are NaN when fewer than five observations stand behind it, so each task has its own rows;
- a tile is ``{survey}/{id}.npz`` with one key ``x``, float32 ``(8, H, W)``, **row 0 at the south edge**;
- a missing pixel is 0, not NaN: 0 kelvin in TEMP1 tells a missing observation from a dark one;
- ids hold a ``#`` (``AL-2008-5#-00000001``), which URLs and shells take for something else.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
import pandas as pd

from sustain.data.csvtable import numbers, read_csv
from sustain.data.sustainbench.arrays import ArraySpec, read_npz
from sustain.errors import DataError, FileFormatError

__all__ = [
    "BANDS",
    "COLUMNS",
    "COUNTRY_FOLDS",
    "LABELS",
    "LABELS_FILE",
    "MEMBER",
    "MIN_OBSERVATIONS",
    "archives",
    "iter_tiles",
    "read_all_labels",
    "read_labels",
    "require_square",
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

COUNTRY_FOLDS = {
    "A": ("AM", "AO", "BU", "CI", "EG", "ET", "KH", "KY", "ML", "NP", "PK", "RW", "SZ"),
    "B": ("BF", "BJ", "BO", "CO", "DR", "GA", "GN", "GY", "HT", "NM", "SL", "TD", "TZ"),
    "C": ("AL", "CM", "GH", "GU", "LB", "MB", "MW", "NI", "PE", "PH", "TJ", "ZW"),
    "D": ("BD", "CD", "HN", "ID", "JO", "KM", "MA", "MD", "MM", "MZ", "NG", "TG", "UG"),
    "E": ("IA", "KE", "LS", "SN", "ZM"),
}
"""The authors' five folds of whole countries (DHS codes). The official split tests on A and validates on B."""

COLUMNS = (
    *("DHSID_EA", "cname", "year", "lat", "lon", "n_asset", "asset_index", "n_water", "water_index"),
    *("n_sanitation", "sanitation_index", "under5_mort", "n_under5_mort", "women_edu", "women_bmi"),
    *("n_women_edu", "n_women_bmi", "cluster_id", "adm1fips", "adm1dhs", "urban"),
)

MEMBER = re.compile(r"(?:^|/)(?P<survey>[A-Z0-9]{2}-[0-9]{4}-[0-9A-Z]#)/(?P<id>(?P=survey)-[0-9]+)\.npz$")
"""Name of a tile in an archive."""

_MAX_SIDE = 1024
_READ = 1 << 18
_GZIP = 31  # zlib's number for a gzip header and its checksum
_TILE = ArraySpec("f", (len(BANDS), None, None), 4 * len(BANDS) * _MAX_SIDE**2)
_MAX_MEMBER_BYTES = _TILE.max_bytes + 4096  # a stored (uncompressed) npz of the largest tile


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
    if label not in LABELS:
        raise DataError(f"label is {label!r}; expected one of {', '.join(LABELS)}.")
    sites = _read_sites(Path(path), (LABELS[label],))
    if sites[label].isna().all():
        raise DataError(
            f"{path}: no row has a {label} with at least {MIN_OBSERVATIONS} observations behind it."
        )
    return sites.rename(columns={label: "label", LABELS[label].n_column: "n"})


def read_all_labels(path: str | Path) -> pd.DataFrame:
    """Read the survey sites with all six labels.

    Parameters
    ----------
    path : str or Path
        ``dhs_final_labels.csv``.

    Returns
    -------
    DataFrame
        As `read_labels`, but each label and its number of observations under their own names.

    Raises
    ------
    FileNotFoundError, FileFormatError, DataError
        As `read_labels`.
    """
    return _read_sites(Path(path), tuple(LABELS.values()))


def _read_sites(path: Path, labels: tuple[Label, ...]) -> pd.DataFrame:
    values = [name for label in labels for name in (label.n_column, label.column)]
    table = read_csv(path, {"DHSID_EA", "cname", "year", "lat", "lon", "urban", *values})
    for column in ("year", "lat", "lon", *values):
        table[column] = numbers(table, column, str(path))
    table = table.rename(columns={"DHSID_EA": "id", "cname": "country"})
    _check(path, table, values)
    for label in labels:
        table[label.column] = table[label.column].where(table[label.n_column] >= MIN_OBSERVATIONS)
    table["urban"] = table["urban"] == "U"
    sites = table[["id", "country", "year", "lat", "lon", "urban", *values]].astype({"year": "int32"})
    return sites.sort_values("id", ignore_index=True)


def _check(path: Path, table: pd.DataFrame, values: list[str]) -> None:
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
    if (bad := table[values].abs().eq(np.inf).any(axis=1)).any():
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


def iter_tiles(
    archive: str | Path, member: re.Pattern[str] = MEMBER, skip: Container[str] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """Read an archive from front to back, one tile at a time; nothing is unpacked to disk.

    Parameters
    ----------
    archive : str or Path
        A ``dhs_*.tar.gz``, or another archive of such tiles.
    member : Pattern
        What the names of tiles look like; its group ``id`` is the tile's id.
    skip : container of str
        Ids to pass over undecoded: what an earlier run has done.

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
        # Strictly forward ("r|"), so that memory and disk stay bounded whatever the archive's size; through a reader of
        # our own, because tarfile's takes a stream that breaks off between two members for a whole one.
        with (
            archive.open("rb") as file,
            _Gunzip(file) as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=_READ) as tar,  # type: ignore[call-overload]
        ):
            for entry in tar:
                match = member.search(entry.name)
                if not entry.isreg() or match is None:
                    continue
                last = f"member {entry.name}"
                if match["id"] in skip:
                    continue
                if entry.size > _MAX_MEMBER_BYTES:
                    raise FileFormatError(
                        f"{archive}: {last} has {entry.size} bytes; a tile has at most {_MAX_MEMBER_BYTES}."
                    )
                tile = tar.extractfile(entry)
                yield (
                    match["id"],
                    _read_npz(b"" if tile is None else tile.read(entry.size), f"{archive}: {last}"),
                )
            while stream.read(1 << 20):  # to the end, where the checksum of the whole is compared
                pass
    except FileNotFoundError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise FileFormatError(
            f"{archive}: the archive is truncated, damaged or unreadable at or after {last} ({error}). "
            "Fetch it again."
        ) from error


class _Gunzip:
    """A gzip stream read forward in large steps: the standard library's reader takes steps of 8 kB, which is slow."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(_GZIP)
        self._waiting = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, and none only at the end; each gzip member's checksum is compared."""
        while True:
            if self._inflater.eof:
                # Another gzip member may follow; padding of zeros may, too.
                self._waiting = (self._inflater.unused_data + self._waiting).lstrip(b"\0")
                self._waiting = self._waiting or self._file.read(_READ).lstrip(b"\0")
                if not self._waiting:
                    return b""
                self._inflater = zlib.decompressobj(_GZIP)
            if not self._waiting and not (block := self._file.read(_READ)):
                raise EOFError("the gzip stream ends before its end mark")
            data, self._waiting = self._waiting or block, b""
            inflated = self._inflater.decompress(data, size)
            self._waiting = self._inflater.unconsumed_tail
            if inflated:
                return inflated


def require_square(x: np.ndarray, side: int, where: str) -> None:
    """Raise `FileFormatError` unless a tile has `side` by `side` pixels."""
    if x.shape[1:] != (side, side):
        raise FileFormatError(
            f"{where} has {x.shape[1]} x {x.shape[2]} pixels; expected {side} x {side}: tiles must be square, and all "
            "of one size."
        )


def _read_npz(content: bytes, where: str) -> np.ndarray:
    x = read_npz(content, {"x": _TILE}, where)["x"]
    if x.dtype != np.float32 or not x.flags.c_contiguous:
        raise FileFormatError(f"{where} holds {x.dtype} (in Fortran order?); expected float32 {_TILE.shape}.")
    if not 0 < x.shape[1] <= _MAX_SIDE or not 0 < x.shape[2] <= _MAX_SIDE:
        raise FileFormatError(f"{where} has shape {x.shape}; a side must have 1 to {_MAX_SIDE} pixels.")
    return x
