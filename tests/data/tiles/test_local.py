"""Your own tiles and table: packed like the published ones, or refused with the reason."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import rasterio

from sustain.config import LocalParams, Params, TilesParams, TrainParams, load_params
from sustain.data.tiles.local import copy_local, pack_local_tiles
from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, DataWarning, FileFormatError

PARAMS = TilesParams(label="wealth", label_unit="index points", columns={"id": "tile"}, block_km=50)
BANDS = ("BLUE", "GREEN", "NIR")


def write_tile(path, tile, bands=BANDS, scale=0.0001, dtype="uint16", height=None):
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=height or 8, count=len(bands), dtype=dtype, nodata=0,
        crs="EPSG:3857", transform=rasterio.transform.from_origin(0, 0, 30, 30),
    ) as target:  # fmt: skip
        target.write(tile)
        target.descriptions, target.scales, target.offsets = bands, (scale,) * len(bands), (0.0,) * len(bands)


@pytest.fixture
def raw(tmp_path):
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 9000, size=(30, 3, 8, 8), dtype=np.uint16)
    source = tmp_path / "mine"
    source.mkdir()
    for k, tile in enumerate(tiles):
        write_tile(source / f"site_{k:02d}.tif", tile)
    table = pd.DataFrame(
        {
            "tile": [f"site_{k:02d}.tif" for k in reversed(range(30))],
            "lat": rng.uniform(-12, -8, 30),
            "lon": rng.uniform(13, 20, 30),
            "wealth": np.arange(30.0)[::-1],
            "urban": [0, 1] * 15,
        }
    )
    table.to_csv(source / "labels.csv", index=False)
    copy_local(LocalParams(tiles=str(source), table=str(source / "labels.csv")), tmp_path / "raw")
    return tmp_path / "raw", tiles


def test_tiles_labels_and_blocks_arrive(raw, tmp_path):
    folder, tiles = raw
    pack_local_tiles(folder, tmp_path / "packed", PARAMS, seed=1)
    store = TileStore.open(tmp_path / "packed")
    np.testing.assert_array_equal(store.read(np.arange(30)), tiles)
    np.testing.assert_array_equal(store.index["label"], np.arange(30))
    assert store.bands == BANDS
    assert (store.tile_px, store.scale, store.label_unit) == (8, (0.0001,) * 3, "index points")
    assert store.index["urban"].dtype == bool
    assert store.index.groupby("block")["split"].nunique().eq(1).all()
    again = tmp_path / "again"
    pack_local_tiles(folder, again, PARAMS, seed=1)
    for name in ("tiles.json", "index.parquet", "shard-0000.npy"):
        assert (again / name).read_bytes() == (tmp_path / "packed" / name).read_bytes()


def test_your_own_blocks_are_kept(raw, tmp_path):
    folder, _ = raw
    table = pd.read_csv(folder / "sites.csv").assign(cell=[f"c{k % 9}" for k in range(30)])
    table.to_csv(folder / "sites.csv", index=False)
    params = PARAMS.model_copy(update={"columns": {"id": "tile", "block": "cell"}})
    with pytest.warns(DataWarning, match=r"30 sites lie in 9 blocks \(calibration 2, .*Choose a smaller"):
        pack_local_tiles(folder, tmp_path / "packed", params, seed=1)
    assert TileStore.open(tmp_path / "packed").index["block"].nunique() == 9


def test_codes_are_text_and_urban_is_read_as_words(raw, tmp_path):
    """Namibia's code is NA, codes keep their zeros, and the word rural is not true."""
    folder, _ = raw
    change(folder, country="NA", block=[f"00{i % 10}" for i in range(30)], urban=["rural", "URBAN"] * 15)
    pack_local_tiles(folder, tmp_path / "packed", PARAMS, seed=1)
    index = TileStore.open(tmp_path / "packed").index
    assert set(index["country"]) == {"NA"}
    assert set(index["block"]) == {f"00{i}" for i in range(10)}
    assert index.sort_values("id")["urban"].tolist() == [True, False] * 15  # the table is in reverse


def change(folder, **columns):
    pd.read_csv(folder / "sites.csv").assign(**columns).to_csv(folder / "sites.csv", index=False)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: (f / "tiles" / "site_03.tif").unlink(), FileNotFoundError, r"site_03\.tif: no such tile"),
        (
            lambda f: (f / "tiles" / "site_03.tif").write_bytes(b"x"),
            FileFormatError,
            r"site_03\.tif: not a readable",
        ),
        (lambda f: change(f, tile="site_01.tif"), DataError, r"id tile repeats \(29: site_01\.tif"),
        (lambda f: change(f, wealth=[np.nan, *range(29)]), DataError, "column wealth holds 1 value"),
        (lambda f: change(f, lat="south"), DataError, "column lat holds 'south' in data row 1"),
        (
            lambda f: change(f, urban="city"),
            DataError,
            "column urban holds 'city'; expected one of 1, 0, true",
        ),
        (
            lambda f: change(f, urban=[np.nan, *[1] * 29]),
            DataError,
            "column urban holds nan; expected one of",
        ),
        (lambda f: change(f, country=[np.nan, *["NA"] * 29]), DataError, "column country is empty in 1 row"),
        (
            lambda f: (f / "sites.csv").write_text("a,b\n1,2\n"),
            FileFormatError,
            "missing column lat, lon, tile, wealth",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", np.ones((3, 8, 8), "uint16"), scale=0.1),
            FileFormatError,
            r"site_09\.tif: is not like the first tile: scale is",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", np.ones((3, 8, 8), "float32"), dtype="float32"),
            FileFormatError,
            r"site_09\.tif: holds float32 .* expected uint16 DN",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", np.ones((3, 6, 8), "uint16"), height=6),
            FileFormatError,
            r"site_09\.tif: expected a square",
        ),
    ],
)
def test_what_is_wrong_is_named(raw, tmp_path, spoil, error, message):
    folder, _ = raw
    spoil(folder)
    with pytest.raises(error, match=message):
        pack_local_tiles(folder, tmp_path / "packed", PARAMS, seed=1)
    assert not (tmp_path / "packed").exists()


def test_a_missing_folder_or_table_is_named(raw, tmp_path):
    folder, _ = raw
    with pytest.raises(FileNotFoundError, match="no such table"):
        copy_local(LocalParams(tiles=str(folder / "tiles"), table="nowhere.csv"), tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"no GeoTIFF \(\.tif\) in this folder"):
        copy_local(LocalParams(tiles=str(tmp_path), table=str(folder / "sites.csv")), tmp_path / "new")


def test_the_profile_in_the_parameter_file_is_valid():
    params = load_params("params.yaml", "local")
    assert isinstance(params, Params)
    assert isinstance(params.acquire, LocalParams)


def test_from_your_tiles_to_predictions(raw, tmp_path):
    from typer.testing import CliRunner

    from sustain.cli import app

    folder, _ = raw
    pack_local_tiles(folder, tmp_path / "packed", PARAMS, seed=1)
    section = TrainParams(epochs=1, batch_size=8, threads=1, loss="gaussian").model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(
        json.dumps({"source": "x", "seed": 3, "profiles": {"x": {"train": section}}})
    )
    runner = CliRunner()
    arguments = [
        "train",
        str(tmp_path / "packed"),
        str(tmp_path / "model"),
        "--params",
        str(tmp_path / "params.yaml"),
    ]
    assert runner.invoke(app, arguments, catch_exceptions=False).exit_code == 0
    shutil.rmtree(folder)  # nothing outside the packed tiles is needed any more
    tables = []
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"out{suffix}"
        arguments = ["predict", str(tmp_path / "packed"), str(tmp_path / "model"), str(out)]
        assert runner.invoke(app, arguments, catch_exceptions=False).exit_code == 0
        tables.append(read(out))
    pd.testing.assert_frame_equal(*tables, check_dtype=False, check_exact=False)
    assert list(tables[0]) == ["id", "lat", "lon", "year", "y_pred", "y_pred_sd", "model"]
    assert len(tables[0]) == 30
    assert (tables[0]["y_pred_sd"] > 0).all()
