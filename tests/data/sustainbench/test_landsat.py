"""DHS and LSMS: packed tiles, resumed packing, six labels over one set of tiles, pairs of years."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sustain.data.sustainbench import dhs, dhs_tasks, landsat, lsms
from sustain.data.sustainbench.landsat import LandsatDataset, LandsatSource
from sustain.data.sustainbench.tasks import READERS, open_task
from sustain.errors import DataError, DataWarning, FileFormatError
from tests.dhs_files import member_name, npz_bytes, write_archive
from tests.sustainbench_files import DHS_SITES, SHARED, dhs_table, dhs_tile, lsms_table, write_dhs, write_lsms

REAL_LSMS = SHARED / "mirror" / "sustainbench" / "lsms" / "lsms_asset_indices.csv"
needs_release = pytest.mark.skipif(
    not REAL_LSMS.is_file(), reason="no LSMS labels in ../shared/mirror: the real counts need them"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landsat")
    write_dhs(folder / "raw" / "dhs")
    write_lsms(folder / "raw" / "lsms")
    dhs_tasks.ingest(folder / "raw" / "dhs", folder / "dhs")
    lsms.ingest(folder / "raw" / "lsms", folder / "lsms")
    return folder


# --- values


def test_a_tile_is_north_up_with_its_values_and_its_missing_pixel(root):
    dataset = LandsatDataset(LandsatSource.open(root / "dhs"), label="women_edu", split="test")
    number = list(DHS_SITES).index(dataset.ids[0])
    published, image = dhs_tile(number), dataset.arrays(0)["image"]
    north_up = published[:, ::-1]
    assert np.isnan(image[:, 0, -1]).all()  # published in the last row: north; TEMP1 is 0 kelvin there
    assert np.isfinite(image[:7]).sum() == 7 * (12 * 12 - 1)
    np.testing.assert_allclose(image[0, -1], 0.5, atol=2e-5)  # published in row 0: south
    np.testing.assert_allclose(image[:7, 1:], north_up[:7, 1:], atol=2e-3)


def test_dmsp_and_viirs_have_a_channel_each_by_year(root):
    source = LandsatSource.open(root / "dhs")
    for row, year in enumerate(source.samples["year"]):
        dmsp, viirs = source.item("image", row)[-2:]
        seen, absent = (dmsp, viirs) if year <= 2011 else (viirs, dmsp)
        number = list(DHS_SITES).index(source.samples["id"][row])
        np.testing.assert_allclose(seen[1:], 1 + number, atol=0.006)
        assert np.isnan(absent).all()
    assert {2003, 2008} < set(source.samples["year"])


def test_statistics_are_the_training_tiles_alone_and_by_sensor(root):
    dataset = open_task("sdg1-asset-dhs", root, split="val")
    train = open_task("sdg1-asset-dhs", root, split="train")
    images = np.stack([train.arrays(i)["image"] for i in range(len(train))]).astype(np.float64)
    np.testing.assert_allclose(dataset.statistics.mean, np.nanmean(images, axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(
        dataset.statistics.std, np.nanstd(images, axis=(0, 2, 3)), rtol=1e-4, atol=1e-6
    )
    assert dataset.statistics.n[-2] == 2 * 143  # two Albanian tiles of 2008
    assert dataset.statistics.n[-1] == 2 * 143  # two Kenyan tiles of 2014


def test_the_six_tasks_share_their_tiles_and_have_their_own_rows(root):
    table = dhs_table().set_index("DHSID_EA")
    for name, reader in READERS.items():
        if reader.source != "dhs":
            continue
        label = reader.dataset.keywords["label"]
        published = table[label].astype(float).dropna()
        ids = []
        for part in ("train", "val", "test"):
            try:
                dataset = open_task(name, root, split=part)
            except DataError:
                continue
            assert dataset.labels.tolist() == published[dataset.ids].tolist()
            ids += dataset.ids.tolist()
        assert sorted(ids) == sorted(published.index)
    asset, deaths = (open_task(f"sdg{n}", root).ids for n in ("1-asset-dhs", "3-under5mort-dhs"))
    assert set(asset) - set(deaths) == {"AL-2008-5#-00000001"}  # no under-5 mortality there


def test_crop_is_the_centre(root):
    whole = open_task("sdg1-asset-dhs", root).arrays(0)["image"]
    part = open_task("sdg1-asset-dhs", root, crop=8).arrays(0)["image"]
    np.testing.assert_array_equal(part, whole[:, 2:10, 2:10])
    with pytest.raises(DataError, match="crop is 13; a tile has 12 x 12"):
        open_task("sdg1-asset-dhs", root, crop=13)[0]


# --- splits


def test_the_official_split_is_that_of_the_specification():
    train = [
        "AL",
        "BD",
        "CD",
        "CM",
        "GH",
        "GU",
        "HN",
        "IA",
        "ID",
        "JO",
        "KE",
        "KM",
        "LB",
        "LS",
        "MA",
        "MB",
        "MD",
        "MM",
        "MW",
        "MZ",
        "NG",
        "NI",
        "PE",
        "PH",
        "SN",
        "TG",
        "TJ",
        "UG",
        "ZM",
        "ZW",
    ]
    val = ["BF", "BJ", "BO", "CO", "DR", "GA", "GN", "GY", "HT", "NM", "SL", "TD", "TZ"]
    test = ["AM", "AO", "BU", "CI", "EG", "ET", "KH", "KY", "ML", "NP", "PK", "RW", "SZ"]
    table = dhs_tasks.add_splits(pd.DataFrame({"country": [*train, *val, *test, "XX"]}))
    parts = table.set_index("country")["split:official"]
    assert parts[train].eq("train").all()
    assert parts[val].eq("val").all()
    assert parts[test].eq("test").all()
    assert parts.isna()["XX"]
    assert len(table) == 57


def test_every_country_is_tested_once_over_the_folds():
    countries = [country for fold in dhs.COUNTRY_FOLDS.values() for country in fold]
    assert len(countries) == len(set(countries)) == 56
    table = dhs_tasks.add_splits(pd.DataFrame({"country": countries}))
    tested = table.filter(like="split:").eq("test").sum(axis=1)
    assert len(dhs_tasks.SCHEMES) == 5
    assert tested.eq(1).all()


def test_sums_of_the_specification_agree_with_its_country_table():
    # Clusters by label: train, val, test, as the specification has them.
    for train, val, test, clusters in (
        (59617, 16776, 10543, 86936),
        (69052, 17062, 19468, 105582),
        (61950, 15675, 17241, 94866),
        (75818, 20589, 20655, 117062),
        (59620, 17773, 10545, 87938),
        (60184, 16776, 12311, 89271),
    ):
        assert train + val + test == clusters


# --- packing


def test_shards_hold_one_archive_each_and_are_mapped_lazily(tmp_path):
    write_dhs(tmp_path / "raw")
    sites = dhs_tasks.add_splits(dhs.read_all_labels(tmp_path / "raw" / dhs.LABELS_FILE))
    landsat.pack_archives(
        dhs.archives(tmp_path / "raw"), sites, tmp_path / "out", dhs_tasks.SCHEMES, dhs.MEMBER, shard_tiles=3
    )
    source = LandsatSource.open(tmp_path / "out")
    assert source.samples.groupby("shard").size().tolist() == [3, 1, 3, 2]
    by_three = [source.item("image", row) for row in range(len(source))]
    dhs_tasks.ingest(tmp_path / "raw", tmp_path / "again")
    whole = LandsatSource.open(tmp_path / "again")
    for row in range(len(whole)):
        np.testing.assert_array_equal(whole.item("image", row), by_three[row])
    np.testing.assert_array_equal(whole.array("image.moments"), source.array("image.moments"))


def test_what_is_left_out_is_counted_and_warned_of(tmp_path):
    write_dhs(tmp_path / "raw")
    names = list(DHS_SITES)
    tiles = {name: dhs_tile(i) for i, name in enumerate(names[4:])}
    tiles[names[5]][:] = 0
    tiles[names[6]][3, 2, 2] = np.nan
    tiles["ZW-2015-7#-00000009"] = dhs_tile(0)
    write_archive(
        tmp_path / "raw" / "dhs_EG_HT.tar.gz", {member_name(n): npz_bytes(x=x) for n, x in tiles.items()}
    )
    (tmp_path / "raw" / "dhs_AL_DR.tar.gz").unlink()
    with pytest.warns(DataWarning) as caught:
        dhs_tasks.ingest(tmp_path / "raw", tmp_path / "out")
    said = " ".join(str(warning.message) for warning in caught)
    assert "1: ZW-2015-7#-00000009: tile(s) without a row" in said
    assert "4: AL-2008-5#-00000001" in said
    counts = LandsatSource.open(tmp_path / "out").description["counts"]
    assert {kind: count["n"] for kind, count in counts.items()} == {
        "without_row": 1,
        "without_pixel": 1,
        "with_nan": 1,
        "without_tile": 4,
    }


def test_a_tile_that_comes_twice_is_refused(tmp_path):
    write_dhs(tmp_path / "raw")
    twice = tmp_path / "raw" / "dhs_ZZ.tar.gz"
    twice.write_bytes((tmp_path / "raw" / "dhs_AL_DR.tar.gz").read_bytes())
    with pytest.raises(DataError, match="AL-2008-5#-00000001 comes twice"):
        dhs_tasks.ingest(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_archive_leaves_finished_shards_and_the_next_run_goes_on(tmp_path, monkeypatch):
    write_dhs(tmp_path / "raw")
    second = tmp_path / "raw" / "dhs_EG_HT.tar.gz"
    whole = second.read_bytes()
    half = whole[: len(whole) // 2]
    second.write_bytes(
        half + bytes(len(whole) - len(half))
    )  # as long as the whole, so that the plan is the same
    with pytest.raises(FileFormatError, match=r"dhs_EG_HT\.tar\.gz"):
        dhs_tasks.ingest(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    second.write_bytes(whole)
    opened = []
    iter_tiles = dhs.iter_tiles
    monkeypatch.setattr(
        dhs, "iter_tiles", lambda archive, *rest: opened.append(archive.name) or iter_tiles(archive, *rest)
    )
    dhs_tasks.ingest(tmp_path / "raw", tmp_path / "out")
    assert opened == ["dhs_EG_HT.tar.gz"]
    assert len(LandsatSource.open(tmp_path / "out")) == len(DHS_SITES)
    assert not list(tmp_path.glob(".packing*"))


def pack_in_shards_of_20(raw, out):
    sites = dhs_tasks.add_splits(dhs.read_all_labels(raw / dhs.LABELS_FILE))
    landsat.pack_archives(dhs.archives(raw), sites, out, dhs_tasks.SCHEMES, dhs.MEMBER, 20)


def test_an_ingest_that_was_killed_goes_on_and_gives_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    n = 120
    table = pd.concat([dhs_table().iloc[[2]]] * n, ignore_index=True)
    table["DHSID_EA"] = [f"KE-2014-7#-{i:08d}" for i in range(n)]
    raw = tmp_path / "raw"
    members = {
        member_name(name): npz_bytes(x=rng.uniform(0.1, 300, (8, 96, 96)).astype("f4"))
        for name in table["DHSID_EA"]
    }
    write_archive(raw / "dhs_ID_MZ.tar.gz", members)
    table.to_csv(raw / "dhs_final_labels.csv", index=False)

    script = (
        "import sys; from pathlib import Path\n"
        "from tests.data.sustainbench.test_landsat import pack_in_shards_of_20\n"
        "pack_in_shards_of_20(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    killed = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, raw, tmp_path / "out"],
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
    )
    records = tmp_path / ".packing-out"
    while killed.poll() is None and len(list(records.glob("shard-*.json"))) < 2:
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in records.glob("shard-000[01].npy")}
    assert len(finished) == 2, "the run ended before it could be killed"
    assert not (tmp_path / "out").exists()
    for out in (tmp_path / "out", tmp_path / "straight"):
        pack_in_shards_of_20(raw, out)
    assert {
        name: (tmp_path / "out" / name).stat().st_mtime_ns for name in finished
    } == finished  # not done again
    names = sorted(path.name for path in (tmp_path / "straight").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


def test_other_archives_than_those_begun_with_start_afresh(tmp_path):
    write_dhs(tmp_path / "raw")
    (tmp_path / ".packing-out").mkdir()
    plan = {"archives": {"dhs_AL_DR.tar.gz": 1}, "shard_tiles": 512, "sites": 9}
    (tmp_path / ".packing-out" / "plan.json").write_text(json.dumps(plan))
    (tmp_path / ".packing-out" / "shard-0000.json").write_text("{}")
    dhs_tasks.ingest(tmp_path / "raw", tmp_path / "out")
    assert len(LandsatSource.open(tmp_path / "out")) == len(DHS_SITES)


# --- LSMS


def test_cluster_codes_keep_their_leading_zeros(tmp_path):
    lsms_table().to_csv(tmp_path / "labels.csv", index=False)
    assert "0100" in set(lsms.read_labels(tmp_path / "labels.csv")["cluster"])
    table = lsms_table()
    table["cluster_id"] = table["cluster_id"].astype(int)
    table.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DataError, match="lost its leading zeros"):
        lsms.read_labels(tmp_path / "labels.csv")


def test_three_visits_make_three_pairs_of_which_two_are_short(tmp_path):
    lsms_table().to_csv(tmp_path / "labels.csv", index=False)
    pairs = lsms.pairs_of(lsms.read_labels(tmp_path / "labels.csv"))
    uganda = pairs[pairs["country"] == "ug"]
    assert uganda["gap"].tolist() == [4, 8, 4] * 2
    assert uganda["short"].tolist() == [True, False, True] * 2
    assert len(pairs) == 8 + 6


def test_a_pair_has_the_earlier_tile_first_and_the_difference_of_its_labels(root):
    dataset = open_task("sdg1-poverty-change-lsms", root, split="test", scheme="country_ug")
    source = dataset.source
    for i in range(len(dataset)):
        sample, pair = dataset.arrays(i), dataset.samples.iloc[i]
        rows = [int(np.flatnonzero(source.samples["id"] == pair[k])[0]) for k in ("first", "second")]
        years = source.samples["year"].iloc[rows].tolist()
        assert years == sorted(years)
        change = source.samples["asset_index"].iloc[rows[1]] - source.samples["asset_index"].iloc[rows[0]]
        assert sample["label"] == pytest.approx(change)
        np.testing.assert_array_equal(sample["image"][1], source.item("image", rows[1]))
    assert (
        len(open_task("sdg1-poverty-change-lsms", root, split="test", scheme="country_ug", short=True)) == 4
    )


def test_no_country_is_on_two_sides(root):
    for scheme in [name for name in lsms.SCHEMES if name.startswith("country")]:
        parts = {
            part: set(
                open_task("sdg1-poverty-change-lsms", root, split=part, scheme=scheme).samples["country"]
            )
            for part in ("train", "val", "test")
        }
        assert parts["test"] == {scheme[-2:]}
        assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 5


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("asset_index", "rich", "asset_index holds 'rich' in data row 2"),
        ("asset_index", "inf", "asset_index is infinite"),
        ("lat", 95, "lat/lon missing or out of range in 1"),
        ("lsms_id", "et_0100_2011", "lsms_id repeats"),
    ],
)
def test_a_wrong_lsms_value_is_named(tmp_path, column, value, message):
    table = lsms_table().astype(object)
    table.loc[1, column] = value
    table.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DataError, match=message):
        lsms.read_labels(tmp_path / "labels.csv")


@needs_release
def test_the_real_lsms_labels_have_the_counts_of_the_specification():
    labels = lsms.read_labels(REAL_LSMS)
    assert len(labels) == 2763
    clusters = labels.groupby("country")["cluster"].nunique().to_dict()
    assert clusters == {"et": 235, "mw": 101, "ng": 462, "tz": 300, "ug": 189}
    years = labels.groupby("country")["year"].unique().map(lambda found: tuple(sorted(found))).to_dict()
    assert years == {
        "et": (2011, 2015),
        "mw": (2010, 2016),
        "ng": (2010, 2015),
        "tz": (2008, 2012),
        "ug": (2005, 2009, 2013),
    }
    pairs = lsms.pairs_of(labels)
    assert len(pairs) == 1665
    assert pairs["short"].sum() == 1476
    assert labels["asset_index"].mean() == pytest.approx(-0.036, abs=5e-4)
    assert labels["asset_index"].std() == pytest.approx(1.494, abs=5e-4)
    assert labels["n"].min() == 3
    assert labels["n"].max() == 16
    assert labels["cluster"].str.startswith("0").any()


@needs_release
def test_the_real_lsms_schemes_keep_clusters_whole():
    sites = lsms.add_splits(lsms.read_labels(REAL_LSMS))
    for scheme in lsms.SCHEMES:
        assert sites.groupby(["country", "cluster"])[f"split:{scheme}"].nunique().eq(1).all()
    tested = sites.filter(like="split:spatial").eq("test")
    assert tested.sum(axis=1).eq(1).all()
    assert (tested.mean() - 0.2).abs().max() < 0.02


def test_a_warning_free_ingest_of_whole_files(tmp_path):
    write_lsms(tmp_path / "raw")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lsms.ingest(tmp_path / "raw", tmp_path / "out")
    assert len(LandsatSource.open(tmp_path / "out")) == 22
