import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest

from sustain.config import TilesParams
from sustain.data.sustainbench.dhs import BANDS
from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles
from sustain.data.sustainbench.encoding import LANDSAT_ENCODING
from sustain.data.tiles.packed import INDEX_COLUMNS, TileStore
from sustain.data.tiles.shards import MAX_DN, TileFormat
from sustain.errors import DataError, DataWarning, FileFormatError
from tests.dhs_files import label_table, member_name, npz_bytes, plain_tile, site_id, write_archive, write_raw

PARAMS = TilesParams(shard_size=7)


def landsat_format(tile_px=8):
    scale, offset = zip(*LANDSAT_ENCODING.values(), strict=True)
    return TileFormat(bands=BANDS, scale=scale, offset=offset, pixel_m=30, tile_px=tile_px)


def random_tiles(n, side=8, seed=0):
    rng = np.random.default_rng(seed)
    tiles = {}
    for i in range(n):
        x = rng.random((8, side, side), dtype=np.float32)
        x[5] = 280 + 40 * x[5]
        x[7] = 60 * x[7]
        tiles[site_id(i)] = x
    return tiles


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- numbers


def test_known_numbers():
    values = np.array([0.0, 1.0, 0.5, 0.1, 0.2, 300.0, 0.3, 0.0]).reshape(8, 1, 1)
    tile, limited = landsat_format(1).encode(values, np.zeros((8, 1, 1), dtype=bool))
    assert tile[:, 0, 0].tolist() == [7273, 43636, 25455, 10909, 14545, 44178, 18182, 1]
    assert not limited.any()


def test_what_is_decoded_is_what_was_encoded_to_half_a_step():
    form = landsat_format()
    x = random_tiles(1)[site_id(0)]
    tile, limited = form.encode(x, np.zeros(x.shape, dtype=bool))
    assert not limited.any()
    for k, band in enumerate(BANDS):
        np.testing.assert_allclose(
            form.decode(tile[None], band)[0], x[k], rtol=1e-6, atol=0.501 * form.scale[k]
        )


def test_numbers_survive_a_round_trip_through_float32():
    # The scenes and the survey's tiles are two encodings of one picture; they must give the same DN.
    form = landsat_format(256)
    numbers = np.broadcast_to(np.arange(65536, dtype=np.uint16).reshape(256, 256), (8, 256, 256)).copy()
    values = np.stack([form.decode(numbers[None], band)[0] for band in BANDS])
    missing = np.isnan(values)
    tile, limited = form.encode(values, missing)
    np.testing.assert_array_equal(tile, numbers)
    assert not limited.any()


def test_values_beyond_the_range_are_limited_and_counted_never_wrapped():
    values = np.zeros((8, 8, 8))
    values[0, 0, 0], values[7, 0, :3] = -0.5, 1000.0
    values[5] = 300
    tile, limited = landsat_format().encode(values, np.zeros(values.shape, dtype=bool))
    assert limited.tolist() == [1, 0, 0, 0, 0, 0, 0, 3]
    assert tile[0, 0, 0] == 1
    assert (tile[7, 0, :3] == MAX_DN).all()


# --- packing


@pytest.fixture
def packed(tmp_path):
    tiles = random_tiles(40)
    names = list(tiles)
    raw = write_raw(tmp_path / "raw", {name: tiles[name] for name in names[20:] + names[:20]})
    table = pd.read_csv(raw / "dhs_final_labels.csv")
    pack_dhs_tiles(raw, tmp_path / "tiles", PARAMS, seed=4)
    return tiles, table, tmp_path / "tiles"


def test_every_tile_is_where_the_index_says_turned_north_up(packed):
    tiles, _, folder = packed
    store = TileStore.open(folder)
    assert sorted(path.name for path in folder.glob("shard-*")) == [f"shard-000{k}.npy" for k in range(6)]
    assert store.index["id"].tolist() == sorted(tiles)
    expected = np.stack(
        [
            store.format.encode(tiles[name][:, ::-1], np.zeros((8, 8, 8), dtype=bool))[0]
            for name in store.index["id"]
        ]
    )
    order = np.random.default_rng(0).permutation(len(store))
    np.testing.assert_array_equal(store.read(order), expected[order])
    assert store.read([]).shape == (0, 8, 8, 8)
    assert np.load(folder / "shard-0005.npy").shape == (5, 8, 8, 8)


def test_the_index_carries_the_table(packed):
    _, table, folder = packed
    index = TileStore.open(folder).index.set_index("id")
    table = table.set_index("DHSID_EA").loc[index.index]
    assert list(pd.read_parquet(folder / "index.parquet").columns) == list(INDEX_COLUMNS)
    np.testing.assert_array_equal(index["label"], table["asset_index"])
    np.testing.assert_array_equal(index["lat"], table["lat"])
    np.testing.assert_array_equal(index["urban"], table["urban"] == "U")
    assert (index["n"] == 22).all()
    assert (index["country"] == "XA").all()
    assert index.groupby("block")["split"].nunique().eq(1).all()
    assert set(index["split"]) == {"train", "val", "calibration", "test"}


def test_the_page_says_what_the_numbers_mean(packed):
    page = json.loads((packed[2] / "tiles.json").read_text())
    assert page["bands"] == list(BANDS)
    assert (
        dict(zip(page["bands"], zip(page["scale"], page["offset"], strict=True), strict=True))
        == LANDSAT_ENCODING
    )
    assert (page["nodata"], page["pixel_m"], page["tile_px"]) == (0, 30.0, 8)
    assert page["label"] == {"name": "asset_index", "unit": "index points"}
    assert page["counts"]["sites"] == 40


def test_the_same_input_gives_the_same_bytes(packed, tmp_path):
    pack_dhs_tiles(tmp_path / "raw", tmp_path / "again", PARAMS, seed=4)
    assert contents(tmp_path / "again") == contents(packed[2])


def test_a_good_folder_gives_no_warning(tmp_path):
    raw = write_raw(tmp_path / "raw", random_tiles(40))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_dhs_tiles(raw, tmp_path / "tiles", PARAMS, seed=0)


def test_missing_pixels_are_zero_in_every_band_and_dark_ones_are_not(tmp_path):
    tiles = {site_id(i): plain_tile() for i in range(40)}
    x = tiles[site_id(0)]
    x[:, 0, 0] = 0  # row 0 is south
    x[7, 1, 1] = 0  # no lights, but observed
    x[:7, 2, 2] = 0  # no Landsat, but lights
    x[0, 3, 3] = 0  # black in one band
    pack_dhs_tiles(write_raw(tmp_path / "raw", tiles), tmp_path / "tiles", PARAMS, seed=0)
    tile = TileStore.open(tmp_path / "tiles").read([0])[0]
    assert (tile[:, 7, 0] == 0).all()
    assert tile[7, 6, 1] == 1
    assert (tile[:7, 5, 2] == 0).all()
    assert tile[7, 5, 2] == 341
    assert tile[0, 4, 3] == 7273
    assert (tile == 0).sum() == 8 + 7


def test_what_is_left_out_or_limited_is_counted_and_named(tmp_path):
    tiles = {site_id(i): plain_tile() for i in range(50)}
    table = label_table(50)
    table.loc[0, ["asset_index", "n_asset"]] = np.nan
    table.loc[1, "n_asset"] = 4
    tiles[site_id(2)][7, 0, :2] = 900.0
    tiles[site_id(3)][0, 0, 0] = np.nan
    tiles[site_id(4)][:] = 0
    tiles[site_id(6)][:] = np.nan
    del tiles[site_id(5)]
    tiles["XA-2016-9#-00000777"] = plain_tile()
    table.loc[7, "year"] = 2008
    raw = write_raw(tmp_path / "raw", tiles, table)
    with pytest.warns(DataWarning) as caught:
        pack_dhs_tiles(raw, tmp_path / "tiles", PARAMS, seed=0)
    said = "\n".join(str(warning.message) for warning in caught)
    for what, number in [
        ("1 tile.s. without a row in the label table", 777),
        ("1 site.s. with a label but without a tile", 5),
        ("2 tile.s. without one valid pixel", 4),
        ("2 tile.s. hold NaN", 3),
        ("1 tile.s. hold values beyond the range", 2),
        ("1 site.s. before 2012 have nightlights of another sensor", 7),
    ]:
        assert any(re.search(what, line) and f"{number:08d}" in line for line in said.splitlines()), (
            what,
            said,
        )
    counts = json.loads((tmp_path / "tiles/tiles.json").read_text())["counts"]
    assert counts["sites"] == 45
    assert counts["rows_without_label"] == 2
    assert counts["values_limited"]["NIGHTLIGHTS"] == 2
    assert len(TileStore.open(tmp_path / "tiles")) == 45


def repeated(tmp_path):
    raw = write_raw(tmp_path / "raw", random_tiles(40))
    write_archive(raw / "dhs_XB.tar.gz", {member_name(site_id(1)): npz_bytes(x=plain_tile())})
    return raw, DataError, "00000001 comes twice"


def of_two_sizes(tmp_path):
    tiles = random_tiles(40)
    tiles[site_id(11)] = plain_tile(9)
    return write_raw(tmp_path / "raw", tiles), FileFormatError, "00000011 has 9 x 9 pixels; expected 8 x 8"


def not_square(tmp_path):
    tiles = random_tiles(40)
    tiles[site_id(0)] = plain_tile(9)[:, :, :4]
    return write_raw(tmp_path / "raw", tiles), FileFormatError, "00000000 has 9 x 4 pixels"


def truncated(tmp_path):
    raw = write_raw(tmp_path / "raw", random_tiles(40))
    archive = raw / "dhs_XA.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-5000])
    return raw, FileFormatError, "truncated, damaged"


def without_labels(tmp_path):
    raw = write_raw(tmp_path / "raw", random_tiles(4))
    (raw / "dhs_final_labels.csv").unlink()
    return raw, FileNotFoundError, "dhs_final_labels.csv"


def without_matching_tiles(tmp_path):
    table = label_table(40)
    table["DHSID_EA"] = [f"XB-2016-9#-{i:08d}" for i in range(40)]
    return write_raw(tmp_path / "raw", random_tiles(40), table), DataError, "none of the 40 sites"


def in_one_block(tmp_path):
    table = label_table(40)
    table["lat"], table["lon"] = 0.01, 0.01
    return write_raw(tmp_path / "raw", random_tiles(40), table), DataError, "a part would be empty"


@pytest.mark.parametrize(
    "case",
    [repeated, of_two_sizes, not_square, truncated, without_labels, without_matching_tiles, in_one_block],
)
def test_bad_input_is_one_error_and_leaves_nothing(tmp_path, case):
    raw, kind, message = case(tmp_path)
    with pytest.raises(kind, match=message):
        pack_dhs_tiles(raw, tmp_path / "out" / "tiles", PARAMS, seed=0)
    # Finished shards may wait in a hidden folder for the next run; nothing that a later stage would read is there.
    assert [path for path in (tmp_path / "out").glob("*") if path.name != ".packing-tiles"] == []


def test_a_full_disk_is_said_before_a_shard_is_begun(tmp_path, monkeypatch):
    from sustain import files
    from sustain.errors import DiskSpaceError

    raw = write_raw(tmp_path / "raw", random_tiles(40))
    usage = files.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskSpaceError, match="a shard of tiles needs"):
        pack_dhs_tiles(raw, tmp_path / "tiles", PARAMS, seed=0)
    assert not (tmp_path / "tiles").exists()


def test_a_killed_run_goes_on_from_its_finished_shards_and_gives_the_same_bytes(packed, tmp_path):
    out, work = tmp_path / "killed", tmp_path / "work"
    script = (
        "import sys, time; from pathlib import Path\n"
        "from sustain.config import TilesParams\n"
        "from sustain.data.sustainbench import dhs_tiles, packing\n"
        "encode = packing.encode_landsat\n"
        "def slow(x, pixel_m):\n    time.sleep(0.05)\n    return encode(x, pixel_m)\n"
        "packing.encode_landsat = slow\n"
        "dhs_tiles.pack_dhs_tiles(sys.argv[1], sys.argv[2], TilesParams(shard_size=7), 4, work=sys.argv[3])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "raw", out, work])
    deadline = time.monotonic() + 60
    while not (work / "shard-0001.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    finished = {path.name: path.stat().st_mtime_ns for path in work.glob("shard-000[01].npy")}
    assert len(finished) == 2
    pack_dhs_tiles(tmp_path / "raw", out, PARAMS, seed=4, work=work)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished  # not written again
    assert contents(out) == contents(packed[2])
    assert not work.exists()


def test_finished_shards_of_another_label_or_size_are_not_used(packed, tmp_path):
    work = tmp_path / "work"
    raw = write_raw(tmp_path / "other", random_tiles(41, seed=9))
    (raw / "dhs_ZZ.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(FileFormatError):
        pack_dhs_tiles(raw, tmp_path / "never", PARAMS, seed=4, work=work)
    assert len(list(work.glob("shard-*.npy"))) == 6
    pack_dhs_tiles(tmp_path / "raw", tmp_path / "again", PARAMS, seed=4, work=work)
    assert contents(tmp_path / "again") == contents(packed[2])


# --- reading


def test_rows_of_a_split(packed):
    store = TileStore.open(packed[2])
    assert sum(len(store.rows(split)) for split in ("train", "val", "calibration", "test")) == 40
    assert (store.index["split"].iloc[store.rows("test")] == "test").all()
    with pytest.raises(
        DataError, match="no site in split 'holdout'; the splits are calibration, test, train, val"
    ):
        store.rows("holdout")


def test_a_store_travels_to_another_process_without_its_tiles(packed):
    store = TileStore.open(packed[2])
    store.read(np.arange(40))
    pickled = pickle.dumps(store)
    assert len(pickled) < 40 * store.read([0]).nbytes
    np.testing.assert_array_equal(pickle.loads(pickled).read([3]), store.read([3]))


def cut_shard(folder):
    path = folder / "shard-0001.npy"
    path.write_bytes(path.read_bytes()[:-100])


def empty_shard(folder):
    (folder / "shard-0001.npy").write_bytes(b"")


def other_shard(folder):
    np.save(folder / "shard-0001.npy", np.zeros((7, 8, 9, 9), dtype=np.uint16))


def short_shard(folder):
    np.save(folder / "shard-0001.npy", np.zeros((3, 8, 8, 8), dtype=np.uint16))


def pickled_shard(folder):
    np.save(folder / "shard-0001.npy", np.array([{}], dtype=object), allow_pickle=True)


def cut_index(folder):
    path = folder / "index.parquet"
    path.write_bytes(path.read_bytes()[:-100])


def index_without_block(folder):
    path = folder / "index.parquet"
    pd.read_parquet(path).drop(columns="block").to_parquet(path)


def index_with_nan(folder):
    path = folder / "index.parquet"
    pd.read_parquet(path).assign(label=np.nan).to_parquet(path)


def page_without_bands(folder):
    page = json.loads((folder / "tiles.json").read_text())
    del page["bands"]
    (folder / "tiles.json").write_text(json.dumps(page))


def page_with_short_scale(folder):
    page = json.loads((folder / "tiles.json").read_text())
    page["scale"] = page["scale"][:3]
    (folder / "tiles.json").write_text(json.dumps(page))


def broken_page(folder):
    (folder / "tiles.json").write_text('{"bands": [')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_shard, "shard-0001.npy: damaged or truncated"),
        (empty_shard, "shard-0001.npy: damaged or truncated"),
        (other_shard, "shard-0001.npy: holds uint16"),
        (short_shard, "shard-0001.npy: holds 3 tiles, but the index asks for row 6"),
        (pickled_shard, "shard-0001.npy: damaged or truncated"),
        (cut_index, "index.parquet: not a readable Parquet table"),
        (index_without_block, "index.parquet: missing column block"),
        (index_with_nan, "index.parquet: 40 NaN label"),
        (page_without_bands, "tiles.json: wrong or missing entries"),
        (page_with_short_scale, "tiles.json: wrong or missing entries"),
        (broken_page, "tiles.json: not a JSON file"),
    ],
)
def test_a_damaged_folder_is_refused_by_file(packed, damage, message):
    damage(packed[2])
    with pytest.raises(DataError, match=message):
        TileStore.open(packed[2])


def test_a_missing_folder_or_shard_is_named(packed, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TileStore.open(tmp_path / "nowhere")
    (packed[2] / "shard-0002.npy").unlink()
    with pytest.raises(FileNotFoundError, match="shard-0002"):
        TileStore.open(packed[2])


def test_reading_tiles_needs_no_torch():
    code = (
        "import sys, sustain.data.tiles.packed; sys.exit('torch' in sys.modules or 'rasterio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
