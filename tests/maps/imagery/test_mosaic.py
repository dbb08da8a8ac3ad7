"""Scenes on one pixel grid are read as one."""

import numpy as np
import pytest
from rasterio.transform import from_origin

from sustain.config import MapParams
from sustain.errors import ConfigError, RasterError
from sustain.maps.grid import Span
from sustain.maps.imagery.open import open_imagery
from sustain.maps.predict.predict import predict_map
from tests.maps.fakes import MeanPredictor, write_scene

PARAMS = MapParams(spacing_px=8, block_cells=3, batch_size=4)


def piece(path, pixels, row, col, height, width, **changes):
    """A part of the scene as a file of its own; changed pixel numbers by `edit`."""
    edit = changes.pop("edit", lambda cut: cut)
    cut = edit(pixels[:, row : row + height, col : col + width].copy())
    transform = from_origin(-3000 + 30 * col, 2400 - 30 * row, 30, 30)
    return write_scene(path, cut, **({"transform": transform} | changes))


@pytest.fixture
def pieces(tmp_path, pixels):
    """Three overlapping pieces that cover the scene of 75 x 101 pixels, the first not at its corner."""
    return [
        piece(tmp_path / "east.tif", pixels, 0, 40, 75, 61),
        piece(tmp_path / "north.tif", pixels, 0, 0, 50, 60),
        piece(tmp_path / "south.tif", pixels, 30, 0, 45, 60),
    ]


def test_pieces_make_the_map_of_the_whole_scene(tmp_path, scene_path, pieces, predictor):
    whole = predict_map(scene_path, predictor, tmp_path / "whole.tif", params=PARAMS)
    joined = predict_map(pieces, predictor, tmp_path / "joined.tif", params=PARAMS)
    assert joined.read_bytes() == whole.read_bytes()


def test_every_window_is_that_of_the_whole_scene(pieces, pixels):
    with open_imagery(pieces, MeanPredictor()) as mosaic:
        assert mosaic.geobox.shape == (75, 101)
        assert mosaic.geobox.affine == from_origin(-3000, 2400, 30, 30)
        for span in (Span(0, 0, 75, 101), Span(45, 35, 12, 30), Span(74, 100, 1, 1)):
            cut = pixels[:, span.row : span.row + span.height, span.col : span.col + span.width]
            np.testing.assert_array_equal(mosaic.read(span), cut)


def test_between_scenes_nothing_is_known(tmp_path, pixels):
    paths = [
        piece(tmp_path / "a.tif", pixels, 0, 0, 20, 20),
        piece(tmp_path / "b.tif", pixels, 30, 30, 20, 20),
    ]
    with open_imagery(paths, MeanPredictor()) as mosaic:
        found = mosaic.read(Span(0, 0, 50, 50))
    assert (found[:, 20:30] == 0).all()
    np.testing.assert_array_equal(found[:, 30:, 30:], pixels[:, 30:50, 30:50])


def test_whole_pixels_come_from_the_first_scene_that_has_all_bands(tmp_path, pixels):
    def holes(cut):
        cut[:, 0, 0] = 0  # nothing
        cut[1, 0, 1:3] = 0  # a band is missing
        return cut

    def other(cut):
        cut = cut + 1
        cut[2, 0, 2] = 0  # incomplete too: then the first counts
        return cut

    paths = [
        piece(tmp_path / "a.tif", pixels, 0, 0, 20, 20, edit=holes),
        piece(tmp_path / "b.tif", pixels, 0, 0, 20, 20, edit=other),
    ]
    with open_imagery(paths, MeanPredictor()) as mosaic:
        found = mosaic.read(Span(0, 0, 20, 20))
    expected = pixels[:, :20, :20].copy()
    expected[:, 0, :2] += 1
    expected[1, 0, 2] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"crs": "EPSG:32631"},
            r"b\.tif: its coordinate system is EPSG:32631, but that of .*a\.tif is EPSG:3857",
        ),
        (
            {"transform": from_origin(-2990, 2400, 30, 30)},
            r"b\.tif: its pixels lie 0\.333 columns and 0\.000 rows off",
        ),
        (
            {"scale": (1.0, 1.0, 1.0), "offset": (0.0, 0.0, 0.0)},
            r"b\.tif: band BLUE is uint16 and states neither",
        ),
    ],
)
def test_scenes_that_do_not_fit_each_other_are_refused(tmp_path, pixels, changes, message):
    paths = [
        piece(tmp_path / "a.tif", pixels, 0, 0, 30, 30),
        piece(tmp_path / "b.tif", pixels, 0, 30, 30, 30, **changes),
    ]
    with pytest.raises(RasterError, match=message), open_imagery(paths, MeanPredictor()):
        pass


def test_no_scene_at_all(tmp_path, predictor):
    with pytest.raises(ConfigError, match="list of scenes is empty"):
        predict_map([], predictor, tmp_path / "w.tif", params=PARAMS)
