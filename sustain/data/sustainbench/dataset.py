"""What the readers of all tasks have in common: samples as dicts, after the habits of PyTorch and torchgeo.

A dataset is one part of one split scheme of one task. It has ``len`` and ``[i]``, which is all that a PyTorch
``DataLoader`` asks for; torch itself is imported only when a sample is asked for as tensors. `TaskDataset.arrays` gives
the same sample in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sustain.data.sustainbench.channels import ChannelStatistics, merge_moments
from sustain.data.sustainbench.source import Source
from sustain.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TaskDataset"]

Sample = dict[str, Any]


class TaskDataset:
    """One part of a task's split.

    Parameters
    ----------
    source : Source
        Ingested files.
    split : {"train", "val", "test"}
    scheme : str
        Split scheme; `Source.schemes` describes each.
    normalize : bool
        Standardise each channel of ``image`` by the statistics of the scheme's training part, and set missing values
        to 0, its mean. Otherwise values are as published and missing ones are NaN.
    transforms : callable, optional
        Takes and returns a sample of tensors.

    Attributes
    ----------
    rows : ndarray of int
        Positions in the source's sample table.
    samples : DataFrame
        The rows of this part: ``id``, ``group`` (what a bootstrap resamples), labels.
    """

    kind: ClassVar[str] = "regression"
    stack: str = "image"
    """Stack that ``image`` is read from."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of their numbers; empty for regression."""
    ignore_index: ClassVar[int | None] = None
    """Value of a mask's pixels that belong to no class."""

    def __init__(
        self,
        source: Source,
        *,
        split: str = "train",
        scheme: str = "official",
        normalize: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.source = source
        self.split = split
        self.scheme = scheme
        self.normalize = normalize
        self.transforms = transforms
        self.rows = self._rows(split)
        self.samples: pd.DataFrame = source.samples.iloc[self.rows].reset_index(drop=True)
        self._statistics: ChannelStatistics | None = None

    def _rows(self, split: str) -> NDArray[np.int64]:
        """Positions of one part; a task that uses only some samples narrows it."""
        return self.source.rows(self.scheme, split)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Sample:
        """Return one sample: ``image`` (float32), ``label`` or ``mask`` as tensors, and ``id`` (str)."""
        import torch

        sample = {
            key: value if isinstance(value, str) else torch.as_tensor(np.ascontiguousarray(value))
            for key, value in self.arrays(i).items()
        }
        for key, value in sample.items():
            if isinstance(value, torch.Tensor) and key == "label" and value.shape == (1,):
                sample[key] = value[0]
        return sample if self.transforms is None else self.transforms(sample)

    def arrays(self, i: int) -> Sample:
        """Return one sample in NumPy, before `transforms`.

        Raises
        ------
        IndexError
            When `i` is not a position in this part.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        row = int(self.rows[i])
        image = self._image(row)
        if self.normalize:
            image = self._standardise(image)
        return {"image": image, **self._target(row), "id": str(self.source.samples["id"].iloc[row])}

    def _image(self, row: int) -> NDArray[np.float32]:
        return self.source.item(self.stack, row).astype(np.float32)

    def _target(self, row: int) -> Sample:
        return {"label": np.asarray(self.source.samples["label"].iloc[row])}

    def mask(self, i: int) -> NDArray[np.int64]:
        """Return the mask that predictions for a sample are judged by, without reading its image."""
        return np.asarray(self._target(int(self.rows[i]))["mask"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the channels of ``image``."""
        return tuple(self.source.description["bands"][self.stack])

    @property
    def ids(self) -> NDArray[np.str_]:
        """Id of each sample."""
        return self.samples["id"].to_numpy(dtype=np.str_)

    @property
    def groups(self) -> NDArray[np.str_]:
        """Cluster of each sample (country, region, site), which a bootstrap resamples whole."""
        return self.samples["group"].to_numpy(dtype=np.str_)

    @property
    def labels(self) -> NDArray[Any]:
        """Label of each sample, without reading an image.

        Raises
        ------
        DataError
            When the task's target is a mask, not a number.
        """
        if "label" not in self.samples:
            raise DataError(f"{type(self).__name__} has masks, not labels; read them with arrays(i)['mask'].")
        return self.samples["label"].to_numpy()

    @property
    def statistics(self) -> ChannelStatistics:
        """Count, mean and standard deviation of each channel over the *training* part of this scheme (float64)."""
        if self._statistics is None:
            self._statistics = self._channel_statistics(self._rows("train"))
        return self._statistics

    def _channel_statistics(self, rows: NDArray[np.int64]) -> ChannelStatistics:
        return merge_moments(self.source.moments(self.stack, rows))

    def _standardise(self, image: NDArray[np.float32], channel_axis: int = 0) -> NDArray[np.float32]:
        spread = np.where(self.statistics.std > 0, self.statistics.std, 1)
        shape = [1] * image.ndim
        shape[channel_axis] = -1
        scaled = (image - self.statistics.mean.reshape(shape)) / spread.reshape(shape)
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw one sample.

        Parameters
        ----------
        sample : dict
            What ``dataset[i]`` or ``dataset.arrays(i)`` gives.
        title : str, optional
            By default the sample's id and label.

        Returns
        -------
        matplotlib.figure.Figure
        """
        raise NotImplementedError
