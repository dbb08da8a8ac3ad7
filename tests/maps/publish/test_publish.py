import json
from datetime import date

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio
from pystac.validation import RegisteredValidator
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.errors import CardError, ConfigError, DiskSpaceError, FileFormatError, RasterError
from sustain.files import sha256_of
from sustain.maps.correct.raster import correct_raster
from sustain.maps.geotiff import open_raster
from sustain.maps.publish import folder
from sustain.maps.publish.publish import publish_map
from sustain.maps.publish.stac import item_id
from sustain.maps.read.cells import BandStatistics, iter_cells
from tests.maps.fakes import make_card, write_raster

PARAMS = PublishParams(
    title="Wealth of Exampleland: a test",
    description="Made by a test.",
    start="2016-01-01",
    end="2016-12-31",
    licence="CC-BY-4.0",
    imagery_licence="public domain",
    labels_licence="by registration",
    citation="A. Nobody (2026)",
)
FILES = ["README.md", "card.json", "cells.csv", "cells.parquet", "collection.json", "item.json", "model.json"]
FILES += ["legend.json", "support.qml", "thumbnail.png", "wealth.qml", "wealth.tif", "wealth_se.qml"]
FILES.sort()
MODEL = {"bands": ["BLUE"], "backbone": "resnet18", "versions": {"torch": "2.0"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corrected map of 300 x 40 cells, its card, and the folder published from them."""
    root = tmp_path_factory.mktemp("publish")
    raw = np.random.default_rng(5).uniform(-0.95, 0.95, size=(300, 40))
    raw[:260, :20], raw[0, 39] = np.nan, 3.0
    card = make_card().save(root / "card.json")
    write_raster(
        root / "raw.tif",
        [raw],
        ("wealth_raw",),
        units=("index points",),
        tags={"SUSTAIN_PREDICTOR": "mean-0123456789ab", "SUSTAIN_TILE_PX": "64", "SUSTAIN_SPACING_PX": "32"},
    )
    correct_raster(root / "raw.tif", root / "corrected.tif", card)
    (root / "model.json").write_text(json.dumps(MODEL))
    publish_map(root / "corrected.tif", card, root / "out", PARAMS, model_json=root / "model.json")
    return root


def test_the_folder_holds_everything(made):
    out = made / "out"
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert (out / "wealth.tif").read_bytes() == (made / "corrected.tif").read_bytes()
    assert (out / "card.json").read_bytes() == (made / "card.json").read_bytes()
    assert cog_validate(out / "wealth.tif", strict=True)[0]
    CalibrationCard.load(out / "card.json")


def test_same_bytes_wherever_it_is_published(made, tmp_path):
    again = publish_map(
        made / "corrected.tif",
        made / "card.json",
        tmp_path / "deep" / "er",
        PARAMS,
        model_json=made / "model.json",
    )
    for name in FILES:
        assert (again / name).read_bytes() == (made / "out" / name).read_bytes(), name
        assert str(made).encode() not in (again / name).read_bytes(), name


def test_item_is_valid_stac_and_reads_back(made):
    path = made / "out" / "item.json"
    content = json.loads(path.read_text())
    assert content["stac_version"] == "1.1.0"
    RegisteredValidator.get_validator().validate_core(content, pystac.STACObjectType.ITEM, "1.1.0")
    item = pystac.Item.from_file(str(path))
    assert item.id == "wealth-of-exampleland-a-test-2016"
    assert item.properties["start_datetime"] == "2016-01-01T00:00:00Z"
    assert item.properties["end_datetime"] == "2016-12-31T23:59:59Z"
    assert item.datetime is None
    assert item.properties["proj:code"] == "EPSG:3857"
    assert item.properties["proj:shape"] == [300, 40]
    assert "created" not in item.properties
    for name, asset in item.assets.items():
        assert asset.href.startswith("./"), name
        file = made / "out" / asset.href
        assert asset.extra_fields["file:size"] == file.stat().st_size
        assert asset.extra_fields["file:checksum"] == "1220" + sha256_of(file)
    assert {asset.href[2:] for asset in item.assets.values()} == set(FILES) - {"item.json", "collection.json"}


def test_the_collection_is_valid_stac_and_holds_the_item(made):
    content = json.loads((made / "out" / "collection.json").read_text())
    RegisteredValidator.get_validator().validate_core(content, pystac.STACObjectType.COLLECTION, "1.1.0")
    collection = pystac.Collection.from_file(str(made / "out" / "collection.json"))
    (item,) = collection.get_items()  # model.json says too little for an item of the model
    assert (item.id, item.collection_id) == ("wealth-of-exampleland-a-test-2016", collection.id)
    assert item.get_collection().id == collection.id == "wealth-of-exampleland-a-test"
    assert content["extent"]["temporal"]["interval"] == [["2016-01-01T00:00:00Z", "2016-12-31T23:59:59Z"]]
    assert content["extent"]["spatial"]["bbox"] == [item.bbox]
    assert set(content["item_assets"]) == set(item.assets)
    assert content["license"] == "CC-BY-4.0"
    assert content["sci:citation"] == "A. Nobody (2026)"


def test_every_field_of_an_extension_is_declared(made):
    for name in ("item.json", "collection.json"):
        content = json.loads((made / "out" / name).read_text())
        declared = {url.split("/")[3] for url in content["stac_extensions"]}
        text = (made / "out" / name).read_text()
        for prefix, extension in (
            ("proj:", "projection"),
            ("raster:", "raster"),
            ("file:", "file"),
            ("processing:", "processing"),
            ("sci:", "scientific"),
            ("mlm:", "mlm"),
        ):
            assert (f'"{prefix}' in text) == (extension in declared), (name, prefix)


@pytest.mark.parametrize("model", [None, '{"bands": ["BLUE"]}', "[]"])
def test_a_collection_without_a_network(made, tmp_path, model):
    path = tmp_path / "model.json"
    if model is not None:
        path.write_text(model)
    publish = (made / "corrected.tif", made / "card.json", tmp_path / "out", PARAMS)
    if model == "[]":
        with pytest.raises(FileFormatError, match=r"model\.json: expected a JSON object"):
            publish_map(*publish, model_json=path)
        assert not (tmp_path / "out").exists()
        return
    publish_map(*publish, model_json=path if model else None)
    content = json.loads((tmp_path / "out" / "collection.json").read_text())
    RegisteredValidator.get_validator().validate_core(content, pystac.STACObjectType.COLLECTION, "1.1.0")
    assert "mlm" not in str(content)
    assert ("model" in content["item_assets"]) == (model is not None)


def test_item_says_how_the_map_was_corrected(made):
    properties = json.loads((made / "out" / "item.json").read_text())["properties"]
    card = CalibrationCard.load(made / "card.json")
    assert properties["sustain:method"] == "linear"
    assert properties["sustain:card_sha256"] == card.sha256
    assert properties["sustain:slope"] == pytest.approx(card.slope, rel=1e-5)
    assert properties["sustain:n"] == 400
    assert properties["sci:citation"] == "A. Nobody (2026)"
    assert properties["license"] == "CC-BY-4.0"


def test_bands_carry_names_units_and_exact_statistics(made):
    bands = json.loads((made / "out" / "item.json").read_text())["assets"]["map"]["bands"]
    assert [band["name"] for band in bands] == ["wealth", "wealth_raw", "wealth_se", "support"]
    assert [band["unit"] for band in bands] == ["index points"] * 3 + ["1"]
    with rasterio.open(made / "corrected.tif") as raster:
        wealth = raster.read(1).astype(float)
    assert bands[0]["statistics"]["mean"] == pytest.approx(np.nanmean(wealth), rel=1e-5)
    assert bands[0]["statistics"]["stddev"] == pytest.approx(np.nanstd(wealth), rel=1e-5)
    assert bands[0]["statistics"]["minimum"] == pytest.approx(np.nanmin(wealth), rel=1e-5)
    assert bands[0]["statistics"]["valid_percent"] == pytest.approx(100 * (1 - 5200 / 12000), rel=1e-5)
    assert "statistics" not in bands[3]


def test_cell_tables_hold_the_raster(made):
    cells = pd.read_csv(made / "out" / "cells.csv")
    assert list(cells) == ["lon", "lat", "wealth", "wealth_raw", "wealth_se", "support"]
    with rasterio.open(made / "corrected.tif") as raster:
        bands = raster.read()
        rows, cols = np.nonzero(np.isfinite(bands[0]))
        x, y = raster.transform @ (cols + 0.5, rows + 0.5)
    points = gpd.read_parquet(made / "out" / "cells.parquet")
    assert points.crs.to_string() == "OGC:CRS84"
    assert len(points) == len(cells) == 12_000 - 5_200
    np.testing.assert_array_equal(points[list(cells)[2:]].to_numpy(), bands[:, rows, cols].T)
    np.testing.assert_array_equal(cells["wealth"].to_numpy(np.float32), points["wealth"])
    np.testing.assert_array_equal(cells[["lon", "lat"]], points[["lon", "lat"]])
    back = points.geometry.to_crs(3857)
    np.testing.assert_allclose([back.x, back.y], [x, y], atol=0.2)
    assert cells["support"].sum() == 1


def test_map_card_says_what_it_must(made):
    text = (made / "out" / "README.md").read_text()
    for words in (
        "# Wealth of Exampleland: a test",
        "Made by a test.",
        "asset_index, in index points",
        "2016-01-01 to 2016-12-31",
        "300 rows x 40 columns, each 960 m wide and 953 m high on the ground",
        "6800 of 12000",
        "mean-0123456789ab",
        "64 x 64 pixels",
        "method `linear`",
        "## What it is not for",
        "Not for households or persons",
        "| imagery | public domain |",
        "| survey labels (not in this folder) | by registration |",
        "A. Nobody (2026)",
    ):
        assert words in text, words
    assert all(f"`{name}`" in text for name in FILES if name != "README.md")


def test_the_readmes_python_runs_as_printed(made, tmp_path, monkeypatch, capsys):
    code = (made / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    cells = pd.read_csv(made / "out" / "cells.csv").query("support == 0").reset_index(drop=True)
    treated = (cells["wealth_raw"] > cells["wealth_raw"].median()).astype(int)
    cells[["lon", "lat"]].assign(treated=treated).to_csv(tmp_path / "trial.csv", index=False)
    for name in ("wealth.tif", "card.json"):
        (tmp_path / name).write_bytes((made / "out" / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    raw, slope = cells["wealth_raw"], CalibrationCard.load(made / "card.json").slope
    expected = (raw[treated == 1].mean() - raw[treated == 0].mean()) / slope
    assert names["effect"].estimate == pytest.approx(expected, rel=1e-4)
    assert "treated" in capsys.readouterr().out


def test_the_card_s_years_and_licence_are_not_taken_for_the_map_s(made, tmp_path):
    card = CalibrationCard.load(made / "card.json")
    dated = card.model_copy(update={"sample": card.sample.model_copy(update={"years": [2014, 2016]})})
    dated.__dict__.pop("sha256", None)
    path = dated.save(tmp_path / "card.json")
    correct_raster(made / "raw.tif", tmp_path / "corrected.tif", path)
    publish = (tmp_path / "corrected.tif", path, tmp_path / "out")
    with pytest.raises(ConfigError) as error:
        publish_map(*publish, PublishParams())
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["title", "licence", "start", "end"]
    assert "the card's own is CC-BY-4.0" in lines[2]
    assert "the card's calibration sample is of 2014 to 2016" in lines[3]
    assert not (tmp_path / "out").exists()
    about = PublishParams(title="Größe (1)", licence="MIT", start="2018-01-01", end="2019-12-31")
    out = publish_map(*publish, about)
    item = pystac.Item.from_file(str(out / "item.json"))
    assert item.id == "groe-1-2018-2019"
    assert item.properties["license"] == "MIT"
    assert item.properties["start_datetime"] == "2018-01-01T00:00:00Z"
    assert not (out / "model.json").exists()
    assert not any("scientific" in url or "version" in url for url in item.stac_extensions)
    assert not {"providers", "version", "created"} & set(item.properties)
    text = (out / "README.md").read_text()
    assert "| this map | MIT |\n| calibration card | CC-BY-4.0 |" in text


def test_the_time_of_publication_is_said_and_never_the_clock_s(made, tmp_path, monkeypatch):
    publish = (made / "corrected.tif", made / "card.json")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1483228800")
    about = PARAMS.model_copy(update={"created": date(2018, 3, 4)})
    for params, expected in ((PARAMS, "2017-01-01T00:00:00Z"), (about, "2018-03-04T00:00:00Z")):
        out = publish_map(*publish, tmp_path / "out", params)
        assert json.loads((out / "item.json").read_text())["properties"]["created"] == expected
        assert f"| published | {expected[:10]} |" in (out / "README.md").read_text()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH: expected seconds since 1970"):
        publish_map(*publish, tmp_path / "out", PARAMS)


def test_an_output_folder_that_is_a_link_stays_one(made, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for _ in range(2):
        publish_map(made / "corrected.tif", made / "card.json", tmp_path / "link", PARAMS)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / "item.json").exists()


def test_refuses_another_card_and_the_raw_map(made, tmp_path):
    other = make_card(-2, 2).save(tmp_path / "card.json")
    with pytest.raises(
        RasterError, match=r"corrected\.tif: corrected with card [0-9a-f]{12}, but the card given"
    ):
        publish_map(made / "corrected.tif", other, tmp_path / "out", PARAMS)
    with pytest.raises(RasterError, match=r"raw\.tif: expected the bands wealth, .*; got wealth_raw"):
        publish_map(made / "raw.tif", made / "card.json", tmp_path / "out", PARAMS)
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(CardError):
        publish_map(made / "corrected.tif", tmp_path / "card.json", tmp_path / "out", PARAMS)
    assert not (tmp_path / "out").exists()


def test_disk_that_fills_up_leaves_the_old_folder_alone(made, tmp_path, monkeypatch):
    out = publish_map(made / "corrected.tif", made / "card.json", tmp_path / "out", PARAMS)
    before = (out / "item.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.shutil, "copyfile", full)
    with pytest.raises(DiskSpaceError, match="the disk filled up"):
        publish_map(made / "corrected.tif", made / "card.json", out, PARAMS)
    assert (out / "item.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_cells_keep_their_order_and_their_places(tmp_path):
    bands = np.stack([np.arange(6.0).reshape(2, 3)] * 3 + [np.zeros((2, 3))])
    bands[:3, 0, 1], bands[3, 0, 1] = np.nan, 2
    path = write_raster(
        tmp_path / "m.tif",
        bands,
        ("wealth", "wealth_raw", "wealth_se", "support"),
        crs="EPSG:4326",
        transform=from_origin(7, 9, 0.5, 0.5),
    )
    with open_raster(path) as raster:
        (cells,) = iter_cells(raster)
    assert cells["lon"].tolist() == [7.25, 8.25, 7.25, 7.75, 8.25]
    assert cells["lat"].tolist() == [8.75, 8.75, 8.25, 8.25, 8.25]
    assert cells["wealth"].tolist() == [0, 2, 3, 4, 5]


def test_statistics_piece_by_piece_equal_those_of_the_whole():
    values = np.random.default_rng(0).normal(3, 2, size=1000).astype(np.float32)
    statistics = BandStatistics()
    for piece in np.array_split(values, 7):
        statistics.add(piece)
    statistics.add(values[:0])
    assert statistics.n == 1000
    assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())
    assert statistics.mean == pytest.approx(values.mean(dtype=float))
    assert statistics.std == pytest.approx(values.std(dtype=float))


@pytest.mark.parametrize("dates", [{"start": "2016-01-01"}, {"start": "2017-01-01", "end": "2016-01-01"}])
def test_dates_that_make_no_period(dates):
    with pytest.raises(ValueError, match="start"):
        PublishParams(**dates)


def test_item_id_of_any_title():
    period = date(2016, 1, 1), date(2019, 12, 31)
    assert item_id("Richesse du Sénégal (v2)!", period) == "richesse-du-senegal-v2-2016-2019"
    assert item_id("地図", period) == "map-2016-2019"
