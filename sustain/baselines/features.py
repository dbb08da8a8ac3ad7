"""Numbers that stand for a picture: statistics and histograms of its bands, and random convolutions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.baselines.training import device_for
from sustain.data.sustainbench.dataset import TaskDataset

__all__ = ["band_statistics", "landsat_histograms", "random_convolutions"]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 16
_BIN_SPAN = 3.0
_MAX_SIDE = 64
_N_FILTERS = 256
_PATCH = 3
_WHITENING = 1e-2
_BATCH = 32


def band_statistics(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Mean, standard deviation and five quantiles of each band; ``(n, 7 C)``, in its unit, NaN where none is valid."""
    found = []
    for i in tqdm(range(len(dataset)), desc="statistics", unit="picture", disable=None):
        values = dataset.arrays(i)["image"].reshape(len(dataset.bands), -1).astype(np.float64)
        values = values[:, np.isfinite(values).all(axis=0)]
        if not values.shape[1]:
            found.append(np.full(7 * len(values), np.nan))
            continue
        parts = [values.mean(axis=1), values.std(axis=1), *np.quantile(values, _QUANTILES, axis=1)]
        found.append(np.concatenate(parts))
    return np.stack(found).astype(np.float32)


def landsat_histograms(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Share of each channel's pixels in 16 bins over +-3 standard deviations of the training part; ``(n, 9 * 16)``.

    For a pair of tiles, the later tile's shares less the earlier one's.
    """
    mean, std = (v[:, None] for v in dataset.statistics[1:])
    found = []
    for i in tqdm(range(len(dataset)), desc="histograms", unit="tile", disable=None):
        image = dataset.arrays(i)["image"]
        step = -(-image.shape[-1] // _MAX_SIDE)
        pixels = image[..., ::step, ::step]
        tiles = pixels.reshape(-1, len(mean), pixels.shape[-1] * pixels.shape[-2])
        shares = [_histograms((tile - mean) / np.where(std > 0, std, 1)) for tile in tiles]
        found.append(shares[0] if len(shares) == 1 else shares[1] - shares[0])
    return np.stack(found).astype(np.float32)


def _histograms(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Shares ``(C * 16,)`` of valid values ``(C, P)``; the outer bins are open, and a channel without any is 0."""
    valid = np.isfinite(values)
    bins = np.clip((np.nan_to_num(values) + _BIN_SPAN) * (_BINS / (2 * _BIN_SPAN)), 0, _BINS - 1).astype(int)
    cells = np.arange(len(values))[:, None] * _BINS + bins
    counts = np.bincount(cells[valid], minlength=len(values) * _BINS).reshape(len(values), _BINS)
    shares: NDArray[np.floating] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares.ravel()


def random_convolutions(train: TaskDataset, dataset: TaskDataset, seed: int) -> NDArray[np.float32]:
    """Random convolutional features, after MOSAIKS (Rolf et al. 2021); ``(n, 2 * 256)``.

    Filters are whitened patches of 3 x 3 pixels drawn from training pictures, without labels; a feature is the mean
    over the picture of what a filter, or its negative, exceeds zero by.
    """
    import torch

    filters, mean, whiten = _filters(train, np.random.default_rng(seed))
    kernel = torch.as_tensor(filters @ whiten.T, dtype=torch.float32)
    shift = -kernel @ torch.as_tensor(mean, dtype=torch.float32)
    device = device_for()
    kernel = kernel.reshape(len(kernel), len(dataset.bands), _PATCH, _PATCH).to(device)
    found = []
    with (
        torch.inference_mode(),
        tqdm(total=len(dataset), desc="convolutions", unit="tile", disable=None) as bar,
    ):
        for start in range(0, len(dataset), _BATCH):
            rows = range(start, min(start + _BATCH, len(dataset)))
            images = torch.as_tensor(np.stack([dataset.arrays(i)["image"] for i in rows])).to(device)
            response = torch.nn.functional.conv2d(torch.nan_to_num(images), kernel, shift.to(device))
            both = [response.relu().mean(dim=(2, 3)), (-response).relu().mean(dim=(2, 3))]
            found.append(torch.cat(both, dim=1).cpu().numpy())
            bar.update(len(rows))
    return np.concatenate(found)


def _filters(
    train: TaskDataset, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Whitened patches ``(256, 9 C)``, the mean of patches, and the whitening (ZCA) matrix."""
    n_patches = 8 * _N_FILTERS
    chosen = rng.integers(0, len(train), size=min(n_patches, 4 * len(train)))
    patches = []
    for i in np.sort(chosen):
        image = np.nan_to_num(train.arrays(int(i))["image"])
        for _ in range(-(-n_patches // len(chosen))):
            top, left = (int(rng.integers(0, side - _PATCH + 1)) for side in image.shape[1:])
            patches.append(image[:, top : top + _PATCH, left : left + _PATCH].ravel())
    values = np.stack(patches).astype(np.float64)
    mean = values.mean(axis=0)
    spread, axes = np.linalg.eigh(np.cov(values - mean, rowvar=False))
    # Without the floor, directions that hold nothing but noise would count as much as the others.
    floor = _WHITENING * spread.max()
    whiten = axes @ np.diag(1 / np.sqrt(np.maximum(spread, 0) + floor)) @ axes.T
    drawn = rng.choice(len(values), _N_FILTERS, replace=False)
    return (values[drawn] - mean) @ whiten, mean, whiten
