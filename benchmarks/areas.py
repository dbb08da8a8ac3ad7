"""Means of squares of the embedded world's map against the truth: how far off they are, and what the intervals hold.

One world and one card, so that the calibration's error is one draw; the noise is that of a real model on overlapping
tiles. Run after ``dvc repro``; ``python benchmarks/areas.py`` writes ``results/areas.csv``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from machine import RESULTS, describe
from shapely import box

from sustain.config import load_params
from sustain.data.synthetic.world import Streams, build_landscape, tile_means
from sustain.files import write_text
from sustain.maps.areas import area_means
from sustain.maps.raster import correct_raster

SIDES = (1, 2, 4, 8, 16, 26)
ROOT = Path(__file__).resolve().parents[1]


def measure(root: Path, method: str) -> pd.DataFrame:
    """Errors and coverage of means over squares of several sizes, for one correction."""
    params = load_params(ROOT / "params.yaml", "synthetic")
    world, spacing = params.acquire, params.map.spacing_px
    truth = tile_means(build_landscape(world, Streams(params.seed)).wealth, world.tile_px)
    truth = truth[::spacing, ::spacing]
    raw, card = root / "maps/synthetic-raw/wealth.tif", root / "calibration/synthetic/card.json"
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        path = correct_raster(raw, Path(scratch) / "map.tif", card, method)
        with rasterio.open(path) as raster:
            transform, shape, seen = raster.transform, raster.shape, np.isfinite(raster.read(1))
        if truth.shape != shape:
            raise SystemExit(f"the map has {shape} cells, the truth {truth.shape}: run dvc repro")
        for side in SIDES:
            corners = [
                (row, col)
                for row in range(0, shape[0] - side + 1, side)
                for col in range(0, shape[1] - side + 1, side)
                if seen[row : row + side, col : col + side].all()
            ]
            squares = [
                box(*transform @ (col, row + side), *transform @ (col + side, row)) for row, col in corners
            ]
            found = area_means(path, gpd.GeoDataFrame(geometry=squares, crs=raster.crs), card)
            true = np.array([truth[row : row + side, col : col + side].mean() for row, col in corners])
            error = found["wealth"] - true
            rows.append(
                {
                    "method": method,
                    "side_cells": side,
                    "areas": len(true),
                    "sd_truth": true.std(),
                    "mean_error": error.mean(),
                    "rmse": np.sqrt((error**2).mean()),
                    "rmse_raw": np.sqrt(((found["wealth_raw"] - true) ** 2).mean()),
                    "narrowest_half_width": (found["narrowest_high95"] - found["narrowest_low95"]).mean() / 2,
                    "narrowest_covered": found["narrowest_low95"]
                    .le(true)
                    .mul(found["narrowest_high95"].ge(true))
                    .mean(),
                    "half_width": (found["high95"] - found["low95"]).mean() / 2,
                    "covered": found["low95"].le(true).mul(found["high95"].ge(true)).mean(),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure every correction and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="Where dvc repro has run.")
    root = parser.parse_args().root
    table = pd.concat([measure(root, method) for method in ("linear", "tweedie", "bridge")])
    text = table.to_csv(index=False, float_format="%.3f", lineterminator="\n")
    write_text(RESULTS / "areas.csv", f"# {describe()}\n{text}")
    print(text)


if __name__ == "__main__":
    main()
