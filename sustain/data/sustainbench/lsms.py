"""LSMS poverty change: pairs of surveys of one cluster, two Landsat tiles, and how the asset index changed.

- ids such as ``et_01010201403_2011`` hold cluster codes with leading zeros: everything is read as text;
- a cluster has two or three survey years; every pair of them is a sample (1,665 in the release, of which 1,476 are
  consecutive and less than seven years apart: column ``short``);
- only ``diff_of_index`` (index of the later year minus the earlier) follows from the published table. The benchmark's
  own label, ``indexOfDiff`` (an index of the households' changes), is in no file that has been seen: it is not made up;
- there is no official split. Countries are left out one at a time, and blocks of ground within them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.data.csvtable import (
    numbers,
    read_csv,
    refuse_duplicates,
    some_of,
    whole_numbers,
)
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.landsat import centre_crop, pack_archives
from sustain.data.sustainbench.source import Scheme, Source
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARCHIVE", "LABELS_FILE", "PovertyChange", "ingest", "pairs_of", "read_labels"]

LABELS_FILE = "lsms_asset_indices.csv"
ARCHIVE = "lsms.tar.gz"
COUNTRIES = ("et", "mw", "ng", "tz", "ug")
MEMBER = re.compile(r"(?:^|/)(?P<id>[a-z]{2}_[0-9A-Za-z\-]+_[0-9]{4})\.npz$")
LONGEST_GAP = 7
"""The authors' code keeps pairs of consecutive surveys fewer years apart than this."""

_BLOCK_KM = 50
_N_FOLDS = 5
_SPLIT_SEED = 0
SCHEMES = {
    f"country_{country}": Scheme(
        False,
        f"Proposed: {country} is the test part, the next country validates, the others train. Leak-free by country.",
    )
    for country in COUNTRIES
} | {
    f"spatial_{fold}": Scheme(
        False,
        f"Proposed: fold {fold} of {_N_FOLDS} of {_BLOCK_KM} km blocks is the test part, the next fold validates. "
        "Whole clusters and blocks stay together; countries do not.",
    )
    for fold in range(_N_FOLDS)
}


def read_labels(path: str | Path) -> pd.DataFrame:
    """Read the table of survey clusters and years.

    Parameters
    ----------
    path : str or Path
        ``lsms_asset_indices.csv``.

    Returns
    -------
    DataFrame
        One row a cluster and year, sorted by id: id, country, cluster (text, as published), year (int), lat, lon
        (degrees), asset_index (float64, NaN where missing), n (households).

    Raises
    ------
    FileFormatError
        When the file is no such table.
    DataError
        When ids repeat or contradict the other columns, or a value is no number or impossible.
    """
    where = str(path)
    needed = ("lsms_id", "country", "cluster_id", "year", "lat", "lon", "asset_index", "n")
    table = read_csv(path, needed)[list(needed)].rename(columns={"lsms_id": "id", "cluster_id": "cluster"})
    refuse_duplicates(table["id"], where, "lsms_id")
    implied = table["country"] + "_" + table["cluster"] + "_" + table["year"]
    if (odd := implied.ne(table["id"])).any():
        raise DataError(
            f"{where}: lsms_id is not COUNTRY_CLUSTER_YEAR in {some_of(table['id'][odd].tolist())}. Was cluster_id "
            "read as a number, so that it lost its leading zeros?"
        )
    table["year"] = whole_numbers(table, "year", where)
    for column in ("lat", "lon", "asset_index", "n"):
        table[column] = numbers(table, column, where)
    if (off := ~(table["lat"].abs() <= 90) | ~(table["lon"].abs() <= 180)).any():
        raise DataError(f"{where}: lat/lon missing or out of range in {some_of(table['id'][off].tolist())}.")
    if np.isinf(table["asset_index"]).any():
        raise DataError(f"{where}: asset_index is infinite.")
    return table.sort_values("id", ignore_index=True)


def pairs_of(labels: pd.DataFrame) -> pd.DataFrame:
    """Pair the years of each cluster.

    Parameters
    ----------
    labels : DataFrame
        As `read_labels` gives it; rows without an asset index make no pair.

    Returns
    -------
    DataFrame
        One row a pair: id, first, second (ids of the two rows), country, lat, lon, gap (years), short (bool),
        diff_of_index.
    """
    visits = labels.dropna(subset=["asset_index"]).sort_values(["country", "cluster", "year"])
    visits = visits.assign(wave=visits.groupby(["country", "cluster"]).cumcount())
    pairs = visits.merge(visits, on=["country", "cluster"], suffixes=("", "_second"))
    pairs = pairs[pairs["wave"] < pairs["wave_second"]].reset_index(drop=True)
    if pairs.empty:
        raise DataError("no cluster has an asset index in two years, so there is no pair.")
    gap = pairs["year_second"] - pairs["year"]
    years = pairs["year"].astype(str) + "_" + pairs["year_second"].astype(str)
    return pd.DataFrame(
        {
            "id": pairs["country"] + "_" + pairs["cluster"] + "_" + years,
            "first": pairs["id"],
            "second": pairs["id_second"],
            "country": pairs["country"],
            "lat": pairs["lat"],
            "lon": pairs["lon"],
            "gap": gap,
            "short": (pairs["wave_second"] == pairs["wave"] + 1) & (gap < LONGEST_GAP),
            "diff_of_index": pairs["asset_index_second"] - pairs["asset_index"],
        }
    )


def add_splits(sites: pd.DataFrame) -> pd.DataFrame:
    """Add ``group`` and the ``split:`` columns of every scheme to a table with country, cluster, lat and lon."""
    folds = {str(fold): 1 / _N_FOLDS for fold in range(_N_FOLDS)}
    block = (
        sites["country"].to_numpy()
        + "-"
        + spatial_block(sites["lat"], sites["lon"], _BLOCK_KM).astype(object)
    )
    few = len(set(block)) < _N_FOLDS  # a table of a few sites has no folds
    fold = np.array([None] * len(sites)) if few else assign_splits(block, folds, _SPLIT_SEED)
    added: dict[str, Any] = {"group": sites["country"]}
    for country, following in zip(COUNTRIES, (*COUNTRIES[1:], COUNTRIES[0]), strict=True):
        added[f"split:country_{country}"] = _parts(sites["country"], country, following)
    for k in range(_N_FOLDS):
        added[f"split:spatial_{k}"] = _parts(
            pd.Series(fold, index=sites.index), str(k), str((k + 1) % _N_FOLDS)
        )
    return sites.assign(**added)


def _parts(unit: pd.Series[str], test: str, validate: str) -> pd.Series[str]:
    part = pd.Series("train", index=unit.index, dtype=object)
    return part.mask(unit == test, "test").mask(unit == validate, "val").mask(unit.isna(), None)


def ingest(raw: str | Path, out: str | Path) -> None:
    """Pack the tiles of the clusters with an asset index.

    Parameters
    ----------
    raw : str or Path
        Folder of ``lsms_asset_indices.csv`` and ``lsms.tar.gz``.
    out : str or Path
        Folder to write. A run that was killed goes on after its last finished shard.

    Raises
    ------
    FileNotFoundError, FileFormatError, DataError
        As `read_labels` and `sustain.data.sustainbench.landsat.pack_archives`.
    """
    raw = Path(raw)
    labels = read_labels(raw / LABELS_FILE)
    sites = add_splits(labels[labels["asset_index"].notna()])
    pack_archives([raw / ARCHIVE], sites, out, SCHEMES, MEMBER)


class PovertyChange(TaskDataset):
    """Pairs of tiles of one cluster.

    ``image``: float32 ``(2, 9, H, W)``, the earlier year first, channels of
    `sustain.data.sustainbench.landsat.CHANNELS`. ``label``: float32, change of the asset index between the two years.

    Parameters
    ----------
    short : bool
        Keep only consecutive surveys less than `LONGEST_GAP` years apart, as the authors' code does.
    crop : int, optional
        Side of the central square to cut out.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "regression"

    def __init__(
        self, source: Source, *, short: bool = False, crop: int | None = None, **options: Any
    ) -> None:
        self.crop = crop
        pairs = pairs_of(source.samples)
        place = pd.Series(np.arange(len(source)), index=source.samples["id"])
        pairs["row"], pairs["second_row"] = (
            place[pairs["first"]].to_numpy(),
            place[pairs["second"]].to_numpy(),
        )
        self._pairs = pairs[pairs["short"]] if short else pairs
        super().__init__(source, **options)
        chosen = self._pairs[self._pairs["row"].isin(self.rows)].reset_index(drop=True)
        if chosen.empty:
            raise DataError(f"no pair lies in part {self.split!r} of split {self.scheme!r}.")
        self.rows = chosen["row"].to_numpy(dtype=np.int64)
        self._second = chosen["second_row"].to_numpy(dtype=np.int64)
        self.samples = chosen.assign(group=chosen["country"], label=chosen["diff_of_index"])

    def arrays(self, i: int) -> Sample:
        """Return one pair in NumPy."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        tiles = [
            centre_crop(self.source.item("image", int(rows[i])), self.crop)
            for rows in (self.rows, self._second)
        ]
        images = np.stack(tiles)
        return {
            "image": self._standardise(images, channel_axis=1) if self.normalize else images,
            "label": np.asarray(self.samples["label"].iloc[i], dtype=np.float32),
            "id": str(self.samples["id"].iloc[i]),
        }

    def _rows(self, split: str) -> NDArray[np.int64]:
        rows = super()._rows(split)
        return rows[np.isin(rows, self._pairs[["row", "second_row"]])]

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the true-colour pictures of the two years."""
        images = np.asarray(sample["image"])
        panels = [
            (name, figures.picture(x, [2, 1, 0]))
            for name, x in zip(("earlier", "later"), images, strict=True)
        ]
        return figures.pictures(panels, title or figures.title_of(sample, unit="index points"))
