import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from sustain.errors import (
    BandWarning,
    DataWarning,
    DiskSpaceError,
    FileFormatError,
    RasterError,
    SupportWarning,
)
from sustain.maps import cog, geotiff, writing
from sustain.maps.correct import raster
from sustain.maps.correct.raster import correct_raster
from tests.maps.fakes import make_card, write_raster

NIGERIA = (
    Path(__file__).parents[4] / "shared/mirror/africa_poverty/data/predictions/nigeria_2012_2014_ms_vals.tif"
)


@pytest.fixture
def raw():
    values = np.random.default_rng(2).uniform(-0.9, 0.9, size=(40, 50)).astype(np.float32)
    values[:5, :7] = np.nan
    return values


@pytest.fixture(scope="module")
def card():
    return make_card()


@pytest.fixture
def raw_path(tmp_path, raw):
    return write_raster(
        tmp_path / "wealth.tif",
        [raw, np.isfinite(raw)],
        ("wealth_raw", "coverage"),
        units=("index points", "1"),
        tags={"SUSTAIN_TARGET": "asset_index", "SUSTAIN_PREDICTOR": "mean-0123456789ab"},
    )


def test_bands_hold_what_they_say(tmp_path, raw_path, raw, card):
    out = correct_raster(raw_path, tmp_path / "corrected.tif", card)
    seen = np.isfinite(raw)
    with rasterio.open(out) as corrected, rasterio.open(raw_path) as source:
        wealth, wealth_raw, wealth_se, support = corrected.read()
        assert corrected.descriptions == ("wealth", "wealth_raw", "wealth_se", "support")
        assert corrected.units == ("index points", "index points", "index points", "1")
        assert set(corrected.dtypes) == {"float32"}
        assert np.isnan(corrected.nodata)
        assert (corrected.crs, corrected.transform, corrected.shape) == (
            source.crs,
            source.transform,
            source.shape,
        )
        tags = corrected.tags()
    np.testing.assert_array_equal(wealth_raw, raw)
    np.testing.assert_allclose(wealth[seen], (raw[seen] - card.intercept) / card.slope, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(wealth[seen], card.transform(raw[seen]))
    np.testing.assert_array_equal(
        wealth_se[seen], card.standard_error(raw[seen].astype(float)).astype(np.float32)
    )
    assert np.isnan([wealth[~seen], wealth_se[~seen]]).all()
    np.testing.assert_array_equal(support, np.where(seen, 0, 2))
    assert tags["SUSTAIN_CARD_SHA256"] == card.sha256
    assert tags["SUSTAIN_METHOD"] == "linear"
    assert tags["SUSTAIN_PREDICTOR"] == "mean-0123456789ab"
    assert not any(str(tmp_path) in text for text in tags.values())


def test_a_card_by_its_path(tmp_path, raw_path, card):
    by_object = correct_raster(raw_path, tmp_path / "a.tif", card, method="none")
    by_path = correct_raster(raw_path, tmp_path / "b.tif", card.save(tmp_path / "card.json"), method="none")
    assert by_object.read_bytes() == by_path.read_bytes()
    with rasterio.open(by_path) as corrected:
        np.testing.assert_array_equal(corrected.read(1), corrected.read(2))


def test_is_a_strictly_valid_cog_of_the_same_bytes(tmp_path, card):
    raw = np.random.default_rng(3).normal(scale=0.2, size=(700, 1100))
    path = write_raster(tmp_path / "big.tif", [raw], ("wealth_raw",))
    first = correct_raster(path, tmp_path / "a" / "map.tif", card)
    again = correct_raster(path, tmp_path / "b" / "map.tif", card)
    valid, problems, notes = cog_validate(first, strict=True)
    assert (valid, problems, notes) == (True, [], [])
    with rasterio.open(first) as cog:
        assert cog.overviews(1)
        assert cog.block_shapes[0] == (512, 512)
        assert cog.profile["compress"] == "deflate"
    assert first.read_bytes() == again.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["map.tif"]


def test_works_through_large_rasters_a_block_at_a_time(tmp_path, card, monkeypatch):
    sizes = []
    original = raster.correct_values
    monkeypatch.setattr(
        raster, "correct_values", lambda block, *rest: sizes.append(block.size) or original(block, *rest)
    )
    path = write_raster(tmp_path / "big.tif", np.zeros((1, 1500, 1100)), ("wealth_raw",), tiled=True)
    correct_raster(path, tmp_path / "map.tif", card)
    assert sum(sizes) == 1500 * 1100
    assert max(sizes) <= geotiff.BLOCK_PX**2


def test_the_bytes_of_a_cog_do_not_depend_on_gdals_cache(tmp_path, card, monkeypatch):
    values = np.random.default_rng(0).normal(0, 0.3, (1, 700, 620))
    path = write_raster(tmp_path / "big.tif", values, ("wealth_raw",), tiled=True)
    large = correct_raster(path, tmp_path / "large.tif", card).read_bytes()
    monkeypatch.setitem(cog._COPY, "GDAL_CACHEMAX", 1 << 20)
    assert correct_raster(path, tmp_path / "small.tif", card).read_bytes() == large


def test_support_is_flagged_and_said_once(tmp_path, card):
    low, high = card.support
    values = np.full((600, 600), 0.5)
    values[0, 0], values[599, :30] = np.float32(low) + 1e-6, high + 0.01
    path = write_raster(tmp_path / "wide.tif", [values], ("wealth_raw",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 30 in 360,000 are not worth a word
        out = correct_raster(path, tmp_path / "map.tif", card)
    with rasterio.open(out) as corrected:
        support = corrected.read(4)
    assert support[0, 0] == 0
    assert (support[599, :30] == 1).all()
    assert (support == 1).sum() == 30
    values[:300] = low - 0.1
    path = write_raster(tmp_path / "wide.tif", [values], ("wealth_raw",))
    with pytest.warns(
        SupportWarning, match=r"180030 of 360000 predictions \(50\.0%\).*\[-0.992, 0.992\]"
    ) as caught:
        correct_raster(path, tmp_path / "map.tif", card)
    assert len(caught) == 1


def test_a_single_band_needs_no_name_and_a_nodata_number_is_no_value(tmp_path, card):
    path = write_raster(tmp_path / "other.tif", [[[-9999, 0.5], [0.25, np.nan]]], ("pred",), nodata=-9999)
    with pytest.warns(BandWarning, match="only band, 'pred', is taken"):
        out = correct_raster(path, tmp_path / "map.tif", card, method="none")
    with rasterio.open(out) as corrected:
        np.testing.assert_array_equal(corrected.read(1), [[np.nan, 0.5], [0.25, np.nan]])
        np.testing.assert_array_equal(corrected.read(4), [[2, 0], [0, 2]])


def test_infinite_numbers_are_no_prediction_and_counted(tmp_path, card):
    path = write_raster(tmp_path / "inf.tif", [[[0.5, np.inf], [-np.inf, np.nan]]], ("wealth_raw",))
    with pytest.warns(DataWarning, match="2 infinite numbers"):
        out = correct_raster(path, tmp_path / "map.tif", card, method="none")
    with rasterio.open(out) as corrected:
        np.testing.assert_array_equal(corrected.read(1), [[0.5, np.nan], [np.nan, np.nan]])
        np.testing.assert_array_equal(corrected.read(4), [[0, 2], [2, 2]])


@pytest.mark.filterwarnings("ignore::sustain.errors.BandWarning")
def test_a_corrected_band_cut_out_of_its_map_is_not_corrected_again(tmp_path, card):
    path = write_raster(tmp_path / "cut.tif", [[[0.5, 0.25]]], ("wealth",))
    with rasterio.open(path, "r+") as cut:
        cut.update_tags(SUSTAIN_METHOD="linear")
    with pytest.raises(RasterError, match=r"cut.tif: band 'wealth' is corrected already, by 'linear'"):
        correct_raster(path, tmp_path / "map.tif", card)


@pytest.mark.parametrize("number", [-9999, -3.4e38, 99999])
def test_a_nodata_number_that_is_not_declared_is_refused(tmp_path, card, number):
    path = write_raster(tmp_path / "raw.tif", [[[0.5, number], [0.25, np.nan]]], ("wealth_raw",))
    with pytest.raises(
        RasterError, match=r"holds .* If it stands for no value, declare it \(gdal_edit.py -a_nodata"
    ):
        correct_raster(path, tmp_path / "out" / "map.tif", card)
    assert not list(tmp_path.glob("out/*"))
    path = write_raster(
        tmp_path / "raw.tif", [[[0.5, 3.5], [0.25, -3]]], ("wealth_raw",)
    )  # far, but a prediction
    with pytest.warns(SupportWarning, match="2 of 4"):
        correct_raster(path, tmp_path / "map.tif", card)


def test_another_band_by_name_or_number_never_an_alpha_band(tmp_path, card):
    bands = [np.full((4, 4), value) for value in (0.25, 0.5, 0.75)]
    path = write_raster(tmp_path / "many.tif", bands, ("mean", "median", "2"))
    for band, value in ((1, 0.25), ("median", 0.5), ("2", 0.75), (2, 0.5), ("3", 0.75)):
        out = correct_raster(path, tmp_path / "map.tif", card, method="none", band=band)
        with rasterio.open(out) as corrected:
            assert (corrected.read(1) == value).all()
    with pytest.raises(
        RasterError, match=r"band= is 'mode', but no band has .* 1 \(mean\), 2 \(median\), 3 \(2\)"
    ):
        correct_raster(path, tmp_path / "map.tif", card, band="mode")


@pytest.mark.parametrize(
    "transform",
    [
        Affine(960, 0, -9600, 0, 960, 0),
        Affine.translation(-9600, 9600) @ Affine.rotation(30) @ Affine.scale(960, -960),
    ],
    ids=["south-up", "rotated"],
)
def test_a_raster_that_lies_otherwise_stays_where_it_is(tmp_path, card, transform):
    values = np.linspace(-0.9, 0.9, 12).reshape(1, 3, 4)
    path = write_raster(tmp_path / "raw.tif", values, ("wealth_raw",), transform=transform)
    with rasterio.open(correct_raster(path, tmp_path / "map.tif", card, method="none")) as corrected:
        assert corrected.transform.almost_equals(transform)
        np.testing.assert_allclose(corrected.read(1), values[0], rtol=1e-6)
        row, col = 2, 3
        x, y = transform @ (col + 0.5, row + 0.5)
        assert next(corrected.sample([(x, y)]))[0] == np.float32(values[0, row, col])


def test_longitudes_from_0_to_360_stay(tmp_path, card):
    transform = from_origin(0, 45, 1, 1)
    values = np.linspace(-0.9, 0.9, 90 * 360).reshape(1, 90, 360)
    path = write_raster(tmp_path / "raw.tif", values, ("wealth_raw",), transform=transform, crs="EPSG:4326")
    with rasterio.open(correct_raster(path, tmp_path / "map.tif", card, method="none")) as corrected:
        assert tuple(corrected.bounds) == (0, -45, 360, 45)
        np.testing.assert_array_equal(corrected.read(1), values[0].astype(np.float32))


def test_a_raster_without_coordinates_is_refused(tmp_path, card):
    path = write_raster(tmp_path / "raw.tif", np.zeros((1, 4, 4)), ("wealth_raw",), crs=None)
    with pytest.raises(RasterError, match="no coordinate system"):
        correct_raster(path, tmp_path / "map.tif", card)


def test_a_mask_or_a_declaration_beside_the_file_counts(tmp_path, card):
    """What GDAL's own tools leave beside a raster: ``.msk`` and ``.aux.xml``."""
    values = np.array([[0, 20], [30, 40]], dtype=np.int16)
    mask = np.array([[True, True], [True, False]])
    path = tmp_path / "raw.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        write_raster(path, [values], ("wealth_raw",), dtype="int16", nodata=None, mask=mask)
    (tmp_path / "raw.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>0</NoDataValue><Offset>-0.1</Offset><Scale>0.01</Scale>'
        "</PAMRasterBand></PAMDataset>"
    )
    assert (tmp_path / "raw.tif.msk").exists()
    with rasterio.open(correct_raster(path, tmp_path / "map.tif", card, method="none")) as corrected:
        np.testing.assert_allclose(corrected.read(1), [[np.nan, 0.1], [0.2, np.nan]], atol=1e-7)
        np.testing.assert_array_equal(corrected.read(4), [[2, 0], [0, 2]])


def test_side_cars_of_an_older_raster_do_not_speak_for_the_new_one(tmp_path, raw_path, card):
    out = tmp_path / "map.tif"
    expected = correct_raster(raw_path, out, card).read_bytes()
    old = np.zeros((40, 50))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        write_raster(out, [old], ("old",), mask=old.astype(bool))
    (tmp_path / "map.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Scale>9</Scale></PAMRasterBand></PAMDataset>'
    )
    assert correct_raster(raw_path, out, card).read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "wealth.tif"]


def test_scaled_integers_are_unscaled(tmp_path, card):
    path = write_raster(tmp_path / "int.tif", [[[10, 20], [30, 0]]], ("wealth_raw",), dtype="int16", nodata=0)
    with rasterio.open(path, "r+") as source:
        source.scales, source.offsets = (0.01,), (-0.1,)
    with rasterio.open(correct_raster(path, tmp_path / "map.tif", card, method="none")) as corrected:
        np.testing.assert_allclose(corrected.read(1), [[0.0, 0.1], [0.2, np.nan]], atol=1e-7)


@pytest.mark.skipif(not NIGERIA.exists(), reason=f"the published Nigeria raster is not at {NIGERIA}")
def test_published_nigeria_raster_whose_nodata_tag_is_unset(tmp_path):
    card = make_card(-2.5, 2.5)
    with rasterio.open(NIGERIA) as source:
        assert source.nodata is None
        raw = source.read(1)
    out = correct_raster(NIGERIA, tmp_path / "nigeria.tif", card, band=1)
    with rasterio.open(out) as corrected:
        wealth, wealth_raw, _, support = corrected.read()
        assert np.isnan(corrected.nodata)
        assert corrected.res == (7650.0, 7650.0)
    assert np.isfinite(wealth).sum() == 16_474
    np.testing.assert_array_equal(wealth_raw, raw)
    np.testing.assert_array_equal(support == 2, np.isnan(raw))
    assert cog_validate(out, strict=True)[0]


@pytest.mark.parametrize(
    ("names", "units", "tags", "message"),
    [
        (("wealth_raw",), ("USD",), {}, "its unit is 'USD', but the card .* unit 'index points'"),
        (
            ("wealth_raw",),
            None,
            {"SUSTAIN_TARGET": "iwi"},
            "its target is 'iwi', but the card .* 'asset_index'",
        ),
        (("wealth_raw",), None, {"SUSTAIN_PREDICTOR": "other"}, "its predictor is 'other', .* 'mean-0123"),
        (
            ("a", "b"),
            None,
            {},
            r"which of 2 bands is meant; the bands are 1 \(a\), 2 \(b\). Say it \(band=\)",
        ),
        (("wealth_raw", "wealth_raw"), None, {}, "which of 2 bands"),
    ],
)
def test_refuses_a_raster_of_something_else(tmp_path, names, units, tags, message, card):
    path = write_raster(tmp_path / "other.tif", np.zeros((len(names), 4, 4)), names, units=units, tags=tags)
    out = tmp_path / "out" / "map.tif"
    with pytest.raises(RasterError, match=message):
        correct_raster(path, out, card)
    assert not out.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_a_raster_without_usable_values(tmp_path, value, card):
    path = write_raster(tmp_path / "empty.tif", np.full((1, 4, 4), value), ("wealth_raw",))
    out = tmp_path / "out" / "map.tif"
    with pytest.raises(RasterError, match="holds no value at all"):
        correct_raster(path, out, card)
    assert list(out.parent.iterdir()) == []


def test_truncated_source(tmp_path, card):
    path = write_raster(
        tmp_path / "cut.tif", np.random.default_rng(0).normal(size=(1, 300, 300)), ("wealth_raw",)
    )
    path.write_bytes(path.read_bytes()[:200_000])
    out = tmp_path / "out" / "map.tif"
    with pytest.raises(FileFormatError, match=r"cut\.tif"):
        correct_raster(path, out, card)
    assert not list(tmp_path.glob("out/*"))


def test_no_room_is_said_before_anything_is_written(tmp_path, raw_path, monkeypatch, card):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskSpaceError, match="correcting 40 x 50 cells needs"):
        correct_raster(raw_path, tmp_path / "map.tif", card)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wealth.tif"]


def test_disk_that_fills_up_while_copying(tmp_path, raw_path, monkeypatch, card):
    def full(source, path, **_):
        Path(path).write_bytes(b"half")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        raise SystemError("Unknown GDAL Error.")  # what rasterio raises for a failed COG copy

    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(rasterio.shutil, "copy", full)
    with pytest.raises(DiskSpaceError, match=r"map\.tif: the disk filled up while writing"):
        correct_raster(raw_path, tmp_path / "map.tif", card)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wealth.tif"]


@pytest.mark.parametrize("share", [0.03, 0.6, 0.999])
@pytest.mark.parametrize("step", ["create_geotiff", "copy_as_cog"])
def test_real_write_failure_leaves_the_old_map_alone(tmp_path, raw_path, card, step, share):
    """A file-size limit makes the operating system refuse the bytes of the assembly, or of the copy."""
    out = tmp_path / "map.tif"
    limit = int(share * correct_raster(raw_path, out, card).stat().st_size)
    out.write_bytes(b"old")
    script = (
        "import resource, signal, sys; from sustain.maps.correct import raster\n"
        "step, limit = getattr(raster, sys.argv[4]), int(sys.argv[5])\n"
        "def limited(*args, **kwargs):\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "    return step(*args, **kwargs)\n"
        "setattr(raster, sys.argv[4], limited)\n"
        "raster.correct_raster(*sys.argv[1:4])"
    )
    arguments = [raw_path, out, card.save(tmp_path / "card.json"), step, str(limit)]
    done = subprocess.run(
        # -B: nor may the interpreter leave half a compiled module behind.
        [sys.executable, "-B", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"RasterError: {out}: GDAL could not write this raster" in done.stderr
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "map.tif", "wealth.tif"]


def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, card, monkeypatch):
    values = np.random.default_rng(0).normal(0, 0.3, (1, 1100, 1300))
    path = write_raster(tmp_path / "big.tif", values, ("wealth_raw",), tiled=True)
    made = []
    for n in (1, 2, 7):
        for module in (cog, writing):
            monkeypatch.setattr(module, "n_threads", lambda n=n: n)
        made.append(correct_raster(path, tmp_path / f"{n}.tif", card).read_bytes())
    assert made[0] == made[1] == made[2]


def test_killed_while_copying_a_rerun_ends_the_same_and_leaves_nothing_behind(tmp_path, raw_path, card):
    expected = correct_raster(raw_path, tmp_path / "expected.tif", card).read_bytes()
    script = (
        "import os, signal, sys; from sustain.maps.correct import raster\n"
        "copy = raster.copy_as_cog\n"
        "raster.copy_as_cog = lambda *paths: (copy(*paths), os.kill(os.getpid(), signal.SIGKILL))\n"
        "raster.correct_raster(*sys.argv[1:])"
    )
    out, card_path = tmp_path / "out" / "map.tif", card.save(tmp_path / "card.json")
    done = subprocess.run([sys.executable, "-c", script, raw_path, out, card_path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert list(out.parent.iterdir())
    correct_raster(raw_path, out, card)
    assert out.read_bytes() == expected
    assert [path.name for path in out.parent.iterdir()] == ["map.tif"]


def test_bands_are_those_of_the_design():
    assert raster.BANDS == ("wealth", "wealth_raw", "wealth_se", "support")
