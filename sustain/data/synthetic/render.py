"""From land cover to imagery: spectra mixed from end-members, a sensor's noise, digital numbers, a GeoTIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window
from tqdm import tqdm

from sustain.data.sustainbench.dhs import BANDS
from sustain.data.synthetic.fields import FloatField, Streams
from sustain.data.synthetic.landcover import Period, Season, cover_shares
from sustain.data.synthetic.world import Landscape

__all__ = [
    "NODATA",
    "OFFSET",
    "SCALE",
    "YEAR",
    "from_numbers",
    "render_rows",
    "to_numbers",
    "write_scene",
]

SCALE = (2.75e-5, 2.75e-5, 2.75e-5, 2.75e-5, 2.75e-5, 0.00341802, 2.75e-5, 0.01)
OFFSET = (-0.2, -0.2, -0.2, -0.2, -0.2, 149.0, -0.2, -0.01)
UNITS = ("1", "1", "1", "1", "1", "K", "1", "nW/cm2/sr")
NODATA = 0
YEAR: dict[Period, int] = {"baseline": 2016, "endline": 2019}
CRS = "EPSG:3857"
LEFT_M = 100_000.0  # west edge of the world, in map metres

STRIP = 256  # rows rendered at once, a multiple of the GeoTIFF's blocks

# Reflectance in BLUE GREEN RED SWIR1 SWIR2 NIR and warmth (K above green ground) of each of `COVERS`:
# plausible values of spectral libraries, not measurements of a place.
ENDMEMBERS = np.array([
    (0.340, 0.360, 0.380, 0.420, 0.380, 0.410, 7.0),  # metal roof
    (0.080, 0.120, 0.160, 0.310, 0.260, 0.250, 5.0),  # thatch roof
    (0.030, 0.070, 0.050, 0.190, 0.100, 0.380, 0.0),  # green crop
    (0.070, 0.110, 0.150, 0.330, 0.240, 0.260, 4.0),  # dry crop
    (0.035, 0.070, 0.065, 0.230, 0.130, 0.300, 0.0),  # green grass
    (0.060, 0.090, 0.120, 0.310, 0.210, 0.230, 4.0),  # dry grass
    (0.020, 0.040, 0.030, 0.140, 0.070, 0.280, -2.0),  # wood
    (0.090, 0.130, 0.190, 0.370, 0.310, 0.280, 6.0),  # soil
    (0.090, 0.100, 0.110, 0.170, 0.150, 0.140, 7.0),  # paved
    (0.050, 0.050, 0.035, 0.015, 0.010, 0.020, -6.0),  # water
], dtype=np.float32)  # fmt: skip
SOIL = 7
HAZE = np.array([0.010, 0.006, 0.004, 0.001, 0.0005, 0.002], dtype=np.float32)
COOLEST_K = 297.0
NOISE_REFLECTANCE, NOISE_K = 0.004, 0.3


def render_rows(
    landscape: Landscape, season: Season, shade: FloatField, rows: slice, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Render some rows of one date.

    Returns
    -------
    numpy.ndarray of float32, shape (8, rows, size)
        Bands in the order of `BANDS`: reflectance in [0, 1], Kelvin, radiance. Missing pixels are 0 in every band.
    """
    cover = cover_shares(landscape, season, rows)
    mixed = np.einsum("cm,cyx->myx", ENDMEMBERS, cover, optimize=False)
    light, warm = mixed[:6], mixed[6]
    brighter = cover[SOIL] * np.float32(0.12) * landscape.soil[rows]
    light += ENDMEMBERS[SOIL, :6, None, None] * brighter
    light *= shade[rows]
    light += HAZE[:, None, None] * np.clip(1 + 0.5 * season.haze[rows], 0, None)
    light += np.float32(NOISE_REFLECTANCE) * rng.standard_normal(light.shape, dtype=np.float32)
    # Surface reflectance products mask values below 0 and above 1; no end-member comes near 1.
    np.clip(light, 0.001, 1, out=light)
    warm += np.float32(COOLEST_K) + np.float32(1.5) * season.warmth[rows]
    warm += np.float32(NOISE_K) * rng.standard_normal(warm.shape, dtype=np.float32)
    bands = np.concatenate([light[:5], warm[None], light[5:6], season.lights[None, rows]])
    bands[:, season.missing[rows]] = 0
    return bands


def to_numbers(bands: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Digital numbers of physical values, (8, ...) -> (8, ...); a pixel of 0 K becomes `NODATA` in every band."""
    shape = (-1,) + (1,) * (bands.ndim - 1)
    numbers = np.rint((bands.astype(np.float64) - np.reshape(OFFSET, shape)) / np.reshape(SCALE, shape))
    numbers[:, bands[BANDS.index("TEMP1")] == 0] = NODATA
    return np.asarray(numbers, dtype=np.uint16)


def from_numbers(numbers: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Physical values of digital numbers, (8, ...) -> (8, ...); `NODATA` becomes 0 in every band."""
    shape = (-1,) + (1,) * (numbers.ndim - 1)
    bands = numbers * np.reshape(SCALE, shape) + np.reshape(OFFSET, shape)
    bands[numbers == NODATA] = 0
    return np.asarray(bands, dtype=np.float32)


def hill_shade(landscape: Landscape) -> FloatField:
    """Illumination of slopes by a sun in the north-east, around 1."""
    south, east = np.gradient(landscape.relief)
    steepness = (east - south) * np.float32(landscape.tile / 64)
    return np.asarray(np.clip(1 - 0.5 * steepness, 0.8, 1.2), dtype=np.float32)


def write_scene(
    path: Path,
    landscape: Landscape,
    season: Season,
    period: Period,
    pixel_m: float,
    streams: Streams,
    bar: tqdm[Any],
) -> None:
    """Write one date as a tiled uint16 GeoTIFF, strip by strip."""
    size = landscape.size
    shade = hill_shade(landscape)
    profile = {
        "driver": "GTiff", "dtype": "uint16", "count": len(BANDS), "width": size, "height": size,
        "crs": CRS, "transform": from_origin(LEFT_M, size // 2 * pixel_m, pixel_m, pixel_m), "nodata": NODATA,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2, "zlevel": 1,
        "interleave": "band",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as scene:
        scene.scales, scene.offsets, scene.descriptions, scene.units = SCALE, OFFSET, BANDS, UNITS
        scene.update_tags(YEAR=YEAR[period], SYNTHETIC="Made by sustain.data.synthetic; no place on Earth.")
        for index, top in enumerate(range(0, size, STRIP)):
            rows = slice(top, min(top + STRIP, size))
            bands = render_rows(landscape, season, shade, rows, streams.rng(f"sensor, {period}", index))
            scene.write(to_numbers(bands), window=Window(0, top, size, rows.stop - top))
            bar.update()
