"""Trials made of aid projects: survey places near a project against the other places of the same surveys.

A trial is a funder and a sector. A place is treated when a project of that funder and sector lies near it (within
0.1 degree) and started some years (3 to 8) before the survey; its controls are all other places of the surveys that
have a treated place. The definition follows "One Map, Many Trials" (arXiv:2508.01341), with distance in place of
administrative units. These are contrasts, not causal effects: nobody randomised where projects went.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.errors import DataError, FileFormatError
from sustain.tables import read_table

__all__ = ["FUNDERS", "PROJECTS_FILE", "SECTORS", "AidTrial", "aid_trials", "read_projects"]

PROJECTS_FILE = "interventions.csv"
FUNDERS = {"CH": "China", "WB": "World Bank"}
# OECD DAC sector codes (420 as AidData uses it).
SECTORS = {
    110: "education",
    120: "health",
    130: "population and reproductive health",
    140: "water and sanitation",
    150: "government and civil society",
    160: "other social infrastructure",
    210: "transport and storage",
    220: "communications",
    230: "energy",
    240: "banking and finance",
    250: "business services",
    310: "agriculture, forestry and fishing",
    320: "industry, mining and construction",
    330: "trade and tourism",
    410: "environment",
    420: "women",
    430: "other multisector",
    520: "food aid",
    530: "other commodity assistance",
    600: "debt relief",
    700: "emergency response",
    920: "support to NGOs",
    998: "unspecified",
}

_COLUMNS = ("project_id", "latitude", "longitude", "start_date", "funder", "ad_sector_codes")


@dataclass(frozen=True)
class AidTrial:
    """One funder and sector.

    Attributes
    ----------
    name : str
        Such as ``"wb_310"``.
    title : str
        Such as ``"World Bank, agriculture, forestry and fishing"``.
    rows : ndarray of int, shape (n_treated + n_control,)
        Positions of the trial's places in the survey table, ascending.
    treated : ndarray of int, shape (n_treated + n_control,)
        1 near a project, else 0.
    """

    name: str
    title: str
    rows: NDArray[np.intp]
    treated: NDArray[np.int64]

    @property
    def n_treated(self) -> int:
        """Places near a project."""
        return int(self.treated.sum())

    @property
    def n_control(self) -> int:
        """Other places of the same surveys."""
        return len(self.treated) - self.n_treated


def read_projects(path: str | Path) -> pd.DataFrame:
    """Read the geocoded projects.

    Parameters
    ----------
    path : str or Path
        ``interventions.csv`` of the source ``aid_projects``.

    Returns
    -------
    DataFrame
        One row a project place: ``lat``, ``lon``, ``year`` (of the start), ``funder``, ``sector`` (OECD code).

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    FileFormatError
        When a column is missing or a value is not what it should be.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file. Fetch the source first (stage acquire).")
    table = read_table(path)
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise FileFormatError(
            f"{path}: lacks column(s) {', '.join(missing)}; it has {', '.join(map(str, table))}."
        )
    projects = pd.DataFrame(
        {
            "lat": pd.to_numeric(table["latitude"], errors="coerce"),
            "lon": pd.to_numeric(table["longitude"], errors="coerce"),
            "year": pd.to_datetime(table["start_date"], format="%Y-%m-%d", errors="coerce").dt.year,
            "funder": table["funder"],
            "sector": pd.to_numeric(table["ad_sector_codes"], errors="coerce"),
        }
    )
    holes = projects.isna().any(axis=1).to_numpy()
    if holes.any():
        raise FileFormatError(
            f"{path}: {int(holes.sum())} row(s) without a usable place, start date (YYYY-MM-DD), funder or "
            f"sector code; the first is row {int(holes.argmax()) + 1}. The published table has none; fetch it again."
        )
    return projects.astype({"year": "int64", "sector": "int64"})


def aid_trials(
    survey: pd.DataFrame,
    projects: pd.DataFrame,
    *,
    degrees: float = 0.1,
    years: tuple[int, int] = (3, 8),
    min_arm: int = 30,
) -> list[AidTrial]:
    """Build the trials that a survey table allows.

    Parameters
    ----------
    survey : DataFrame
        Places with ``survey`` (name), ``year``, ``lat``, ``lon``.
    projects : DataFrame
        As from `read_projects`.
    degrees : float
        Reach of a project, as a distance in degrees of latitude and longitude (0.1 is about 11 km).
    years : tuple of int
        Fewest and most calendar years between start and survey, both included.
    min_arm : int
        Fewest places in each arm.

    Returns
    -------
    list of AidTrial
        Sorted by name.

    Raises
    ------
    DataError
        When an argument is out of range or a column is missing.
    """
    if not degrees > 0 or years[0] > years[1] or min_arm < 1:
        raise DataError(
            f"degrees must be positive, years ascending and min_arm at least 1; got {degrees}, {years}, {min_arm}."
        )
    lacking = [column for column in ("survey", "year", "lat", "lon") if column not in survey]
    if lacking:
        raise DataError(f"survey: lacks column(s) {', '.join(lacking)}.")
    trials = []
    for funder, sector in sorted(set(zip(projects["funder"], projects["sector"], strict=True))):
        places = projects[(projects["funder"] == funder) & (projects["sector"] == sector)]
        near = _near(survey, places, degrees, years)
        same_surveys = survey["survey"].isin(survey["survey"][near].unique()).to_numpy()
        rows = np.flatnonzero(same_surveys)
        treated = near[rows].astype(np.int64)
        if min(treated.sum(), len(rows) - treated.sum()) < min_arm:
            continue
        title = f"{FUNDERS.get(funder, funder)}, {SECTORS.get(sector, f'sector {sector}')}"
        trials.append(AidTrial(f"{funder.lower()}_{sector}", title, rows, treated))
    return trials


def _near(
    survey: pd.DataFrame, places: pd.DataFrame, degrees: float, years: tuple[int, int]
) -> NDArray[np.bool_]:
    from scipy.spatial import KDTree

    near = np.zeros(len(survey), dtype=bool)
    where = survey[["lat", "lon"]].to_numpy(dtype=float)
    for year in survey["year"].unique():
        started = places[places["year"].between(year - years[1], year - years[0])]
        if len(started):
            rows = np.flatnonzero(survey["year"] == year)
            distance, _ = KDTree(started[["lat", "lon"]].to_numpy(dtype=float)).query(where[rows])
            near[rows] = distance <= degrees
    return near
