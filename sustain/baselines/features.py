"""Numbers that stand for a picture: statistics and histograms of its bands, and random convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.baselines.training import device_for
from sustain.data.sustainbench.dataset import TaskDataset

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["band_statistics", "landsat_histograms", "random_convolutions"]

_N_FILTERS = 256
_WHITENING = 1e-2
_BATCH = 32


def band_statistics(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Mean, standard deviation and five quantiles of each band; ``(n, 7 C)``, in its unit, NaN where none is valid."""
    from sustain.models.features.summaries import statistics

    found = []
    for i in tqdm(range(len(dataset)), desc="statistics", unit="picture", disable=None):
        values = dataset.arrays(i)["image"].reshape(len(dataset.bands), -1).astype(np.float64)
        whole = values[:, np.isfinite(values).all(axis=0)]
        found.append(statistics(whole[None])[0] if whole.size else np.full(7 * len(values), np.nan))
    return np.stack(found).astype(np.float32)


def landsat_histograms(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Share of each channel's pixels in 16 bins over +-3 standard deviations of the training part; ``(n, 9 * 16)``.

    For a pair of tiles, the later tile's shares less the earlier one's.
    """
    from sustain.models.features.summaries import MAX_SIDE, histograms

    mean, std = (v[:, None] for v in dataset.statistics[1:])
    found = []
    for i in tqdm(range(len(dataset)), desc="histograms", unit="tile", disable=None):
        image = dataset.arrays(i)["image"]
        step = -(-image.shape[-1] // MAX_SIDE)
        pixels = image[..., ::step, ::step]
        tiles = pixels.reshape(-1, len(mean), pixels.shape[-1] * pixels.shape[-2])
        shares = histograms((tiles - mean) / np.where(std > 0, std, 1))
        found.append(shares[0] if len(shares) == 1 else shares[1] - shares[0])
    return np.stack(found).astype(np.float32)


def random_convolutions(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Random convolutional features, after MOSAIKS (Rolf et al. 2021); ``(n, 2 * 256)``.

    Filters are whitened patches of 3 x 3 pixels drawn from training pictures, without labels; a feature is the mean
    over the picture of what a filter, or its negative, exceeds zero by.
    """
    import torch

    from sustain.models.features.convolutions import RandomConvolutions, whitening

    rng = np.random.default_rng(seed)
    patches = _patches(train, rng)
    mean, whiten = whitening([patches], lambda spread: _WHITENING * spread.max())
    drawn = rng.choice(len(patches), _N_FILTERS, replace=False)
    convolutions = RandomConvolutions(len(dataset.bands), {1: _N_FILTERS}, threshold=0.0)
    convolutions.look_along(1, (patches[drawn] - mean) @ whiten, mean, whiten)
    device = device_for()
    convolutions.to(device)
    found = []
    with (
        torch.inference_mode(),
        tqdm(total=len(dataset), desc="convolutions", unit="tile", disable=None) as bar,
    ):
        for start in range(0, len(dataset), _BATCH):
            rows = range(start, min(start + _BATCH, len(dataset)))
            images = torch.as_tensor(np.stack([dataset.arrays(i)["image"] for i in rows])).to(device)
            found.append(convolutions(torch.nan_to_num(images)).cpu().numpy())
            bar.update(len(rows))
    return np.concatenate(found)


def _patches(train: TaskDataset, rng: np.random.Generator) -> Tensor:
    """Patches of training pictures, float64 ``(8 * 256 or a few more, 9 C)``; a missing value is 0."""
    import torch

    from sustain.models.features.convolutions import PATCH

    n_patches = 8 * _N_FILTERS
    chosen = rng.integers(0, len(train), size=min(n_patches, 4 * len(train)))
    patches = []
    for i in np.sort(chosen):
        image = np.nan_to_num(train.arrays(int(i))["image"])
        for _ in range(-(-n_patches // len(chosen))):
            top, left = (int(rng.integers(0, side - PATCH + 1)) for side in image.shape[1:])
            patches.append(image[:, top : top + PATCH, left : left + PATCH].ravel())
    return torch.as_tensor(np.stack(patches).astype(np.float64))
