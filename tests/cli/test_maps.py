"""``sustain map`` and ``sustain areas`` as a user types them."""

from __future__ import annotations

import re
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.transform import from_origin
from shapely import box

from sustain.config import TrainParams
from sustain.debias import build_card
from sustain.maps.correct import correct_raster
from sustain.models.predictor import TilePredictor
from tests.in_process import sustain
from tests.maps.fakes import make_card, write_raster, write_scene
from tests.maps.stac_fakes import asset, collection, item


@pytest.fixture(scope="module")
def model(packed_tiles, tmp_path_factory):
    """Folder of a barely trained model, with a scene of its kind of imagery beside it."""
    from sustain.models.training import train

    folder = tmp_path_factory.mktemp("mapping") / "model"
    train(packed_tiles, folder, TrainParams(epochs=1, batch_size=32, threads=1), seed=5)
    predictor = TilePredictor.load(folder)
    pixels = np.random.default_rng(0).integers(1, 30_000, (len(predictor.bands), 75, 101), dtype=np.uint16)
    write_scene(
        folder.with_name("scene.tif"),
        pixels,
        bands=predictor.bands,
        scale=predictor.scale,
        offset=predictor.offset,
        nodata=predictor.nodata,
    )
    return folder


def test_two_local_workers_write_what_one_process_writes(model, tmp_path):
    scene = model.with_name("scene.tif")
    options = ("--model", model, "--spacing-px", 16, "--block-cells", 2)
    alone = sustain("map", scene, tmp_path / "alone.tif", *options)
    assert alone.returncode == 0, alone.stderr
    with rasterio.open(tmp_path / "alone.tif") as raster:
        assert np.isfinite(raster.read(1)).all()
    together = sustain("map", scene, tmp_path / "together.tif", *options, "--workers", 2)
    assert together.returncode == 0, together.stderr
    assert (tmp_path / "together.tif").read_bytes() == (tmp_path / "alone.tif").read_bytes()


SLOW_TO_GO = """
import atexit, time
from contextlib import ExitStack
from sustain.cli.maps import _client

with ExitStack() as stack:
    _client(stack, 1, None).run(lambda: atexit.register(time.sleep, 60) and None)
"""


def test_a_worker_that_is_slow_to_go_is_no_news():
    """It said after the map was whole: Worker process still alive after 4.0 seconds, killing."""
    done = subprocess.run([sys.executable, "-c", SLOW_TO_GO], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_stac_items_and_reprojection_from_the_command_line(model, tmp_path):
    """An item of the scene's file, whose bands are called otherwise, in a system that is asked for."""
    scene = model.with_name("scene.tif")
    with rasterio.open(scene) as raster:
        numbers = [{"scale": s, "offset": o} for s, o in zip(raster.scales, raster.offsets, strict=True)]
        names, crs = raster.descriptions, raster.crs.to_string()
    assets = {"image": asset(scene, numbers, names=[f"B{i}" for i in range(len(names))])}
    collection(model.with_name("items.json"), [item("scene", assets, crs=crs)])
    options = ("--model", model, "--spacing-px", 16, "--crs", "EPSG:32631")
    plain = sustain("map", scene, tmp_path / "plain.tif", *options)
    assert plain.returncode == 0, plain.stderr
    called = [part for i, name in enumerate(names) for part in ("--band", f"{name}=B{i}")]
    named = sustain("map", model.with_name("items.json"), tmp_path / "named.tif", *options, *called)
    assert named.returncode == 0, named.stderr
    assert (tmp_path / "named.tif").read_bytes() == (tmp_path / "plain.tif").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--band", "NIR"), "--band: expected BAND=NAME"),
        (("--crs", "EPSG:4326"), "EPSG:4326 is not projected in metres"),
        (("--scheduler", "tcp://127.0.0.1:9", "--workers", 2), "pass one of them"),
        (("--model", "absent"), "absent/model.json: no such file"),
        (("--spacing-px", 0), "Invalid value for '--spacing-px'"),
        (("--batch-size", 0), "Invalid value for '--batch-size'"),
    ],
)
def test_bad_options_are_one_message(model, tmp_path, options, message):
    arguments = ("--model", model, *options)
    done = sustain("map", model.with_name("scene.tif"), tmp_path / "out.tif", *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.tif").exists()


def test_an_error_in_the_middle_says_in_which_block(model, tmp_path):
    scene = tmp_path / "holed.tif"
    content = bytearray(model.with_name("scene.tif").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    scene.write_bytes(content)
    done = sustain(
        "map", scene, tmp_path / "out.tif", "--model", model, "--spacing-px", 16, "--block-cells", 2
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(
        r"^error: .*holed\.tif: pixels at row \d+, column \d+ cannot be read", done.stderr, re.MULTILINE
    )
    assert re.search(r"^in the block at cell row \d+, column \d+ of the map", done.stderr, re.MULTILINE)


def test_a_table_of_districts_from_a_published_folder(tmp_path):
    card = make_card().save(tmp_path / "card.json")
    raw = np.random.default_rng(1).uniform(-0.9, 0.9, (1, 20, 30))
    write_raster(tmp_path / "raw.tif", raw, ("wealth_raw",))
    correct_raster(tmp_path / "raw.tif", tmp_path / "wealth.tif", card)
    areas = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[box(0, 0, 4e3, 4e3), box(9e5, 0, 9.1e5, 1e3)])
    areas.set_crs("EPSG:3857").to_file(tmp_path / "areas.gpkg")
    done = sustain("areas", tmp_path, tmp_path / "areas.gpkg", tmp_path / "out.csv", "--key", "name")
    assert done.returncode == 0, done.stderr
    assert "2 areas, 1 with imagery" in done.stdout
    found = pd.read_csv(tmp_path / "out.csv").set_index("name")
    assert found.loc["a", "low95"] < found.loc["a", "wealth"] < found.loc["a", "high95"]
    assert "the widest that there can be" in done.stderr
    assert np.isnan(found.loc["b", "wealth"])
    lone = sustain(
        "areas", tmp_path / "wealth.tif", tmp_path / "areas.gpkg", tmp_path / "no.csv", "--key", "name"
    )
    assert lone.returncode == 1
    assert "--card: name the card that corrected the map" in lone.stderr
    (tmp_path / "areas.csv").write_text("name\na\n")
    table = sustain("areas", tmp_path, tmp_path / "areas.csv", tmp_path / "no.csv", "--key", "name")
    assert "areas.csv: a table without geometry. Give a file of polygons." in table.stderr
    sheet = sustain("areas", tmp_path, tmp_path / "areas.gpkg", tmp_path / "out.doc", "--key", "name")
    assert "out.doc: expected a name that ends in .csv, .tsv, .parquet or .xlsx" in sheet.stderr


def test_layers_people_and_a_key_like_one_of_the_columns(tmp_path):
    card = make_card().save(tmp_path / "card.json")
    raw = np.random.default_rng(1).uniform(-0.9, 0.9, (1, 20, 30))
    write_raster(tmp_path / "raw.tif", raw, ("wealth_raw",))
    correct_raster(tmp_path / "raw.tif", tmp_path / "wealth.tif", card)
    write_raster(
        tmp_path / "people.tif", [np.ones((20, 30))], ("p",), transform=from_origin(-9120, 9600, 960, 960)
    )
    areas = gpd.GeoDataFrame({"cells": ["001", "1"]}, geometry=[box(0, 0, 4e3, 4e3), box(4e3, 0, 8e3, 4e3)])
    for layer in ("districts", "regions"):
        areas.set_crs("EPSG:3857").to_file(tmp_path / "areas.gpkg", layer=layer)
    command = ("areas", tmp_path, tmp_path / "areas.gpkg", tmp_path / "out.csv", "--key", "cells")
    unnamed = sustain(*command)
    assert unnamed.returncode == 1
    assert "areas.gpkg: 2 layers (districts, regions), and none is named" in unnamed.stderr
    done = sustain(*command, "--layer", "regions", "--people", tmp_path / "people.tif")
    assert done.returncode == 0, done.stderr
    assert "people.tif: weights lie on other cells than" in done.stderr
    found = pd.read_csv(tmp_path / "out.csv", dtype={"area_cells": str})
    assert found["area_cells"].tolist() == ["001", "1"]
    assert found["cells"].between(16, 30).all()
    alone = sustain(*command, "--layer", "regions", "--people-per-km2")
    assert "--people-per-km2 says what --people holds" in alone.stderr


def test_a_map_of_your_own_is_published_in_three_commands(model, tmp_path):
    """From imagery to a folder for others; what stands in its place is not lost."""
    raw, corrected, card = (tmp_path / name for name in ("raw.tif", "corrected.tif", "card.json"))
    ran = sustain("map", model.with_name("scene.tif"), raw, "--model", model, "--spacing-px", 16)
    assert ran.returncode == 0, ran.stderr
    trained = TilePredictor.load(model)
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, 300)
    build_card(
        0.6 * truth + rng.normal(0, 0.3, 300),
        truth,
        target=trained.target.model_dump(),
        predictor={"id": trained.id},
        methods=("linear",),
        n_boot=20,
    ).save(card)
    onto_itself = sustain("debias", "correct", raw, raw, "--card", card)
    assert "raw.tif: is the raw map itself" in onto_itself.stderr
    ran = sustain("debias", "correct", raw, corrected, "--card", card)
    assert ran.returncode == 0, ran.stderr
    assert "corrected.tif: written, corrected by the method linear" in ran.stdout
    facts = ("--title", "My map", "--licence", "CC0-1.0", "--start", "2016-01-01", "--end", "2016-12-31")
    options = ("--card", card, "--model", model, *facts)
    for _ in range(2):  # the second time in place of the first
        ran = sustain("publish", corrected, tmp_path / "published", *options)
        assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "published" / "README.md").read_text().startswith("# My map")
    assert (tmp_path / "published" / "model_item.json").exists()
    refused = sustain("publish", corrected, model, *options)
    assert refused.returncode == 1
    assert "holds other files (no card.json among them), which would be lost" in refused.stderr
    assert (model / "model.json").exists()
