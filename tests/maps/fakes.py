"""Small scenes, predictors and cards that stand in for the real ones."""

from dataclasses import dataclass, field

import numpy as np
import rasterio
from rasterio.transform import from_origin

from sustain.debias import build_card

BANDS = ("BLUE", "NIR", "TEMP1")
SCALE = (2.75e-5, 2.75e-5, 0.00341802)
OFFSET = (-0.2, -0.2, 149.0)


@dataclass
class MeanPredictor:
    """Predicts the mean of the valid pixels of one band, times `factor`."""

    bands: tuple = BANDS
    scale: tuple = SCALE
    offset: tuple = OFFSET
    nodata: int = 0
    tile_px: int = 16
    pixel_m: float = 30.0
    id: str = "mean-0123456789ab"
    target: dict = field(default_factory=lambda: {"name": "asset_index", "unit": "index points"})
    band: int = 1
    largest_batch: int = 0

    def predict(self, tiles):
        assert tiles.dtype == np.uint16
        assert tiles.shape[1:] == (len(self.bands), self.tile_px, self.tile_px)
        self.largest_batch = max(self.largest_batch, len(tiles))
        values = tiles[:, self.band].reshape(len(tiles), -1).astype(np.float64)
        valid = values != self.nodata
        return (values.sum(axis=1) / valid.sum(axis=1) / 10_000 - 1).astype(np.float32)


def write_scene(path, pixels, bands=BANDS, scale=SCALE, offset=OFFSET, nodata=0, crs="EPSG:3857", **changes):
    profile = {
        "driver": "GTiff",
        "dtype": pixels.dtype,
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "crs": crs,
        "nodata": nodata,
        "transform": from_origin(-3000, 2400, 30, 30),
        "tiled": True,
        "blockxsize": 32,
        "blockysize": 32,
        "compress": "deflate",
    } | changes
    with rasterio.open(path, "w", **profile) as scene:
        scene.write(pixels)
        scene.descriptions = bands
        scene.scales, scene.offsets = scale, offset
    return path


def make_card(low=-1.0, high=1.0, unit="index points", predictor="mean-0123456789ab"):
    """A real card, learned from predictions spread evenly over [low, high] that are 0.1 + truth / 2 plus noise."""
    y_pred = np.linspace(low, high, 400)
    y_true = (y_pred - 0.1) / 0.5 + np.random.default_rng(4).normal(scale=0.2, size=y_pred.size)
    return build_card(
        y_pred,
        y_true,
        target={"name": "asset_index", "unit": unit},
        predictor=predictor,
        methods=["linear"],
        n_boot=20,
        licence="CC-BY-4.0",
    )


def write_raster(path, bands, names, units=None, tags=None, mask=None, dtype="float32", **changes):
    """A raster of cells of 960 m, by default float32 with NaN where there is nothing."""
    bands = np.asarray(bands, dtype=dtype)
    profile = {
        "driver": "GTiff",
        "dtype": dtype,
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "crs": "EPSG:3857",
        "nodata": np.nan,
        "transform": from_origin(-9600, 9600, 960, 960),
    } | changes
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(bands)
        raster.descriptions = names
        raster.units = units or [None] * len(bands)
        raster.update_tags(**(tags or {}))
        if mask is not None:
            raster.write_mask(mask)
    return path
