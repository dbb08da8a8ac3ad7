"""The land and the people of the embedded world: wealth, towns, roads, and what has nothing to do with wealth.

Lengths are in tile widths, so that a world of smaller tiles is the same world in miniature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from scipy.special import expit

from sustain.config import SyntheticWorldParams
from sustain.data.synthetic.fields import (
    FloatField,
    Streams,
    fractal_field,
    gaussian_field,
    orthogonal,
    standard,
)

__all__ = ["URBAN", "Landscape", "build_landscape", "tile_means"]

# Shares of the variance of wealth over the scene: town, road, regional, local. Little of it is town, because towns
# show by themselves: the more they weigh, the less the pooled slope is that of wealth alone.
SHARES = (0.10, 0.02, 0.24, 0.64)
REGION_LENGTH, LOCAL_LENGTH = 2.5, 1.2  # short against the scene, so that it holds many independent places

URBAN_AREA = 0.08  # share of the scene inside towns
TILES_PER_TOWN = 20
RANK_SIZE = 0.8  # town area falls with its rank to this power
ROAD_REACH = 0.4

URBAN = 0.5  # town-ness from which a place is urban


@dataclass(frozen=True)
class Landscape:
    """What stays the same between the two dates. Every field is float32 of shape (size, size), row 0 = north.

    Attributes
    ----------
    size, tile : int
        Side of the scene and of a tile, in pixels.
    wealth : numpy.ndarray
        Wealth at baseline, in index points: mean 0, standard deviation 1.
    town : numpy.ndarray
        Town-ness, 0 in the country to 1 in a town.
    road : numpy.ndarray
        Distance to the nearest road, in pixels.
    water : numpy.ndarray
        Share of water, 0 to 1.
    relief : numpy.ndarray
        Height, in standard deviations: lakes and the light on slopes follow it.
    soil, wood, people : numpy.ndarray
        Nuisances (mean 0, standard deviation 1) without any correlation with wealth over the scene: brightness of
        the soil, inclination to woods, density of hamlets.
    """

    size: int
    tile: int
    wealth: FloatField
    town: FloatField
    road: FloatField
    water: FloatField
    relief: FloatField
    soil: FloatField
    wood: FloatField
    people: FloatField


def build_landscape(params: SyntheticWorldParams, streams: Streams) -> Landscape:
    """Draw the landscape. Nothing in it depends on the survey or on the trials."""
    size, tile = params.scene_px, params.tile_px

    def field(name: str, length: float) -> FloatField:
        return gaussian_field(streams.rng(name), size, length * tile)

    centres, radii = _place_towns(streams.rng("towns"), size, tile)
    town = _town_field(centres, radii, field("town outline", 0.25), tile)
    road = _road_distance(centres, field("road bend row", 1.5), field("road bend column", 1.5), tile)
    near_road = standard(np.exp(-road / np.float32(ROAD_REACH * tile)))
    in_town = standard(town)
    near_road = orthogonal(near_road, in_town)
    region = orthogonal(field("wealth region", REGION_LENGTH), in_town, near_road)
    local = orthogonal(field("wealth local", LOCAL_LENGTH), in_town, near_road, region)
    wealth = np.zeros((size, size), np.float32)
    for part, share in zip((in_town, near_road, region, local), SHARES, strict=True):
        wealth += np.float32(np.sqrt(share)) * part

    relief = fractal_field(streams.rng("relief"), size, 3 * tile, octaves=4)
    return Landscape(
        size=size,
        tile=tile,
        wealth=wealth,
        town=town,
        road=road,
        water=_water(relief, field("river", 2.5), town),
        relief=relief,
        soil=orthogonal(fractal_field(streams.rng("soil"), size, 1.5 * tile, octaves=5), wealth),
        wood=orthogonal(fractal_field(streams.rng("wood"), size, 1.2 * tile, octaves=5), wealth),
        people=orthogonal(field("people", 1.0), wealth),
    )


def tile_means(field: FloatField, tile: int) -> NDArray[np.float64]:
    """Mean over every tile-sized window.

    Parameters
    ----------
    field : numpy.ndarray, shape (size, size)
    tile : int
        Side of the window in pixels.

    Returns
    -------
    numpy.ndarray of float64, shape (size - tile + 1, size - tile + 1)
        Element (i, j) is the mean of the window whose upper-left pixel is (i, j).
    """
    total = np.zeros((field.shape[0] + 1, field.shape[1] + 1))
    np.cumsum(field, axis=0, dtype=np.float64, out=total[1:, 1:])
    np.cumsum(total, axis=1, out=total)
    window = total[tile:, tile:] - total[:-tile, tile:] - total[tile:, :-tile] + total[:-tile, :-tile]
    return np.asarray(window / tile**2)


def _place_towns(
    rng: np.random.Generator, size: int, tile: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Town centres (row, column) and radii in pixels, largest first, apart from each other where there is room."""
    n_towns = max(4, round((size / tile) ** 2 / TILES_PER_TOWN))
    area = np.arange(1, n_towns + 1) ** -RANK_SIZE
    radii = np.sqrt(area / area.sum() * URBAN_AREA / np.pi) * size
    centres = np.empty((n_towns, 2))
    for i, radius in enumerate(radii):
        margin = max(radius, tile)
        tries = rng.uniform(margin, size - margin, (20, 2))
        # The roomiest of a few random places: towns keep their distance, yet are not on a lattice.
        room = (cdist(tries, centres[:i]) - radii[:i]).min(axis=1) if i else np.zeros(len(tries))
        centres[i] = tries[np.argmax(room)]
    return centres, radii


def _town_field(
    centres: NDArray[np.float64], radii: NDArray[np.float64], outline: FloatField, tile: int
) -> FloatField:
    """Town-ness: near 1 inside, falling to 0 over the outskirts, with an irregular outline."""
    size = outline.shape[0]
    town = np.zeros((size, size), np.float32)
    for (row, column), radius in zip(centres, radii, strict=True):
        reach = radius + tile
        rows = np.arange(max(0, int(row - reach)), min(size, int(row + reach) + 1), dtype=np.float32)
        columns = np.arange(max(0, int(column - reach)), min(size, int(column + reach) + 1), dtype=np.float32)
        box = np.ix_(rows.astype(int), columns.astype(int))
        distance = np.hypot(rows[:, None] - np.float32(row), columns[None, :] - np.float32(column))
        beyond = (distance - np.float32(radius)) / np.float32(tile) + np.float32(0.16) * outline[box]
        town[box] = np.maximum(town[box], expit(beyond / np.float32(-0.06)))
    return town


def _road_distance(
    centres: NDArray[np.float64], bend_row: FloatField, bend_column: FloatField, tile: int
) -> FloatField:
    """Distance in pixels to the nearest road; roads join the towns by the shortest network, with bends."""
    size = bend_row.shape[0]
    network = minimum_spanning_tree(cdist(centres, centres)).tocoo()
    on_road = np.zeros((size, size), dtype=bool)
    for start, end in zip(network.row, network.col, strict=True):
        length = np.hypot(*(centres[end] - centres[start]))
        along = np.linspace(0, 1, max(2, int(2 * length)))[:, None]
        points = centres[start] + along * (centres[end] - centres[start])
        row, column = points.astype(int).clip(0, size - 1).T
        bend = np.stack([bend_row[row, column], bend_column[row, column]], axis=1)
        # Bends vanish at both ends, so that the road still meets its towns.
        points += 0.5 * tile * np.sin(np.pi * along) * (bend - bend.mean(axis=0))
        row, column = np.rint(points).astype(int).clip(0, size - 1).T
        on_road[row, column] = True
    return np.asarray(distance_transform_edt(~on_road), dtype=np.float32)


def _water(relief: FloatField, valley: FloatField, town: FloatField) -> FloatField:
    """Share of water: lakes in the lowest ground, and rivers that wind along one contour of a smooth field."""
    lowest = np.float32(np.quantile(relief[::4, ::4], 0.02))
    lakes = expit((lowest - relief) * 60)
    contour = valley + np.float32(0.15) * relief - np.float32(0.9)
    pixels_off = np.abs(contour) / (np.hypot(*np.gradient(contour)) + np.float32(1e-4))
    return np.asarray(np.maximum(lakes, np.clip(1.8 - pixels_off, 0, 1)) * (1 - town), dtype=np.float32)
