import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin
from scipy.stats import norm
from shapely import MultiPolygon, Point, box

from sustain.config import PublishParams
from sustain.debias import CalibrationCard, build_card
from sustain.errors import ConfigError, DataError, RasterError, SupportWarning
from sustain.maps import zones as zones_module
from sustain.maps.areas import COLUMNS, area_means, areas_table, overlap_factor
from sustain.maps.publish import publish_map
from sustain.maps.publish_tiles import publish_survey_tiles
from sustain.maps.raster import BANDS, correct_raster, correct_values
from sustain.maps.zonal import zonal_mean

from .fakes import make_card, write_raster

METHODS = ["linear", "bridge"]


@pytest.fixture(scope="module")
def curved_card():
    """A card of a bent relation, whose bridge correction is a curve."""
    rng = np.random.default_rng(2)
    y_true = rng.normal(size=600)
    y_pred = np.tanh(y_true) / 1.3 + rng.normal(scale=0.2, size=600)
    return build_card(
        y_pred,
        y_true,
        target={"name": "asset_index", "unit": "index points"},
        predictor="mean-0123456789ab",
        methods=METHODS,
        groups=np.arange(600) // 20,
        n_boot=60,
    )


@pytest.fixture(scope="module", params=METHODS)
def world(tmp_path_factory, curved_card, request):
    """Corrected map of 40 x 30 cells of 960 m, its card and its bands; a corner has no imagery."""
    root = tmp_path_factory.mktemp("areas")
    raw = np.random.default_rng(3).uniform(-0.7, 0.7, size=(40, 30))
    raw[:6, :4], raw[20, 20] = np.nan, 1.9
    write_raster(root / "raw.tif", [raw], ("wealth_raw",), units=("index points",))
    path = correct_raster(root / "raw.tif", root / "map.tif", curved_card, method=request.param)
    with rasterio.open(path) as raster:
        return path, curved_card, request.param, raster.read().astype(float)


def rectangle(top, bottom, left, right):
    """Outline of whole cells, half open like slices."""
    return box(-9600 + 960 * left, 9600 - 960 * bottom, -9600 + 960 * right, 9600 - 960 * top)


def frame(*shapes):
    return gpd.GeoDataFrame(geometry=list(shapes), crs="EPSG:3857")


def expected(bands, card, method, weight):
    """All figures of one area by their definitions; `weight` one a cell, 0 outside."""
    x, w = bands[1].ravel(), weight.ravel()
    there = np.isfinite(x) & (w > 0)
    x, w = x[there], w[there] / w[there].sum()
    draws = np.array([card.draws(method)(x)[k] @ w for k in range(len(card.draws(method)))])
    groups = card.sample.n_groups
    noise = card.standard_error(x, method=method) ** 2 - card.draws(method)(x).var(axis=0, ddof=1)
    mean = card.transform(x, method=method, check_support=False) @ w
    calibration = np.sqrt(draws.var(ddof=1) * groups / (groups - 1))
    own, shared = np.sqrt(w**2 @ noise), w @ np.sqrt(noise)
    z = norm.ppf(0.975)
    return {
        "wealth": mean,
        "wealth_raw": x @ w,
        "calibration_se": calibration,
        "noise_se": own,
        "noise_se_shared": shared,
        "narrowest_low95": mean - z * np.hypot(calibration, own),
        "narrowest_high95": mean + z * np.hypot(calibration, own),
        "low95": mean - z * np.hypot(calibration, shared),
        "high95": mean + z * np.hypot(calibration, shared),
        "cells": there.sum(),
    }


def test_every_figure_is_what_its_definition_says(world):
    path, card, method, bands = world
    weight = np.zeros((40, 30))
    weight[2:25, 1:22] = 1
    (found,) = area_means(path, frame(rectangle(2, 25, 1, 22)), card).to_dict("records")
    assert list(found) == list(COLUMNS)
    for name, value in expected(bands, card, method, weight).items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["imagery_share"] == pytest.approx(1 - 12 / weight.sum())
    assert found["extrapolated_share"] == pytest.approx(1 / (weight.sum() - 12))


def test_the_means_are_those_of_the_map(world):
    path, card, _, _ = world
    shapes = frame(rectangle(2, 25, 1, 22), Point(1500, -6000).buffer(7777), Point(9000, 900).buffer(2000))
    found, means = area_means(path, shapes, card), zonal_mean(path, shapes)
    for name in ("wealth", "wealth_raw", "imagery_share", "extrapolated_share"):
        np.testing.assert_allclose(found[name], means[name], rtol=1e-5, err_msg=name)


def test_one_cell_has_the_standard_error_of_the_cell(world):
    path, card, _, bands = world
    (found,) = area_means(path, frame(rectangle(10, 11, 7, 8)), card).to_dict("records")
    noise, calibration = found["noise_se"], found["calibration_se"]
    assert noise == pytest.approx(found["noise_se_shared"])
    # The band has no factor for few groups, an effect and this mean have: 30 groups, 30 / 29.
    assert np.hypot(noise, calibration * (29 / 30) ** 0.5) == pytest.approx(bands[2, 10, 7], rel=1e-4)


def test_weights_finer_than_the_map_give_each_cell_one_error(world, tmp_path):
    path, card, method, bands = world
    people = np.random.default_rng(6).uniform(0, 9, size=(160, 120))
    people[people < 3] = np.nan
    layout = {"transform": from_origin(-9600, 9600, 240, 240)}
    fine = write_raster(tmp_path / "people.tif", [people], ("people",), **layout)
    (found,) = area_means(path, frame(rectangle(0, 40, 0, 30)), card, weights=fine).to_dict("records")
    weight = np.nansum(people.reshape(40, 4, 30, 4), axis=(1, 3))
    for name, value in expected(bands, card, method, weight).items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_pieces_of_a_large_area_are_the_area(world, monkeypatch):
    path, card, _, _ = world
    ring = Point(2000, -9000).buffer(9000).difference(Point(2500, -8000).buffer(3000))
    shapes = frame(ring, MultiPolygon([rectangle(0, 3, 0, 9), rectangle(30, 38, 20, 29)]))
    whole, means = area_means(path, shapes, card), zonal_mean(path, shapes)
    monkeypatch.setattr(zones_module, "_SIDE", 7)
    monkeypatch.setattr(zones_module, "_CELLS_AT_A_TIME", 100)
    calls = []
    extract = zones_module.exactextract.exact_extract
    monkeypatch.setattr(
        zones_module.exactextract, "exact_extract", lambda *a, **k: calls.append(1) or extract(*a, **k)
    )
    np.testing.assert_allclose(area_means(path, shapes, card), whole, rtol=1e-6)
    assert len(calls) > 5
    np.testing.assert_allclose(zonal_mean(path, shapes), means, rtol=1e-6)


def test_the_intervals_hold_the_truth_as_often_as_they_say(tmp_path):
    """Cells that err independently, a card from a finite sample: the narrower interval covers, the widest more."""
    rng = np.random.default_rng(11)
    truth = rng.normal(0.3, 0.4, size=(12, 12))
    covered, widest = 0, 0
    for _ in range(60):
        y_true = rng.normal(size=80)
        y_pred = 0.1 + 0.6 * y_true + rng.normal(scale=0.3, size=80)
        target = {"name": "a", "unit": "u"}
        card = build_card(y_pred, y_true, target=target, predictor="m", methods=["linear"], n_boot=50)
        raw = 0.1 + 0.6 * truth + rng.normal(scale=0.3, size=truth.shape)
        tags = {"SUSTAIN_METHOD": "linear", "SUSTAIN_CARD_SHA256": card.sha256}
        path = write_raster(tmp_path / "map.tif", correct_values(raw, card, "linear"), BANDS, tags=tags)
        (found,) = area_means(path, frame(rectangle(0, 12, 0, 12)), card).to_dict("records")
        covered += found["narrowest_low95"] <= truth.mean() <= found["narrowest_high95"]
        widest += found["low95"] <= truth.mean() <= found["high95"]
    assert 0.88 <= covered / 60 <= 0.99  # without the calibration's part it is three in four
    assert widest >= covered


@given(tile=st.integers(1, 12), spacing=st.integers(1, 12))
def test_overlapping_tiles_raise_the_variance_by_the_sum_of_what_they_share(tile, spacing):
    k = tile / spacing
    lags = np.arange(-20, 21)
    shared = np.clip(1 - np.abs(lags) / k, 0, None)
    factor = overlap_factor({"SUSTAIN_TILE_PX": str(tile), "SUSTAIN_SPACING_PX": str(spacing)})
    assert factor == pytest.approx(np.outer(shared, shared).sum())
    assert factor >= 1


def test_overlap_is_in_the_noise_and_never_more_than_shared(tmp_path, curved_card):
    raw = np.random.default_rng(3).uniform(-0.7, 0.7, size=(40, 30))
    found = {}
    for spacing in ("64", "32"):
        tags = {"SUSTAIN_TILE_PX": "64", "SUSTAIN_SPACING_PX": spacing}
        write_raster(tmp_path / "raw.tif", [raw], ("wealth_raw",), tags=tags)
        path = correct_raster(tmp_path / "raw.tif", tmp_path / "map.tif", curved_card)
        areas = frame(rectangle(0, 30, 0, 30), rectangle(3, 4, 3, 5))
        found[spacing] = area_means(path, areas, curved_card)
    assert found["32"]["noise_se"][0] == pytest.approx(2 * found["64"]["noise_se"][0])
    assert found["32"]["noise_se"][1] == pytest.approx(found["32"]["noise_se_shared"][1])
    np.testing.assert_array_equal(found["32"]["calibration_se"], found["64"]["calibration_se"])
    assert overlap_factor({}) == overlap_factor({"SUSTAIN_TILE_PX": "x", "SUSTAIN_SPACING_PX": "0"}) == 1


def test_areas_without_imagery_are_counted(world):
    path, card, _, _ = world
    areas = frame(rectangle(0, 3, 0, 3), rectangle(100, 110, 0, 3), rectangle(10, 12, 5, 9)).set_index(
        np.array(["hole", "away", "here"])
    )
    with pytest.warns(SupportWarning, match="of 3 areas, 2 meet only cells without imagery"):
        found = area_means(path, areas, card)
    assert found.index.tolist() == ["hole", "away", "here"]
    assert found["wealth"].isna().tolist() == [True, True, False]
    assert found["imagery_share"].tolist() == [0, 0, 1]
    assert found["cells"].tolist() == [0, 0, 8]


def test_what_is_not_a_corrected_map_with_this_card_is_refused(world, tmp_path):
    path, card, _, _ = world
    area = frame(rectangle(0, 9, 0, 9))
    with pytest.raises(RasterError, match=r"corrected with card .* but the card given is"):
        area_means(path, area, make_card())
    raw = write_raster(tmp_path / "raw.tif", np.ones((1, 4, 4)), ("wealth_raw",))
    with pytest.raises(RasterError, match="Use the corrected map, not the raw one"):
        area_means(raw, area, card)
    with pytest.raises(DataError, match="polygons have no coordinate system"):
        area_means(path, gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)]), card)
    saved = card.save(tmp_path / "card.json")
    assert CalibrationCard.load(saved).sha256 == card.sha256
    assert area_means(path, area, saved)["cells"].tolist() == [81 - 24]


def districts(path, names=("north", "south"), column="name"):
    shapes = [rectangle(0, 20, 0, 30), rectangle(20, 40, 0, 30)]
    gpd.GeoDataFrame({column: list(names)}, geometry=shapes, crs="EPSG:3857").to_crs(4326).to_file(path)
    return path


def test_a_table_of_districts_from_a_file(world, tmp_path):
    path, card, _, _ = world
    table = areas_table(path, districts(tmp_path / "d.gpkg"), "name", card)
    assert list(table) == ["name", *COLUMNS]
    assert table["name"].tolist() == ["north", "south"]
    assert (table["cells"] > 0).all()
    (tmp_path / "text.gpkg").write_text("text")
    for areas, key, message in (
        (tmp_path / "none.gpkg", "name", r"none\.gpkg: no such file of areas"),
        (tmp_path / "text.gpkg", "name", r"text\.gpkg: not a readable vector file"),
        (tmp_path / "d.gpkg", "adm2", r"no column 'adm2'; it has name"),
        (
            districts(tmp_path / "twice.gpkg", ("a", "a")),
            "name",
            "1 rows repeat a name or have none, the first 'a'",
        ),
    ):
        with pytest.raises(DataError, match=message):
            areas_table(path, areas, key, card)


def test_a_published_folder_holds_the_districts(world, tmp_path):
    path, card, _, _ = world
    people = write_raster(tmp_path / "people.tif", np.full((1, 40, 30), 5.0), ("people",))
    params = PublishParams(
        start="2016-01-01",
        end="2016-12-31",
        areas=str(districts(tmp_path / "d.gpkg")),
        areas_key="name",
        people=str(people),
    )
    out = publish_map(path, card.save(tmp_path / "card.json"), tmp_path / "out", params)
    found = pd.read_csv(out / "areas.csv")
    expected = areas_table(path, tmp_path / "d.gpkg", "name", card, people)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, check_dtype=False)
    assert json.loads((out / "item.json").read_text())["assets"]["areas"]["href"] == "./areas.csv"
    text = (out / "README.md").read_text()
    assert "one row for each `name`, cells weighed by the people in them" in text
    assert all(f"`{name}`" in text for name in COLUMNS)
    assert str(tmp_path) not in text
    with pytest.raises(ConfigError, match="survey tiles has no wall-to-wall cells"):
        publish_survey_tiles(tmp_path / "cells.parquet", tmp_path / "card.json", tmp_path / "tiles", params)


@pytest.mark.parametrize("given", [{"areas": "a.gpkg"}, {"areas_key": "name"}, {"people": "p.tif"}])
def test_half_a_request_for_areas_is_refused(given):
    with pytest.raises(ValueError, match="areas and areas_key"):
        PublishParams(**given)
