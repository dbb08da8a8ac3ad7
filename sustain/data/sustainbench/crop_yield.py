"""Soybean yields of counties in the USA, Argentina and Brazil, from histograms of MODIS pixels.

- each histogram is ``(32 bins, 32 dates, 9 bands)`` and each column of bins adds up to 1: there is nothing to divide by
  255, as a widely used loader does;
- ``dev`` is the validation part;
- the official split is random by row, so the same county is in the training part in other years: two more schemes keep
  counties and years apart.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import records
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.arrays import DAMAGE, ArraySpec, read_npz
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import Scheme, Source, StackSpec, write_source
from sustain.data.tiles.splits import assign_splits
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARCHIVE", "BANDS", "COUNTRIES", "CropYield", "ingest"]

ARCHIVE = "soybeans_updated.zip"
COUNTRIES = ("usa", "argentina", "brazil")
BANDS = (*(f"SR{band}" for band in range(1, 8)), "LST_DAY", "LST_NIGHT")
"""MODIS surface reflectance 1-7 and two land surface temperatures; the order of the last two is as documented."""

_PARTS = {"train": "train", "dev": "val", "test": "test"}
_N_BINS, _N_DATES = 32, 32
_SHARES = {"train": 0.64, "val": 0.16, "test": 0.2}
_MAX_MEMBER = 1 << 31
SCHEMES = {
    "official": Scheme(
        True,
        "Rows at random, 64/16/20. Leaks: a county's other years, with yields much alike, are in the training part.",
    ),
    "by_county": Scheme(
        False,
        "Proposed: whole counties at random, 64/16/20 within each country. No county is on two sides; years are.",
    ),
    "by_year": Scheme(
        False,
        "Proposed: the last two years of each country test, the year before validates. No year is on two sides; "
        "counties are, as in a forecast.",
    ),
}


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn ``soybeans_updated.zip`` into a stack of histograms.

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
        When the archive or a file in it is damaged or wrong, or the files of a part disagree in length.
    """
    archive = Path(raw) / ARCHIVE
    tables, without_yield = [], []
    try:
        with (
            zipfile.ZipFile(archive) as files,
            write_source(out, {"image": StackSpec("f4", (len(BANDS), _N_BINS, _N_DATES))}) as store,
            tqdm(desc="ingest crop yield", unit="county-year", disable=None) as bar,
        ):
            members = {"/".join(Path(name).parts[-2:]): name for name in files.namelist()}
            for country in COUNTRIES:
                for part, split in _PARTS.items():
                    table, hists = _read_part(files, members, country, part, str(archive))
                    without_yield += table["id"][table["label"].isna()].tolist()
                    tables.append(table.assign(**{"split:official": split})[table["label"].notna()])
                    for hist in hists[table["label"].notna().to_numpy()]:
                        store.append("image", np.moveaxis(hist, -1, 0), country)
                        bar.update()
            samples = pd.concat(tables, ignore_index=True)
            twice = samples.duplicated(["group", "year"], keep=False)
            counts = {
                "histograms_without_yield": without_yield,
                # Counted, not refused: the authors' shuffle is theirs, but a county's year on two sides is a leak.
                "county_years_more_than_once": samples["id"][twice].tolist(),
            }
            store.rows += records(_more_splits(samples))
            store.finish({"bands": {"image": BANDS}, "counts": counts}, SCHEMES)
    except DataError:
        raise
    except DAMAGE as error:
        raise FileFormatError(f"{archive}: damaged or truncated ({error}). Get it again.") from error


def _read_part(
    files: zipfile.ZipFile, members: dict[str, str], country: str, part: str, where: str
) -> tuple[pd.DataFrame, NDArray[Any]]:
    specs = {
        "hists": ArraySpec("f", (None, _N_BINS, _N_DATES, len(BANDS)), _MAX_MEMBER),
        "yields": ArraySpec("f", (None,)),
        "years": ArraySpec("Ui", (None,)),
        "keys": ArraySpec("U", (None,)),
    }
    arrays = {}
    for name, spec in specs.items():
        member = f"{country}/{part}_{name}.npz"
        if member not in members:
            raise FileFormatError(f"{where}: no member {member}.")
        info = files.getinfo(members[member])
        if info.file_size > _MAX_MEMBER:
            raise FileFormatError(
                f"{where}: {member} has {info.file_size} bytes; at most {_MAX_MEMBER} are expected."
            )
        arrays[name] = read_npz(files.read(info), {"data": spec}, f"{where}: {member}")["data"]
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise FileFormatError(
            f"{where}: {country}/{part} has {lengths} rows; each file must have one a county and year."
        )
    if not np.isfinite(arrays["hists"]).all():
        raise FileFormatError(f"{where}: {country}/{part}_hists.npz holds NaN or infinite values.")
    try:
        years = arrays["years"].astype(int)
    except ValueError as error:
        raise FileFormatError(f"{where}: {country}/{part}_years.npz holds no years ({error}).") from error
    keys = pd.Series(arrays["keys"].astype(object))
    table = pd.DataFrame(
        {
            "id": [f"{country}-{part}-{i}" for i in range(len(keys))],
            "group": country + "/" + keys.str.replace(r"_[0-9]{4}$", "", regex=True),
            "country": country,
            "key": keys,
            "year": years,
            "label": np.where(np.isfinite(arrays["yields"]), arrays["yields"], np.nan).astype(float),
        }
    )
    return table, arrays["hists"]


def _more_splits(table: pd.DataFrame) -> pd.DataFrame:
    by_county = pd.Series(index=table.index, dtype=object)
    by_year = pd.Series(index=table.index, dtype=object)
    for _, rows in table.groupby("country", sort=False):
        if rows["group"].nunique() >= len(_SHARES):
            by_county[rows.index] = assign_splits(rows["group"].to_numpy(dtype=np.str_), _SHARES, seed=0)
        back = rows["year"].rank(method="dense", ascending=False)
        by_year[rows.index] = np.select([back <= 2, back == 3], ["test", "val"], "train")
    return table.assign(**{"split:by_county": by_county, "split:by_year": by_year})


class CropYield(TaskDataset):
    """Yield of a county in a year.

    ``image``: float32 ``(9, 32, 32)``, bands by bins by dates; each column of bins adds up to 1. ``label``: t/ha.

    Parameters
    ----------
    country : {"usa", "argentina", "brazil"}, optional
        One country, as the leaderboard has it; by default all three.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "regression"

    def __init__(self, source: Source, *, country: str | None = None, **options: Any) -> None:
        if country is not None and country not in COUNTRIES:
            raise DataError(f"country is {country!r}; expected one of {', '.join(COUNTRIES)}.")
        self.country = country
        super().__init__(source, **options)

    def _rows(self, split: str) -> NDArray[np.int64]:
        rows = super()._rows(split)
        if self.country is None:
            return rows
        here = (self.source.samples["country"] == self.country).to_numpy(dtype=bool)
        return rows[here[rows]]

    def _target(self, row: int) -> Sample:
        return {"label": np.asarray(self.source.samples["label"].iloc[row], dtype=np.float32)}

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the histograms of the red and near-infrared bands over the season."""
        image = np.asarray(sample["image"])
        panels = [(f"{BANDS[i]}: bins by dates", image[i]) for i in (0, 1)]
        return figures.pictures(panels, title or figures.title_of(sample, unit="t/ha"))
