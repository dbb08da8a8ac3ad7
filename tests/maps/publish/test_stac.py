"""The catalogue of a published folder, by the schemas of STAC and of the extensions, and how it fails them."""

import copy
import json

import numpy as np
import pystac
import pytest
from pystac.extensions.mlm import MLMExtension
from rasterio.transform import from_origin

from sustain.config import PublishParams
from sustain.files import sha256_of
from sustain.maps.correct.raster import correct_raster
from sustain.maps.publish.publish import publish_map
from tests.maps.fakes import make_card, write_raster
from tests.maps.publish.stac_schemas import kept_schemas, problems

PARAMS = PublishParams(
    title="Wealth of Exampleland",
    licence="CC-BY-4.0",
    providers=[{"name": "Example University", "url": "https://example.org", "roles": ["producer", "host"]}],
    keywords=["poverty"],
    version="1.0",
    created="2017-05-06",
    start="2015-02-03",
    end="2016-12-31",
    citation="A. Nobody (2026)",
    doi="10.5281/zenodo.1",
)
MODEL = {
    "backbone": "resnet18",
    "bands": ["BLUE", "NIGHTLIGHTS"],
    "tile_px": 64,
    "pixel_m": 30.0,
    "nodata": 0,
    "scale": [2.75e-5, 0.01],
    "offset": [-0.2, -0.01],
    "statistics": {"mean": [0.075, 1.49], "std": [0.055, 1.7]},
    "label": {"mean": 0.1, "std": 0.9},
    "target": {"name": "asset_index", "unit": "index points"},
    "head": "mean",
    "extras": {"lights": None, "year": None, "location": False},
    "params": {"loss": "mse", "weights": None, "epochs": 20},
    "versions": {"torch": "2.9.1+cu128"},
    "weights_sha256": "0" * 64,
}
DOCUMENTS = ("item.json", "model_item.json", "collection.json")


def published(root, model, about=None, **layout):
    raw = np.random.default_rng(5).uniform(-0.9, 0.9, size=(1, 12, 8))
    card = make_card().save(root / "card.json")
    write_raster(root / "raw.tif", raw, ("wealth_raw",), units=("index points",), **layout)
    correct_raster(root / "raw.tif", root / "corrected.tif", card)
    (root / "model.json").write_text(json.dumps(model))
    params = PARAMS.model_copy(update=about or {})
    out = publish_map(root / "corrected.tif", card, root / "out", params, model_json=root / "model.json")
    return {name: json.loads((out / name).read_text()) for name in DOCUMENTS if (out / name).exists()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stac")


@pytest.fixture(scope="module")
def documents(folder):
    return published(folder, MODEL)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_document_is_valid_by_every_schema_it_declares(documents, name):
    declared = documents[name]["stac_extensions"]
    assert set(declared) <= set(kept_schemas())
    assert problems(documents[name]) == []


def test_every_schema_that_is_kept_is_used(documents):
    declared = {url for document in documents.values() for url in document["stac_extensions"]}
    referred = {url for url in kept_schemas() if url in json.dumps(list(kept_schemas().values()))}
    assert set(kept_schemas()) == declared | (referred - declared)
    assert {url.split("/")[3] for url in declared} == {
        "projection", "raster", "file", "processing", "scientific", "version", "mlm",
    }  # fmt: skip


def at(document, path):
    """Container and last key of a path such as ``assets/map/bands/0/name``."""
    *parts, last = (int(part) if part.isdigit() else part for part in path.split("|"))
    for part in parts:
        document = document[part]
    return document, last


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("item.json", "properties|datetime"),
        ("item.json", "properties|start_datetime"),
        ("item.json", "properties|end_datetime"),
        ("item.json", "geometry"),
        ("item.json", "bbox"),
        ("item.json", "links"),
        ("item.json", "assets|map|href"),
        ("item.json", "collection"),  # required because there is a link to one
        ("model_item.json", "properties|mlm:name"),
        ("model_item.json", "properties|mlm:architecture"),
        ("model_item.json", "properties|mlm:tasks"),
        ("model_item.json", "properties|mlm:input"),
        ("model_item.json", "properties|mlm:output"),
        ("model_item.json", "properties|mlm:input|0|name"),
        ("model_item.json", "properties|mlm:input|0|input"),
        ("model_item.json", "properties|mlm:input|0|input|shape"),
        ("model_item.json", "properties|mlm:input|0|input|dim_order"),
        ("model_item.json", "properties|mlm:input|0|input|data_type"),
        ("model_item.json", "properties|mlm:input|0|value_scaling|1|stddev"),
        ("model_item.json", "properties|mlm:output|0|tasks"),
        ("model_item.json", "properties|mlm:output|0|result"),
        ("model_item.json", "properties|mlm:output|0|result|data_type"),
        ("model_item.json", "properties|bands"),  # the input refers to bands by name
        ("model_item.json", "assets|model|roles"),
        ("model_item.json", "assets|model|mlm:artifact_type"),
        ("item.json", "properties|version"),
        ("item.json", "properties|providers|0|name"),
        ("collection.json", "version"),
        ("collection.json", "providers|0|name"),
        ("collection.json", "extent"),
        ("collection.json", "extent|temporal|interval"),
        ("collection.json", "license"),
        ("collection.json", "description"),
    ],
)
def test_a_required_field_is_missed(documents, name, path):
    spoilt = copy.deepcopy(documents[name])
    container, key = at(spoilt, path)
    del container[key]
    assert problems(spoilt), f"{name} without {path} passes"


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("item.json", "properties|proj:shape", [12]),
        ("item.json", "properties|proj:transform", [1, 0, 0]),
        ("item.json", "properties|proj:epsg", 3857),  # of version 1 of the extension
        ("item.json", "assets|map|file:checksum", "SHA"),
        ("item.json", "assets|map|file:size", -1),
        ("item.json", "assets|map|bands|0|raster:sampling", "centre"),
        ("item.json", "assets|map|bands|0|raster:spatial_resolution", "960 m"),
        ("item.json", "assets|map|bands|0|data_type", "float"),
        ("item.json", "properties|processing:software", "sustain"),
        ("item.json", "properties|sci:doi", "https://doi.org/10.5281/zenodo.1"),
        ("item.json", "properties|start_datetime", "2015"),
        ("model_item.json", "properties|mlm:tasks", ["regress"]),
        ("model_item.json", "properties|mlm:input|0|input|data_type", "uint12"),
        ("model_item.json", "properties|mlm:input|0|value_scaling|0|type", "zscore"),
        ("model_item.json", "properties|mlm:name", "1"),
        ("model_item.json", "properties|mlm:inputs", []),  # no such field
        ("model_item.json", "assets|model|mlm:name", "m-1"),  # belongs to the item
        ("model_item.json", "properties|mlm:framework_version", "2.9"),
        ("collection.json", "sci:doi", "zenodo"),
        ("item.json", "properties|license", "all rights reserved"),
        ("item.json", "properties|providers|0|roles", ["maker"]),
        ("item.json", "properties|created", "2017"),
        ("collection.json", "keywords", "poverty"),
        ("collection.json", "version", 1),
    ],
)
def test_a_field_of_the_wrong_kind_is_seen(documents, name, path, value):
    spoilt = copy.deepcopy(documents[name])
    container, key = at(spoilt, path)
    container[key] = value
    assert problems(spoilt), f"{name} with {path} = {value!r} passes"


def test_who_published_it_and_when_stands_in_item_and_collection(documents):
    item, collection = documents["item.json"]["properties"], documents["collection.json"]
    expected = [{"name": "Example University", "url": "https://example.org", "roles": ["producer", "host"]}]
    assert item["providers"] == collection["providers"] == expected
    assert item["keywords"] == collection["keywords"] == ["poverty", "asset_index"]
    assert item["version"] == collection["version"] == "1.0"
    assert item["created"] == "2017-05-06T00:00:00Z"
    assert item["sci:doi"] == collection["sci:doi"] == "10.5281/zenodo.1"
    for document in (documents["item.json"], collection):
        links = {link["rel"]: link["href"] for link in document["links"]}
        assert links["cite-as"] == "https://doi.org/10.5281/zenodo.1"
        assert "license" not in links  # SPDX's say where they are


@pytest.mark.parametrize(
    ("licence", "href"), [("by request", "./README.md"), ("https://example.org/l", "https://example.org/l")]
)
def test_a_licence_in_words_is_other_with_a_link(tmp_path, licence, href):
    documents = published(tmp_path, MODEL, about={"licence": licence})
    for document in (documents["item.json"], documents["collection.json"]):
        assert problems(document) == []
        assert document.get("license", document.get("properties", {}).get("license")) == "other"
        (link,) = [link for link in document["links"] if link["rel"] == "license"]
        assert (link["href"], link["title"]) == (href, licence)


@pytest.mark.parametrize("prefix", ["processing:", "raster:", "sci:"])
def test_an_extension_that_is_declared_and_not_used_is_seen(documents, prefix):
    def without(value):
        if isinstance(value, dict):
            return {key: without(item) for key, item in value.items() if not key.startswith(prefix)}
        return [without(item) for item in value] if isinstance(value, list) else value

    assert problems(without(documents["item.json"]))


def test_the_period_is_explicit_to_the_second(documents):
    for name in ("item.json", "model_item.json"):
        properties = documents[name]["properties"]
        assert properties["datetime"] is None
        assert properties["start_datetime"] == "2015-02-03T00:00:00Z"
        assert properties["end_datetime"] == "2016-12-31T23:59:59Z"
    interval = documents["collection.json"]["extent"]["temporal"]["interval"]
    assert interval == [["2015-02-03T00:00:00Z", "2016-12-31T23:59:59Z"]]


def test_the_model_s_item_says_what_goes_in_and_comes_out(documents, folder):
    properties, asset = (documents["model_item.json"][key] for key in ("properties", "assets"))
    (tiles,) = properties["mlm:input"]
    assert tiles["bands"] == [band["name"] for band in properties["bands"]] == MODEL["bands"]
    assert tiles["input"]["shape"] == [-1, 2, 64, 64]
    # (0.075 + 0.2) / 2.75e-5 and 0.055 / 2.75e-5: the statistics in the numbers as they are stored.
    assert tiles["value_scaling"][0] == {"type": "z-score", "mean": 10_000.0, "stddev": 2_000.0}
    assert properties["bands"][0]["raster:scale"] == 2.75e-5
    assert properties["bands"][0]["statistics"] == {"mean": 0.075, "stddev": 0.055}
    (output,) = properties["mlm:output"]
    assert output["name"] == "asset_index"
    assert "index points" in output["description"]
    assert (properties["mlm:pretrained"], properties["mlm:pretrained_source"]) == (False, None)
    assert properties["mlm:hyperparameters"]["loss"] == "mse"
    assert asset["model"]["file:checksum"] == "1220" + sha256_of(folder / "out" / "model.json")


def test_the_same_bytes_wherever_they_are_written(documents, tmp_path):
    assert published(tmp_path, MODEL) == documents


def test_somebody_else_s_library_reads_the_model(documents, folder):
    item = pystac.Item.from_file(str(folder / "out" / "model_item.json"))
    url = MLMExtension.get_schema_uri()
    # pystac knows the extension at an older version, with the same names of fields.
    item.stac_extensions = [url if "/mlm/" in name else name for name in item.stac_extensions]
    model = MLMExtension.ext(item)
    assert model.architecture == "resnet18"
    assert model.input[0].input.shape == [-1, 2, 64, 64]
    assert model.output[0].result.dim_order == ["batch"]


def test_the_three_documents_point_at_each_other(folder, documents):
    out = folder / "out"
    collection = pystac.Collection.from_file(str(out / "collection.json"))
    items = {item.id: item for item in collection.get_items()}
    assert set(items) == {"wealth-of-exampleland-2015-2016", "wealth-of-exampleland-2015-2016-model"}
    (link,) = items["wealth-of-exampleland-2015-2016"].get_links("derived_from")
    assert pystac.Item.from_file(str(out / link.href)).id == "wealth-of-exampleland-2015-2016-model"
    assert all(item.get_collection().id == collection.id for item in items.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "mean_variance"},
        {"extras": {"lights": None, "year": {"mean": 2012, "std": 3}, "location": True}},
        {"extras": {"lights": {"dmsp": {"mean": 9.0, "std": 3.0}, "viirs": {"mean": 300.0, "std": 200.0}}}},
        {"params": {"weights": "/home/someone/weights/own.safetensors"}},
        {"params": {}},
        {"versions": {"torch": "2.9.0a0"}},
    ],
)
def test_every_kind_of_model_makes_a_valid_item(tmp_path, changes):
    documents = published(tmp_path, MODEL | changes)
    found = documents["model_item.json"]
    assert problems(found) == []
    properties = found["properties"]
    assert [output["name"] for output in properties["mlm:output"]][1:] == (
        ["asset_index_sd"] if "head" in changes else []
    )
    extras = changes.get("extras", {})
    told = ["year"] * bool(extras.get("year") or extras.get("lights")) + ["location"] * bool(
        extras.get("location")
    )
    assert [what["name"] for what in properties["mlm:input"]] == ["tiles", *told]
    if extras.get("lights"):
        assert "VIIRS: (value - 300) / 200" in properties["mlm:input"][0]["value_scaling"][1]["expression"]
    if changes.get("params"):
        assert properties["mlm:pretrained_source"] == "own.safetensors"
        assert "someone" not in json.dumps(found)
    assert ("mlm:framework_version" in properties) == ("versions" not in changes)
    assert ("mlm:hyperparameters" in properties) == ("params" not in changes or bool(changes["params"]))


@pytest.mark.parametrize(
    "model", [{"backbone": "forest"}, MODEL | {"target": "wealth"}, MODEL | {"statistics": {}}]
)
def test_somebody_else_s_model_is_described_as_far_as_it_is_known(tmp_path, model):
    documents = published(tmp_path, model)
    assert set(documents) == {"item.json", "collection.json"}
    assert all(problems(document) == [] for document in documents.values())
    assert not [link for link in documents["item.json"]["links"] if link["rel"] == "derived_from"]
    assert "model_item.json" not in (tmp_path / "out" / "README.md").read_text()


def test_a_cell_in_degrees_has_its_size_in_metres(tmp_path):
    layout = {"crs": "EPSG:4326", "transform": from_origin(10, 60.05, 0.01, 0.01)}
    documents = published(tmp_path, MODEL, **layout)
    band = documents["item.json"]["assets"]["map"]["bands"][0]
    # A hundredth of a degree: 1114 m to the north, half as much to the east at 60 degrees.
    assert band["raster:spatial_resolution"] == pytest.approx(1114 * 0.5**0.5, rel=0.005)
    assert documents["item.json"]["properties"]["proj:code"] == "EPSG:4326"
    assert problems(documents["item.json"]) == []
