"""Means of areas against the truth: how far off they are, and how often their intervals hold it.

Two parts. ``embedded world``: squares of its map, made by the CNN on overlapping tiles; one world and one card, so
that the calibration's error is one draw. Run ``dvc repro`` first. ``simulation``: many small worlds whose truth and
errors are normal fields of known correlation, each with a survey and a card of its own.
``python benchmarks/areas.py`` writes ``results/areas.csv``. Real places: ``areas_real.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from machine import RESULTS, describe
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from shapely import box
from tqdm import tqdm

from sustain.config import load_params
from sustain.data.synthetic.world import Streams, build_landscape, tile_means
from sustain.debias import build_card
from sustain.files import write_text
from sustain.maps.correct import correct_raster
from sustain.maps.read import area_means

ROOT = Path(__file__).resolve().parents[1]
SIDES = (1, 2, 4, 8, 16, 26)
KM = 1 / 111.195  # degrees
CELLS = 64  # along the side of a simulated world, of one kilometre each

Floats = NDArray[np.float64]


def squares(shape: tuple[int, ...], side: int, seen: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Upper left cells of the squares without a hole."""
    return [
        (row, col)
        for row in range(0, shape[0] - side + 1, side)
        for col in range(0, shape[1] - side + 1, side)
        if seen[row : row + side, col : col + side].all()
    ]


def errors_of(path: Path, card: Path, truth: Floats, side: int) -> Iterator[dict[str, object]]:
    """Error and interval of each mean of each square."""
    with rasterio.open(path) as raster:
        transform, crs, seen = raster.transform, raster.crs, np.isfinite(raster.read(1))
    corners = squares(truth.shape, side, seen)
    shapes = [box(*transform @ (col, row + side), *transform @ (col + side, row)) for row, col in corners]
    found = area_means(path, gpd.GeoDataFrame(geometry=shapes, crs=crs), card)
    true = np.array([truth[row : row + side, col : col + side].mean() for row, col in corners])
    for mean, prefix in (("expected", "expected_"), ("wealth", ""), ("wealth_raw", None)):
        low, high = (
            found[mean] * np.nan if prefix is None else found[f"{prefix}{end}95"] for end in ("low", "high")
        )
        held = (low <= true) & (true <= high)
        frame = pd.DataFrame(
            {"truth": true, "error": found[mean] - true, "half": (high - low) / 2, "held": held}
        )
        for row in frame.to_dict("records"):
            yield {"mean": mean, "side_cells": side, **row}


def in_the_world(root: Path, method: str, scratch: Path) -> Iterator[dict[str, object]]:
    """Squares of the embedded world's map, corrected by one method."""
    params = load_params(ROOT / "params.yaml", "synthetic")
    world, spacing = params.acquire, params.map.spacing_px
    truth = tile_means(build_landscape(world, Streams(params.seed)).wealth, world.tile_px)[
        ::spacing, ::spacing
    ]
    raw, card = root / "maps/synthetic-raw/wealth.tif", root / "calibration/synthetic/card.json"
    path = correct_raster(raw, scratch / "map.tif", card, method)
    with rasterio.open(path) as raster:
        if truth.shape != raster.shape:
            raise SystemExit(f"the map has {raster.shape} cells, the truth {truth.shape}: run dvc repro")
    for side in SIDES:
        for row in errors_of(path, card, truth, side):
            yield {"source": "embedded world", "method": method, **row}


def simulated(seed: int, method: str, scratch: Path) -> Iterator[dict[str, object]]:
    """A world of normal fields: prediction = 0.1 + 0.6 truth + error, half of which neighbours share over 4 km."""
    rng = np.random.default_rng(seed)
    truth = 0.8 * field(rng, 8.0) + 0.3 * rng.normal(size=(CELLS, CELLS))
    error = 0.25 * field(rng, 4.0) + 0.25 * rng.normal(size=(CELLS, CELLS))
    raw = 0.1 + 0.6 * truth + error
    # More sites where it is rich, as surveys have more where people live.
    share = np.exp(0.5 * truth).ravel()
    site = rng.choice(CELLS**2, 600, replace=False, p=share / share.sum())
    row, col = np.divmod(site, CELLS)
    label = truth.ravel()[site] + 0.2 * rng.normal(size=site.size)
    card = build_card(
        raw.ravel()[site], label, groups=row // 8 * 100 + col // 8, target_noise_var=0.04,
        lon=KM * (col + 0.5), lat=-KM * (row + 0.5), methods=[method], n_boot=100, seed=seed,
        target={"name": "wealth", "unit": "points"}, predictor="simulated",
    )  # fmt: skip
    path, saved = scratch / "raw.tif", card.save(scratch / "card.json")
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": 1,
        "height": CELLS,
        "width": CELLS,
        "nodata": np.nan,
    }
    transform = rasterio.Affine(KM, 0, 0, 0, -KM, 0)
    with rasterio.open(path, "w", crs="EPSG:4326", transform=transform, **profile) as raster:
        raster.write(raw.astype(np.float32), 1)
        raster.descriptions, raster.units = ("wealth_raw",), ("points",)
        raster.update_tags(SUSTAIN_PREDICTOR="simulated")
    corrected = correct_raster(path, scratch / "map.tif", saved, method)
    for side in (4, 8, 16, 32, 64):
        for found in errors_of(corrected, saved, truth, side):
            yield {"source": "simulation", "method": method, **found}


def field(rng: np.random.Generator, reach: float) -> Floats:
    """Normal field of variance one in expectation, whose correlation at distance d is ``exp(-d^2 / (2 reach^2))``."""
    kernel = reach / np.sqrt(2)
    noise = gaussian_filter(rng.normal(size=(3 * CELLS, 3 * CELLS)), kernel, mode="wrap", truncate=6)
    return np.asarray(noise[:CELLS, :CELLS] * 2 * np.sqrt(np.pi) * kernel)


def main() -> None:
    """Measure every correction and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="Where dvc repro has run.")
    parser.add_argument("--worlds", type=int, default=200, help="Simulated worlds.")
    arguments = parser.parse_args()
    machine, rows = describe(), []
    with tempfile.TemporaryDirectory() as folder:
        for method in ("linear", "tweedie"):
            rows += in_the_world(arguments.root, method, Path(folder))
        for seed in tqdm(range(arguments.worlds), unit="world"):
            rows += simulated(seed, "linear", Path(folder))
    found = pd.DataFrame(rows)
    found["square"] = found["error"] ** 2
    table = found.groupby(["source", "method", "mean", "side_cells"], sort=False).agg(
        areas=("error", "size"),
        sd_truth=("truth", "std"),
        mean_error=("error", "mean"),
        rmse=("square", lambda values: values.mean() ** 0.5),
        half_width=("half", "mean"),
        covered=("held", "mean"),
    )
    table.loc[table["half_width"].isna(), "covered"] = np.nan
    text = table.to_csv(float_format="%.3f", lineterminator="\n")
    write_text(RESULTS / "areas.csv", f"# {machine}\n{text}")
    print(text)


if __name__ == "__main__":
    main()
