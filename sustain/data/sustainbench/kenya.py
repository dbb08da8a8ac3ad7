"""Kenya crop types (2017): one masked Sentinel-2 series a field, published as raw pickles that are named ``.npy``.

Read from the real release:

- each file is a pickle (protocol 2) of a ``numpy.ma.MaskedArray``, float64 ``(14, 365)``: 13 bands of level 1C times
  10,000 and GCVI, a day a column, masked where nothing was observed. ``np.load`` refuses it, and rightly so; here it
  goes through an unpickler that can build the parts of a NumPy array and nothing else;
- the docs speak of pixels; the release has one series a field;
- ``fold_X_test`` makes region X the *test* part (the docs say the opposite); the 53 pilot fields always train;
- eight fields have no crop type: counted in the official parts, left out of the samples.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import (
    read_csv,
    records,
    refuse_duplicates,
    refuse_others,
    whole_numbers,
)
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.arrays import DAMAGE
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import Scheme, StackSpec, write_source
from sustain.errors import FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARCHIVE", "BANDS", "CLASSES", "N_DAYS", "KenyaCropType", "ingest", "read_series"]

ARCHIVE = "crop_type_kenya.zip"
METADATA = "crop_type_kenya_2017_metadata.csv"
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12", "GCVI")
N_DAYS = 365
CLASSES = (
    *(
        "Maize",
        "Non-Crop",
        "Sugar Cane",
        "Cassava",
        "Other",
        "Sweet Potatoes",
        "Beans",
        "Banana",
        "Groundnut",
    ),
)
REGIONS = ("Busia", "Bungoma", "Siaya")
SCHEMES = {
    "official": Scheme(
        True,
        "Fields at random (fold_random). Leaks: neighbouring fields share farm, weather and clouds, so a field's "
        "neighbours are in the training part. No validation part.",
    )
} | {
    f"region_{region.lower()}": Scheme(
        True,
        f"{region} is the test part, the two other regions and the pilot fields train. Leak-free by region.",
    )
    for region in REGIONS
}
_COLUMNS = ("fileName", "cropType", "fieldID", "region", "fold_random")
_MAX_PICKLE = 1 << 20
_FILL = 1e20


def _encode_latin1(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, which protocol 2 needs to spell bytes; no other codec is looked up."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"codec {encoding!r}")
    return text.encode("latin1")


class _Blank:
    """Collects what a pickle says about one array; it builds nothing by itself."""

    state: tuple[Any, ...] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Type:
    """A class that a pickle may name but not call."""


def _reconstruct(subtype: object, base: object, shape: object, typecode: object) -> _Blank:
    return _Blank()


def _dtype(name: str, align: bool = False, copy: bool = False) -> _Blank:
    if name != "f8":
        raise pickle.UnpicklingError(f"dtype {name!r} instead of 'f8'")
    return _Blank()


_PARTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.ma.core", "_mareconstruct"): _reconstruct,
    ("numpy.ma.core", "MaskedArray"): _Type,
    ("numpy", "ndarray"): _Type,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode_latin1,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the five names that a pickled masked array is made of, each by a harmless stand-in."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return _PARTS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a NumPy array") from None

    def persistent_load(self, pid: object) -> object:
        raise pickle.UnpicklingError("a persistent id")


def read_series(content: bytes, where: str) -> NDArray[np.float64]:
    """Read one field's series without running anything that its pickle asks for.

    Parameters
    ----------
    content : bytes
        The file as published.
    where : str
        File and member, for messages.

    Returns
    -------
    ndarray of float64, shape (14, 365)
        Bands of `BANDS` by day of the year; NaN where nothing was observed.

    Raises
    ------
    FileFormatError
        When the pickle names anything but the parts of a NumPy array, or is not such a series.
    """
    if len(content) > _MAX_PICKLE:
        raise FileFormatError(f"{where}: {len(content)} bytes; a series has at most {_MAX_PICKLE}.")
    try:
        array = _ArrayUnpickler(io.BytesIO(content)).load()
    except (pickle.UnpicklingError, AttributeError, KeyError, MemoryError, *DAMAGE) as error:
        raise FileFormatError(
            f"{where}: refused or damaged ({error}). Expected the pickle of a masked array, and nothing else."
        ) from error
    state = array.state if isinstance(array, _Blank) else None
    shape = (len(BANDS), N_DAYS)
    n_values = len(BANDS) * N_DAYS
    # MaskedArray.__getstate__: (1, shape, dtype, fortran order, data, mask, fill value)
    if not (
        isinstance(state, tuple)
        and len(state) == 7
        and state[1] == shape
        and state[3] is False
        and isinstance(state[2], _Blank)
        and isinstance(state[2].state, tuple)
        and state[2].state[1:2] == ("<",)
        and isinstance(state[4], bytes)
        and len(state[4]) == 8 * n_values
        and isinstance(state[5], bytes)
        and len(state[5]) == n_values
    ):
        found = state[1] if isinstance(state, tuple) and len(state) > 1 else type(array).__name__
        raise FileFormatError(
            f"{where}: holds {str(found)[:60]}; expected a masked array of little-endian float64 {shape}."
        )
    values = np.frombuffer(state[4], dtype="<f8").reshape(shape)
    masked = np.frombuffer(state[5], dtype=np.uint8).reshape(shape) != 0
    return np.where(masked | ~(np.abs(values) < _FILL), np.nan, values)


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn ``crop_type_kenya.zip`` into a stack of series.

    Parameters
    ----------
    raw : str or Path
        Folder of the archive.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When the archive is missing.
    FileFormatError
        When a file is damaged or hostile. Nothing is written then.
    DataError
        When a field repeats, or a value of the table is wrong.
    """
    archive = Path(raw) / ARCHIVE
    stacks = {"image": StackSpec("f4", (len(BANDS), N_DAYS))}
    try:
        with zipfile.ZipFile(archive) as files, write_source(out, stacks) as store:
            members = {Path(name).name: name for name in files.namelist()}
            table = _read_metadata(files, members, str(archive))
            missing = sorted(set(table["fileName"]) - set(members))
            empty = []
            for field in tqdm(
                records(table[table["fileName"].isin(members)]),
                desc="ingest kenya",
                total=len(table) - len(missing),
                unit="field",
                disable=None,
            ):
                member = members[field["fileName"]]
                where = f"{archive}: member {member}"
                info = files.getinfo(member)
                if info.file_size > _MAX_PICKLE:
                    raise FileFormatError(
                        f"{where}: {info.file_size} bytes; at most {_MAX_PICKLE} are expected."
                    )
                series = read_series(files.read(info), where)
                if not np.isfinite(series).any():
                    empty.append(field["fieldID"])
                store.add(_row(field), image=series)
            counts = {
                "labels_without_file": missing,
                "series_without_row": sorted(_series_names(members) - set(table["fileName"])),
                "fields_without_crop_type": table["fieldID"][table["cropType"].isna()].tolist(),
                "fields_without_observation": empty,
            }
            store.finish({"bands": {"image": BANDS}, "counts": counts}, SCHEMES)
    except FileFormatError:
        raise
    except zipfile.BadZipFile as error:
        raise FileFormatError(f"{archive}: damaged or truncated ({error}). Get it again.") from error


def _series_names(members: Mapping[str, str]) -> set[str]:
    return {name for name in members if name.endswith(".npy")}


def _read_metadata(files: zipfile.ZipFile, members: dict[str, str], where: str) -> pd.DataFrame:
    if METADATA not in members:
        raise FileFormatError(f"{where}: no {METADATA} in it.")
    where = f"{where}: {METADATA}"
    folds = [f"fold_{region.lower()}_test" for region in REGIONS]
    with files.open(members[METADATA]) as stream:
        table = read_csv(stream, {*_COLUMNS, *folds}, where)
    refuse_duplicates(table["fileName"], where, "fileName")
    refuse_duplicates(table["fieldID"], where, "fieldID")
    table["fieldID"] = whole_numbers(table, "fieldID", where)
    for column, allowed in (
        ("cropType", CLASSES),
        ("region", (*REGIONS, "pilot")),
        *((fold, ("train", "test")) for fold in ("fold_random", *folds)),
    ):
        refuse_others(table[table[column].notna() | (column != "cropType")], column, allowed, where)
    return table


def _row(field: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(field["fieldID"]),
        "group": field["region"],
        "label": CLASSES.index(field["cropType"]) if isinstance(field["cropType"], str) else -1,
        "region": field["region"],
        "split:official": field["fold_random"],
    } | {f"split:region_{region.lower()}": field[f"fold_{region.lower()}_test"] for region in REGIONS}


class KenyaCropType(TaskDataset):
    """Crop type of a field from a year of Sentinel-2.

    ``image``: float32 ``(14, 365)``, bands by day, NaN where nothing was observed. ``label``: int, place in `CLASSES`.
    """

    kind: ClassVar[str] = "classification"
    classes = CLASSES

    def _rows(self, split: str) -> NDArray[np.int64]:
        rows = super()._rows(split)
        return rows[self.source.samples["label"].to_numpy()[rows] >= 0]

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the red, near-infrared and short-wave series."""
        shown = [BANDS.index(band) for band in ("B4", "B8", "B11")]
        return figures.series(
            np.asarray(sample["image"])[shown],
            [BANDS[i] for i in shown],
            title or figures.title_of(sample, CLASSES),
            x="days since 1 January 2017",
            y="top-of-atmosphere reflectance x 10,000",
        )
