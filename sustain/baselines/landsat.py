"""Baselines of the tasks on Landsat and night lights: nearest neighbours in mean lights, and a ResNet."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.baselines.baseline import Prediction
from sustain.config import TrainParams
from sustain.data.sustainbench.dataset import TaskDataset
from sustain.data.sustainbench.landsat import LandsatDataset, LandsatSource
from sustain.data.tiles.shards import shard_path
from sustain.data.tiles.splits import assign_splits
from sustain.errors import DataError
from sustain.files import write_json

__all__ = ["LandsatCNN", "NightlightsKNN", "mean_lights"]

_VALIDATION_SHARE = 0.15
_RESNET18 = TrainParams(
    backbone="resnet18",
    inputs=("lights_by_sensor",),
    loss="mse",
    epochs=30,
    batch_size=64,
    learning_rate=1e-3,
    average=0.99,
    jitter=0.05,
)


def mean_lights(dataset: TaskDataset) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Mean of each tile's valid lights, and the sensors it comes from.

    Returns
    -------
    lights : ndarray, shape (n,)
        In the sensor's unit; for a pair of tiles, the later mean less the earlier one. NaN where a tile has none.
    sensors : ndarray of str, shape (n,)
        ``"D"`` (DMSP) or ``"V"`` (VIIRS) for each tile of a sample.
    """
    lights, sensors = np.empty(len(dataset)), []
    for i in tqdm(range(len(dataset)), desc="lights", unit="tile", disable=None):
        image = dataset.arrays(i)["image"]
        tiles = image[None] if image.ndim == 3 else image
        means, kinds = [], ""
        for tile in tiles:
            seen = [band[np.isfinite(band)] for band in tile[-2:]]
            sensor = int(len(seen[1]) > 0)
            kinds += "DV"[sensor]
            means.append(seen[sensor].mean(dtype=np.float64) if len(seen[sensor]) else np.nan)
        lights[i] = means[0] if len(means) == 1 else means[1] - means[0]
        sensors.append(kinds)
    return lights, np.array(sensors)


@dataclass(frozen=True)
class NightlightsKNN:
    """Nearest neighbours in mean night lights, by the benchmark's own protocol.

    DMSP and VIIRS are fitted apart. The number of neighbours is that of the highest squared correlation on the
    validation part; training and validation part together then make the model.

    Without a validation part it is the root of the number of training samples.

    Parameters
    ----------
    most : int
        Largest number of neighbours tried.
    """

    most: int = 20

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """See `sustain.baselines.baseline.Baseline.fit_predict`."""
        parts = [(*mean_lights(part), part.labels) for part in (train, val) if part is not None]
        lights, sensors = mean_lights(test)
        values = np.full(len(test), float(np.mean(train.labels)))  # where no neighbour has the same sensor
        for sensor in np.unique(sensors):
            known = [
                (x[(kinds == sensor) & np.isfinite(x)], y[(kinds == sensor) & np.isfinite(x)])
                for x, kinds, y in parts
            ]
            here = (sensors == sensor) & np.isfinite(lights)
            k = self._neighbours(known)
            if k and here.any():
                x, y = (np.concatenate(columns) for columns in zip(*known, strict=True))
                values[here] = _nearest(k, x, y, lights[here])
        return Prediction(values)

    def _neighbours(self, known: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> int:
        """Best number of neighbours; 0 where there is nothing to learn from."""
        (x, y), held = known[0], known[-1]
        most = min(self.most, len(x))
        if most == 0 or len(known) == 1 or len(held[0]) < 3:
            return min(most, math.isqrt(len(x)))
        scores = [_pearson_r2(held[1], _nearest(k, x, y, held[0])) for k in range(1, most + 1)]
        return int(np.argmax(scores)) + 1


def _nearest(
    k: int, x: NDArray[np.float64], y: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    from sklearn.neighbors import KNeighborsRegressor

    predicted: NDArray[np.float64] = KNeighborsRegressor(k).fit(x[:, None], y).predict(at[:, None])
    return predicted


def _pearson_r2(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1] ** 2) if a.std() > 0 and b.std() > 0 else 0.0


@dataclass(frozen=True)
class LandsatCNN:
    """A network of `sustain.models`, trained as the pipeline trains: the best epoch on the validation part is kept.

    Parameters
    ----------
    params : TrainParams
        Network and schedule; DMSP and VIIRS come as channels of their own.
    """

    params: TrainParams = _RESNET18

    def fit_predict(
        self,
        train: TaskDataset,
        test: TaskDataset,
        val: TaskDataset | None = None,
        *,
        seed: int = 0,
        epochs: int | None = None,
    ) -> Prediction:
        """See `sustain.baselines.baseline.Baseline.fit_predict`."""
        from sustain.data.tiles.packed import TileStore
        from sustain.models.predictor import TilePredictor
        from sustain.models.survey import predict_tiles
        from sustain.models.training.model import train as train_model

        params = self.params if epochs is None else self.params.model_copy(update={"epochs": epochs})
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _tile_folder(folder / "tiles", train, test, val, seed)
            train_model(folder / "tiles", folder / "model", params, seed)
            store = TileStore.open(folder / "tiles")
            rows = store.rows("test")
            predicted = predict_tiles(store, TilePredictor.load(folder / "model"), rows, params.batch_size)
        return Prediction(predicted["y_pred"].to_numpy(dtype=np.float64))


def _tile_folder(
    folder: Path, train: TaskDataset, test: TaskDataset, val: TaskDataset | None, seed: int
) -> None:
    """Lay out parts of a task as a folder of packed tiles, with links to the shards."""
    source = train.source
    if not isinstance(train, LandsatDataset) or not isinstance(source, LandsatSource):
        raise DataError(f"LandsatCNN learns from tiles with one label each, not from {type(train).__name__}.")
    learning = train.samples.assign(split="train")
    if val is None:
        # Whole countries, where there are several: a site's neighbours must not choose the epoch.
        several = len(set(train.groups)) > 1
        units = train.groups if several else train.ids
        shares = {"train": 1 - _VALIDATION_SHARE, "val": _VALIDATION_SHARE}
        learning["split"] = assign_splits(units, shares, seed)
    parts = [learning, test.samples.assign(split="test")]
    if val is not None:
        parts.insert(1, val.samples.assign(split="val"))
    index = pd.concat(parts, ignore_index=True)
    index = index.assign(n=1, block=index["group"])
    folder.mkdir(parents=True)
    for shard in index["shard"].unique():
        path = shard_path(source.folder, int(shard))
        shard_path(folder, int(shard)).symlink_to(path.resolve())
    index.to_parquet(folder / "index.parquet", index=False)
    description = source.description["format"] | {"label": {"name": train.label, "unit": train.unit}}
    write_json(folder / "tiles.json", description)
