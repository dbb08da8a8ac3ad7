"""Street-level pictures, read out of their archives."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from sustain.data.sustainbench import dhs
from sustain.data.sustainbench.dhs_street import MISSING_COUNTRIES, StreetPictures, list_pictures
from sustain.errors import DataError, FileFormatError
from tests.sustainbench_files import dhs_table


def jpeg(shade: int, size=(160, 120)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (shade, 90, 80)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "mapillary" / "imagery"
    folder.mkdir(parents=True)
    for country, members in {
        "AL": {"AL-2008-5#-00000001/11.jpeg": jpeg(10), "AL-2008-5#-00000001/12.jpeg": jpeg(20)},
        "AO": {"AO-2015-7#-00000001/31.jpeg": jpeg(30), "AO-2015-7#-00000009/41.jpeg": jpeg(40)},
    }.items():
        with zipfile.ZipFile(folder / f"{country}.zip", "w") as archive:
            archive.writestr(f"{country}/readme.txt", "x")
            for name, content in members.items():
                archive.writestr(f"{country}/{name}", content)
    dhs_table().to_csv(tmp_path / dhs.LABELS_FILE, index=False)
    return tmp_path


def sites_of(raw):
    return dhs.read_all_labels(raw / dhs.LABELS_FILE)


def test_pictures_are_listed_by_site(raw):
    table = list_pictures(raw)
    assert table["picture"].tolist() == ["11", "12", "31", "41"]
    assert table["site"].nunique() == 3
    assert len(MISSING_COUNTRIES) == 56 - 48


def test_a_picture_comes_with_its_sites_label_and_part(raw):
    train, test = (StreetPictures(raw, sites_of(raw), split=part) for part in ("train", "test"))
    assert train.samples["id"].tolist() == ["AL-2008-5#-00000001/11", "AL-2008-5#-00000001/12"]
    assert test.samples["site"].tolist() == ["AO-2015-7#-00000001"]  # the other has no row in the labels
    sample = train[1]
    assert isinstance(sample["image"], torch.Tensor)
    assert sample["image"].shape == (3, 120, 160)
    assert abs(float(sample["image"][0].mean()) - 20) < 3
    assert float(sample["label"]) == pytest.approx(1.2)
    assert isinstance(train.plot(sample), Figure)


def test_an_open_archive_stays_behind_when_a_worker_gets_its_copy(raw):
    dataset = StreetPictures(raw, sites_of(raw))
    before = dataset.arrays(0)["image"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).arrays(0)["image"], before)


def test_what_is_wrong_is_named(raw):
    with pytest.raises(DataError, match="no picture of a site of part 'val'"):
        StreetPictures(raw, sites_of(raw), split="val")
    with pytest.raises(DataError, match="label is 'wealth'"):
        StreetPictures(raw, sites_of(raw), label="wealth")
    with pytest.raises(IndexError):
        StreetPictures(raw, sites_of(raw))[2]
    archive = raw / "mapillary" / "imagery" / "AL.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("AL/AL-2008-5#-00000001/11.jpeg", jpeg(10)[:300])
    with pytest.raises(
        FileFormatError, match=r"AL\.zip: member AL/AL-2008-5#-00000001/11\.jpeg: not a whole JPEG"
    ):
        StreetPictures(raw, sites_of(raw))[0]
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(FileFormatError, match=r"AL\.zip: damaged or truncated"):
        list_pictures(raw)
    with pytest.raises(FileNotFoundError, match=r"no CC\.zip"):
        list_pictures(raw / "nowhere")
