"""The map of a source without wall-to-wall imagery: a table whose cells are the survey's own tiles.

A tile is a cell only where its prediction is out of sample, because the calibration card describes no other. The table
holds predictions and what the survey says of a place, never a label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import sustain
from sustain.debias import CalibrationCard
from sustain.errors import DataError, FileFormatError, RasterError
from sustain.files import atomic_path
from sustain.maps.correct.raster import BANDS, correct_values, warn_outside_support
from sustain.maps.geotiff import OUTSIDE_SUPPORT, SUPPORT, WEALTH_RAW

__all__ = ["CELLS_FILE", "PLACE", "correct_survey_tiles", "map_survey_tiles", "read_survey_tiles"]

CELLS_FILE = "cells.parquet"
PLACE = ("id", "lon", "lat", "year", "country", "urban", "block", "split")
"""What is known of a cell's place. Coordinates are the survey's, which DHS displaces by up to 2 km in towns and 10 km
in the country; ``split`` says which tiles shaped the card (calibration) and which did not (test)."""


def map_survey_tiles(predictions: str | Path, out: str | Path) -> Path:
    """Make a map of the predictions at survey tiles.

    Parameters
    ----------
    predictions : str or Path
        ``survey.parquet`` of the predict stage.
    out : str or Path
        Parquet to write, a row a tile, sorted by id: the columns `PLACE`, ``model`` (id of the model that never saw
        the tile's block) and ``wealth_raw`` (its prediction, in the target's unit).

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    FileNotFoundError, FileFormatError
        When the table is missing, or not one of the predict stage.
    DataError
        When no prediction is out of sample.
    """
    columns = [*PLACE, "model", "out_of_sample", "y_pred"]
    survey, _ = _read(Path(predictions), columns, "predict")
    cells = survey[survey["out_of_sample"] & np.isfinite(survey["y_pred"])]
    if cells.empty:
        raise DataError(
            f"{predictions}: none of {len(survey)} predictions is finite and out of sample, so there is no cell to map."
        )
    cells = cells[columns].drop(columns="out_of_sample").rename(columns={"y_pred": WEALTH_RAW})
    return _write(cells.sort_values("id", ignore_index=True), Path(out), {})


def correct_survey_tiles(
    src: str | Path, dst: str | Path, card: CalibrationCard | str | Path, method: str = "linear"
) -> Path:
    """Correct a map of survey tiles with a calibration card.

    Parameters
    ----------
    src : str or Path
        Parquet of `map_survey_tiles`.
    dst : str or Path
        Parquet to write: the columns of `src`, and ``wealth``, ``wealth_raw``, ``wealth_se`` and ``support`` as
        `sustain.maps.correct.raster.correct_raster` describes them.
    card : CalibrationCard, str or Path
        The calibration card or its file.
    method : str
        A correction that the card holds, or ``"none"``.

    Returns
    -------
    Path
        `dst`.

    Raises
    ------
    RasterError
        When no cell was predicted by the model that the card corrects.
    FileNotFoundError, FileFormatError
        When `src` is missing or not such a table.
    CardError, CalibrationError
        When the card is unreadable or lacks `method`.

    Warns
    -----
    SupportWarning
        When more than 2 % of the predictions lie outside the calibration sample's range.
    """
    if isinstance(card, str | Path):
        card = CalibrationCard.load(card)
    cells, _ = _read(Path(src), [*PLACE, "model", WEALTH_RAW], "map")
    # Tiles that the map's model learned from come from models of other folds; some tiles must be its own.
    if card.predictor.id not in set(cells["model"]):
        raise RasterError(
            f"{src}: predicted by {', '.join(sorted(cells['model'].unique()))}, but the card corrects predictions of "
            f"{card.predictor.id!r}. Use the card made for this map's model and label."
        )
    corrected = correct_values(cells[WEALTH_RAW].to_numpy(float), card, method)
    columns = dict(zip(BANDS, corrected, strict=True))
    cells = cells.drop(columns=WEALTH_RAW).assign(**columns).astype({SUPPORT: np.int8})
    warn_outside_support(str(src), int((cells[SUPPORT] == OUTSIDE_SUPPORT).sum()), len(cells), card)
    tags = {
        "SUSTAIN_CARD_SHA256": card.sha256,
        "SUSTAIN_METHOD": method,
        "SUSTAIN_TARGET": str(card.target.name),
        "SUSTAIN_UNIT": str(card.target.unit),
        "SUSTAIN_VERSION": sustain.__version__,
    }
    return _write(cells, Path(dst), tags)


def read_survey_tiles(path: str | Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read a corrected map of survey tiles.

    Returns
    -------
    cells : DataFrame
        The columns of `correct_survey_tiles`.
    tags : dict of str
        ``SUSTAIN_CARD_SHA256``, ``SUSTAIN_METHOD``, ``SUSTAIN_TARGET``, ``SUSTAIN_UNIT``, ``SUSTAIN_VERSION``.

    Raises
    ------
    FileNotFoundError, FileFormatError
        When the table is missing or not such a table.
    """
    return _read(Path(path), [*PLACE, *BANDS], "correct")


def _read(path: Path, columns: list[str], stage: str) -> tuple[pd.DataFrame, dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table. Run the {stage} stage.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise FileFormatError(
            f"{path}: not a readable Parquet table ({error}). Run the {stage} stage again."
        ) from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise FileFormatError(f"{path}: missing column {', '.join(missing)}. Run the {stage} stage again.")
    tags = {key.decode(): text.decode() for key, text in (table.schema.metadata or {}).items()}
    return table.to_pandas(), {key: text for key, text in tags.items() if key.startswith("SUSTAIN_")}


def _write(cells: pd.DataFrame, path: Path, tags: dict[str, str]) -> Path:
    table = pa.Table.from_pandas(cells, preserve_index=False)
    with atomic_path(path) as partial:
        pq.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), **tags}),
            partial,
            compression="zstd",
        )
    return path
