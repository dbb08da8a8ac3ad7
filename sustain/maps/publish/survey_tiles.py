"""The published folder of a map whose cells are survey tiles: tables instead of a raster, and no label.

Surveys such as DHS forbid passing on where their clusters are, even displaced. Unless the terms are known to allow it,
the tables hold neither coordinates nor what leads to them: no cluster ids, no rows in the order of the ids, and blocks
that are numbered anew, since a block's name says where it lies.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.errors import ConfigError
from sustain.files import atomic_path, write_text
from sustain.maps.correct.raster import require_card
from sustain.maps.correct.survey_tiles import PLACE, read_survey_tiles
from sustain.maps.geotiff import OUTSIDE_SUPPORT, SUPPORT, WEALTH, WEALTH_RAW, WEALTH_SE
from sustain.maps.publish.facts import period_text, require_facts
from sustain.maps.publish.folder import published_folder
from sustain.maps.publish.map_card import (
    FILES,
    LIMITS,
    code_table,
    licences,
    lineage,
    markdown_table,
    publication,
)
from sustain.maps.publish.stac import BAND_TEXTS
from sustain.maps.read.cells import GEO

__all__ = ["publish_survey_tiles"]

_COLUMNS = (*PLACE, WEALTH, WEALTH_RAW, WEALTH_SE, SUPPORT)
_WHERE = ("id", "lon", "lat")  # what tells where a cluster is

_FILES = {
    "cells.parquet": "One row a survey tile, the columns below",
    **{name: FILES[name] for name in ("cells.csv", "card.json", "model.json")},
}

_PLACES = {
    "id": "Name of the survey cluster.",
    "lon": "Longitude in degrees, **displaced** by the survey.",
    "lat": "Latitude in degrees, **displaced** by the survey.",
    "year": "Year of the survey.",
    "country": "Country, as the survey names it.",
    "urban": "Whether the survey calls the place urban.",
    "block": "Spatial block, never divided by the splits; cluster standard errors by it.",
    "split": "`calibration`: the tile's label shaped the card; `test`: it shaped neither model nor card.",
}

_WITH_COORDINATES = """\
Coordinates are those of the survey, which displaces them to protect respondents: DHS moves urban places by up to 2 km,
rural ones by up to 5 km and one in a hundred by up to 10 km. Whoever uses them is bound by the survey's terms, in
particular not to try to identify households, and to ask the survey before passing coordinates on. No label is in this
folder."""

_WITHOUT_COORDINATES = """\
**The tables hold no coordinates and no ids of clusters**, because the terms of the survey are not known to let them be
passed on. Rows are in no order that tells a cluster, and blocks are numbered anew. No label is in this folder either.
A trial among these places needs to know which is which: whoever has the survey's files gets it by running the pipeline,
whose own tables (not published) are named by the survey's ids."""

_USE_OF_A_TRIAL = """\
```python
import pandas as pd
from sustain.causal import estimate_effect

trial = pd.read_csv("trial.csv").merge(pd.read_csv("cells.csv"), on="id")     # id, treated
effect = estimate_effect(trial, outcome="wealth_raw", treatment="treated", calibration="card.json",
                         assumption="measurement", vcov={"CRV1": "block"})   # or "outcome", or "bracket" for both
print(effect.summary())
```"""

_USE_OF_A_CONTRAST = """\
```python
import pandas as pd
from sustain.causal import estimate_effect

cells = pd.read_csv("cells.csv").query("split == 'test'")
towns = cells.assign(urban=cells["urban"].astype(int))     # a contrast, no trial: a town shows in the image by itself
effect = estimate_effect(towns, outcome="wealth_raw", treatment="urban", calibration="card.json",
                         assumption="bracket", vcov={"CRV1": "block"})
print(effect.summary())
```"""


def publish_survey_tiles(
    corrected: str | Path,
    card: str | Path,
    out: str | Path,
    params: PublishParams,
    *,
    model_json: str | Path | None = None,
    coordinates: bool = False,
) -> Path:
    """Publish a corrected map of survey tiles.

    Parameters
    ----------
    corrected : str or Path
        Parquet of `sustain.maps.correct.survey_tiles.correct_survey_tiles`.
    card : str or Path
        File of the calibration card that corrected it.
    out : str or Path
        Folder to write, whole or not at all: ``cells.parquet``, ``cells.csv``, ``card.json``, ``README.md`` and, if
        given, ``model.json``. There is no raster, hence no STAC item, and no label. An older publication is replaced.
    params : PublishParams
        What is known of the map besides what stands in it and in its card. Title and licence are needed.
    model_json : str or Path, optional
        Description of the model, without weights.
    coordinates : bool
        Whether the tables hold the survey's coordinates and ids, ``cells.parquet`` then being GeoParquet; see
        `sustain.data.catalogue.terms.may_publish_coordinates`.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    RasterError
        When the map was corrected with another card.
    FileNotFoundError, FileFormatError, CardError
        When the table or the card is missing or not what it should be.
    ConfigError
        When `params` lacks title or licence, or start and end where tiles have no years; or when it asks for means of
        areas.
    DataError
        When `out` is a folder of something else.
    """
    if params.areas is not None:
        raise ConfigError(
            "publish.areas: a map of survey tiles has no wall-to-wall cells to make means of areas from."
        )
    cells, tags = read_survey_tiles(corrected)
    calibration = CalibrationCard.load(card)
    require_card(corrected, tags, calibration)
    cells = cells[list(_COLUMNS)]
    period = require_facts(params, calibration, period=_years(cells))
    if not coordinates:
        cells = _without_coordinates(cells)
    with published_folder(out, card, model_json) as folder:
        with atomic_path(folder / "cells.parquet") as partial:
            table = _with_points(cells) if coordinates else pa.Table.from_pandas(cells, preserve_index=False)
            pq.write_table(table, partial, compression="zstd")
        with atomic_path(folder / "cells.csv") as partial:
            cells.to_csv(partial, index=False, lineterminator="\n")
        files = [path.name for path in folder.iterdir()]
        write_text(folder / "README.md", _page(cells, calibration, tags, period, params, files))
    return Path(out)


def _years(cells: pd.DataFrame) -> tuple[date, date] | None:
    """First and last day of the tiles' own years; None unless all have one."""
    years = cells["year"]
    if not len(years) or not (years > 0).all():
        return None
    return date(int(years.min()), 1, 1), date(int(years.max()), 12, 31)


def _use(cells: pd.DataFrame, coordinates: bool) -> tuple[str, ...]:
    """Lines that run on these tables; without ids, and without towns beside country, there are none to show."""
    if not coordinates and cells.loc[cells["split"] == "test", "urban"].nunique() < 2:
        return ()
    return "## How to read it", _USE_OF_A_TRIAL if coordinates else _USE_OF_A_CONTRAST


def _countries(cells: pd.DataFrame) -> str:
    n = cells.loc[cells["country"] != "", "country"].nunique()
    return f" in {n} {'country' if n == 1 else 'countries'}" if n else ""


def _without_coordinates(cells: pd.DataFrame) -> pd.DataFrame:
    """Leave out what tells where a tile's cluster is; rows are sorted by what remains."""
    kept = cells.drop(columns=list(_WHERE)).sort_values(
        ["country", "year", "split", "urban", WEALTH_RAW, WEALTH_SE], ignore_index=True
    )
    return kept.assign(block=[f"block-{code + 1:05d}" for code in pd.factorize(kept["block"])[0]])


def _with_points(cells: pd.DataFrame) -> pa.Table:
    points = shapely.to_wkb(shapely.points(cells["lon"].to_numpy(float), cells["lat"].to_numpy(float)))
    table = pa.Table.from_pandas(cells, preserve_index=False)
    table = table.append_column("geometry", pa.array(points, pa.binary()))
    return table.replace_schema_metadata({"geo": GEO})


def _page(
    cells: pd.DataFrame,
    card: CalibrationCard,
    tags: dict[str, str],
    period: tuple[date, date],
    params: PublishParams,
    files: list[str],
) -> str:
    facts = [
        ("quantity", f"{card.target.name}, in {card.target.unit}"),
        ("period", period_text(period)),
        ("cells", f"{len(cells)} survey tiles{_countries(cells)}, no wall-to-wall map"),
        (
            f"outside the calibration range (`{SUPPORT}` = 1)",
            f"{int((cells[SUPPORT] == OUTSIDE_SUPPORT).sum())}",
        ),
        (f"`{WEALTH}`, mean (sd)", f"{cells[WEALTH].mean():.3g} ({cells[WEALTH].std(ddof=0):.3g})"),
        (
            f"`{WEALTH_RAW}`, mean (sd)",
            f"{cells[WEALTH_RAW].mean():.3g} ({cells[WEALTH_RAW].std(ddof=0):.3g})",
        ),
        (f"`{WEALTH_SE}`, mean", f"{cells[WEALTH_SE].mean():.3g}"),
        *publication(params),
    ]
    coordinates = set(_WHERE) <= set(cells)
    columns = {name: (_PLACES | BAND_TEXTS)[name] for name in _COLUMNS if name in cells}
    contents = _FILES | {
        "cells.parquet": _FILES["cells.parquet"] + (" and a point geometry." if coordinates else ".")
    }
    sections = [
        f"# {params.title}",
        params.description,
        "## What it is",
        "A table of predictions at the places of a survey: only there is imagery. Tiles that the model learned from "
        "are left out, because the card does not describe predictions in sample.",
        markdown_table(("", ""), facts),
        "## Files",
        code_table("file", {name: text for name, text in contents.items() if name in files}),
        "## Columns",
        code_table("column", columns),
        "## Places and the survey's terms",
        _WITH_COORDINATES if coordinates else _WITHOUT_COORDINATES,
        "## How it was made",
        lineage(card, tags),
        *_use(cells, coordinates),
        "## What it is not for",
        LIMITS.rstrip(),
        "## Licences and citation",
        licences(card, params),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"
