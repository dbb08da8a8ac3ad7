"""Where the cells of a map lie in the imagery: pure geometry, no files.

A *cell* is one pixel of the map. It stands for one *tile*, the square of imagery that the model looks at, and its
centre is the tile's centre. Cells are `spacing_px` imagery pixels apart, so tiles overlap where the spacing is
smaller than the tile. A *block* is a rectangle of neighbouring cells that are predicted together; its *window* is the
imagery they need, halo included.

    spacing 2, tile 4:   pixels  0 1 2 3 4 5 6 7
                         tile 0  [-----]             cell 0 is centred on the edge between pixels 1 and 2
                         tile 1      [-----]         cell 1, two pixels on
                         tile 2          [-----]     the last tile that fits
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from affine import Affine
from odc.geo.geobox import GeoBox

from sustain.errors import ConfigError, RasterError

__all__ = ["Block", "Grid", "Span"]


@dataclass(frozen=True)
class Span:
    """A rectangle of pixels or of cells: first row and column, and how many of each."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True)
class Block:
    """Cells predicted together, and the imagery that their tiles cover.

    Attributes
    ----------
    cells : Span
        Rows and columns of the map.
    window : Span
        Rows and columns of the scene, in pixels.
    """

    cells: Span
    window: Span


@dataclass(frozen=True)
class Grid:
    """Cells of a map over one scene. Every tile lies wholly inside the scene; the first one at its upper left.

    Parameters
    ----------
    scene : GeoBox
        Pixels of the imagery.
    tile_px : int
        Side of a tile, in pixels.
    spacing_px : int
        Distance between neighbouring cells, in pixels.

    Raises
    ------
    ConfigError
        When the tile or the spacing is not a positive number of pixels.
    RasterError
        When the scene is smaller than one tile.
    """

    scene: GeoBox
    tile_px: int
    spacing_px: int

    def __post_init__(self) -> None:
        for name in ("tile_px", "spacing_px"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1 pixel; got {getattr(self, name)}.")
        height, width = self.scene.shape
        if min(height, width) < self.tile_px:
            raise RasterError(
                f"the scene has {height} x {width} pixels (rows x columns), which is smaller "
                f"than one tile of {self.tile_px} x {self.tile_px}. Use a larger scene, or a model of smaller tiles."
            )

    @property
    def rows(self) -> int:
        """Rows of cells."""
        return (self.scene.height - self.tile_px) // self.spacing_px + 1

    @property
    def cols(self) -> int:
        """Columns of cells."""
        return (self.scene.width - self.tile_px) // self.spacing_px + 1

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the map."""
        return self.rows, self.cols

    @property
    def geobox(self) -> GeoBox:
        """Cells of the map, on the ground."""
        # A cell is spacing_px wide and centred on its tile, so the map starts half their difference into the scene
        # (outside it when the spacing is larger than the tile).
        start = (self.tile_px - self.spacing_px) / 2
        corner = self.scene.affine @ Affine.translation(start, start) @ Affine.scale(self.spacing_px)
        return GeoBox(self.shape, corner, self.scene.crs)

    def tile(self, row: int, col: int) -> Span:
        """Pixels of the scene that the cell at (`row`, `col`) stands for."""
        return self._window(Span(row, col, 1, 1))

    def block_rows(self, block_cells: int) -> Iterator[list[Block]]:
        """Cut the map into blocks of at most `block_cells` x `block_cells` cells, from north to south.

        Yields
        ------
        list of Block
            One row of blocks, from west to east. Every cell of the map lies in exactly one block.

        Raises
        ------
        ConfigError
            When `block_cells` is below 1.
        """
        if block_cells < 1:
            raise ConfigError(f"block_cells must be at least 1 cell; got {block_cells}.")
        for row in range(0, self.rows, block_cells):
            height = min(block_cells, self.rows - row)
            spans = (
                Span(row, col, height, min(block_cells, self.cols - col))
                for col in range(0, self.cols, block_cells)
            )
            yield [Block(cells=span, window=self._window(span)) for span in spans]

    def blocks(self, block_cells: int) -> Iterator[Block]:
        """Blocks of `block_rows`, one by one."""
        for blocks in self.block_rows(block_cells):
            yield from blocks

    def _window(self, cells: Span) -> Span:
        step, tile = self.spacing_px, self.tile_px
        return Span(
            cells.row * step,
            cells.col * step,
            (cells.height - 1) * step + tile,
            (cells.width - 1) * step + tile,
        )
