"""A map read at the units of a trial: points, circles, polygons, people; what is said about it; the command."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from pyproj import Transformer
from shapely import box

from sustain.causal import estimate_effect
from sustain.debias import CalibrationCard, build_card
from sustain.errors import DataError, SupportWarning
from sustain.maps.correct.raster import correct_raster
from sustain.maps.read.trial_units import read_map_at_units
from sustain.maps.read.zonal import buffer_mean, sample_points, zonal_mean
from tests.in_process import sustain
from tests.maps.fakes import write_raster

TO_LONLAT = Transformer.from_crs(3857, 4326, always_xy=True)
CELL, SIZE = 960, 40


@pytest.fixture(scope="module")
def card():
    rng = np.random.default_rng(0)
    f = rng.normal(size=400)
    return build_card(
        f,
        f + 0.75 * rng.normal(size=400),
        target={"name": "wealth", "unit": "index points"},
        predictor="m",
        methods=["linear", "tweedie"],
        n_boot=40,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory, card):
    """A corrected map, 300 units on it (60 districts), their polygons, and a raster of people."""
    folder = tmp_path_factory.mktemp("units")
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(1, SIZE, SIZE))
    raw[0, 0, 0] = np.nan
    tags = {"SUSTAIN_TARGET": "wealth", "SUSTAIN_PREDICTOR": "m"}
    write_raster(folder / "raw.tif", raw, ("wealth",), units=["index points"], tags=tags)
    correct_raster(folder / "raw.tif", folder / "map.tif", card)
    write_raster(folder / "people.tif", rng.integers(0, 900, (1, SIZE, SIZE)), ("people",))
    card.save(folder / "card.json")
    rows, cols = rng.integers(3, SIZE - 3, (2, 300))
    lon, lat = TO_LONLAT.transform(-9600 + (cols + 0.5) * CELL, 9600 - (rows + 0.5) * CELL)
    district = np.arange(300) % 60
    units = pd.DataFrame(
        {
            "lon": lon,
            "lat": lat,
            "treated": district % 2,
            "adm2": [f"d{code:02}" for code in district],
            "urban": rng.integers(0, 2, 300),
            "radius": rng.uniform(500, 3000, 300),
        },
        index=np.arange(1000, 1300),
    )
    units.to_csv(folder / "trial.csv", index=False)
    areas = gpd.GeoDataFrame(
        {"adm2": [f"d{code:02}" for code in range(60)][::-1]},
        geometry=[
            box(
                -9600 + 3 * CELL * (k % 10),
                9600 - 3 * CELL * (k // 10 + 1),
                -9600 + 3 * CELL * (k % 10 + 1),
                9600,
            )
            for k in range(60)
        ],
        crs=3857,
    )
    areas.to_file(folder / "areas.gpkg")
    return folder, units, areas


def test_points(world):
    folder, units, _ = world
    reading = read_map_at_units(folder / "map.tif", units)
    expected = sample_points(folder / "map.tif", units["lon"], units["lat"])
    pd.testing.assert_frame_equal(
        reading.table[["wealth", "wealth_raw", "wealth_se"]], expected[["wealth", "wealth_raw", "wealth_se"]]
    )
    assert reading.table.index.equals(units.index)
    assert set(reading.table["imagery_share"]) == {1.0}
    assert reading.table["extrapolated_share"].mean() == pytest.approx((expected["support"] == 1).mean())
    assert not reading.averaged
    assert "cells that contain" in reading.how
    assert any("Median standard error" in text for text in reading.caveats("linear"))


def test_units_that_share_a_value_are_said(world):
    folder, units, _ = world
    assert not any(
        "different values" in text
        for text in read_map_at_units(folder / "map.tif", units[:1]).caveats("linear")
    )
    twice = read_map_at_units(folder / "map.tif", pd.concat([units[:5], units[:5]], ignore_index=True))
    assert any("10 rows hold 5 different values" in text for text in twice.caveats("linear"))


def test_circles(world):
    folder, units, _ = world
    reading = read_map_at_units(folder / "map.tif", units, buffer_m="radius")
    one = buffer_mean(folder / "map.tif", units["lon"][:1], units["lat"][:1], units["radius"].iloc[0])
    assert reading.table["wealth_raw"].iloc[0] == pytest.approx(one["wealth_raw"].item())
    assert "column 'radius'" in reading.how
    fixed = read_map_at_units(folder / "map.tif", units, buffer_m=1500)
    assert fixed.table["wealth_raw"].std() < reading.table["wealth_raw"].std() * 1.5
    assert "1500 m" in fixed.how
    assert any("places may correct too much" in text for text in fixed.caveats("linear"))
    assert any("is a curve" in text for text in fixed.caveats("tweedie"))
    assert any("means over cells scatter less" in text for text in fixed.caveats("response"))


def test_displaced_coordinates_get_the_surveys_circles(world):
    folder, units, _ = world
    reading = read_map_at_units(folder / "map.tif", units, displaced="urban")
    for urban, radius in ((1, 2000.0), (0, 5000.0)):
        some = units[units["urban"] == urban]
        expected = buffer_mean(folder / "map.tif", some["lon"], some["lat"], radius)
        np.testing.assert_allclose(reading.table.loc[some.index, "wealth"], expected["wealth"])
    assert "2 km around urban and 5 km around rural" in reading.how


@pytest.mark.parametrize("weighted", [False, True])
def test_polygons_in_the_order_of_units(world, weighted):
    folder, units, areas = world
    people = folder / "people.tif" if weighted else None
    reading = read_map_at_units(folder / "map.tif", units, polygons=areas, key="adm2", weights=people)
    expected = zonal_mean(folder / "map.tif", areas, people).set_axis(areas["adm2"])
    np.testing.assert_allclose(reading.table["wealth"], expected.loc[units["adm2"], "wealth"])
    assert ("weighed by" in reading.how) == weighted


def test_what_is_refused(world):
    folder, units, areas = world
    path = folder / "map.tif"
    with pytest.raises(DataError, match="buffer_m and displaced exclude each other"):
        read_map_at_units(path, units, buffer_m=5, displaced="urban")
    with pytest.raises(DataError, match="nothing to weigh"):
        read_map_at_units(path, units, weights=folder / "people.tif")
    with pytest.raises(DataError, match="go together"):
        read_map_at_units(path, units, polygons=areas)
    with pytest.raises(DataError, match="no column 'lat' in units"):
        read_map_at_units(path, units.drop(columns="lat"))
    with pytest.raises(DataError, match="no column 'far' in units"):
        read_map_at_units(path, units, buffer_m="far")
    with pytest.raises(DataError, match="for urban and 0"):
        read_map_at_units(path, units, displaced="radius")
    with pytest.raises(DataError, match="are not in polygons: column 'adm2', the first 'd00'"):
        read_map_at_units(path, units, polygons=areas.iloc[:-1], key="adm2")
    with pytest.raises(DataError, match="more than once"):
        read_map_at_units(path, units, polygons=pd.concat([areas, areas]), key="adm2")
    with pytest.raises(DataError, match="no column 'gid' in polygons"):
        read_map_at_units(path, units.assign(gid=1), polygons=areas, key="gid")
    with pytest.raises(DataError, match="written over by the map's"):
        read_map_at_units(path, units.assign(wealth_raw=1))
    with pytest.raises(DataError, match="radius_m: has 2 values, but lon has 300"):
        buffer_mean(path, units["lon"], units["lat"], [1000, 2000])


@pytest.mark.parametrize("wanted", [[2, 1, 3], [2.0, 1.0, 3.0], ["2", "1", "3"]])
def test_a_key_is_the_same_whatever_type_a_join_made_of_it(world, wanted):
    """Polygons of a file have whole numbers; those of no unit may have none at all."""
    folder, _, areas = world
    polygons = areas.iloc[:4].assign(code=pd.array([1, 2, 3, None], dtype="Int64"))
    units = pd.DataFrame({"code": wanted})
    found = read_map_at_units(folder / "map.tif", units, polygons=polygons, key="code").table
    expected = zonal_mean(folder / "map.tif", areas.iloc[[1, 0, 2]])
    np.testing.assert_array_equal(found["wealth_raw"], expected["wealth_raw"])


def test_codes_with_leading_zeros_are_other_keys(world):
    folder, _, areas = world
    polygons = areas.iloc[:1].assign(code=["007"])
    with pytest.raises(DataError, match="only look like those in polygons: column 'code': '7' and '007'"):
        read_map_at_units(folder / "map.tif", pd.DataFrame({"code": [7]}), polygons=polygons, key="code")


@pytest.mark.parametrize(("theirs", "ours"), [("001", 1), ("1", "001"), ("1.0", 1)])
def test_codes_that_were_read_as_numbers_are_named(world, theirs, ours):
    areas = gpd.GeoDataFrame({"code": [theirs]}, geometry=[box(0, 0, 1, 1)], crs=4326)
    with pytest.raises(
        DataError, match=rf"only look like those in polygons: column 'code': '{ours}' and '{theirs}'"
    ):
        read_map_at_units(world[0] / "map.tif", pd.DataFrame({"code": [ours]}), polygons=areas, key="code")


def test_an_index_that_repeats_multiplies_nothing(world):
    """A panel by its villages, joined with what is read at its rows, had four rows a village for two."""
    folder, units, areas = world
    panel = pd.concat([units.assign(year=2010), units.assign(year=2015)])
    panel.index = pd.Index(np.tile([f"v{k}" for k in range(len(units))], 2), name="village")
    with pytest.raises(DataError, match=r"lon: its index repeats .* a join .* would multiply rows"):
        sample_points(folder / "map.tif", panel["lon"], panel["lat"])
    with pytest.raises(DataError, match="polygons: its index repeats"):
        zonal_mean(folder / "map.tif", pd.concat([areas, areas]))
    for options in ({}, {"buffer_m": 3000}, {"polygons": areas, "key": "adm2"}):
        once = read_map_at_units(folder / "map.tif", units, **options).table
        found = read_map_at_units(folder / "map.tif", panel, **options).table
        assert found.index.equals(panel.index)
        np.testing.assert_array_equal(found["wealth_raw"], np.tile(once["wealth_raw"], 2))


def test_a_row_without_a_polygon_is_named_by_its_key(world):
    areas = gpd.GeoDataFrame({"code": ["a", "b"]}, geometry=[box(0, 0, 1, 1), None], crs=4326)
    with pytest.raises(DataError, match="1 of 2 rows have no geometry: 'b'"):
        read_map_at_units(
            world[0] / "map.tif", pd.DataFrame({"code": ["b", "a"]}), polygons=areas, key="code"
        )


class TestCommand:
    def test_says_the_effect_and_how_the_map_was_read(self, world, tmp_path):
        folder, units, _ = world
        done = sustain(
            "effect",
            *(folder / "trial.csv", "--map", folder / "map.tif", "--card", folder / "card.json"),
            *("--treatment", "treated", "--vcov", "CRV1:adm2", "--assumption", "bracket"),
            *("--displaced", "urban", "-o", tmp_path / "effect.json"),
        )
        assert done.returncode == 0, done.stderr
        assert "assumption: bracket" in done.stdout
        assert "Coordinates are displaced" in done.stdout
        assert "classifier AUC" in done.stdout
        written = json.loads((tmp_path / "effect.json").read_text())
        with pytest.warns(SupportWarning) if written["share_outside"] > 0.02 else _nothing():
            table = read_map_at_units(folder / "map.tif", units, displaced="urban").table
            expected = estimate_effect(
                table,
                outcome="wealth_raw",
                treatment="treated",
                calibration=CalibrationCard.load(folder / "card.json"),
                assumption="bracket",
                vcov={"CRV1": "adm2"},
            )
        assert written["bracket"]["measurement stability"]["estimate"] == pytest.approx(expected.estimate)
        assert written["conf_low"] == pytest.approx(expected.conf_int()[0])
        assert 0.5 < written["transport"]["auc"] < 1  # means over circles vary less than places
        assert written["map"][0].startswith("Coordinates are displaced")

    def test_polygons_and_people(self, world):
        folder, _, _ = world
        done = sustain(
            "effect",
            *(folder / "trial.csv", "--map", folder / "map.tif", "--card", folder / "card.json"),
            *("--polygons", folder / "areas.gpkg", "--key", "adm2", "--cell-weights", folder / "people.tif"),
            *("--vcov", "CRV1:adm2"),
        )
        assert done.returncode == 0, done.stderr
        assert "weighed by the raster of weights" in " ".join(done.stdout.split())

    def test_conley(self, world):
        folder, _, _ = world
        base = (folder / "trial.csv", "--map", folder / "map.tif", "--card", folder / "card.json", "--vcov")
        done = sustain("effect", *base, "conley:5")
        assert done.returncode == 0, done.stderr
        assert "onley" in done.stdout
        wrong = sustain("effect", *base, "conley:far")
        assert wrong.returncode == 1
        assert "conley:100" in wrong.stderr

    def test_a_new_country_needs_the_spread(self, world):
        folder, _, _ = world
        base = (folder / "trial.csv", "--map", folder / "map.tif", "--card", folder / "card.json")
        done = sustain("effect", *base, "--transport", "groups")
        assert done.returncode == 1
        assert "needs a card that knows what" in done.stderr

    def test_a_card_of_another_map(self, world, tmp_path, card):
        folder, _, _ = world
        CalibrationCard.model_validate(card.model_dump() | {"citation": "other"}).save(
            tmp_path / "other.json"
        )
        done = sustain(
            "effect", folder / "trial.csv", "--map", folder / "map.tif", "--card", tmp_path / "other.json"
        )
        assert done.returncode == 1
        assert "published with this map" in done.stderr


def test_a_layer_is_named_on_the_command_line(world):
    folder, _, areas = world
    for layer in ("districts", "regions"):
        areas.to_file(folder / "two.gpkg", layer=layer)
    command = (
        "effect",
        folder / "trial.csv",
        "--map",
        folder / "map.tif",
        "--treatment",
        "treated",
        "--key",
        "adm2",
    )
    unnamed = sustain(*command, "--polygons", folder / "two.gpkg", "--card", folder / "card.json")
    assert "2 layers (districts, regions), and none is named. Say which one" in unnamed.stderr
    done = sustain(
        *command, "--polygons", folder / "two.gpkg", "--layer", "regions", "--card", folder / "card.json"
    )
    assert done.returncode == 0, done.stderr


def _nothing():
    from contextlib import nullcontext

    return nullcontext()
