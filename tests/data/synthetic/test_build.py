"""The embedded world on disk: formats, agreement of tiles and scene, determinism, truth kept apart."""

import gzip
import io
import tarfile
import warnings

import numpy as np
import pandas as pd
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.warp import transform

from sustain.config import SyntheticWorldParams, TilesParams
from sustain.data.sustainbench.dhs import BANDS, read_labels
from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles
from sustain.data.synthetic import build, write_world
from sustain.data.tiles.packed import TileStore
from sustain.errors import ConfigError, DiskSpaceError
from sustain.files import read_json, sha256_of
from tests.data.synthetic.worlds import SEED, SMALL

TINY = SyntheticWorldParams(scene_px=256, tile_px=16, n_sites=40)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(SMALL, SEED, folder / "raw", folder / "truth")
    return folder / "raw", folder / "truth"


def hashes(folder):
    return {
        str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def tiles_of(raw):
    with tarfile.open(raw / "dhs_XA.tar.gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            with np.load(io.BytesIO(content.read()), allow_pickle=False) as npz:
                assert npz.files == ["x"]
                yield member, npz["x"]


def test_the_files_are_those_of_the_contract(folders):
    raw, truth = folders
    assert set(hashes(raw)) == {
        "dhs_XA.tar.gz", "dhs_final_labels.csv", "scene_baseline.tif", "scene_endline.tif", "survey.json",
        "trials.json", "trials/districts.csv", "trials/towns.csv", "trials/villages.csv",
    }  # fmt: skip
    assert set(hashes(truth)) == {"truth.json", "survey.parquet", "trials.parquet"}


@pytest.mark.parametrize("period", ["baseline", "endline"])
def test_scenes_are_geotiffs_that_explain_themselves(folders, period):
    with rasterio.open(folders[0] / f"scene_{period}.tif") as scene:
        assert scene.crs == rasterio.CRS.from_epsg(3857)
        assert scene.descriptions == BANDS
        assert set(scene.dtypes) == {"uint16"}
        assert scene.nodatavals == (0.0,) * 8
        assert scene.scales == (2.75e-5,) * 5 + (0.00341802, 2.75e-5, 0.01)
        assert scene.offsets == (-0.2,) * 5 + (149.0, -0.2, -0.01)
        assert scene.units[5] == "K"
        assert (scene.width, scene.height) == (512, 512)
        assert (scene.transform.a, scene.transform.e) == (30.0, -30.0)
        assert scene.profile["tiled"]
        assert scene.profile["compress"] == "deflate"
        assert scene.tags()["YEAR"] == {"baseline": "2016", "endline": "2019"}[period]
        assert "no place on Earth" in scene.tags()["SYNTHETIC"]
        lon, lat = transform(scene.crs, "EPSG:4326", [scene.bounds.left], [scene.bounds.top])
        assert 0 < lon[0] < 2
        assert abs(lat[0]) < 1
        numbers = scene.read()
    missing = (numbers == 0).any(axis=0)
    assert 0.001 < missing.mean() < 0.1
    assert (numbers[:, missing] == 0).all()


def test_a_tile_is_the_scene_around_its_published_place_upside_down(folders):
    raw, _ = folders
    sites = pd.read_csv(raw / "dhs_final_labels.csv").set_index("DHSID_EA")
    with rasterio.open(raw / "scene_baseline.tif") as scene:
        numbers = scene.read()
        x, y = transform("EPSG:4326", scene.crs, sites["lon"].tolist(), sites["lat"].tolist())
        column, row = ~scene.transform @ (np.array(x), np.array(y))
        scale, offset = (np.reshape(values, (8, 1, 1)) for values in (scene.scales, scene.offsets))
    places = dict(zip(sites.index, zip(row, column, strict=True), strict=True))
    half = SMALL.tile_px / 2
    seen = 0
    for member, tile in tiles_of(raw):
        name = member.name.removesuffix(".npz").split("/")[1]
        assert member.name == f"XA-2016-9#/{name}.npz"
        assert tile.dtype == np.float32
        top, left = (round(middle - half) for middle in places[name])
        window = numbers[:, top : top + SMALL.tile_px, left : left + SMALL.tile_px]
        north_up = tile[:, ::-1].astype(np.float64)
        found = np.where((north_up == 0).all(axis=0), 0, np.rint((north_up - offset) / scale))
        np.testing.assert_array_equal(found, window)
        seen += 1
    assert seen == SMALL.n_sites


def test_the_tiles_room_reads_it_without_complaint(folders, tmp_path):
    raw, _ = folders
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_dhs_tiles(raw, tmp_path / "tiles", TilesParams(block_km=2.0), seed=1)
    store = TileStore.open(tmp_path / "tiles")
    labels = read_labels(raw / "dhs_final_labels.csv")
    assert store.index["id"].tolist() == labels["id"].tolist()
    packed = store.read([7])[0]
    name, tile = next((m.name, x) for m, x in tiles_of(raw) if store.index["id"][7] in m.name)
    assert name
    with rasterio.open(raw / "scene_baseline.tif") as scene:
        scale, offset = scene.scales, scene.offsets
    valid = packed[5] > 0
    for band in range(8):
        physical = packed[band][valid] * scale[band] + offset[band]
        np.testing.assert_allclose(physical, tile[band, ::-1][valid], atol=scale[band] / 2)


def test_archives_carry_no_time_and_no_name(folders):
    path = folders[0] / "dhs_XA.tar.gz"
    header = path.read_bytes()[:10]
    assert header[4:8] == b"\0\0\0\0"  # mtime
    assert header[3] == 0  # no name, no comment
    with gzip.open(path) as stream, tarfile.open(fileobj=stream) as archive:
        members = archive.getmembers()
    assert {member.mtime for member in members} == {0}
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}


def test_trials_json_and_tables_agree(folders):
    raw, truth = folders
    trials = read_json(raw / "trials.json")
    units = pd.read_parquet(truth / "trials.parquet")
    facts = read_json(truth / "truth.json")["trials"]
    for trial in trials:
        table = pd.read_csv(raw / trial["table"])
        assert table.columns.tolist() == ["unit", "lon", "lat", "treated", "district", "urban"]
        assert table.notna().all().all()
        assert set(table["treated"]) == {0, 1}
        assert set(table["urban"]) <= {0, 1}
        mine = units[units["trial"] == trial["name"]]
        assert mine["unit"].tolist() == table["unit"].tolist()
        assert facts[trial["name"]]["definition"]
    assert facts["villages"]["effect"] == SMALL.effect_villages
    assert facts["districts"]["effect"] == SMALL.effect_districts
    towns = pd.read_csv(raw / "trials/towns.csv")
    wealth = units.loc[units["trial"] == "towns", "wealth_true"].to_numpy()
    contrast = wealth[towns["treated"] == 1].mean() - wealth[towns["treated"] == 0].mean()
    assert facts["towns"]["effect"] == pytest.approx(contrast)


def test_the_effect_is_in_the_truth_of_the_units(tmp_path, folders):
    still = SMALL.model_copy(update={"effect_villages": 0.0, "effect_districts": 0.0})
    write_world(still, SEED, tmp_path / "raw", tmp_path / "truth")
    with_effect, without = (
        pd.read_parquet(truth / "trials.parquet") for truth in (folders[1], tmp_path / "truth")
    )
    gain = (with_effect["wealth_true"] - without["wealth_true"]).to_numpy()
    for name, effect in (("villages", 0.5), ("districts", 0.4), ("towns", 0.0)):
        treated = pd.read_csv(folders[0] / f"trials/{name}.csv")["treated"]
        np.testing.assert_allclose(gain[with_effect["trial"] == name], effect * treated, atol=1e-6)
    assert sha256_of(tmp_path / "raw/scene_baseline.tif") == sha256_of(folders[0] / "scene_baseline.tif")
    assert sha256_of(tmp_path / "raw/scene_endline.tif") != sha256_of(folders[0] / "scene_endline.tif")


def test_raw_does_not_tell_the_truth(folders):
    raw, truth = folders
    for path in raw.rglob("*"):
        if path.suffix in {".csv", ".json"}:
            text = path.read_text(encoding="utf-8")
            assert "wealth_true" not in text
            assert "effect" not in text
    labels = pd.read_csv(raw / "dhs_final_labels.csv")
    sites = pd.read_parquet(truth / "survey.parquet").set_index("id").loc[labels["DHSID_EA"]]
    for column in labels.select_dtypes("number").dropna(axis=1).columns:
        if labels[column].std() > 0:
            for fact in ("wealth_true", "lat_true", "lon_true"):
                assert abs(np.corrcoef(labels[column], sites[fact])[0, 1]) < 0.9999
    assert np.corrcoef(labels["asset_index"], sites["wealth_true"])[0, 1] > 0.9
    units = pd.read_parquet(truth / "trials.parquet")
    for name in ("villages", "districts", "towns"):
        table = pd.read_csv(raw / f"trials/{name}.csv")
        mine = units.loc[units["trial"] == name, "wealth_true"].to_numpy()
        for column in ("lon", "lat", "treated", "urban"):
            if table[column].std() > 0:
                assert abs(np.corrcoef(table[column], mine)[0, 1]) < 0.95


def test_survey_json_says_what_a_survey_would(folders):
    facts = read_json(folders[0] / "survey.json")
    assert facts["label"] == {"name": "asset_index", "unit": "index points"}
    assert facts["household_sd"] == SMALL.household_sd
    assert "714 m" in facts["displacement"]  # 5 km * (32 * 30 m) / 6.72 km
    assert read_json(folders[1] / "truth.json")["survey"]["label_noise_var"] == pytest.approx(1 / 22)


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    for name, seed in (("a", 11), ("b", 11), ("c", 12)):
        write_world(TINY, seed, tmp_path / name / "raw", tmp_path / name / "truth")
    first, again, other = (hashes(tmp_path / name) for name in "abc")
    assert first == again
    same = {path for path in first if first[path] == other[path]}
    assert same == {"raw/survey.json", "raw/trials.json"}


def test_a_larger_survey_changes_nothing_in_the_world(tmp_path):
    for name, n_sites in (("a", 40), ("b", 60)):
        params = TINY.model_copy(update={"n_sites": n_sites})
        write_world(params, 11, tmp_path / name / "raw", tmp_path / name / "truth")
    first, second = hashes(tmp_path / "a/raw"), hashes(tmp_path / "b/raw")
    changed = {path for path in first if first[path] != second[path]}
    assert changed == {"dhs_XA.tar.gz", "dhs_final_labels.csv"}


def test_an_old_world_is_replaced_as_a_whole(tmp_path):
    raw, truth = tmp_path / "raw", tmp_path / "truth"
    raw.mkdir()
    (raw / "left over.csv").write_text("old")
    write_world(TINY, 11, raw, truth)
    assert not (raw / "left over.csv").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "truth"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "write_tiles", fail)
    with pytest.raises(DiskSpaceError, match="nothing was put in place"):
        write_world(TINY, 11, tmp_path / "raw", tmp_path / "truth")
    assert list(tmp_path.iterdir()) == []


def test_no_room_on_the_disk_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("sustain.files.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(DiskSpaceError, match="embedded world"):
        write_world(TINY, 11, tmp_path / "raw", tmp_path / "truth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scene_px": 300}, "scene_px is 300, 4.7 tiles"),
        ({"tile_px": 63}, "tile_px is 63; it must be even"),
        ({"tile_px": 8}, "at least 16"),
        ({"pixel_m": 500.0}, "beyond 400 km"),
    ],
)
def test_impossible_parameters_are_named(tmp_path, change, message):
    params = SyntheticWorldParams(**{"scene_px": 1024, "n_sites": 20, **change})
    with pytest.raises(ConfigError, match=message):
        write_world(params, 1, tmp_path / "raw", tmp_path / "truth")
    assert list(tmp_path.iterdir()) == []


def test_a_negative_seed_is_named(tmp_path):
    with pytest.raises(ConfigError, match="seed is -1"):
        write_world(TINY, -1, tmp_path / "raw", tmp_path / "truth")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tile_px=st.sampled_from([16, 18, 32]),
    tiles=st.floats(8, 14),
    n_sites=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_worlds_of_many_sizes_are_whole(tmp_path, tile_px, tiles, n_sites, seed):
    params = SyntheticWorldParams(scene_px=int(tiles * tile_px), tile_px=tile_px, n_sites=n_sites)
    raw, truth = tmp_path / "raw", tmp_path / "truth"
    write_world(params, seed, raw, truth)
    shapes = [tile.shape for _, tile in tiles_of(raw)]
    assert shapes == [(8, tile_px, tile_px)] * n_sites
    assert set(pd.read_csv(raw / "dhs_final_labels.csv")["urban"]) <= {"U", "R"}
    with rasterio.open(raw / "scene_endline.tif") as scene:
        assert scene.shape == (params.scene_px, params.scene_px)
    for trial in read_json(raw / "trials.json"):
        treated = pd.read_csv(raw / trial["table"])["treated"]
        assert 2 <= treated.sum() <= len(treated) - 2
