import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from sustain.errors import ConfigError, RasterError
from sustain.maps.grid import Grid, Span

NORTH_UP = Affine(30.0, 0.0, 500_000.0, 0.0, -30.0, 900_000.0)


def scene(height, width):
    return GeoBox((height, width), NORTH_UP, "EPSG:32631")


@st.composite
def grids(draw):
    tile = draw(st.integers(1, 20))
    height, width = draw(st.integers(tile, 60)), draw(st.integers(tile, 60))
    pixel = draw(st.sampled_from([1.0, 10.0, 30.0, 0.25]))
    transform = Affine(
        pixel, 0, draw(st.integers(-(10**6), 10**6)), 0, -pixel, draw(st.integers(-(10**6), 10**6))
    )
    return Grid(GeoBox((height, width), transform, "EPSG:32631"), tile, draw(st.integers(1, 30)))


def test_known_grid():
    grid = Grid(scene(8, 9), tile_px=4, spacing_px=2)
    assert grid.shape == (3, 3)
    assert grid.tile(1, 2) == Span(2, 4, 4, 4)
    # The first tile's centre is two pixels into the scene: cell (0, 0) spans pixels 1 to 3.
    assert grid.geobox.affine == Affine(60.0, 0.0, 500_030.0, 0.0, -60.0, 899_970.0)


def test_published_spacing_of_nonoverlapping_tiles_starts_at_the_scene():
    grid = Grid(scene(448, 448), 224, 224)
    assert grid.shape == (2, 2)
    assert grid.geobox.affine == Affine(6720.0, 0.0, 500_000.0, 0.0, -6720.0, 900_000.0)


def test_known_blocks():
    grid = Grid(scene(12, 8), tile_px=4, spacing_px=2)
    rows = list(grid.block_rows(2))
    assert grid.shape == (5, 3)
    assert [[block.cells for block in row] for row in rows] == [
        [Span(0, 0, 2, 2), Span(0, 2, 2, 1)],
        [Span(2, 0, 2, 2), Span(2, 2, 2, 1)],
        [Span(4, 0, 1, 2), Span(4, 2, 1, 1)],
    ]
    assert rows[1][0].window == Span(4, 0, 6, 6)
    assert rows[2][1].window == Span(8, 4, 4, 4)


@settings(deadline=None, max_examples=60)
@given(grid=grids(), block_cells=st.integers(1, 30))
def test_every_cell_lies_in_exactly_one_block(grid, block_cells):
    touched = np.zeros(grid.shape, dtype=int)
    for block in grid.blocks(block_cells):
        span = block.cells
        assert 0 < span.height <= block_cells
        assert 0 < span.width <= block_cells
        touched[span.row : span.row + span.height, span.col : span.col + span.width] += 1
    assert (touched == 1).all()


@settings(deadline=None, max_examples=60)
@given(grid=grids(), block_cells=st.integers(1, 30))
def test_a_window_is_the_union_of_its_tiles_and_lies_inside_the_scene(grid, block_cells):
    for block in grid.blocks(block_cells):
        span, window = block.cells, block.window
        first = grid.tile(span.row, span.col)
        last = grid.tile(span.row + span.height - 1, span.col + span.width - 1)
        assert (window.row, window.col) == (first.row, first.col)
        assert window.row + window.height == last.row + last.height <= grid.scene.height
        assert window.col + window.width == last.col + last.width <= grid.scene.width


@settings(deadline=None, max_examples=60)
@given(grid=grids(), data=st.data())
def test_cell_centre_is_tile_centre(grid, data):
    row, col = data.draw(st.integers(0, grid.rows - 1)), data.draw(st.integers(0, grid.cols - 1))
    tile = grid.tile(row, col)
    expected = grid.scene.affine @ (tile.col + tile.width / 2, tile.row + tile.height / 2)
    assert grid.geobox.affine @ (col + 0.5, row + 0.5) == pytest.approx(expected, rel=0, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(grid=grids())
def test_no_further_tile_would_fit(grid):
    beyond = grid.tile(grid.rows, grid.cols)
    assert beyond.row + beyond.height > grid.scene.height
    assert beyond.col + beyond.width > grid.scene.width


def test_scene_smaller_than_a_tile():
    with pytest.raises(RasterError, match=r"63 x 100 pixels .* one tile of 64 x 64"):
        Grid(scene(63, 100), 64, 32)


@pytest.mark.parametrize("name", ["tile_px", "spacing_px"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ConfigError, match=rf"{name} must be at least 1 pixel; got 0"):
        Grid(scene(10, 10), **{"tile_px": 4, "spacing_px": 2, name: 0})


def test_block_size_must_be_positive():
    with pytest.raises(ConfigError, match="block_cells must be at least 1 cell; got 0"):
        list(Grid(scene(10, 10), 4, 2).blocks(0))
