"""Land cover from NAIP aerial tiles (California): representations, judged by what a few labels make of them.

The folder on Google Drive has not been seen. The layout read here is **provisional**: ``metadata.csv`` with
``fileName, landCover, split``, and tiles as ``.npz`` (key ``x``) or ``.npy``, uint8 ``(100, 100, 4)`` or with a mask as
fifth channel, the layouts met elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import (
    read_csv,
    records,
    refuse_duplicates,
    refuse_others,
    whole_numbers,
)
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.arrays import ArraySpec, read_npy, read_npz
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import PARTS, Scheme, Source, StackSpec, write_source
from sustain.data.sustainbench.unpacked import unpacked
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BANDS", "LandCoverTiles", "ingest"]

BANDS = ("RED", "GREEN", "BLUE", "NIR")
TABLE = "metadata.csv"
_SIDE = 100
_TILE = ArraySpec("u", (_SIDE, _SIDE, None), 1 << 17)
SCHEMES = {
    "official": Scheme(
        True,
        "The authors' geographic blocks, as the table has them. Only the provisional layout has been read.",
    )
}


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn tiles into a stack.

    Parameters
    ----------
    raw : str or Path
        Folder of ``metadata.csv`` and the tiles, or of an archive of them.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When the table is missing.
    FileFormatError
        When a tile is damaged or something else.
    DataError
        When a value of the table is wrong.
    """
    with unpacked(raw, out, TABLE) as folder:
        _ingest(folder, out)


def _ingest(folder: Path, out: str | Path) -> None:
    where = str(folder / TABLE)
    table = read_csv(folder / TABLE, {"fileName", "landCover", "split"})
    refuse_duplicates(table["fileName"], where, "fileName")
    table["landCover"] = whole_numbers(table, "landCover", where)
    refuse_others(table, "split", PARTS, where)
    if (wrong := table["fileName"].map(lambda name: Path(name).name != name)).any():
        raise DataError(
            f"{where}: fileName is {table['fileName'][wrong].iloc[0]!r}; expected a plain file name."
        )
    codes = sorted(table["landCover"].unique().tolist())
    missing = []
    with write_source(out, {"image": StackSpec("u1", (len(BANDS), _SIDE, _SIDE))}) as store:
        for row in tqdm(records(table), desc="ingest naip", unit="tile", disable=None):
            path = folder / row["fileName"]
            if not path.is_file():
                missing.append(row["fileName"])
                continue
            store.add(
                {
                    "id": path.stem,
                    "group": path.stem,
                    "label": codes.index(row["landCover"]),
                    "split:official": row["split"],
                },
                image=np.moveaxis(_read_tile(path), -1, 0),
            )
        listed = set(table["fileName"])
        tiles = (path.name for suffix in ("npz", "npy") for path in folder.glob(f"*.{suffix}"))
        counts = {
            "labels_without_file": missing,
            "tiles_without_row": sorted(name for name in tiles if name not in listed),
        }
        store.finish({"bands": {"image": BANDS}, "classes": codes, "counts": counts}, SCHEMES)


def _read_tile(path: Path) -> NDArray[np.uint8]:
    if path.suffix == ".npz":
        tile = read_npz(path, {"x": _TILE})["x"]
    else:
        with path.open("rb") as stream:
            tile = read_npy(stream, _TILE, str(path))
    if tile.dtype != np.uint8 or tile.shape[-1] not in {len(BANDS), len(BANDS) + 1}:
        raise FileFormatError(
            f"{path}: holds {tile.dtype} {tile.shape}; expected uint8 ({_SIDE}, {_SIDE}, 4 or 5)."
        )
    return tile[..., : len(BANDS)]


class LandCoverTiles(TaskDataset):
    """Land cover of an aerial tile.

    ``image``: float32 ``(4, 100, 100)`` of `BANDS`, 0-255. ``label``: int, place in ``classes``, the codes of the
    Cropland Data Layer that occur.

    Parameters
    ----------
    n_labels : int, optional
        Keep only so many samples of the part, drawn by `seed`: the benchmark trains its probes on 1,000 and 10,000.
    seed : int
        Seed of that draw.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "classification"

    def __init__(self, source: Source, *, n_labels: int | None = None, seed: int = 0, **options: Any) -> None:
        self.classes = tuple(str(code) for code in source.description["classes"])
        super().__init__(source, **options)
        if n_labels is not None:
            if not 0 < n_labels <= len(self):
                raise DataError(f"n_labels is {n_labels}; part {self.split!r} has {len(self)} samples.")
            chosen = np.sort(np.random.default_rng(seed).choice(len(self), n_labels, replace=False))
            self.rows = self.rows[chosen]
            self.samples = self.samples.iloc[chosen].reset_index(drop=True)

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the tile in colour and in false colour."""
        image = np.asarray(sample["image"])
        panels = [
            ("red, green, blue", figures.picture(image, [0, 1, 2])),
            ("infrared, red, green", figures.picture(image, [3, 0, 1])),
        ]
        return figures.pictures(panels, title or figures.title_of(sample, self.classes))
