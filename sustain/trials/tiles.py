"""Trials and contrasts among survey tiles: for a map that is a table of tiles, known by their ids.

Without wall-to-wall imagery a trial's units can only be tiles that the survey has. A trial team lists their ids; and
without any trial, the contrast of urban with rural tiles shows what the two assumptions make of one difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.stats.columns import label_text
from sustain.trials.trial import Trial, load_trials

__all__ = ["TRIALS_FILE", "tile_trials", "urban_contrasts"]

TRIALS_FILE = "trials.json"

_MIN_ARM = 2
_QUESTION = "How much richer are urban than rural survey tiles?"
_WHY = {
    "measurement": (
        "If town and country differed in the image by wealth alone, the prediction would be shrunken here as it is "
        "everywhere, and the correction would be right. They do not; this bounds the difference from one side."
    ),
    "outcome": (
        "A town shows in the image by itself: streets, roofs, lights. At equal predictions town and country may be "
        "about equally rich, and then the map needs no correction."
    ),
}


def tile_trials(cells: pd.DataFrame, folder: str | Path) -> tuple[list[Trial], dict[str, pd.DataFrame]]:
    """Return the trials to estimate from a map of survey tiles, and the units of each.

    Parameters
    ----------
    cells : DataFrame
        A map of survey tiles: ``id``, ``urban``, ``block``, ``split``, ``wealth_raw``.
    folder : str or Path
        Folder of ``trials.json`` (as `sustain.trials.trial.load_trials` reads it) and the tables it names, CSV with
        the tiles' ``id`` and the treatment. It may be missing.

    Returns
    -------
    trials : list of Trial
        The trials of the folder, then `urban_contrasts`.
    units : dict of DataFrame
        For each trial's name its units, with the columns of `cells`.

    Raises
    ------
    EffectError
        When the list is wrong, asks for a second map, or a table lacks ``id`` or holds tiles that the map does not.
    """
    folder = Path(folder)
    trials = load_trials(folder / TRIALS_FILE) if (folder / TRIALS_FILE).is_file() else []
    units = {trial.name: _units(trial, cells, folder) for trial in trials}
    contrasts, arms = urban_contrasts(cells)
    return [*trials, *contrasts], units | dict.fromkeys((trial.name for trial in contrasts), arms)


def urban_contrasts(cells: pd.DataFrame) -> tuple[list[Trial], pd.DataFrame]:
    """Describe the contrast of urban with rural tiles twice, once under each assumption.

    Only tiles of the test split count, which shaped neither model nor card. Predictions alone are compared: no label
    enters.

    Returns
    -------
    trials : list of Trial
        Empty where one arm has fewer than two tiles.
    units : DataFrame
        The tiles, with ``treated`` 1 in towns.
    """
    units = cells[cells["split"] == "test"].reset_index(drop=True)
    units["treated"] = read.arms("urban", units["urban"]).astype(int)
    if units["treated"].value_counts().reindex([0, 1], fill_value=0).min() < _MIN_ARM:
        return [], units
    stable: Sequence[tuple[str, str]] = (("outcome", "outcome stable"), ("measurement", "measurement stable"))
    return [
        Trial.model_validate(
            {
                "name": f"urban_rural_{assumption}",
                "title": f"Urban and rural tiles, {words}",
                "question": _QUESTION,
                "table": "",
                "vcov": {"CRV1": "block"},
                "assumption": assumption,
                "why": _WHY[assumption],
            }
        )
        for assumption, words in stable
    ], units


def _units(trial: Trial, cells: pd.DataFrame, folder: Path) -> pd.DataFrame:
    path = folder / trial.table
    if trial.map != "baseline" or trial.baseline_map:
        raise EffectError(
            f"trial {trial.name!r} asks for a map of another period; the survey's tiles have one prediction each. "
            "Leave map and baseline_map out."
        )
    try:
        table = pd.read_csv(path, dtype={"id": str})
    except FileNotFoundError as error:
        raise EffectError(f"{path}: no such table, but trial {trial.name!r} names it.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise EffectError(f"{path}: not a CSV table ({error}).") from error
    if "id" not in table or table["id"].duplicated().any():
        raise EffectError(
            f"{path}: expected a column id with one row a tile; got {', '.join(table.columns)}."
        )
    if table["id"].isna().any():
        raise EffectError(f"{path}: {int(table['id'].isna().sum())} rows have no id. Name the tile of each.")
    # Ids meet as text, whatever type the map's table gives them.
    cells = cells.assign(id=[label_text(tile) for tile in cells["id"]])
    if strange := sorted(set(table["id"]) - set(cells["id"])):
        raise EffectError(
            f"{path}: {len(strange)} of {len(table)} tiles are not in the map, such as {', '.join(strange[:3])}: "
            "unknown ids, or tiles that the model learned from (train.crossfit predicts those too). Leave them out."
        )
    added = cells[["id", *(name for name in cells if name not in table)]]
    return table.merge(added, on="id", how="left", validate="one_to_one")
