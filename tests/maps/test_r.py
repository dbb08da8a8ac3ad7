"""The published raster in R, by the lines that the docs and the map card print."""

import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely import box

from sustain.config import PublishParams
from sustain.maps.publish import publish_map
from sustain.maps.raster import correct_raster
from sustain.maps.zonal import sample_points, zonal_mean

from .fakes import make_card, write_raster

RSCRIPT = shutil.which("Rscript")
DOCS = Path(__file__).parents[2] / "docs" / "maps.md"
# What a reader of the docs would type next, to see what came of the lines.
LOOK = """
write.csv(places, "seen_places.csv", row.names = FALSE)
write.csv(means, "seen_means.csv", row.names = FALSE)
code <- crs(map, describe = TRUE)
facts <- data.frame(layer = names(map), missing = global(is.na(map), "sum")$sum, rows = nrow(map), columns = ncol(map),
                    x = res(map)[1], crs = paste(code$authority, code$code, sep = ":"))
write.csv(facts, "seen_facts.csv", row.names = FALSE)
"""


def lines_of(path):
    return path.read_text().split("```r\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("r")
    raw = np.random.default_rng(8).uniform(-0.9, 0.9, size=(40, 30))
    raw[:5, :7] = np.nan
    card = make_card().save(root / "card.json")
    write_raster(root / "raw.tif", [raw], ("wealth_raw",), units=("index points",))
    correct_raster(root / "raw.tif", root / "corrected.tif", card)
    params = PublishParams(start="2016-01-01", end="2016-12-31")
    return publish_map(root / "corrected.tif", card, root / "out", params)


def test_docs_and_map_card_print_the_same_lines(folder):
    assert lines_of(folder / "README.md") == lines_of(DOCS)


@pytest.mark.skipif(RSCRIPT is None, reason="Rscript is not installed (Debian: apt-get install r-cran-terra)")
def test_terra_reads_what_was_published(folder, tmp_path):
    shutil.copy(folder / "wealth.tif", tmp_path)
    places = pd.read_csv(folder / "cells.csv").iloc[::37][["lon", "lat"]]
    missing = pd.DataFrame({"lon": [-0.083], "lat": [0.083]})
    places = pd.concat([places, missing], ignore_index=True).assign(village=lambda table: table.index)
    places.to_csv(tmp_path / "places.csv", index=False)
    areas = [box(-9000, -20_000, 2000, 3333), box(1000, -9000, 12_345, 5000), box(-9600, 6000, 9000, 9600)]
    areas = gpd.GeoDataFrame({"name": list("abc")}, geometry=areas, crs="EPSG:3857").to_crs("EPSG:4326")
    areas.to_file(tmp_path / "areas.gpkg")
    (tmp_path / "lines.R").write_text(lines_of(DOCS) + LOOK)
    done = subprocess.run(
        [RSCRIPT, "--vanilla", "lines.R"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[1] 1\n" in done.stdout  # one place without imagery

    facts = pd.read_csv(tmp_path / "seen_facts.csv")
    with rasterio.open(folder / "wealth.tif") as raster:
        assert facts["layer"].tolist() == list(raster.descriptions)
        assert (
            facts["missing"].tolist() == np.isnan(raster.read()).sum(axis=(1, 2)).tolist() == [35, 35, 35, 0]
        )
    assert facts.loc[0, ["rows", "columns", "x", "crs"]].tolist() == [40, 30, 960, "EPSG:3857"]

    seen = pd.read_csv(tmp_path / "seen_places.csv")
    with pytest.warns(match="1 meet only cells without imagery"):
        expected = sample_points(folder / "wealth.tif", places["lon"], places["lat"])
    assert list(seen) == ["lon", "lat", "village", *expected]
    np.testing.assert_allclose(seen[list(expected)], expected, rtol=1e-6)

    means = pd.read_csv(tmp_path / "seen_means.csv")
    np.testing.assert_allclose(
        means["wealth"], zonal_mean(folder / "wealth.tif", areas)["wealth"], rtol=1e-3, atol=1e-3
    )
