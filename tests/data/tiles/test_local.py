"""Your own tiles and table: packed like the published ones, or refused with the reason."""

import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from sustain.config import LocalParams, Params, TilesParams, TrainParams, load_params
from sustain.data.tiles.local import copy_local, pack_local_tiles
from sustain.data.tiles.packed import TileStore
from sustain.errors import DataError, DataWarning, FileFormatError

PARAMS = TilesParams(label="wealth", label_unit="index points", columns={"id": "tile"}, block_km=50)
BANDS = ("BLUE", "GREEN", "NIR")


RNG = np.random.default_rng(0)
TILES = RNG.integers(1, 9000, size=(30, 3, 8, 8), dtype=np.uint16)
LAT, LON = RNG.uniform(-12, -8, 30), RNG.uniform(13, 20, 30)


def utm(lon, south=True):
    return f"EPSG:{(32700 if south else 32600) + int((lon + 180) // 6) + 1}"


def write_tile(
    path, tile, k=0, *, bands=BANDS, scale=0.0001, pixel=30.0, crs=None, at=None, up=False, **changes
):
    """A tile around the k-th site, in its UTM zone."""
    crs = crs or utm(LON[k])
    x, y = at or Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(LON[k], LAT[k])
    height, width = tile.shape[1:]
    origin = from_origin(x - pixel * width / 2, y + pixel * height / 2, pixel, pixel)
    if up:
        origin = origin @ Affine.translation(0, height) @ Affine.scale(1, -1)
        tile = tile[:, ::-1]
    profile = {
        "nodata": 0,
        "crs": crs,
        "transform": origin,
        "count": len(tile),
        "dtype": tile.dtype,
    } | changes
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, **profile) as target:
        target.write(tile)
        names = (*bands, "")[: len(tile)]
        target.descriptions, target.scales, target.offsets = names, (scale,) * len(tile), (0.0,) * len(tile)


@pytest.fixture
def raw(tmp_path):
    source = tmp_path / "mine"
    source.mkdir()
    for k, tile in enumerate(TILES):
        write_tile(source / f"site_{k:02d}.tif", tile, k)
    table = pd.DataFrame(
        {
            "tile": [f"site_{k:02d}.tif" for k in reversed(range(30))],
            "lat": LAT[::-1],
            "lon": LON[::-1],
            "wealth": np.arange(30.0)[::-1],
            "urban": [0, 1] * 15,
        }
    )
    table.to_csv(source / "labels.csv", index=False)
    copy_local(LocalParams(tiles=str(source), table=str(source / "labels.csv")), tmp_path / "raw")
    return tmp_path / "raw", TILES


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
        (
            lambda f: change(f, wealth=[0.5, -9999, *np.linspace(-2, 2, 28)]),
            DataError,
            r"column wealth holds -9999 in data row 2, .* missing one \(1 row",
        ),
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
            DataError,
            "no column tile, lat, lon, wealth.* it has a, b.* Say in tiles.columns",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", np.ones((3, 8, 8), "uint16"), 9, scale=0.1),
            FileFormatError,
            r"site_09\.tif: is not like the first tile: scale is",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", np.ones((3, 8, 8), "float32"), 9),
            FileFormatError,
            r"site_09\.tif: holds float32 .* expected uint16 DN",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", np.ones((3, 6, 8), "uint16"), 9),
            FileFormatError,
            r"site_09\.tif: expected a square",
        ),
        (
            lambda f: change(f, n=0),
            DataError,
            r"column n holds 0 in data row 1; expected 1 to .* observations",
        ),
        (lambda f: change(f, n=[5] * 29 + [-3]), DataError, "column n holds -3 in data row 30"),
        (
            lambda f: change(f, year=16),
            DataError,
            "column year holds 16 in data row 1; expected 1900 to 2100",
        ),
        (lambda f: change(f, lat=0, lon=0), DataError, r"30 row\(s\) lie at latitude 0, longitude 0"),
        (
            lambda f: change(f, lon=LON[::-1] + 200),
            DataError,
            r"column lon holds 2\d+\.\d+ .*Are lat and lon exchanged",
        ),
        (
            lambda f: change(f, lat=LON[::-1], lon=LAT[::-1]),
            DataError,
            r"site_00\.tif: the table places it at .* km away\. It fits with lat and lon exchanged",
        ),
        (lambda f: change(f, lat=-LAT[::-1]), DataError, "It fits with the sign of lat: mend"),
        (
            lambda f: change(f, tile=[f"site_{k:02d}.tif" for k in range(30)]),
            DataError,
            "km away. Mend the table",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", TILES[9], 9, pixel=10),
            FileFormatError,
            r"site_09\.tif: is not like the first tile: pixel_m is 10\.0, not 30\.0",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", TILES[9], 9, crs="EPSG:4326", pixel=0.00027),
            FileFormatError,
            r"site_09\.tif: its pixels are in degrees and cover 29\.\d x 29\.\d m of ground; .*gdalwarp",
        ),
        (
            lambda f: write_tile(
                f / "tiles" / "site_09.tif", TILES[9], 9, transform=Affine(29, 7, 500_000, 7, -29, 8_900_000)
            ),
            FileFormatError,
            r"site_09\.tif: is rotated or mirrored",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", TILES[9], 9, bands=("BLUE", "RED", "NIR")),
            FileFormatError,
            r"site_09\.tif: is not like the first tile: bands is \('BLUE', 'RED', 'NIR'\), not",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", TILES[9], 9, bands=("BLUE", "BLUE", "NIR")),
            FileFormatError,
            r"site_09\.tif: several bands have one name: BLUE, BLUE, NIR",
        ),
        (
            lambda f: write_tile(f / "tiles" / "site_09.tif", TILES[9] * (TILES[9] > 4000), 9, nodata=65535),
            FileFormatError,
            r"site_09\.tif: band BLUE holds the number 0 as a value, .* Add 1",
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
    as_written = partial(pd.read_csv, keep_default_na=False)  # no country is an empty text
    for suffix, read in ((".csv", as_written), (".parquet", pd.read_parquet)):
        out = tmp_path / f"out{suffix}"
        arguments = ["predict", str(tmp_path / "packed"), str(tmp_path / "model"), str(out)]
        assert runner.invoke(app, arguments, catch_exceptions=False).exit_code == 0
        tables.append(read(out))
    pd.testing.assert_frame_equal(*tables, check_dtype=False, check_exact=False)
    assert list(tables[0]) == [
        *("id", "lat", "lon", "year", "country", "urban", "n", "block", "split"),
        *("y_true", "y_pred", "y_pred_sd", "model", "out_of_sample"),
    ]
    assert len(tables[0]) == 30
    assert (tables[0]["y_pred_sd"] > 0).all()


def pack(folder, tmp_path, **changes):
    given = PARAMS.model_dump(include=PARAMS.model_fields_set) | changes
    pack_local_tiles(folder, tmp_path / "packed", TilesParams(**given), seed=1)
    return TileStore.open(tmp_path / "packed")


def all_tiles(folder, **how):
    for k, tile in enumerate(TILES):
        write_tile(
            folder / "tiles" / f"site_{k:02d}.tif",
            how.get("of", lambda t: t)(tile),
            k,
            **{x: y for x, y in how.items() if x != "of"},
        )


def test_the_size_of_pixels_is_read_from_the_tiles(raw, tmp_path):
    """Tiles of 10 m were packed as 30 m, and the map of 30 m imagery that followed was of another scale."""
    folder, _ = raw
    all_tiles(folder, pixel=10.0)
    assert pack(folder, tmp_path).pixel_m == 10
    with pytest.raises(
        FileFormatError, match=r"its pixels are 10 x 10 m; expected pixels of 30 m \(tiles\.pixel_m\)"
    ):
        pack(folder, tmp_path, pixel_m=30.0)


def test_pixels_in_degrees_need_a_declared_size_that_holds_on_the_ground(raw, tmp_path):
    folder, tiles = raw
    all_tiles(folder, crs="EPSG:4326", pixel=30 / 111_000)
    with pytest.raises(FileFormatError, match=r"in degrees .* tiles\.pixel_m"):
        pack(folder, tmp_path)
    with pytest.raises(FileFormatError, match=r"in degrees .* expected 10 m"):
        pack(folder, tmp_path, pixel_m=10.0)
    store = pack(folder, tmp_path, pixel_m=30.0)
    assert store.pixel_m == 30
    np.testing.assert_array_equal(store.read(np.arange(30)), tiles)


def test_pixels_that_cover_other_ground_are_told(raw, tmp_path):
    folder, _ = raw
    for k, tile in enumerate(TILES):
        write_tile(folder / "tiles" / f"site_{k:02d}.tif", tile, k, crs="EPSG:3395" if k else "EPSG:3857")
    far = 64.0
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(LON[0], far)
    write_tile(folder / "tiles" / "site_00.tif", TILES[0], crs="EPSG:3857", at=(x, y))
    change(folder, lat=[*LAT[:0:-1], far])
    with pytest.warns(DataWarning, match=r"pixels of 30 m cover 13\.\d to 29\.\d m of ground"):
        pack(folder, tmp_path)


def test_without_a_coordinate_system_the_size_is_asked_for(raw, tmp_path):
    folder, tiles = raw
    for k, tile in enumerate(TILES):
        with rasterio.open(folder / "tiles" / f"site_{k:02d}.tif", "w", driver="GTiff", width=8, height=8, count=3,
                           dtype="uint16", nodata=0) as target:  # fmt: skip
            target.write(tile)
            target.descriptions, target.scales = BANDS, (0.0001,) * 3
    with pytest.raises(FileFormatError, match=r"no coordinate system, .* say the size: tiles\.pixel_m"):
        pack(folder, tmp_path)
    store = pack(folder, tmp_path, pixel_m=4.8)
    assert store.pixel_m == 4.8
    np.testing.assert_array_equal(store.read(np.arange(30)), tiles)


def test_south_up_tiles_and_other_orders_of_bands_are_brought_into_one(raw, tmp_path):
    folder, tiles = raw
    write_tile(folder / "tiles" / "site_04.tif", TILES[4], 4, up=True)
    write_tile(folder / "tiles" / "site_05.tif", TILES[5][[2, 0, 1]], 5, bands=("NIR", "BLUE", "GREEN"))
    np.testing.assert_array_equal(pack(folder, tmp_path).read(np.arange(30)), tiles)


HOLE = np.zeros((8, 8), dtype=bool)
HOLE[2:4, 1:6] = True


def masked(path, k, inside):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside):
        write_tile(path, TILES[k], k, nodata=None)
        with rasterio.open(path, "r+") as target:
            target.write_mask(~HOLE)


@pytest.mark.parametrize("how", ["internal", "msk", "alpha", "nodata", "aux.xml"])
def test_missing_pixels_are_missing_however_the_file_says_so(raw, tmp_path, how):
    source = tmp_path / "mine"
    for k, tile in enumerate(TILES):
        path = source / f"site_{k:02d}.tif"
        path.unlink()
        if how in ("internal", "msk"):
            masked(path, k, how == "internal")
        elif how == "alpha":
            alpha = np.where(HOLE, 0, 65535)[None].astype(np.uint16)
            write_tile(path, np.concatenate([tile, alpha]), k, nodata=None)
            with rasterio.open(path, "r+") as target:
                target.colorinterp = [*[ColorInterp.undefined] * 3, ColorInterp.alpha]
        elif how == "nodata":
            write_tile(path, np.where(HOLE, 65535, tile).astype(np.uint16), k, nodata=65535)
        else:
            write_tile(path, np.where(HOLE, 7, tile).astype(np.uint16), k, nodata=None)
            bands = "".join(
                f'<PAMRasterBand band="{b}"><NoDataValue>7</NoDataValue></PAMRasterBand>' for b in (1, 2, 3)
            )
            path.with_name(path.name + ".aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    copy_local(LocalParams(tiles=str(source), table=str(source / "labels.csv")), tmp_path / "raw")
    found = pack(tmp_path / "raw", tmp_path).read(np.arange(30))
    expected = np.where(HOLE, 0, TILES)
    if how == "aux.xml":
        expected[expected == 7] = 0
    np.testing.assert_array_equal(found, expected)


def test_tiles_are_packed_into_a_folder_behind_a_link(raw, tmp_path):
    folder, _ = raw
    (tmp_path / "disk").mkdir()
    (tmp_path / "packed").symlink_to(tmp_path / "disk" / "tiles")
    assert len(pack(folder, tmp_path)) == 30
    assert (tmp_path / "packed").is_symlink()
    assert (tmp_path / "disk" / "tiles" / "tiles.json").is_file()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".dta", ".xlsx", ";"])
def test_the_table_may_be_in_any_format(raw, tmp_path, suffix):
    """Codes stay codes, Namibia is a country, and a decimal comma is no obstacle."""
    mine = tmp_path / "mine"
    table = pd.read_csv(mine / "labels.csv").assign(
        country="NA", block=[f"00{k % 10}" for k in range(30)], n=7
    )
    table["wealth"] += 0.5
    path = mine / f"labels{suffix}"
    if suffix == ";":
        path = mine / "labels.txt"
        table.to_csv(path, index=False, sep=";", decimal=",")
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.set_index("tile").to_parquet(path)
    elif suffix == ".dta":
        table.to_stata(path, write_index=False)
    else:
        table.to_excel(path, index=False)
    copy_local(LocalParams(tiles=str(mine), table=str(path)), tmp_path / "raw")
    index = pack(tmp_path / "raw", tmp_path).index
    np.testing.assert_allclose(index["label"], np.arange(30) + 0.5)
    np.testing.assert_allclose(index["lat"], LAT)
    assert set(index["country"]) == {"NA"}
    assert set(index["block"]) == {f"00{k}" for k in range(10)}
    assert set(index["n"]) == {7}


def test_a_name_that_is_no_table_s_is_refused(raw, tmp_path):
    (tmp_path / "mine" / "labels.pdf").write_bytes(b"")
    with pytest.raises(DataError, match=r"labels\.pdf: not a table by its name"):
        copy_local(
            LocalParams(tiles=str(tmp_path / "mine"), table=str(tmp_path / "mine" / "labels.pdf")),
            tmp_path / "x",
        )
