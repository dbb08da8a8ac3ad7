"""Every reader against one list of wrong files: refused by name and nothing half-ingested, or left out and counted.

Truncated, empty and other kinds of files are in ``test_sustainbench_readers``; here is what a reader has to look for in
files that can be read: shapes, types, NaN everywhere, labels without data and data without labels, ids that come twice.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sustain.data.sustainbench.tasks import INGESTS, ingest
from sustain.errors import DataError, FileFormatError, SustainError
from sustain.files import read_json
from tests import sustainbench_files as files
from tests.dhs_files import member_name, npz_bytes, write_archive
from tests.hdf5_files import write_hdf5

pytestmark = pytest.mark.filterwarnings("ignore::sustain.errors.DataWarning")

KINDS = ("shape", "type", "nan", "labels alone", "data alone", "twice")
AL1, AL2 = "AL-2008-5#-00000001", "AL-2008-5#-00000002"
AFRICA = "africa_crop_type_mapping_v1.0/ghana/npy/ghana_000003.npz"
SERIES = "kenya_2017_sentinel2_timeseries_{}.npy"


class Refused(NamedTuple):
    """An error whose message matches."""

    message: str
    kind: type[SustainError] = FileFormatError


class Counted(NamedTuple):
    """An ingest that goes on, and says in source.json what it left out or noticed."""

    reason: str
    name: str


# --- changing published files


def members_of(archive: Path) -> dict[str, bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist()}
    with tarfile.open(archive) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened if member.isfile()}


def rewrite(archive: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    members = members_of(archive)
    change(members)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for name, content in members.items():
                opened.writestr(name, content)
    else:
        write_archive(archive, members)


def put(archive: str, name: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda raw: rewrite(raw / archive, lambda members: members.update({name: content()}))


def drop(archive: str, name: str) -> Callable[[Path], None]:
    return lambda raw: rewrite(raw / archive, lambda members: members.pop(name))


def append_again(archive: str, name: str) -> Callable[[Path], None]:
    """Put a member into a tar.gz twice, as a writer that restarted would."""

    def change(raw: Path) -> None:
        members = members_of(raw / archive)
        with tarfile.open(raw / archive, "w:gz") as opened:
            for member, content in [*members.items(), (name, members[name])]:
                header = tarfile.TarInfo(member)
                header.size = len(content)
                opened.addfile(header, io.BytesIO(content))

    return change


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def rewritten(raw: Path) -> None:
        change(pd.read_csv(raw / name, dtype=str)).to_csv(raw / name, index=False)

    return rewritten


def again(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([rows, rows.iloc[:1]])


def kenya_rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def rewritten(raw: Path) -> None:
        def put_table(members: dict[str, bytes]) -> None:
            (name,) = (name for name in members if name.endswith(".csv"))
            rows = pd.read_csv(io.BytesIO(members[name]), dtype=str)
            members[name] = change(rows).to_csv(index=False).encode()

        rewrite(raw / "crop_type_kenya.zip", put_table)

    return rewritten


def kenya_series(number: int, series: np.ma.MaskedArray) -> Callable[[Path], None]:
    name = f"crop_type_kenya/timeseries/{SERIES.format(number)}"
    return put("crop_type_kenya.zip", name, lambda: files.kenya_pickle(series))


def save(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda raw: np.save(raw / name, values)


def savez(name: str, **arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda raw: np.savez(raw / name, **arrays)


def unlink(*names: str) -> Callable[[Path], None]:
    return lambda raw: [(raw / name).unlink() for name in names]


def copied(name: str, other: str) -> Callable[[Path], None]:
    return lambda raw: (raw / other).write_bytes((raw / name).read_bytes())


def yields(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def rewritten(raw: Path) -> None:
        def put_array(members: dict[str, bytes]) -> None:
            key = f"soybeans/{name}.npz"
            members[key] = npz_bytes(data=change(np.load(io.BytesIO(members[key]))["data"]))

        rewrite(raw / "soybeans_updated.zip", put_array)

    return rewritten


def kilns(**arrays: np.ndarray) -> Callable[[Path], None]:
    whole = {"images": files.kiln_images(0), "labels": np.array([[1], [1], [1], [1], [0], [0]])}
    return lambda raw: write_hdf5(raw / "examples_0.hdf5", **whole | arrays)


def africa(**arrays: np.ndarray) -> bytes:
    series = {
        "s1": np.full((3, 64, 64, 2), -9.0, "f4"),
        "s2": np.ones((10, 64, 64, 2), "u2"),
        "planet": np.ones((4, 212, 212, 2), "u2"),
    }
    return npz_bytes(**series | arrays)


def box(**arrays: np.ndarray) -> Callable[[Path], None]:
    region = {"x": np.ones((5, 8, 46), "f4"), "y": np.ones(5, int), "lat": np.zeros(5), "lon": np.zeros(5)}
    return savez("box_8.npz", **region | arrays)


PATCH, MASK = files.cropland_patch(0)
NOTHING = np.full((8, 12, 12), np.nan, "f4")
LSMS = "lsms/et_all/et_0100_2011.npz"
TILE = np.zeros((100, 100, 4), "u1")

CASES: dict[str, dict[str, tuple[Callable[[Path], object], Refused | Counted]]] = {
    "dhs": {
        "shape": (
            put("dhs_AL_DR.tar.gz", member_name(AL1), lambda: npz_bytes(x=np.ones((7, 12, 12), "f4"))),
            Refused(f"{AL1}.*float32 \\(7, 12, 12\\)"),
        ),
        "type": (
            put("dhs_AL_DR.tar.gz", member_name(AL1), lambda: npz_bytes(x=np.ones((8, 12, 12), "i2"))),
            Refused(f"{AL1}.*int16"),
        ),
        "nan": (
            put("dhs_AL_DR.tar.gz", member_name(AL1), lambda: npz_bytes(x=NOTHING)),
            Counted("without_pixel", AL1),
        ),
        "labels alone": (drop("dhs_AL_DR.tar.gz", member_name(AL1)), Counted("without_tile", AL1)),
        "data alone": (
            table("dhs_final_labels.csv", lambda rows: rows[rows["DHSID_EA"] != AL2]),
            Counted("without_row", AL2),
        ),
        "twice": (
            append_again("dhs_AL_DR.tar.gz", member_name(AL2)),
            Refused(f"{AL2} comes twice", DataError),
        ),
    },
    "lsms": {
        "shape": (
            put("lsms.tar.gz", LSMS, lambda: npz_bytes(x=np.ones((8, 12, 13), "f4"))),
            Refused("et_0100_2011 .*12 x 13 pixels"),
        ),
        "type": (put("lsms.tar.gz", LSMS, lambda: npz_bytes(x=np.ones((8, 12, 12)))), Refused("float64")),
        "nan": (
            put("lsms.tar.gz", LSMS, lambda: npz_bytes(x=NOTHING)),
            Counted("without_pixel", "et_0100_2011"),
        ),
        "labels alone": (drop("lsms.tar.gz", LSMS), Counted("without_tile", "et_0100_2011")),
        "data alone": (
            table("lsms_asset_indices.csv", lambda rows: rows.iloc[1:]),
            Counted("without_row", "et_0100_2011"),
        ),
        "twice": (table("lsms_asset_indices.csv", again), Refused("lsms_id repeats", DataError)),
    },
    "cropland": {
        "shape": (save("train/patch0.npy", PATCH[..., :17]), Refused(r"patch0\.npy.*\(50, 50, 17\)")),
        "type": (save("train/patch0.npy", PATCH.astype("c8")), Refused(r"patch0\.npy.*complex64")),
        "nan": (
            save("train/patch0.npy", np.full_like(PATCH, np.nan)),
            Counted("patches_without_valid_pixel", "train/0"),
        ),
        "labels alone": (unlink("val/patch1.npy"), Counted("masks_without_patch", "val/mask_patch1.npy")),
        "data alone": (unlink("val/mask_patch1.npy"), Counted("patches_without_mask", "val/1")),
        "twice": (
            lambda raw: [
                copied("val/patch1.npy", "val/patch01.npy")(raw),
                copied("val/mask_patch1.npy", "val/mask_patch01.npy")(raw),
            ],
            Refused("'val/1' comes twice", DataError),
        ),
    },
    "africa_crop_type": {
        "shape": (
            put("archive.tar.gz", AFRICA, lambda: africa(s2=np.ones((9, 64, 64, 2), "u2"))),
            Counted("damaged", "ghana_000003"),
        ),
        "type": (
            put("archive.tar.gz", AFRICA, lambda: africa(s2=np.full((10, 64, 64, 2), 0.5))),
            Counted("damaged", "ghana_000003"),
        ),
        "nan": (
            put(
                "archive.tar.gz",
                AFRICA,
                lambda: africa(
                    s1=np.full((3, 64, 64, 2), np.nan, "f4"),
                    s2=np.zeros((10, 64, 64, 2), "u2"),
                    planet=np.zeros((4, 212, 212, 2), "u2"),
                ),
            ),
            Counted("damaged", "ghana_000003"),
        ),
        "labels alone": (drop("archive.tar.gz", AFRICA), Counted("truth_without_series", "ghana_000003")),
        "data alone": (
            drop("archive.tar.gz", AFRICA.replace("npy", "truth").replace(".truth", ".npz")),
            Counted("series_without_truth", "ghana_000003"),
        ),
        "twice": (append_again("archive.tar.gz", AFRICA), Refused("'ghana_000003' comes twice", DataError)),
    },
    "kenya": {
        "shape": (kenya_series(3, files.kenya_series(3)[:13]), Refused(r"timeseries_3\.npy")),
        "type": (kenya_series(3, files.kenya_series(3).astype("f4")), Refused(r"timeseries_3\.npy")),
        "nan": (
            kenya_series(3, np.ma.array(np.full((14, 365), 1e20), mask=True)),
            Counted("fields_without_observation", "103"),
        ),
        "labels alone": (
            drop("crop_type_kenya.zip", f"crop_type_kenya/timeseries/{SERIES.format(3)}"),
            Counted("labels_without_file", SERIES.format(3)),
        ),
        "data alone": (
            kenya_rows(lambda rows: rows[rows["fieldID"] != "103"]),
            Counted("series_without_row", SERIES.format(3)),
        ),
        "twice": (kenya_rows(again), Refused("fileName repeats", DataError)),
    },
    "cropyield": {
        "shape": (
            yields("usa/dev_hists", lambda hists: hists[..., :8]),
            Refused(r"usa/dev_hists\.npz.*\(5, 32, 32, 8\)"),
        ),
        "type": (
            yields("usa/dev_hists", lambda hists: hists.astype("U4")),
            Refused(r"usa/dev_hists\.npz.*<U4"),
        ),
        "nan": (yields("usa/dev_hists", lambda hists: hists * np.nan), Refused("dev_hists.npz holds NaN")),
        "labels alone": (yields("usa/dev_hists", lambda hists: hists[:4]), Refused("usa/dev has .*rows")),
        "data alone": (
            yields("usa/dev_yields", lambda tonnes: np.where(np.arange(5) == 2, np.nan, tonnes)),
            Counted("histograms_without_yield", "usa-dev-2"),
        ),
        "twice": (
            lambda raw: [
                yields(f"usa/dev_{name}", lambda values: values[[0, 0, 2, 3, 4]])(raw)
                for name in ("keys", "years")
            ],
            Counted("county_years_more_than_once", "usa-dev-1"),
        ),
    },
    "fields": {
        "shape": (
            lambda raw: Image.new("RGB", (224, 200)).save(raw / "imgs" / "100.jpeg"),
            Refused(r"100\.jpeg"),
        ),
        "type": (
            lambda raw: Image.new("L", (224, 224)).save(raw / "imgs" / "100.jpeg"),
            Refused(r"100\.jpeg: pixels of the kind L; expected RGB"),
        ),
        # 8-bit pictures hold no NaN; what is as empty is a mask that is neither 0 nor 255
        "nan": (
            lambda raw: Image.new("L", (224, 224), 127).save(raw / "masks" / "100.png"),
            Refused(r"masks/100\.png: a mask must be 0 and 255"),
        ),
        "labels alone": (unlink("imgs/100.jpeg"), Counted("labels_without_file", "100")),
        "data alone": (
            table("clean_data.csv", lambda rows: rows[rows["indices"] != "100"]),
            Counted("pictures_without_row", "100.jpeg"),
        ),
        "twice": (table("clean_data.csv", again), Refused("indices repeats", DataError)),
    },
    "brickkiln": {
        "shape": (kilns(images=np.ones((6, 12, 64, 64))), Refused(r"examples_0\.hdf5.*expected float64")),
        "type": (
            kilns(images=np.ones((6, 13, 64, 64), int)),
            Refused(r"examples_0\.hdf5.*images hold int64"),
        ),
        "nan": (
            kilns(images=np.full((6, 13, 64, 64), np.nan)),
            Counted("pictures_without_valid_pixel", "0-0"),
        ),
        "labels alone": (unlink("examples_0.hdf5"), Counted("labels_without_file", "0-0")),
        "data alone": (
            table("list_eval_partition.csv", lambda rows: rows.iloc[1:]),
            Counted("pictures_without_row", "0-0"),
        ),
        "twice": (table("list_eval_partition.csv", again), Refused("hdf5_idx repeat", DataError)),
    },
    "naip": {
        "shape": (savez("tile_0.npz", x=TILE[:99]), Refused(r"tile_0\.npz.*\(99, 100, 4\)")),
        "type": (savez("tile_0.npz", x=TILE.astype("u2")), Refused(r"tile_0\.npz.*uint16")),
        # 8-bit tiles hold no NaN: floats that do are of another type
        "nan": (savez("tile_0.npz", x=np.full(TILE.shape, np.nan)), Refused(r"tile_0\.npz.*float64")),
        "labels alone": (unlink("tile_0.npz"), Counted("labels_without_file", "tile_0.npz")),
        "data alone": (
            table("metadata.csv", lambda rows: rows.iloc[1:]),
            Counted("tiles_without_row", "tile_0.npz"),
        ),
        "twice": (table("metadata.csv", again), Refused("fileName repeats", DataError)),
    },
    "ood": {
        "shape": (box(x=np.ones((5, 7, 46), "f4")), Refused(r"box_8\.npz.*\(5, 7, 46\)")),
        "type": (box(x=np.ones((5, 8, 46), int)), Refused(r"box_8\.npz.*int64")),
        "nan": (
            box(x=np.full((5, 8, 46), np.nan, "f4")),
            Counted("regions_without_observation", "box_8.npz"),
        ),
        "labels alone": (unlink("box_8.npz"), Counted("split_without_region", "8")),
        "data alone": (
            table("splits.csv", lambda rows: rows[rows["box"] != "8"]),
            Counted("regions_without_split", "8"),
        ),
        "twice": (copied("box_8.npz", "box_08.npz"), Refused("'8' comes twice", DataError)),
    },
}


def test_every_reader_is_shown_every_kind_of_wrong_file() -> None:
    assert set(CASES) == set(INGESTS) == set(files.WRITERS)
    assert all(tuple(cases) == KINDS for cases in CASES.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", CASES)
def test_what_is_wrong_is_named_and_nothing_is_half_ingested(tmp_path: Path, source: str, kind: str) -> None:
    change, expected = CASES[source][kind]
    files.WRITERS[source](tmp_path / "raw")
    change(tmp_path / "raw")
    if isinstance(expected, Refused):
        with pytest.raises(expected.kind, match=expected.message):
            ingest(source, tmp_path / "raw", tmp_path / "out")
        assert not (tmp_path / "out" / source).exists()
        return
    folder = ingest(source, tmp_path / "raw", tmp_path / "out")
    counted = read_json(folder / "source.json")["counts"][expected.reason]
    names = counted.get("first", counted) if isinstance(counted, dict) else counted
    assert expected.name in [str(name) for name in names]
    ids = pd.read_parquet(folder / "samples.parquet")["id"].tolist()
    kept = expected.reason in {
        "fields_without_observation",  # the official counts include it
        "county_years_more_than_once",
        "regions_without_split",
        "series_without_truth",
    }
    assert (expected.name in ids) is kept
