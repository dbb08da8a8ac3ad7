"""Somebody's raster under a trial, and a map for each period: the cells' own values, whatever bands are called."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import rasterio
from pyproj import Transformer

from sustain.errors import BandWarning, DataError
from sustain.maps.read import buffer_mean, panel_from_maps
from sustain.maps.read.trial_units import read_map_at_units
from tests.in_process import sustain
from tests.maps.fakes import write_raster

CELL, SIZE = 960, 12


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two rasters of somebody else, one band each, and villages at the middles of cells."""
    folder = tmp_path_factory.mktemp("panel")
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 1, SIZE, SIZE))
    write_raster(folder / "a.tif", before, ("prediction",))
    write_raster(folder / "b.tif", after, ("prediction",))
    write_raster(folder / "two.tif", np.concatenate([before, after]), ("old", "new"))
    rows, cols = np.divmod(np.arange(0, SIZE * SIZE, 3), SIZE)
    lon, lat = Transformer.from_crs(3857, 4326, always_xy=True).transform(
        -9600 + (cols + 0.5) * CELL, 9600 - (rows + 0.5) * CELL
    )
    since = np.where(np.arange(len(rows)) % 2 == 1, 2015.0, np.nan)
    kind = np.where(np.arange(len(rows)) % 3 == 0, "U", "R")
    units = pd.DataFrame({"village": np.arange(len(rows)), "LONGNUM": lon, "LATNUM": lat})
    units = units.assign(since=since, treated_ever=np.isfinite(since).astype(int), URBAN_RURA=kind)
    units.to_csv(folder / "villages.csv", index=False)
    return folder, units, before[0, rows, cols], after[0, rows, cols]


PLACES = {"lon": "LONGNUM", "lat": "LATNUM"}


def test_the_only_band_is_taken_whatever_its_name_and_said(world):
    folder, units, before, _ = world
    with pytest.warns(BandWarning, match="its only band, 'prediction', is taken"):
        found = read_map_at_units(folder / "a.tif", units, **PLACES)
    np.testing.assert_array_equal(found.table["wealth_raw"], before.astype("float32"))
    np.testing.assert_array_equal(found.table["prediction"], found.table["wealth_raw"])
    assert "in column 'wealth_raw', are the raster's band 'prediction'" in found.how


@pytest.mark.parametrize("band", ["new", "2", 2])
def test_a_band_by_name_or_number(world, band):
    folder, units, _, after = world
    found = read_map_at_units(folder / "two.tif", units, band=band, **PLACES)
    np.testing.assert_array_equal(found.table["wealth_raw"], after.astype("float32"))
    assert "old" in found.table


@pytest.mark.filterwarnings("ignore::sustain.errors.BandWarning")
def test_letters_of_dhs_are_radii(world):
    folder, units, *_ = world
    found = read_map_at_units(folder / "a.tif", units, displaced="URBAN_RURA", **PLACES).table
    radius = units["URBAN_RURA"].map({"U": 2000.0, "R": 5000.0})
    expected = buffer_mean(folder / "a.tif", units["LONGNUM"], units["LATNUM"], radius)
    np.testing.assert_array_equal(found["wealth_raw"], expected["prediction"])


@pytest.mark.filterwarnings("ignore::sustain.errors.BandWarning")
class TestPanel:
    def test_every_unit_in_every_period(self, world):
        folder, units, before, after = world
        maps = {2010: folder / "a.tif", 2015: folder / "b.tif"}
        panel = panel_from_maps(maps, units, started="since", **PLACES)
        wide = panel.pivot_table(["wealth_raw", "treated"], "village", "year")
        np.testing.assert_allclose(wide["wealth_raw"][2010], before, rtol=1e-6)
        np.testing.assert_allclose(wide["wealth_raw"][2015], after, rtol=1e-6)
        assert (wide["treated"][2010] == 0).all()
        np.testing.assert_array_equal(wide["treated"][2015], units["treated_ever"])

    def test_rows_of_a_panel_stay_in_order_even_under_one_index(self, world):
        folder, units, before, after = world
        maps = {2010: folder / "a.tif", 2015: folder / "b.tif"}
        stacked = pd.concat([units.assign(year=2015), units.assign(year=2010)]).set_index("village")
        found = panel_from_maps(maps, stacked, **PLACES)
        np.testing.assert_allclose(found["wealth_raw"], np.concatenate([after, before]), rtol=1e-6)
        pd.testing.assert_index_equal(found.index, stacked.index)

    def test_what_is_refused(self, world):
        folder, units, *_ = world
        with pytest.raises(DataError, match="maps: none given"):
            panel_from_maps({}, units)
        with pytest.raises(DataError, match="none for year 2020; there are maps for 2010"):
            panel_from_maps({2010: folder / "a.tif"}, units.assign(year=2020), **PLACES)
        with pytest.raises(DataError, match="'treated' would be written over"):
            panel_from_maps({2010: folder / "a.tif"}, units.assign(treated=1), started="since", **PLACES)

    @pytest.mark.parametrize("never", [0, -1])
    def test_a_code_for_never_treated_is_not_read_as_always(self, world, never):
        folder, units, *_ = world
        coded = units.assign(since=units["since"].fillna(never))
        with pytest.raises(DataError, match=f"'since' holds {never}, which is no period.*missing"):
            panel_from_maps(
                {2010: folder / "a.tif", 2015: folder / "b.tif"}, coded, started="since", **PLACES
            )

    def test_maps_in_different_units_are_refused(self, world, tmp_path):
        folder, units, *_ = world
        with rasterio.open(folder / "b.tif") as raster:
            values = raster.read()
        write_raster(
            tmp_path / "thousandths.tif", np.round(1000 * values), ("prediction",), dtype="int16", nodata=None
        )
        maps = {2010: folder / "a.tif", 2015: tmp_path / "thousandths.tif"}
        with pytest.raises(DataError, match=r"in 2010 and by .* in 2015: they seem to be in different units"):
            panel_from_maps(maps, units, **PLACES)


class TestCommand:
    def test_a_raster_and_a_table_as_they_came(self, world, tmp_path):
        folder, units, before, _ = world
        out = tmp_path / "effect.json"
        line = ("effect", folder / "villages.csv", "--map", folder / "a.tif", "--treatment", "treated_ever")
        done = sustain(*line, "--lon", "LONGNUM", "--lat", "LATNUM", "-o", out)
        assert done.returncode == 0, done.stderr
        assert "its only band, 'prediction', is taken" in done.stderr
        arm = units["treated_ever"] == 1
        assert json.loads(out.read_text())["estimate"] == pytest.approx(
            before[arm].mean() - before[~arm].mean(), rel=1e-5
        )

    def test_several_bands_must_be_named(self, world):
        folder, *_ = world
        line = ("effect", folder / "villages.csv", "--map", folder / "two.tif", "--lon", "LONGNUM")
        line += ("--lat", "LATNUM", "--treatment", "treated_ever")
        done = sustain(*line)
        assert done.returncode == 1
        assert "the bands are 1 (old), 2 (new). Say it (--band)" in done.stderr
        assert sustain(*line, "--band", "new").returncode == 0

    def test_other_names_of_coordinates_are_asked_for(self, world):
        folder, *_ = world
        done = sustain("effect", folder / "villages.csv", "--map", folder / "a.tif")
        assert "say which columns these are (--lon, --lat)" in done.stderr
