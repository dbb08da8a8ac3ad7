"""Readers of the other sources: their traps, and files that are not what they should be."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sustain.data.csvtable import read_csv, whole_numbers
from sustain.data.sustainbench import (
    africa_crop_type,
    brick_kilns,
    crop_yield,
    cropland,
    fields,
    naip,
    ood_landcover,
)
from sustain.data.sustainbench.arrays import ArraySpec, read_npz
from sustain.data.sustainbench.channels import merge_moments, sample_moments
from sustain.data.sustainbench.pictures import read_picture
from sustain.data.sustainbench.source import Scheme, Source, StackSpec, write_source
from sustain.data.sustainbench.tasks import ingest
from sustain.errors import DataError, DataWarning, FileFormatError, SustainError
from tests import sustainbench_files as files
from tests.dhs_files import npz_bytes, write_archive
from tests.hdf5_files import write_hdf5

# What is left out is warned of; the tests look at what source.json says of it.
pytestmark = pytest.mark.filterwarnings("ignore::sustain.errors.DataWarning")

DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "a web page": lambda content: b"<html><body>Quota exceeded</body></html>",
    "noise": lambda content: np.random.default_rng(0).bytes(len(content) or 10),
    "another file": lambda content: npz_bytes(other=np.zeros(3)),
}


@pytest.fixture(scope="module")
def raws(tmp_path_factory):
    """Published files of every source. Do not change them."""
    folder = tmp_path_factory.mktemp("raw")
    for source, write in files.WRITERS.items():
        write(folder / source)
    return folder


def one_of_each_kind(folder):
    """A file of each kind: the last, so that others have been read before it."""
    kinds = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "examples_2.hdf5":  # the table asks for no picture of it
            kinds[
                path.parent.name if path.suffix in {".png", ".jpeg"} else path.name.split("_")[0], path.suffix
            ] = path
    return list(kinds.values())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("source", files.WRITERS)
def test_a_damaged_file_is_a_typed_error_that_names_it_and_nothing_is_half_ingested(
    raws, tmp_path, source, damage
):
    for number, path in enumerate(one_of_each_kind(raws / source)):
        raw = tmp_path / str(number) / "raw"
        shutil.copytree(raws / source, raw)
        place = raw / path.relative_to(raws / source)
        place.write_bytes(DAMAGES[damage](path.read_bytes()))
        with pytest.raises(SustainError) as caught:
            ingest(source, raw, tmp_path / str(number) / "out")
        assert path.name in str(caught.value)
        assert not (tmp_path / str(number) / "out" / source).exists()


@pytest.mark.parametrize("source", files.WRITERS)
def test_a_folder_without_the_files_says_so(tmp_path, source):
    (tmp_path / "raw").mkdir()
    with pytest.raises(FileNotFoundError):
        ingest(source, tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out" / source).exists()


@pytest.mark.parametrize("source", ["fields", "brickkiln", "naip", "ood", "cropland"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_files_may_still_be_in_their_archive(raws, tmp_path, source, kind):
    (tmp_path / "raw").mkdir()
    archive = tmp_path / "raw" / f"published.{kind}"
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "raw" / "published"), "zip", raws / source)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(raws / source, arcname="top")
    ingest(source, tmp_path / "raw", tmp_path / "out")
    ingest(source, raws / source, tmp_path / "direct")
    packed, direct = (Source.open(tmp_path / out / source) for out in ("out", "direct"))
    pd.testing.assert_frame_equal(packed.samples, direct.samples)
    for name in direct.stacks:
        np.testing.assert_array_equal(packed.array(name), direct.array(name))
    assert not list((tmp_path / "out").glob(".*"))


def test_a_member_that_leads_out_of_an_archive_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "naip.zip", "w") as archive:
        archive.writestr("../escaped.csv", "x")
    with pytest.raises(SustainError, match="escaped"):
        ingest("naip", tmp_path / "raw", tmp_path / "out")
    assert not list(tmp_path.rglob("escaped.csv"))


# --- cropland


def test_an_empty_part_of_a_split_is_said(raws, tmp_path):
    shutil.copytree(
        raws / "cropland" / "train", tmp_path / "flat"
    )  # three patches: none comes to the test part
    with pytest.warns(DataWarning, match="split proposed: no sample in part test"):
        cropland.ingest(tmp_path / "flat", tmp_path / "out")


def test_the_weak_labels_hide_what_they_should(raws, tmp_path):
    cropland.ingest(raws / "cropland", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    dense = cropland.WeakCropland(source).arrays(1)["mask"]
    assert dense[0, 0] == 255  # NaN in the file
    assert (dense[:25] != 0).all()
    assert (dense[25:] == 0).all()
    pixel = cropland.WeakCropland(source, labels="pixel").arrays(1)["mask"]
    assert np.argwhere(pixel != 255).tolist() == [[7, 30]]
    assert pixel[7, 30] == 1
    image = [cropland.WeakCropland(source, labels="image").arrays(i) for i in range(3)]
    assert [int(sample["label"]) for sample in image] == [
        0,
        0,
        1,
    ]  # 10, 25 and 40 of 50 rows; one pixel of 25 is NaN
    assert all((sample["mask"] == 255).all() for sample in image)


@pytest.mark.parametrize("code", [1, 60, 66, 77, 196, 254])
def test_codes_of_crops(code):
    assert cropland.is_crop(np.array(code))


@pytest.mark.parametrize("code", [61, 65, 78, 111, 121, 141, 176, 195])
def test_codes_of_other_land(code):
    assert not cropland.is_crop(np.array(code))


@pytest.mark.parametrize("mask", [np.zeros((50, 50)), np.ones((50, 50)), np.full((50, 50), np.nan)])
def test_a_mask_has_one_labelled_pixel(tmp_path, mask):
    files.write_cropland(tmp_path / "raw")
    np.save(tmp_path / "raw" / "test" / "mask_patch1.npy", mask)
    with pytest.raises(FileFormatError, match=r"mask_patch1\.npy: .* expected a single 1"):
        cropland.ingest(tmp_path / "raw", tmp_path / "out")


def test_nan_everywhere_and_patches_without_masks_are_counted(tmp_path):
    files.write_cropland(tmp_path / "raw")
    np.save(tmp_path / "raw" / "train" / "patch0.npy", np.full((50, 50, 18), np.nan))
    (tmp_path / "raw" / "val" / "mask_patch2.npy").unlink()
    cropland.ingest(tmp_path / "raw", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    assert source.description["counts"] == {
        "patches_without_mask": ["val/2"],
        "masks_without_patch": [],
        "patches_without_valid_pixel": ["train/0"],
    }
    assert len(source) == 7


REAL_CROPLAND = files.SHARED / "data" / "cropland_sample"


@pytest.mark.skipif(not REAL_CROPLAND.is_dir(), reason="no real patches in ../shared/data")
def test_the_four_real_patches(tmp_path):
    cropland.ingest(REAL_CROPLAND, tmp_path / "out")
    source = Source.open(tmp_path / "out")
    assert source.samples["id"].tolist() == ["0", "1", "10", "11"]
    assert list(source.schemes) == ["proposed"]
    assert source.samples["split:proposed"].tolist() == ["train", "train", "train", "val"]
    for row in range(4):
        image = source.item("image", row)
        mask = source.item("mask", row)
        np.testing.assert_array_equal(np.isnan(image).any(axis=0), mask == 255)
        assert np.nanmin(image) > 0
        assert np.nanmax(image) < 0.6
    assert np.isnan(source.item("image", 0)).any(axis=0).sum() == 235
    assert source.samples[["pixel_row", "pixel_column"]].to_numpy().tolist() == [
        [17, 21],
        [28, 47],
        [45, 45],
        [4, 46],
    ]


# --- crop types of Ghana and South Sudan


def test_series_keep_their_own_lengths_and_a_damaged_one_is_left_out_by_name(raws, tmp_path):
    africa_crop_type.ingest(raws / "africa_crop_type", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    assert "ghana_000002" not in set(source.samples["id"])
    assert list(source.description["counts"]["damaged"]) == ["ghana_000002"]
    assert "ghana_000002.npz" in source.description["counts"]["damaged"]["ghana_000002"]
    train = africa_crop_type.AfricaCropType(source, country="ghana", satellites=("s2", "s1", "planet"))
    lengths = {train.ids[i]: len(train.arrays(i)["image"]) for i in range(len(train))}
    assert lengths == {"ghana_000003": 4, "ghana_000006": 3}
    sample = train.arrays(0)
    assert sample["image"].shape == (4, 10, 64, 64)
    assert sample["s1"].shape == (4, 3, 64, 64)
    assert sample["planet"].shape == (4, 4, 212, 212)
    assert np.isnan(sample["image"][:, :, 0, 0]).all()  # 0 in every band
    assert train.dates(0) == ["2016-01-05", "2016-02-05", "2016-03-05", "2016-04-05"]
    for length in (2, 6):
        fixed = africa_crop_type.AfricaCropType(source, country="ghana", length=length).arrays(0)["image"]
        assert len(fixed) == length
    assert np.isnan(fixed[4:]).all()
    np.testing.assert_array_equal(fixed[:4], sample["image"])


def test_only_the_four_crops_count(raws, tmp_path):
    africa_crop_type.ingest(raws / "africa_crop_type", tmp_path / "out")
    mask = africa_crop_type.AfricaCropType(Source.open(tmp_path / "out"), country="southsudan").mask(0)
    assert np.unique(mask[:8]).tolist() == [0]
    assert np.unique(mask[8:16]).tolist() == [1]
    assert np.unique(mask[16:20]).tolist() == [3]
    assert (mask[20:] == 255).all()  # class 7, and unlabelled


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list_eval_partition.csv", b"id,partition\n1,3\n", "partition is 3"),
        ("list_eval_partition.csv", b"id,partition\n1,0\n1,1\n", "id repeats"),
        ("truth/ghana_000001.npz", npz_bytes(truth=np.zeros((32, 32), "u1")), r"truth/ghana_000001\.npz"),
        ("s2/s2_ghana_000001.json", b"[]", "not a table of dates"),
        ("s2/s2_ghana_000001.json", b"{" * 9999, "not a table of dates"),
        ("s2/s2_ghana_000001.json", b'{"dates": [1]}', "dates must be a list of text"),
    ],
)
def test_a_wrong_member_is_named(tmp_path, name, content, message):
    members = files.africa_members("ghana", range(1, 3))
    members[f"africa_crop_type_mapping_v1.0/ghana/{name}"] = content
    write_archive(tmp_path / "raw" / "archive.tar.gz", members)
    with pytest.raises(DataError, match=message):
        africa_crop_type.ingest(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_may_come_in_any_order_and_what_lacks_its_partner_is_counted(tmp_path):
    members = files.africa_members("ghana", range(1, 8))
    base = "africa_crop_type_mapping_v1.0/ghana"
    del members[f"{base}/truth/ghana_000003.npz"], members[f"{base}/npy/ghana_000004.npz"]
    members[f"{base}/s1/s1_ghana_000005.json"] = b'{"dates": ["2016-01-05"]}'
    write_archive(tmp_path / "raw" / "archive.tar.gz", dict(reversed(members.items())))
    africa_crop_type.ingest(tmp_path / "raw", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    counts = source.description["counts"]
    assert counts["series_without_truth"] == ["ghana_000003"]
    assert counts["truth_without_series"] == counts["part_without_series"] == ["ghana_000004"]
    assert counts["dates_not_matching"] == ["ghana_000005 s1"]
    assert source.samples["split:official"].isna().sum() == 1


# --- crop yield


def test_histograms_add_up_to_one_and_are_not_divided_by_255(raws, tmp_path):
    crop_yield.ingest(raws / "cropyield", tmp_path / "out")
    dataset = crop_yield.CropYield(Source.open(tmp_path / "out"), country="brazil", split="val")
    assert dataset.samples["key"].tolist()[0] == "dep 0_brazil st_2011"
    np.testing.assert_allclose(dataset.arrays(0)["image"].sum(axis=1), 1, rtol=1e-6)
    published = read_npz(
        files.yield_members()["soybeans/brazil/dev_hists.npz"], {"data": ArraySpec("f", (None,) * 4)}
    )
    np.testing.assert_allclose(
        dataset.arrays(2)["image"], np.moveaxis(published["data"][2], -1, 0), rtol=1e-6
    )


def test_no_county_or_no_year_is_on_two_sides(raws, tmp_path):
    crop_yield.ingest(raws / "cropyield", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    for country in crop_yield.COUNTRIES:
        sides = {
            (scheme, part): crop_yield.CropYield(source, country=country, scheme=scheme, split=part).samples
            for scheme in ("official", "by_county", "by_year")
            for part in ("train", "val", "test")
        }
        for scheme, column, kept in (
            ("by_county", "group", True),
            ("by_year", "year", True),
            ("official", "group", False),
        ):
            shared = set(sides[scheme, "train"][column]) & set(sides[scheme, "test"][column])
            assert bool(shared) != kept
        assert min(sides["by_year", "test"]["year"]) > max(sides["by_year", "train"]["year"])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("usa/dev_yields", np.zeros(4), "usa/dev has .*must have one a county and year"),
        ("usa/dev_hists", np.zeros((5, 32, 32, 8)), r"usa/dev_hists\.npz"),
        ("usa/dev_hists", np.full((5, 32, 32, 9), np.nan), "NaN or infinite"),
        ("usa/dev_years", np.array(["x"] * 5), "holds no years"),
        ("usa/dev_keys", np.array([{}] * 5, dtype=object), "Python objects"),
        ("usa/dev_yields", np.array(["1"] * 5), "expected float"),
    ],
)
def test_a_wrong_yield_array_is_named(tmp_path, name, array, message):
    members = files.yield_members() | {f"soybeans/{name}.npz": npz_bytes(data=array)}
    files.write_yield(tmp_path / "raw", members)
    with pytest.raises(FileFormatError, match=message):
        crop_yield.ingest(tmp_path / "raw", tmp_path / "out")


def test_rows_without_a_yield_are_counted(tmp_path):
    members = files.yield_members()
    members["soybeans/usa/test_yields.npz"] = npz_bytes(data=np.array([1.0, np.nan, 2.0, np.inf, 3.0]))
    files.write_yield(tmp_path / "raw", members)
    crop_yield.ingest(tmp_path / "raw", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    assert source.description["counts"]["histograms_without_yield"] == ["usa-test-1", "usa-test-3"]
    test = crop_yield.CropYield(source, country="usa", split="test")
    assert test.labels.tolist() == [1, 2, 3]
    published = read_npz(members["soybeans/usa/test_hists.npz"], {"data": ArraySpec("f", (None,) * 4)})[
        "data"
    ]
    np.testing.assert_allclose(test.arrays(1)["image"], np.moveaxis(published[2], -1, 0), rtol=1e-6)


# --- fields


def test_files_are_named_by_indices_and_masks_are_zero_and_one(raws, tmp_path):
    fields.ingest(raws / "fields", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    assert source.samples["id"].tolist() == [str(100 + 7 * i) for i in range(9)]
    boundary = fields.FieldDelineation(source).arrays(0)["mask"]
    filled = fields.FieldDelineation(source, target="filled").arrays(0)["mask"]
    assert boundary.sum() == 7 * 224
    np.testing.assert_array_equal(boundary, 1 - filled)


def test_a_picture_of_another_size_or_a_grey_mask_is_refused(tmp_path):
    files.write_fields(tmp_path / "raw")
    Image.new("L", (224, 224), 128).save(tmp_path / "raw" / "masks" / "107.png")
    with pytest.raises(FileFormatError, match=r"107\.png: a mask must be 0 and 255"):
        fields.ingest(tmp_path / "raw", tmp_path / "out")
    Image.new("RGB", (225, 224)).save(tmp_path / "raw" / "imgs" / "107.jpeg")
    with pytest.raises(FileFormatError, match=r"107\.jpeg: 224 x 225 pixels; expected 224 x 224"):
        fields.ingest(tmp_path / "raw", tmp_path / "out")


def test_a_picture_bomb_is_refused_before_it_is_decoded():
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 30000, 30000, 1, 0, 0, 0, 0), b"IDAT": zlib.compress(bytes(9))}
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )
    with pytest.raises(FileFormatError, match=r"file: not a whole PNG picture .*decompression bomb"):
        read_picture(bomb, "PNG", (224, 224), "file")


# --- brick kilns


def test_columns_come_under_their_true_names(raws):
    table = brick_kilns.read_table(raws / "brickkiln" / brick_kilns.TABLE)
    assert (table["north"] - table["south"]).round(6).eq(0.006).all()
    assert table["south"].between(20, 27).all()  # Bangladesh
    assert table["west"].between(88, 93).all()
    assert set(table["offset"]) == {0, 1, 2, 3}
    assert table["label"].sum() == 8


def test_the_same_kiln_is_on_two_sides_officially_and_on_one_when_grouped(raws):
    table = brick_kilns.read_table(raws / "brickkiln" / brick_kilns.TABLE)
    parts = table.groupby(["row", "column"])
    assert parts["split:official"].nunique().max() > 1
    assert parts["split:grouped"].nunique().max() == 1
    assert table.groupby("group")["split:grouped"].nunique().max() == 1


def test_pictures_are_upright_in_file_order_and_an_empty_file_is_no_error(raws, tmp_path):
    brick_kilns.ingest(raws / "brickkiln", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    assert source.samples["id"].tolist() == [f"{n // 6}-{n % 6}" for n in range(12)]
    published = np.concatenate([files.kiln_images(0), files.kiln_images(1)])
    np.testing.assert_array_equal(source.array("image"), published.astype(np.float32))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((6, 64, 64, 13))}, "images hold float64"),
        ({"images": np.zeros((6, 13, 64, 64), np.int64)}, "images hold int64"),
        ({"labels": np.zeros((6, 1), np.int64)}, "labels differ from list_eval_partition.csv in 4 picture"),
        (
            {"labels": np.zeros((5, 1), np.int64), "images": np.zeros((5, 13, 64, 64))},
            "holds 5 pictures, but",
        ),
    ],
)
def test_a_wrong_kiln_file_is_named(raws, tmp_path, arrays, message):
    shutil.copytree(raws / "brickkiln", tmp_path / "raw")
    labels = files.kiln_table()["y"].to_numpy(np.int64)[:6, None]
    write_hdf5(
        tmp_path / "raw" / "examples_1.hdf5", **{"images": files.kiln_images(1), "labels": labels} | arrays
    )
    with pytest.raises(DataError, match=rf"examples_1\.hdf5: {message}"):
        brick_kilns.ingest(tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("y", 2, "label is 2"),
        ("partition", 9, "part is 9"),
        ("lon_top_left", 99.0, "bounds are empty or out of order"),
        ("hdf5_idx", 1, "hdf5_file and hdf5_idx repeat"),
        ("hdf5_idx", 0.5, "hdf5_idx holds '0.5'"),
    ],
)
def test_a_wrong_value_of_the_kiln_table_is_named(tmp_path, column, value, message):
    table = files.kiln_table().astype(object)
    table.loc[2, column] = value
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(DataError, match=message):
        brick_kilns.read_table(tmp_path / "table.csv")


# --- land cover


def test_a_probe_gets_so_many_labels_and_the_same_ones_each_time(raws, tmp_path):
    naip.ingest(raws / "naip", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    few = naip.LandCoverTiles(source, n_labels=4, seed=3)
    assert len(few) == len(few.labels) == 4
    assert few.ids.tolist() == naip.LandCoverTiles(source, n_labels=4, seed=3).ids.tolist()
    assert few.ids.tolist() != naip.LandCoverTiles(source, n_labels=4, seed=4).ids.tolist()
    assert few.classes == ("24", "36", "69")
    assert few.arrays(0)["image"].shape == (4, 100, 100)
    with pytest.raises(DataError, match="n_labels is 7; part 'train' has 6"):
        naip.LandCoverTiles(source, n_labels=7)


def test_a_tile_name_may_not_lead_elsewhere(tmp_path):
    files.write_naip(tmp_path / "raw")
    table = pd.read_csv(tmp_path / "raw" / "metadata.csv")
    table.loc[1, "fileName"] = "../tile_1.npz"
    table.to_csv(tmp_path / "raw" / "metadata.csv", index=False)
    with pytest.raises(DataError, match=r"fileName is '\.\./tile_1\.npz'"):
        naip.ingest(tmp_path / "raw", tmp_path / "out")


def test_episodes_are_seeded_and_never_query_their_examples(raws, tmp_path):
    ood_landcover.ingest(raws / "ood", tmp_path / "out")
    source = Source.open(tmp_path / "out")
    dataset = ood_landcover.LandCoverRegions(source, split="test", n_episodes=4, n_query=6, seed=1)
    episodes = list(dataset.episodes())
    assert len(episodes) == 3 * 4
    for episode in episodes:
        assert episode.support.shape == (2, 8, 46)
        assert episode.query.shape == (12, 8, 46)
        assert episode.support_label.tolist() == [0, 1]
        assert len(set(episode.classes)) == 2
        rows = np.concatenate([episode.support, episode.query]).reshape(14, -1)
        assert len(np.unique(rows, axis=0)) == 14
    np.testing.assert_array_equal(np.concatenate([e.query_label for e in episodes]), dataset.labels)
    assert [e.region for e in episodes for _ in e.query_label] == dataset.groups.tolist()
    again = list(
        ood_landcover.LandCoverRegions(source, split="test", n_episodes=4, n_query=6, seed=1).episodes()
    )
    other = list(
        ood_landcover.LandCoverRegions(source, split="test", n_episodes=4, n_query=6, seed=2).episodes()
    )
    assert all((a.query == b.query).all() for a, b in zip(episodes, again, strict=True))
    assert any((a.query != b.query).any() for a, b in zip(episodes, other, strict=True))


def test_labels_of_a_region_stay_beside_their_series(raws, tmp_path):
    ood_landcover.ingest(raws / "ood", tmp_path / "out")
    sample = ood_landcover.LandCoverRegions(Source.open(tmp_path / "out")).arrays(0)
    assert (
        sample["label"].tolist() == [1] * 9 + [4] * 10 + [12] * 10 + [16] * 10
    )  # the first is NaN everywhere
    assert sample["image"].shape == (39, 8, 46)


# --- what they stand on


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_npz_gives_its_array_or_a_typed_error(data):
    content = bytearray(npz_bytes(x=np.arange(12.0).reshape(3, 4)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(content) - 20, len(content)))]
    with contextlib.suppress(FileFormatError):  # any other error fails the test
        assert read_npz(bytes(content), {"x": ArraySpec("f", (3, 4))})["x"].shape == (3, 4)


@settings(max_examples=50, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_a_table_or_a_typed_error(content):
    with contextlib.suppress(DataError):
        table = read_csv(io.BytesIO(content), {"a"}, "file")
        whole_numbers(table, "a", "file")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e4, 1e4) | st.just(float("nan")), min_size=1, max_size=6), min_size=1, max_size=6
    )
)
def test_merged_moments_are_those_of_all_values_together(samples):
    arrays = [np.array([values, values[::-1]]) for values in samples]
    merged = merge_moments(np.stack([sample_moments(array) for array in arrays]))
    together = np.concatenate(arrays, axis=1)
    assert merged.n.tolist() == np.isfinite(together).sum(axis=1).tolist()
    if merged.n[0]:
        np.testing.assert_allclose(merged.mean, np.nanmean(together, axis=1), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(merged.std, np.nanstd(together, axis=1), rtol=1e-6, atol=1e-4)


def stored(folder):
    with write_source(folder, {"image": StackSpec("f4", (2, 3))}) as store:
        for number in range(3):
            row = {"id": str(number), "group": "g", "label": 1.0, "split:official": "train"}
            store.add(row, image=np.full((2, 3), number, "f4"))
        store.finish({"bands": {"image": ["a", "b"]}}, {"official": Scheme(True, "all")})
    return folder


@pytest.mark.parametrize("name", ["image.npy", "samples.parquet", "source.json", "image.moments.npy"])
@pytest.mark.parametrize("keep", [0, 0.5])
def test_a_damaged_store_is_named(tmp_path, name, keep):
    path = stored(tmp_path / "out") / name
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(FileFormatError, match="out"):
        source = Source.open(tmp_path / "out")
        source.item("image", 2)
        source.moments("image", np.array([0]))


def test_the_same_files_give_the_same_bytes(tmp_path):
    for path in stored(tmp_path / "a").iterdir():
        assert path.read_bytes() == (stored(tmp_path / "b") / path.name).read_bytes()


def test_an_id_that_comes_twice_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="id '1' comes twice"), write_source(tmp_path / "out", {}) as store:
        store.rows += [{"id": "1"}, {"id": "1"}]
        store.finish({"bands": {}}, {})
    assert not (tmp_path / "out").exists()
