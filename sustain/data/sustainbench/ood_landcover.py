"""Land cover out of domain: MODIS series of points in regions all over the world, classified after one example a class.

The folder on Google Drive has not been seen. The layout read here is **provisional**: ``box_{k}.npz`` a region with
``x`` ``(n, 8, 46)``, ``y`` ``(n,)`` (IGBP class), ``lat`` and ``lon``, and ``splits.csv`` with ``box, split``. Nor has
the protocol behind the published kappa: `LandCoverRegions.episodes` is our own sampler, seeded and written down here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import read_csv, refuse_duplicates, refuse_others
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.arrays import ArraySpec, read_npz
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import PARTS, Scheme, Source, StackSpec, write_source
from sustain.data.sustainbench.unpacked import unpacked
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BANDS", "Episode", "LandCoverRegions", "ingest"]

BANDS = ("RED", "NIR", "SR3", "SR4", "SR5", "SR6", "SR7", "NDVI")
"""Red and near infrared come first, as in related files; the order of the others is provisional."""

N_DATES = 46
TABLE = "splits.csv"
_BOX = re.compile(r"^box_(?P<number>[0-9]+)\.npz$")
_BLOCK_KM = 1000
_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
_MAX_POINTS = 100_000
OFFICIAL = Scheme(
    True,
    "The authors' regions: the test part is Sub-Saharan Africa. Whole regions, so neighbours are on one side.",
)
PROPOSED = Scheme(
    False,
    f"Proposed: whole {_BLOCK_KM} km blocks of regions at random, 70/15/15. Leak-free but for block edges.",
)


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn regions into stacks.

    Parameters
    ----------
    raw : str or Path
        Folder of ``box_{k}.npz`` and, for the official split, ``splits.csv``; or of an archive of them.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When there is no region.
    FileFormatError
        When a region's file is damaged or something else.
    DataError
        When the table or coordinates are wrong.
    """
    with unpacked(raw, out, "box_*.npz") as folder:
        _ingest(folder, out)


def _ingest(raw: Path, out: str | Path) -> None:
    boxes = sorted((int(m["number"]), path) for path in raw.glob("box_*.npz") if (m := _BOX.match(path.name)))
    official = _read_splits(raw / TABLE)
    empty = []
    stacks = {
        "image": StackSpec("f4", (len(BANDS), N_DATES), ragged=True),
        "label": StackSpec("i2", (), ragged=True, channel_axis=None),
    }
    with write_source(out, stacks) as store:
        for number, path in tqdm(boxes, desc="ingest ood", unit="region", disable=None):
            specs = {
                "x": ArraySpec("f", (None, len(BANDS), N_DATES), 8 * _MAX_POINTS * len(BANDS) * N_DATES),
                "y": ArraySpec("iu", (None,)),
                "lat": ArraySpec("f", (None,)),
                "lon": ArraySpec("f", (None,)),
            }
            region = read_npz(path, specs)
            if len({len(values) for values in region.values()}) != 1:
                raise FileFormatError(f"{path}: x, y, lat and lon differ in length.")
            seen = np.isfinite(region["x"]).any(axis=(1, 2))
            if not seen.any():
                empty.append(path.name)
                continue
            row = {
                "id": str(number),
                "group": str(number),
                "lat": float(np.mean(region["lat"])),
                "lon": float(np.mean(region["lon"])),
                "split:official": official.get(str(number)),
            }
            store.add(row, image=region["x"][seen], label=region["y"][seen])
        _propose(store.rows)
        schemes = ({"official": OFFICIAL} if official else {}) | {"proposed": PROPOSED}
        counts = {
            "regions_without_observation": empty,
            "split_without_region": sorted(set(official) - {row["id"] for row in store.rows}),
            "regions_without_split": [
                row["id"] for row in store.rows if official and row["split:official"] is None
            ],
        }
        store.finish({"bands": {"image": BANDS}, "counts": counts}, schemes)


def _read_splits(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = read_csv(path, {"box", "split"})
    refuse_duplicates(table["box"], str(path), "box")
    refuse_others(table, "split", PARTS, str(path))
    return dict(zip(table["box"], table["split"], strict=True))


def _propose(rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows)
    blocks = spatial_block(table["lat"], table["lon"], _BLOCK_KM)
    parts = assign_splits(blocks, _SHARES, seed=0) if len(set(blocks)) >= len(_SHARES) else [None] * len(rows)
    for row, part in zip(rows, parts, strict=True):
        row["split:proposed"] = None if part is None else str(part)


class Episode(NamedTuple):
    """A small classification problem within one region.

    Attributes
    ----------
    region : str
    classes : ndarray of int, shape (n_way,)
        IGBP codes; labels below are places in it.
    support, query : ndarray of float32, shape (n, 8, 46)
    support_label, query_label : ndarray of int, shape (n,)
    """

    region: str
    classes: NDArray[np.int64]
    support: NDArray[np.float32]
    support_label: NDArray[np.int64]
    query: NDArray[np.float32]
    query_label: NDArray[np.int64]


class LandCoverRegions(TaskDataset):
    """Regions, and few-shot episodes within them.

    A sample is a region. ``image``: float32 ``(n, 8, 46)`` series of `BANDS`, NaN where missing. ``label``: int
    ``(n,)``, IGBP class of each point. `labels` and `groups` are those of the episodes' queries, which
    predictions are judged on.

    Parameters
    ----------
    n_way, n_shot, n_query : int
        Classes of an episode, and examples and queries of each class. At most `n_query` queries where there are fewer.
    n_episodes : int
        Episodes a region.
    seed : int
        Seed of the episodes; each region has its own stream, whatever else is in the part.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "few-shot"

    def __init__(
        self,
        source: Source,
        *,
        n_way: int = 2,
        n_shot: int = 1,
        n_query: int = 20,
        n_episodes: int = 10,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if min(n_way - 1, n_shot, n_query, n_episodes) < 1:
            raise DataError(
                f"n_way {n_way}, n_shot {n_shot}, n_query {n_query}, n_episodes {n_episodes}: too few."
            )
        self.n_way, self.n_shot, self.n_query = n_way, n_shot, n_query
        self.n_episodes, self.seed = n_episodes, seed
        super().__init__(source, **options)

    def _image(self, row: int) -> NDArray[np.float32]:
        return self.source.item("image", row)

    def _target(self, row: int) -> Sample:
        return {"label": self.source.item("label", row).astype(np.int64)}

    def _standardise(self, image: NDArray[np.float32], channel_axis: int = 1) -> NDArray[np.float32]:
        return super()._standardise(image, channel_axis)

    def episodes(self) -> Iterator[Episode]:
        """Draw the episodes, region by region; the same each time.

        A region's classes with at least ``n_shot + 1`` points take part; a region with fewer than `n_way` of them has
        no episode.
        """
        for i, chosen in self._draws:
            sample = self.arrays(i)
            labels = sample["label"]
            classes = np.array([labels[points[0]] for points, _ in chosen])
            parts = [np.concatenate([pair[k] for pair in chosen]) for k in (0, 1)]
            sides = [np.repeat(np.arange(len(chosen)), [len(pair[k]) for pair in chosen]) for k in (0, 1)]
            images = sample["image"]
            yield Episode(sample["id"], classes, images[parts[0]], sides[0], images[parts[1]], sides[1])

    @cached_property
    def _draws(self) -> list[tuple[int, list[tuple[NDArray[np.int64], NDArray[np.int64]]]]]:
        """For each episode: the region's place, and for each class its examples and queries."""
        draws = []
        for i, row in enumerate(self.rows):
            labels = self.source.item("label", int(row))
            rng = np.random.default_rng([self.seed, int(self.source.samples["id"].iloc[row])])
            codes, sizes = np.unique(labels, return_counts=True)
            usable = codes[sizes > self.n_shot]
            if len(usable) < self.n_way:
                continue
            for _ in range(self.n_episodes):
                chosen = []
                for code in rng.choice(usable, self.n_way, replace=False):
                    points = rng.permutation(np.flatnonzero(labels == code))
                    chosen.append((points[: self.n_shot], points[self.n_shot : self.n_shot + self.n_query]))
                draws.append((i, chosen))
        if not draws:
            raise DataError(
                f"no region of part {self.split!r} has {self.n_way} classes of {self.n_shot + 1} points."
            )
        return draws

    @property
    def labels(self) -> NDArray[np.int64]:
        """Label of each query, episode after episode."""
        return np.concatenate(
            [np.full(len(q), k) for _, drawn in self._draws for k, (_, q) in enumerate(drawn)]
        )

    @property
    def groups(self) -> NDArray[np.str_]:
        """Region of each query."""
        return np.concatenate(
            [np.full(sum(len(q) for _, q in drawn), self.ids[i], dtype=object) for i, drawn in self._draws]
        ).astype(np.str_)

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the mean NDVI series of each class of the region."""
        ndvi, labels = np.asarray(sample["image"])[:, -1], np.asarray(sample["label"])
        codes = np.unique(labels)
        with np.errstate(invalid="ignore"):
            means = np.stack(
                [
                    np.nansum(ndvi[labels == c], axis=0) / np.isfinite(ndvi[labels == c]).sum(axis=0)
                    for c in codes
                ]
            )
        return figures.series(
            means,
            [f"class {code}" for code in codes],
            title or f"region {sample['id']}",
            x="8-day composite of 2018",
            y="mean NDVI",
        )
