"""The published raster in other people's tools: R, by the lines that the docs and the map card print, and GDAL's."""

import json
import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from rio_tiler.io import Reader
from shapely import box

from sustain.config import PublishParams
from sustain.maps.correct.raster import correct_raster
from sustain.maps.publish.publish import publish_map
from sustain.maps.read.zonal import sample_points, zonal_mean
from tests.maps.fakes import make_card, write_raster

RSCRIPT = shutil.which("Rscript")
NO_R = "Rscript is not installed (Debian: apt-get install r-base-core)"
GDALINFO = shutil.which("gdalinfo")
DOCS = Path(__file__).parents[3] / "docs" / "maps.md"
# What a reader of the docs would type next, to see what came of the lines.
LOOK = """
write.csv(places, "seen_places.csv", row.names = FALSE)
write.csv(means, "seen_means.csv", row.names = FALSE)
code <- crs(map, describe = TRUE)
facts <- data.frame(layer = names(map), missing = global(is.na(map), "sum")$sum, rows = nrow(map), columns = ncol(map),
                    x = res(map)[1], crs = paste(code$authority, code$code, sep = ":"))
write.csv(facts, "seen_facts.csv", row.names = FALSE)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("r")
    raw = np.random.default_rng(8).uniform(-0.9, 0.9, size=(40, 30))
    raw[:5, :7] = np.nan
    card = make_card().save(root / "card.json")
    write_raster(root / "raw.tif", [raw], ("wealth_raw",), units=("index points",))
    correct_raster(root / "raw.tif", root / "corrected.tif", card)
    params = PublishParams(title="A map", licence="CC0-1.0", start="2016-01-01", end="2016-12-31")
    return publish_map(root / "corrected.tif", card, root / "out", params)


def lines_of(path):
    return path.read_text().split("```r\n")[1].split("```")[0]


def test_docs_and_map_card_print_the_same_lines(folder):
    assert lines_of(folder / "README.md") == lines_of(DOCS)


@pytest.fixture(scope="module")
def terra():
    """Path of an Rscript that has terra; R alone does not bring it."""
    if RSCRIPT is None:
        pytest.skip(NO_R)
    asked = subprocess.run(
        [RSCRIPT, "--vanilla", "-e", 'quit(status = !nzchar(system.file(package = "terra")))'],
        capture_output=True,
        timeout=60,
    )
    if asked.returncode != 0:
        pytest.skip("R is installed, but not its package terra (Debian: apt-get install r-cran-terra)")
    return RSCRIPT


def test_terra_reads_what_was_published(terra, folder, tmp_path):
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
        [terra, "--vanilla", "lines.R"], cwd=tmp_path, capture_output=True, text=True, timeout=120
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
        means["wealth_raw"], zonal_mean(folder / "wealth.tif", areas)["wealth_raw"], rtol=1e-3, atol=1e-3
    )


@pytest.mark.skipif(RSCRIPT is None, reason=NO_R)
def test_an_effect_in_r_is_the_one_in_python(tmp_path):
    rng = np.random.default_rng(4)
    trial = pd.DataFrame({"treated": np.arange(200) % 2}).assign(
        wealth_raw=lambda t: 0.3 * t["treated"] + rng.normal(0, 0.5, 200)
    )
    trial.to_csv(tmp_path / "places.csv", index=False)
    lines = lines_of(DOCS.with_name("effects.md"))
    script = f'places <- read.csv("places.csv")\n{lines}\ncat(naive, effect, effect_se, "\\n")'
    (tmp_path / "lines.R").write_text(script)
    done = subprocess.run(
        [RSCRIPT, "--vanilla", "lines.R"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    arms = trial.groupby("treated")["wealth_raw"]
    naive = arms.mean()[1] - arms.mean()[0]
    variance = (
        (arms.var() * (arms.count() - 1)).sum() / 198 * (1 / arms.count()).sum()
    )  # pooled, as lm has it
    found = [float(word) for word in done.stdout.splitlines()[-1].split()]
    expected = [naive, naive / 0.697, np.sqrt(variance / 0.697**2 + naive**2 * 0.026**2 / 0.697**4)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(GDALINFO is None, reason="gdalinfo is not installed (Debian: apt-get install gdal-bin)")
def test_gdal_s_own_utilities_read_what_was_published(folder, tmp_path):
    path = folder / "wealth.tif"
    found = json.loads(run("gdalinfo", "-json", path))
    assert found["size"] == [30, 40]
    assert found["geoTransform"] == [-9600, 960, 0, 9600, 0, -960]
    assert found["metadata"]["IMAGE_STRUCTURE"]["COMPRESSION"] == "DEFLATE"
    assert found["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    assert found["metadata"][""]["SUSTAIN_METHOD"] == "linear"
    assert 'ID["EPSG",3857]' in found["coordinateSystem"]["wkt"]
    with rasterio.open(path) as raster:
        names, units, bands = raster.descriptions, raster.units, raster.read()
    assert tuple(band["description"] for band in found["bands"]) == names
    assert tuple(band["unit"] for band in found["bands"]) == units
    assert {(band["type"], str(band["noDataValue"])) for band in found["bands"]} == {("Float32", "NaN")}

    cell = pd.read_csv(folder / "cells.csv").iloc[500]
    text = run("gdallocationinfo", "-valonly", "-wgs84", path, cell["lon"], cell["lat"])
    np.testing.assert_allclose([float(line) for line in text.split()], cell.iloc[2:], rtol=1e-6)

    run("gdal_translate", "-q", "-of", "ENVI", "-co", "INTERLEAVE=BSQ", path, tmp_path / "copy.bin")
    np.testing.assert_array_equal(np.fromfile(tmp_path / "copy.bin", np.float32).reshape(bands.shape), bands)


def test_tiles_as_a_gis_asks_for_them(folder):
    with Reader(str(folder / "wealth.tif")) as reader:
        info = reader.info()
        assert [name for _, name in info.band_descriptions] == list(reader.dataset.descriptions)
        cell = pd.read_csv(folder / "cells.csv").iloc[500]
        np.testing.assert_allclose(reader.point(cell["lon"], cell["lat"]).data, cell.iloc[2:], rtol=1e-6)
        tile = reader.tile(*next(iter(reader.tms.tiles(*reader.get_geographic_bounds("EPSG:4326"), [9])))[:3])
    assert tile.data.shape == (4, 256, 256)
    holes = np.ma.getmaskarray(tile.array[0])
    assert 0 < holes.mean() < 1  # the corner without imagery, and what lies beside the map
    with rasterio.open(folder / "wealth.tif") as raster:
        assert set(tile.array[0].compressed()) <= set(raster.read(1).ravel())
