"""What grows, is built and shines on the land at one date.

Wealth shows through four doors only: the share of metal roofs, the size of parcels, the vigour of crops and light at
night. Each door is also moved by a nuisance of its own, which no image can tell from wealth; rain, soil, woods and
relief move the image without any wealth behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from sustain.data.synthetic.fields import FloatField, Streams, fractal_field, gaussian_field, orthogonal
from sustain.data.synthetic.world import Landscape

__all__ = ["COVERS", "Period", "Season", "build_season", "cover_shares"]

Period = Literal["baseline", "endline"]

COVERS = (
    "metal roof", "thatch roof", "green crop", "dry crop", "green grass", "dry grass",
    "wood", "soil", "paved", "water",
)  # fmt: skip


@dataclass(frozen=True)
class Door:
    """How wealth shows in one property of the land, on the logit scale: ``slope * (wealth + nuisance)``.

    Attributes
    ----------
    slope : float
        Logits per index point.
    nuisance : float
        Standard deviation of the door's nuisance, in index points.
    """

    slope: float
    nuisance: float


ROOF = Door(slope=1.6, nuisance=0.6)
PARCEL = Door(slope=1.8, nuisance=0.6)
VIGOUR = Door(slope=1.5, nuisance=0.6)
LIGHT = Door(slope=1.2, nuisance=0.6)

NUISANCE_LENGTH = 1.2  # tile widths
RAIN_LENGTH = 2.0
CUSTOM_PERSISTENCE, WEATHER_PERSISTENCE = 0.97, 0.8  # correlation between the two dates

PARCEL_PX = 12  # side of a large parcel; small ones have a third of it
LIGHT_PX, LIGHT_BLUR_PX = 16, 3  # side of a night-light pixel (480 m), and the sensor's blur
LIGHT_RADIANCE, LIGHT_SATURATION = (
    40.0,
    5.0,
)  # nW/cm2/sr: of ground full of lit roofs, and where the sensor saturates
ROOF_M2 = 90.0
CLOUDED = 0.015  # share of the scene without any observation


@dataclass(frozen=True)
class Season:
    """State of the land at one date: fields of shape (size, size), row 0 = north.

    Attributes
    ----------
    built, metal : numpy.ndarray
        Area share of roofs, and of metal among them.
    crop : numpy.ndarray of bool
        Whether the parcel is cultivated.
    vigour : numpy.ndarray
        Share of green plants on cultivated ground, 0 to 1.
    rain : numpy.ndarray
        Greenness of the season (a nuisance, mean 0, standard deviation 1).
    haze, warmth : numpy.ndarray
        Weather during acquisition (nuisances, mean 0, standard deviation 1).
    lights : numpy.ndarray
        Radiance at night, nW/cm2/sr.
    missing : numpy.ndarray of bool
        Pixels without any observation.
    """

    built: FloatField
    metal: FloatField
    crop: NDArray[np.bool_]
    vigour: FloatField
    rain: FloatField
    haze: FloatField
    warmth: FloatField
    lights: FloatField
    missing: NDArray[np.bool_]


def build_season(
    landscape: Landscape, wealth: FloatField, period: Period, pixel_m: float, streams: Streams
) -> Season:
    """Draw one date. `wealth` is the wealth at that date; everything else is luck or nuisance."""
    size, tile = landscape.size, landscape.tile

    def nuisance(name: str, length: float, persistence: float) -> FloatField:
        field = gaussian_field(streams.rng(name), size, length * tile)
        if period == "endline":
            change = gaussian_field(streams.rng(f"{name}, change"), size, length * tile)
            field = np.float32(persistence) * field + np.float32(np.sqrt(1 - persistence**2)) * change
        return orthogonal(field, landscape.wealth)

    def door(name: str, spec: Door) -> FloatField:
        custom = nuisance(name, NUISANCE_LENGTH, CUSTOM_PERSISTENCE)
        return np.asarray(spec.slope * (wealth + spec.nuisance * custom), dtype=np.float32)

    built = _built(landscape, streams)
    rain = nuisance("rain", RAIN_LENGTH, WEATHER_PERSISTENCE)
    crop, luck = _parcels(landscape, door("parcel custom", PARCEL), period, streams)
    clouds = fractal_field(streams.rng(f"clouds, {period}"), size, 0.5 * tile, octaves=4)
    return Season(
        built=built,
        metal=_metal(built, expit(door("roof custom", ROOF)), pixel_m, streams),
        crop=crop,
        vigour=expit(door("crop custom", VIGOUR) + 0.5 * rain + 1.0 * luck),
        rain=rain,
        haze=gaussian_field(streams.rng(f"haze, {period}"), size, 4 * tile),
        warmth=nuisance("warmth", 2.0, WEATHER_PERSISTENCE),
        lights=_lights(built, landscape.town, door("light custom", LIGHT), streams.rng(f"lights, {period}")),
        missing=clouds > np.quantile(clouds[::4, ::4], 1 - CLOUDED),
    )


def cover_shares(landscape: Landscape, season: Season, rows: slice) -> FloatField:
    """Area shares of the land covers in some rows.

    Returns
    -------
    numpy.ndarray of float32, shape (10, rows, size)
        In the order of `COVERS`; they add up to 1 in every pixel.
    """
    water, town, wood = landscape.water[rows], landscape.town[rows], landscape.wood[rows]
    rain, crop, vigour = season.rain[rows], season.crop[rows], season.vigour[rows]
    land = 1 - water
    roofs = land * season.built[rows]
    paved = land * np.maximum(0.2 * town, 0.35 * np.clip(1.5 - landscape.road[rows], 0, 1))
    open_land = land - roofs - paved
    woods = open_land * expit(3.5 * (wood - 1.2) - 2 * town)
    fields = np.where(crop, (open_land - woods) * (1 - 0.8 * town), 0)
    grass = open_land - woods - fields
    bare_field, bare_grass = np.float32(0.2), np.float32(0.15) + 0.1 * expit(-rain)
    green = expit(0.6 * rain + 0.4 * wood)
    return np.stack([
        roofs * season.metal[rows],
        roofs * (1 - season.metal[rows]),
        fields * (1 - bare_field) * vigour,
        fields * (1 - bare_field) * (1 - vigour),
        grass * (1 - bare_grass) * green,
        grass * (1 - bare_grass) * (1 - green),
        woods,
        fields * bare_field + grass * bare_grass,
        paved,
        water,
    ]).astype(np.float32, copy=False)  # fmt: skip


def _built(landscape: Landscape, streams: Streams) -> FloatField:
    """Area share of roofs: hamlets scattered over the country, dense in towns. It does not depend on wealth."""
    clump = gaussian_field(streams.rng("hamlets"), landscape.size, 2.0)
    hamlets = 0.45 * expit(5 * (clump - 1.25 + 0.2 * landscape.people))
    streets = landscape.town * (0.45 + 0.1 * clump)
    return np.asarray(np.clip(np.maximum(hamlets, streets), 0, 0.8), dtype=np.float32)


def _metal(built: FloatField, share: FloatField, pixel_m: float, streams: Streams) -> FloatField:
    """Share of metal roofs in each pixel: each of the few houses has one or not."""
    houses = np.maximum(built * np.float32(pixel_m**2 / ROOF_M2), 1)
    luck = streams.rng("roof luck").standard_normal(built.shape, dtype=np.float32)
    spread = np.sqrt(share * (1 - share) / houses)
    return np.asarray(np.clip(share + spread * luck, 0, 1), dtype=np.float32)


def _parcels(
    landscape: Landscape, consolidation: FloatField, period: Period, streams: Streams
) -> tuple[NDArray[np.bool_], FloatField]:
    """Whether each pixel is cultivated, and its parcel's luck with the crop; small parcels merge into large ones."""
    size = landscape.size
    small = PARCEL_PX // 3
    margin = 5 * PARCEL_PX
    grid = np.arange(size, dtype=np.float32) + margin
    bend_row = gaussian_field(streams.rng("parcel bend row"), size, 30.0)
    bend_column = gaussian_field(streams.rng("parcel bend column"), size, 30.0)
    row = np.clip((grid[:, None] + 8 * bend_row) / small, 0, None).astype(np.int32)
    column = np.clip((grid[None, :] + 8 * bend_column) / small, 0, None).astype(np.int32)
    big_row, big_column = row // 3, column // 3
    shape = (int(big_row.max()) + 1, int(big_column.max()) + 1)
    fine_shape = (3 * shape[0], 3 * shape[1])

    # A parcel is as consolidated as the ground at its middle.
    middle = [np.clip(np.arange(n) * PARCEL_PX + PARCEL_PX // 2 - margin, 0, size - 1) for n in shape]
    merged = streams.rng("parcel merges").random(shape) < expit(consolidation[np.ix_(*middle)])
    is_merged = merged[big_row, big_column]

    def draw(name: str) -> FloatField:
        rng = streams.rng(name)
        large = rng.standard_normal(shape, dtype=np.float32)
        fine = rng.standard_normal(fine_shape, dtype=np.float32)
        return np.where(is_merged, large[big_row, big_column], fine[row, column])

    crop = draw("parcel use") < 0.5 - 0.4 * landscape.wood
    return crop, draw(f"parcel luck, {period}")


def _lights(
    built: FloatField, town: FloatField, electricity: FloatField, rng: np.random.Generator
) -> FloatField:
    """Radiance at night: coarse, saturated in towns, dim in the country."""
    size = built.shape[0]
    lit = expit(electricity + 5 * town - 1.5)  # share of the houses with light; nearly all in towns
    blurred = gaussian_filter(LIGHT_RADIANCE * built * lit, LIGHT_BLUR_PX, mode="nearest")
    edges = np.arange(0, size, LIGHT_PX)
    extent = np.diff(np.append(edges, size))
    total = np.add.reduceat(np.add.reduceat(blurred, edges, axis=0), edges, axis=1)
    coarse = total / (extent[:, None] * extent[None, :])
    coarse = LIGHT_SATURATION * (1 - np.exp(-coarse / LIGHT_SATURATION))
    coarse = np.clip(coarse + 0.2 + 0.1 * rng.standard_normal(coarse.shape), 0, None)
    return np.repeat(np.repeat(coarse, extent, axis=0), extent, axis=1).astype(np.float32)
