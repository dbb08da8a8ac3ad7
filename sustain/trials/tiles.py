"""Trials and contrasts among survey tiles: for a map that is a table of tiles, known by their ids.

Without wall-to-wall imagery a trial's units can only be tiles that the survey has. A trial team lists their ids; and
without any trial, the contrast of urban with rural tiles shows what the two assumptions make of one difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sustain.causal.trial.reader import read
from sustain.errors import DataError, EffectError
from sustain.stats.keys import match_keys
from sustain.stats.labels import label_text
from sustain.tables import read_table
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
        table = read_table(path, ["id"])
    except DataError as error:
        raise EffectError(f"trial {trial.name!r}: {error}") from error
    keys = read.labels(f"{path}: column 'id'", table["id"])
    if len(table) > keys.n:
        raise EffectError(f"{path}: {len(table) - keys.n} rows repeat an id. Give one row a tile.")
    tile = match_keys(
        read,
        table["id"],
        cells["id"],
        left_name=f"{path}: column 'id'",
        right_name="the map's tiles",
        absent=True,
    )
    if (strange := tile < 0).any():
        names = ", ".join(map(label_text, table["id"][strange].head(3)))
        raise EffectError(
            f"{path}: {int(strange.sum())} of {len(table)} tiles are not in the map, such as {names}: "
            "unknown ids, or tiles that the model learned from (train.crossfit predicts those too). Leave them out."
        )
    added = cells[[name for name in cells if name not in table]].iloc[tile].reset_index(drop=True)
    return pd.concat([table.assign(id=table["id"].map(label_text)), added], axis=1)
