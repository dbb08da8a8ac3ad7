import json
import warnings

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy.spatial.distance import cdist
from scipy.stats import t as student
from shapely import MultiPolygon, Point, box

from sustain.config import PublishParams
from sustain.debias import CalibrationCard, build_card
from sustain.debias.card.schema import CountryErrors, SpatialErrors
from sustain.errors import ConfigError, DataError, RasterError, SupportWarning, WeakCalibrationWarning
from sustain.maps.correct.raster import BANDS, correct_raster, correct_values
from sustain.maps.publish.publish import publish_map
from sustain.maps.publish.survey_tiles import publish_survey_tiles
from sustain.maps.read import zones as zones_module
from sustain.maps.read.area_variance import BlockSums
from sustain.maps.read.areas import COLUMNS, area_means, areas_table
from sustain.maps.read.zonal import zonal_mean
from sustain.sphere import EARTH_RADIUS_KM
from tests.maps.fakes import make_card, write_raster

METHODS = ["linear", "tweedie"]


def root(km, reach):
    """Root of the covariance of errors at places in kilometres that are alike as ``exp(-d / reach)``."""
    return np.linalg.cholesky(np.exp(-cdist(km, km) / reach) + 1e-9 * np.eye(len(km)))


@pytest.fixture(scope="module")
def curved_card():
    """A card of a bent relation, whose Tweedie correction is a curve and whose errors neighbours share in part."""
    rng = np.random.default_rng(2)
    km = rng.uniform(0, 60, size=(600, 2))
    y_true = rng.normal(size=600)
    y_pred = (
        np.tanh(y_true) / 1.3 + 0.15 * root(km, 5.0) @ rng.normal(size=600) + rng.normal(scale=0.15, size=600)
    )
    card = build_card(
        y_pred,
        y_true,
        target={"name": "asset_index", "unit": "index points"},
        predictor="mean-0123456789ab",
        methods=METHODS,
        groups=np.arange(600) // 20,
        lon=km[:, 0] / 111.2,
        lat=km[:, 1] / 111.2,
        n_boot=60,
    )
    assert 0.2 < card.spatial_errors.prediction_given_truth.shared < 0.9
    return card


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


def distances(weight):
    """Between the cells that count, in kilometres; near its origin a metre of EPSG:3857 is one on its own sphere."""
    row, col = np.nonzero(weight)
    return 0.96 * EARTH_RADIUS_KM / 6378.137 * cdist(np.column_stack([row, col]), np.column_stack([row, col]))


def by_definition(bands, card, method, weight):
    """All figures of one area by double sums over its cells; `weight` one a cell, 0 outside."""
    weight = np.where(np.isfinite(bands[1]), weight, 0.0)
    x, w = bands[1][weight > 0], weight[weight > 0] / weight.sum()
    draws = np.array([card.draws(method)(x)[k] @ w for k in range(len(card.draws(method)))])
    groups = card.sample.n_groups
    own = np.sqrt(card.standard_error(x, method=method) ** 2 - card.draws(method)(x).var(axis=0, ddof=1))
    spatial, line, raw = card.spatial_errors, card.truth_on_prediction, x @ w
    parts = [spatial.prediction_given_truth, spatial.truth_given_prediction]
    alike = [part(distances(weight)) for part in parts]
    for matrix in alike:
        np.fill_diagonal(matrix, 1)
    noise, unexplained = np.sqrt((w * own) @ alike[0] @ (w * own)), np.sqrt(w @ alike[1] @ w)
    reach, country, expected_country = student.ppf(0.975, groups - 1), np.nan, np.nan
    if parts[0].countries is None:
        unexplained *= line.residual_sd
    else:
        noise *= parts[0].countries.within_sd / card.residual_sd
        unexplained *= parts[1].countries.within_sd
        country = w @ own * parts[0].countries.sd / card.residual_sd
        expected_country = parts[1].countries.sd
        reach = student.ppf(0.975, parts[0].countries.n - 1)
    mean, expected = (
        card.transform(x, method=method, check_support=False) @ w,
        line.intercept + line.slope * raw,
    )
    calibration = np.sqrt(draws.var(ddof=1) * groups / (groups - 1))
    of_line = np.array([1, raw]) @ card_cov(line) @ np.array([1, raw])
    expected_se = np.sqrt(of_line + unexplained**2 + np.nan_to_num(expected_country) ** 2)
    margin = reach * np.sqrt(calibration**2 + noise**2 + np.nan_to_num(country) ** 2)
    return {
        "expected": expected,
        "expected_low95": expected - reach * expected_se,
        "expected_high95": expected + reach * expected_se,
        "wealth": mean,
        "low95": mean - margin,
        "high95": mean + margin,
        "wealth_raw": raw,
        "expected_se": expected_se,
        "calibration_se": calibration,
        "noise_se": noise,
        "country_se": country,
        "expected_country_se": expected_country,
        "cells": x.size,
    }


def card_cov(line):
    return np.array(line.cov)


def test_every_figure_is_what_its_definition_says(world):
    path, card, method, bands = world
    weight = np.zeros((40, 30))
    weight[2:16, 1:18] = 1
    (found,) = area_means(path, frame(rectangle(2, 16, 1, 18)), card).to_dict("records")
    assert list(found) == list(COLUMNS)
    for name, value in by_definition(bands, card, method, weight).items():
        assert found[name] == pytest.approx(value, rel=1e-4, nan_ok=True), name
    assert found["imagery_share"] == pytest.approx(1 - 12 / weight.sum())
    assert found["extrapolated_share"] == 0
    (found,) = area_means(path, frame(rectangle(10, 25, 10, 22)), card).to_dict("records")
    assert found["extrapolated_share"] == pytest.approx(1 / 180, rel=1e-5)


def test_blocks_of_a_large_area_cost_little_accuracy(world):
    path, card, method, bands = world
    (found,) = area_means(path, frame(rectangle(0, 40, 0, 30)), card).to_dict("records")
    for name, value in by_definition(bands, card, method, np.ones((40, 30))).items():
        assert found[name] == pytest.approx(value, rel=0.02, nan_ok=True), name


@pytest.mark.parametrize("n", [1, 40, 3000])
def test_blocks_keep_sums_whatever_the_order_of_cells(n):
    rng = np.random.default_rng(n)
    row, col = np.divmod(rng.choice(10_000, n, replace=False), 100)
    values = rng.uniform(size=(n, 2))
    blocks, again = BlockSums(2), BlockSums(2)
    blocks.add(row, col, values)
    for some in np.array_split(rng.permutation(n), 7):
        again.add(row[some], col[some], values[some])
    np.testing.assert_allclose(blocks.totals(), values.sum(axis=0))
    np.testing.assert_allclose(again.totals(), blocks.totals())
    np.testing.assert_allclose(again.centres(), blocks.centres())
    assert blocks.side == again.side
    assert len(blocks.centres()[0]) <= 256
    same = [lambda d: np.ones_like(d)] * 2  # all cells alike: the square of the sum
    found = blocks.quadratic_forms(cdist(*[np.column_stack(blocks.centres())] * 2), 1.0, same)
    np.testing.assert_allclose(found, values.sum(axis=0) ** 2)


@pytest.mark.parametrize("cell", [0.5, 3.0, 5.0, 20.0])
@pytest.mark.parametrize("shape", [(17, 16), (40, 40), (9, 100)])
def test_blocks_of_cells_hardly_change_the_variance(shape, cell):
    """Against all pairs of cells, with ranges below and above the cells' width."""

    def rho(distance):
        return 0.5 * np.exp(-distance / 3) + 0.2 * np.exp(-distance / 60)

    row, col = (place.ravel() for place in np.indices(shape))
    blocks = BlockSums(1)
    blocks.add(row, col, np.ones((row.size, 1)))
    assert blocks.side > 1
    places = np.column_stack([col, row]) * cell
    centres = np.column_stack(blocks.centres()) * cell
    (found,) = blocks.quadratic_forms(cdist(centres, centres), cell, [rho])
    assert np.sqrt(found / rho(cdist(places, places)).sum()) == pytest.approx(1, abs=0.01)


def test_a_card_without_places_takes_all_errors_as_shared(world, tmp_path):
    path, card, _, _ = world
    blind = card.model_copy(update={"spatial_errors": None})
    raw = correct_raster(path.parent / "raw.tif", tmp_path / "map.tif", blind)
    area = frame(rectangle(10, 30, 5, 25))
    with pytest.warns(WeakCalibrationWarning, match="built without lon and lat"):
        (wide,) = area_means(raw, area, blind).to_dict("records")
    correct_raster(path.parent / "raw.tif", tmp_path / "map.tif", card)
    (known,) = area_means(raw, area, card).to_dict("records")
    assert wide["wealth"] == known["wealth"]
    assert wide["noise_se"] > 2 * known["noise_se"]
    line = blind.truth_on_prediction
    assert wide["expected_se"] ** 2 == pytest.approx(
        line.residual_sd**2 + np.array([1, wide["wealth_raw"]]) @ card_cov(line) @ [1, wide["wealth_raw"]]
    )


def with_countries(card, n, **extent):
    """A card of `n` countries whose mean errors have standard deviations of 0.06 and 0.2."""
    spatial = card.spatial_errors
    spread = [CountryErrors(n=n, sd=sd, within_sd=within) for sd, within in ((0.06, 0.2), (0.2, 0.3))]
    parts = [spatial.prediction_given_truth, spatial.truth_given_prediction]
    first, second = (
        part.model_copy(update={"countries": one}) for part, one in zip(parts, spread, strict=True)
    )
    changed = SpatialErrors(prediction_given_truth=first, truth_given_prediction=second)
    sample = card.sample.model_copy(update=extent)
    return card.model_copy(update={"spatial_errors": changed, "sample": sample})


def test_the_error_of_a_country_is_carried_and_shared_by_its_areas(world, tmp_path):
    path, card, method, _ = world
    abroad = with_countries(card, 7, countries=["a", "b"])
    other = correct_raster(path.parent / "raw.tif", tmp_path / "map.tif", abroad, method=method)
    with rasterio.open(other) as raster:
        bands = raster.read().astype(float)
    weight = np.zeros((40, 30))
    weight[2:16, 1:18] = 1
    areas = frame(rectangle(2, 16, 1, 18), rectangle(20, 40, 0, 30), rectangle(30, 31, 9, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error", WeakCalibrationWarning)
        table = area_means(other, areas, abroad)
    found = table.iloc[0]
    for name, value in by_definition(bands, abroad, method, weight).items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert table["expected_country_se"].to_numpy() == pytest.approx(0.2)  # whatever the area's size
    before = area_means(path, areas, card)
    assert before[["country_se", "expected_country_se"]].isna().all(axis=None)
    for ends in (("low95", "high95"), ("expected_low95", "expected_high95")):
        wider, narrower = (values[ends[1]] - values[ends[0]] for values in (table, before))
        assert wider[1] > 1.2 * narrower[1], ends  # a large area, in which the errors of cells average out
    about = PublishParams(
        title="A map",
        licence="CC0-1.0",
        start="2016-01-01",
        end="2016-12-31",
        areas=str(districts(tmp_path / "d.gpkg")),
        areas_key="name",
    )
    for name, made, there in (("here", path, False), ("abroad", other, True)):
        saved = (abroad if there else card).save(tmp_path / f"{name}.json")
        text = (publish_map(made, saved, tmp_path / name, about) / "README.md").read_text()
        assert ("which all areas of one country share (`expected_country_se`)" in text) == there


def test_a_card_of_countries_that_does_not_know_their_spread_says_so(world, tmp_path):
    path, card, _, _ = world
    older = card.model_copy(update={"sample": card.sample.model_copy(update={"countries": ["a", "b", "c"]})})
    other = correct_raster(path.parent / "raw.tif", tmp_path / "map.tif", older)
    with pytest.warns(WeakCalibrationWarning, match=r"of 3 countries .* intervals are too short"):
        found = area_means(other, frame(rectangle(2, 16, 1, 18)), older)
    own = correct_raster(path.parent / "raw.tif", tmp_path / "own.tif", card)
    pd.testing.assert_frame_equal(found, area_means(own, frame(rectangle(2, 16, 1, 18)), card))


def test_the_means_are_those_of_the_map(world):
    path, card, _, _ = world
    shapes = frame(rectangle(2, 25, 1, 22), Point(1500, -6000).buffer(7777), Point(9000, 900).buffer(2000))
    found, means = area_means(path, shapes, card), zonal_mean(path, shapes)
    for name in ("wealth", "wealth_raw", "imagery_share", "extrapolated_share"):
        np.testing.assert_allclose(found[name], means[name], rtol=1e-5, err_msg=name)


def test_one_cell_has_the_standard_error_of_the_cell(world):
    path, card, _, bands = world
    (found,) = area_means(path, frame(rectangle(10, 11, 7, 8)), card).to_dict("records")
    # The band has no factor for few groups, an effect and this mean have: 30 groups, 30 / 29.
    cell = np.hypot(found["noise_se"], found["calibration_se"] * (29 / 30) ** 0.5)
    assert cell == pytest.approx(bands[2, 10, 7], rel=1e-4)


def test_weights_finer_than_the_map_give_each_cell_one_error(world, tmp_path):
    path, card, method, bands = world
    people = np.random.default_rng(6).uniform(0, 9, size=(160, 120))
    people[people < 3] = np.nan
    layout = {"transform": from_origin(-9600, 9600, 240, 240)}
    fine = write_raster(tmp_path / "people.tif", [people], ("people",), **layout)
    (found,) = area_means(path, frame(rectangle(20, 36, 9, 24)), card, weights=fine).to_dict("records")
    weight = np.zeros((40, 30))
    weight[20:36, 9:24] = np.nansum(people.reshape(40, 4, 30, 4), axis=(1, 3))[20:36, 9:24]
    for name, value in by_definition(bands, card, method, weight).items():
        assert found[name] == pytest.approx(value, rel=1e-4, nan_ok=True), name


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
    """Errors that neighbours share over some cells, a card from a finite sample: both intervals cover."""
    rng = np.random.default_rng(11)
    cells = np.column_stack([grid.ravel() for grid in np.mgrid[:12, :12]]) * 0.96
    km = np.concatenate([cells, rng.uniform(0, 60, size=(200, 2))])
    far, near, n = root(km, 8.0), root(km, 3.0), len(cells)
    held = {"wealth": 0, "expected": 0}
    for _ in range(120):
        truth = 0.3 + 0.7 * far @ rng.normal(size=len(km))
        shared = 0.25 * near @ rng.normal(size=len(km))
        pred = 0.1 + 0.6 * truth + shared + rng.normal(scale=0.1, size=len(km))
        card = build_card(
            pred[n:], truth[n:], target={"name": "a", "unit": "u"}, predictor="m", methods=["linear"],
            n_boot=50, lon=km[n:, 0] / 111.2, lat=km[n:, 1] / 111.2,
        )  # fmt: skip
        tags = {"SUSTAIN_METHOD": "linear", "SUSTAIN_CARD_SHA256": card.sha256}
        bands = correct_values(pred[:n].reshape(12, 12), card, "linear")
        path = write_raster(tmp_path / "map.tif", bands, BANDS, tags=tags)
        (found,) = area_means(path, frame(rectangle(0, 12, 0, 12)), card).to_dict("records")
        for name, prefix in (("wealth", ""), ("expected", "expected_")):
            held[name] += found[f"{prefix}low95"] <= truth[:n].mean() <= found[f"{prefix}high95"]
    assert all(0.88 <= count / 120 <= 0.99 for count in held.values()), held


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
    with pytest.raises(DataError, match="areas: its index repeats"):
        area_means(path, frame(rectangle(0, 5, 0, 5), rectangle(5, 9, 0, 5)).set_axis(["a", "a"]), card)
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
        (tmp_path / "none.gpkg", "name", r"none\.gpkg: no such file of polygons"),
        (tmp_path / "text.gpkg", "name", r"text\.gpkg: not a readable vector file"),
        (tmp_path / "d.gpkg", "adm2", r"no column 'adm2'; it has name"),
        (
            districts(tmp_path / "twice.gpkg", ("a", "a")),
            "name",
            "1 names are there more than once, such as 'a'",
        ),
    ):
        with pytest.raises(DataError, match=message):
            areas_table(path, areas, key, card)


def test_a_published_folder_holds_the_districts(world, tmp_path):
    path, card, _, _ = world
    people = write_raster(tmp_path / "people.tif", np.full((1, 40, 30), 5.0), ("people",))
    params = PublishParams(
        title="A map",
        licence="CC0-1.0",
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


def test_a_map_in_degrees_is_read_without_a_word(curved_card, tmp_path):
    """Cells of a hundredth of a degree at 60 degrees north are half as wide as high; no warning of degrees."""
    raw = np.random.default_rng(3).uniform(-0.7, 0.7, size=(20, 20))
    layout = {"crs": "EPSG:4326", "transform": from_origin(10, 60, 0.01, 0.01)}
    write_raster(tmp_path / "raw.tif", [raw], ("wealth_raw",), **layout)
    path = correct_raster(tmp_path / "raw.tif", tmp_path / "map.tif", curved_card)
    area = gpd.GeoDataFrame(geometry=[box(10, 59.9, 10.1, 60)], crs=4326)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        (found,) = area_means(path, area, curved_card).to_dict("records")
        zonal_mean(path, area)
    assert found["imagery_share"] == pytest.approx(1)
    km = EARTH_RADIUS_KM * np.radians(0.01)
    row, col = (grid.ravel() for grid in np.mgrid[:10, :10])
    ground = np.column_stack([col * km * np.cos(np.radians(59.95)), row * km])
    alike = curved_card.spatial_errors.truth_given_prediction(cdist(ground, ground))
    np.fill_diagonal(alike, 1)
    line = curved_card.truth_on_prediction
    by_line = np.array([1, found["wealth_raw"]]) @ card_cov(line) @ [1, found["wealth_raw"]]
    assert found["expected_se"] == pytest.approx(
        np.hypot(np.sqrt(by_line), np.sqrt(alike.mean()) * line.residual_sd), rel=1e-3
    )
