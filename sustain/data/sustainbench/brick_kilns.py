"""Brick kilns (Bangladesh, Sentinel-2 2018-2019): HDF5 files of 13-channel pictures and a table of parts.

- the table's column names are wrong. ``lon_top_left, lat_top_left, lon_bottom_right, lat_bottom_right`` are west,
  south, east, north, and ``indice_offset_num, indice_x, indice_y`` are row, column, offset;
- the channels are not B1-B12 as documented, but `BANDS`: ten bands and a true-colour picture;
- every kiln is cut out at four offsets and the background at one. The official split is random by row, so the same kiln
  is in the training and the test part, and the offset alone gives the label away: it is no input here, and the scheme
  ``grouped`` keeps each place, and its surroundings, on one side;
- some files hold no picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import numbers, read_csv, records, some_of, whole_numbers
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import Scheme, StackSpec, write_source
from sustain.data.sustainbench.unpacked import unpacked
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BANDS", "TABLE", "BrickKilns", "ingest", "read_table"]

BANDS = ("B1", "B2", "B3", "B4", "B5", "B7", "B8A", "B8", "B11", "B12", "TCI_R", "TCI_G", "TCI_B")
TABLE = "list_eval_partition.csv"
TRUE_NAMES = {
    "lon_top_left": "west",
    "lat_top_left": "south",
    "lon_bottom_right": "east",
    "lat_bottom_right": "north",
    "indice_offset_num": "row",
    "indice_x": "column",
    "indice_y": "offset",
}
_SIDE = 64
_BLOCK_KM = 10
_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
_PARTS = {0: "train", 1: "val", 2: "test"}
_BATCH = 64
SCHEMES = {
    "official": Scheme(
        True,
        "Rows at random, stratified, 80/10/10. Leaks: the same kiln, cut at four offsets, is in training and test.",
    ),
    "grouped": Scheme(
        False,
        f"Proposed: whole {_BLOCK_KM} km blocks at random, 80/10/10, a place with all its offsets in one block. "
        "Leak-free but for block edges.",
    ),
}


def read_table(path: str | Path) -> pd.DataFrame:
    """Read the table of parts under its columns' true names.

    Returns
    -------
    DataFrame
        One row a picture, in file order: id, label (0, 1), file (number of the HDF5 file), place (row in it), west,
        south, east, north (degrees), row, column, offset, ``split:official``, ``split:grouped``, group (the block).

    Raises
    ------
    FileFormatError, DataError
        When it is no such table, or a value is wrong.
    """
    where = str(path)
    names = {"y": "label", "partition": "part", "hdf5_file": "file", "hdf5_idx": "place"} | TRUE_NAMES
    table = read_csv(path, names)[list(names)]
    for column in names:
        read = numbers if column.startswith(("lon", "lat")) else whole_numbers
        table[column] = read(table, column, where)
    table = table.rename(columns=names)
    for column, allowed in (("label", (0, 1)), ("part", tuple(_PARTS))):
        if (wrong := ~table[column].isin(allowed)).any():
            raise DataError(
                f"{where}: {column} is {table[column][wrong].iloc[0]}; expected one of {allowed}."
            )
    if (flat := ~((table["west"] < table["east"]) & (table["south"] < table["north"]))).any():
        raise DataError(
            f"{where}: bounds are empty or out of order (west < east, south < north) in {int(flat.sum())} row(s), "
            f"the first is data row {int(np.flatnonzero(flat)[0]) + 1}."
        )
    if (twice := table[["file", "place"]].duplicated()).any():
        places = table[twice][["file", "place"]].astype(str).agg("/".join, axis=1)
        raise DataError(
            f"{where}: hdf5_file and hdf5_idx repeat ({some_of(places.tolist())}). Keep one row each."
        )
    table["id"] = table["file"].astype(str) + "-" + table["place"].astype(str)
    # A place (row, column) may straddle two blocks with its four offsets: its first picture's block counts for all.
    centre = table.assign(lat=(table["south"] + table["north"]) / 2, lon=(table["west"] + table["east"]) / 2)
    first = centre.groupby(["row", "column"])[["lat", "lon"]].transform("first")
    table["group"] = spatial_block(first["lat"], first["lon"], _BLOCK_KM)
    enough = table["group"].nunique() >= len(_SHARES)
    blocks = table["group"].to_numpy(dtype=np.str_)
    table["split:official"] = table["part"].map(_PARTS)
    table["split:grouped"] = assign_splits(blocks, _SHARES, seed=0) if enough else None
    return table.drop(columns="part").sort_values(["file", "place"], ignore_index=True)


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn the HDF5 files into one stack.

    Parameters
    ----------
    raw : str or Path
        Folder of ``list_eval_partition.csv`` and ``examples_{k}.hdf5``, or of an archive of them.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When the table is missing.
    FileFormatError
        When a file is damaged or holds something else.
    DataError
        When a value of the table is wrong, or the table's label is not the file's.
    """
    with unpacked(raw, out, TABLE) as folder:
        _ingest(folder, out)


def _ingest(folder: Path, out: str | Path) -> None:
    table = read_table(folder / TABLE)
    missing: list[str] = []
    without_row: list[str] = []
    without_pixel: list[str] = []
    # 4-byte floats keep all digits of a mean of 16-bit reflectances that a model could use, at half the size.
    with (
        write_source(out, {"image": StackSpec("f4", (len(BANDS), _SIDE, _SIDE))}) as store,
        tqdm(total=len(table), desc="ingest brick kilns", unit="picture", disable=None) as bar,
    ):
        for number, rows in table.groupby("file"):
            path = folder / f"examples_{number}.hdf5"
            if not path.is_file():
                missing += rows["id"].tolist()
                continue
            for row, image in zip(records(rows), _pictures(path, rows, without_row), strict=True):
                if np.nan_to_num(image).any():  # GDAL gives 0 for NaN
                    store.add(row, image=image)
                else:
                    without_pixel.append(row["id"])
                bar.update()
        counts = {
            "labels_without_file": missing,
            "pictures_without_row": without_row,
            "pictures_without_valid_pixel": without_pixel,
        }
        store.finish({"bands": {"image": BANDS}, "counts": counts}, SCHEMES)


def _pictures(path: Path, rows: pd.DataFrame, others: list[str]) -> Iterator[NDArray[np.float32]]:
    """Read some pictures of one file, through GDAL, which brings the HDF5 library along; note the others' names."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    with path.open("rb") as file:
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise FileFormatError(f"{path}: no HDF5 file. Get it again.")
    n_bands, places = len(BANDS), rows["place"].to_numpy()
    try:
        # A stack of pictures has no map's orientation: without this option GDAL turns each upside down.
        with rasterio.Env(GDAL_NETCDF_BOTTOMUP="NO"), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(f'netcdf:"{path}":labels') as labels:
                published = labels.read(1).ravel()
            with rasterio.open(f'netcdf:"{path}":images') as images:
                n_pictures = len(published)
                found = (images.count, *images.shape, images.dtypes[0])
                if found != (n_pictures * n_bands, _SIDE, _SIDE, "float64"):
                    raise FileFormatError(
                        f"{path}: images hold {found[3]}, {found[0]} channels in all of {found[1]} x {found[2]}; "
                        f"expected float64 ({n_pictures}, {n_bands}, {_SIDE}, {_SIDE})."
                    )
                if places.max() >= n_pictures or places.min() < 0:
                    raise DataError(
                        f"{path}: holds {n_pictures} pictures, but {TABLE} asks for {places.max()}."
                    )
                if (odd := published[places] != rows["label"]).any():
                    raise DataError(
                        f"{path}: labels differ from {TABLE} in {int(odd.sum())} picture(s). Get both again."
                    )
                alone = sorted(set(range(n_pictures)) - set(places.tolist()))
                others += [f"{rows['file'].iloc[0]}-{place}" for place in alone]
                for start in range(0, len(places), _BATCH):
                    batch = places[start : start + _BATCH]
                    channels = [int(place) * n_bands + band + 1 for place in batch for band in range(n_bands)]
                    values = images.read(channels).astype(np.float32)
                    yield from values.reshape(len(batch), n_bands, _SIDE, _SIDE)
    except RasterioIOError as error:
        raise FileFormatError(
            f"{path}: damaged, or without images or labels ({error}). Get it again."
        ) from error


class BrickKilns(TaskDataset):
    """Whether a picture shows a brick kiln.

    ``image``: float32 ``(13, 64, 64)`` of `BANDS`, reflectance x 10,000 and 8-bit colours. ``label``: int, 0 or 1.
    """

    kind: ClassVar[str] = "classification"
    classes = ("no kiln", "kiln")

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the picture from B4, B3, B2 and the near infrared."""
        image = np.asarray(sample["image"])
        panels = [("B4, B3, B2", figures.picture(image, [3, 2, 1])), ("B8", image[BANDS.index("B8")])]
        return figures.pictures(panels, title or figures.title_of(sample, self.classes))
