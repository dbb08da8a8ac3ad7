"""The embedded world on disk: raw files in the formats of the real thing, and the truth kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from sustain.config import SyntheticWorldParams
from sustain.data.sustainbench.dhs import BANDS
from sustain.data.synthetic.fields import FloatField, Streams
from sustain.data.synthetic.landcover import Period, build_season
from sustain.data.synthetic.render import STRIP, write_scene
from sustain.data.synthetic.survey import (
    COUNTRY,
    draw_sites,
    label_table,
    max_displacement_m,
    site_truth,
    write_tiles,
)
from sustain.data.synthetic.trials import PUBLIC_COLUMNS, TRIALS, design_trials, treat, trial_truth
from sustain.data.synthetic.world import Landscape, build_landscape
from sustain.errors import ConfigError
from sustain.files import atomic_directory, require_free_space, write_json

__all__ = ["write_world"]

MIN_TILES = 7  # side of the smallest scene, in tiles: less has no room for towns and three trials
MIN_TILE_PX = 16  # less has no room for parcels and hamlets


def write_world(params: SyntheticWorldParams, seed: int, raw: Path, truth: Path) -> None:
    """Draw the world of `seed` and write it.

    Both folders are replaced as wholes, `truth` before `raw`. The same parameters and seed give the same bytes.

    Parameters
    ----------
    params : SyntheticWorldParams
        Sizes, survey design and effects.
    seed : int
        Non-negative seed; every random number comes from it.
    raw : Path
        Folder of what a pipeline may read: ``scene_baseline.tif`` and ``scene_endline.tif`` (8 bands of uint16 with
        scale and offset), ``dhs_final_labels.csv`` and ``dhs_XA.tar.gz`` (SustainBench's format), ``survey.json``,
        ``trials.json`` and ``trials/*.csv``.
    truth : Path
        Folder of what only a report may read: ``truth.json``, ``survey.parquet``, ``trials.parquet``.

    Raises
    ------
    ConfigError
        When the parameters leave no room for the survey or for a trial.
    DiskSpaceError
        When the disk has not enough room.
    """
    _check(params, seed)
    pixels = params.scene_px**2 * 2 + params.n_sites * params.tile_px**2 * 2
    require_free_space(raw, pixels * len(BANDS) * 2, "the embedded world")
    streams = Streams(seed)
    landscape = build_landscape(params, streams)
    tables = design_trials(landscape, params, streams)
    effects = {"villages": params.effect_villages, "districts": params.effect_districts}
    wealth: dict[Period, FloatField] = {"baseline": landscape.wealth, "endline": landscape.wealth}
    for name, effect in effects.items():
        wealth["endline"] = treat(wealth["endline"], tables[name], effect, params.tile_px)
    sites = draw_sites(landscape, params, streams)

    with atomic_directory(raw) as raw_partial, atomic_directory(truth) as truth_partial:
        _write_imagery(raw_partial, landscape, wealth, sites, params, streams)
        label_table(sites, params).to_csv(
            raw_partial / "dhs_final_labels.csv", index=False, lineterminator="\n"
        )
        write_json(raw_partial / "survey.json", _survey_facts(params))
        write_json(raw_partial / "trials.json", TRIALS)
        (raw_partial / "trials").mkdir()
        for trial in TRIALS:
            table = tables[trial["name"]][PUBLIC_COLUMNS]
            table.to_csv(raw_partial / trial["table"], index=False, lineterminator="\n")
        _write_truth(truth_partial, landscape, wealth, sites, tables, effects, params)


def _check(params: SyntheticWorldParams, seed: int) -> None:
    if seed < 0:
        raise ConfigError(f"seed is {seed}; it must be 0 or more.")
    if params.tile_px % 2 or params.tile_px < MIN_TILE_PX:
        raise ConfigError(
            f"tile_px is {params.tile_px}; it must be even, so that a tile's middle is a corner of pixels, "
            f"and at least {MIN_TILE_PX}."
        )
    if params.scene_px < MIN_TILES * params.tile_px:
        raise ConfigError(
            f"scene_px is {params.scene_px}, {params.scene_px / params.tile_px:.1f} tiles of {params.tile_px} pixels; "
            f"towns and three trials need at least {MIN_TILES} tiles: scene_px >= {MIN_TILES * params.tile_px}."
        )
    if params.scene_px * params.pixel_m > 400_000:
        raise ConfigError(
            f"scene_px * pixel_m is {params.scene_px * params.pixel_m / 1000:.0f} km; beyond 400 km a metre of the "
            "map is no longer a metre on the ground. Make the scene or its pixels smaller."
        )


def _write_imagery(
    folder: Path,
    landscape: Landscape,
    wealth: dict[Period, FloatField],
    sites: pd.DataFrame,
    params: SyntheticWorldParams,
    streams: Streams,
) -> None:
    strips = -(-landscape.size // STRIP)
    with tqdm(total=2 * strips + len(sites), desc="world", unit="part", disable=None) as bar:
        for period, level in wealth.items():
            season = build_season(landscape, level, period, params.pixel_m, streams)
            path = folder / f"scene_{period}.tif"
            write_scene(path, landscape, season, period, params.pixel_m, streams, bar)
        archive = folder / f"dhs_{COUNTRY}.tar.gz"
        write_tiles(folder / "scene_baseline.tif", archive, sites, params.tile_px, bar)


def _survey_facts(params: SyntheticWorldParams) -> dict[str, object]:
    """Return what a survey's report tells its users."""
    limit = max_displacement_m(params)
    return {
        "label": {"name": "asset_index", "unit": "index points"},
        "household_sd": params.household_sd,
        "displacement": "Each site was moved in a uniform direction by a uniform distance of up to "
        f"{limit['urban']:.0f} m (urban) or {limit['rural']:.0f} m (rural), and 1 rural site in 100 by up to "
        f"{limit['rural far']:.0f} m: the DHS's 2, 5 and 10 km in proportion to the width of the tile.",
        "synthetic": "Made by sustain.data.synthetic; no household was interviewed.",
    }


def _write_truth(
    folder: Path,
    landscape: Landscape,
    wealth: dict[Period, FloatField],
    sites: pd.DataFrame,
    tables: dict[str, pd.DataFrame],
    effects: dict[str, float],
    params: SyntheticWorldParams,
) -> None:
    units = {}
    for trial in TRIALS:
        name, level = trial["name"], wealth[trial["map"]]
        units[name] = trial_truth(name, tables[name], level, params.tile_px)
    in_town = tables["towns"]["treated"] == 1
    town_wealth = units["towns"]["wealth_true"]
    trials = {
        name: {"effect": effect, "definition": "Wealth added to every pixel of every treated catchment."}
        for name, effect in effects.items()
    }
    trials["towns"] = {
        "effect": float(town_wealth[in_town].mean() - town_wealth[~in_town].mean()),
        "definition": "Mean true wealth of the listed town catchments less that of the listed country ones.",
    }
    survey = {
        "label_noise_var": params.household_sd**2 / params.households,
        "wealth_mean": float(sites["wealth_true"].mean()),
        "wealth_sd": float(sites["wealth_true"].std()),
        "town_share_of_variance": float(
            np.corrcoef(landscape.town.ravel(), landscape.wealth.ravel())[0, 1] ** 2
        ),
    }
    write_json(folder / "truth.json", {"trials": trials, "survey": survey})
    site_truth(sites).to_parquet(folder / "survey.parquet", index=False)
    pd.concat(list(units.values())).to_parquet(folder / "trials.parquet", index=False)
