"""Field delineation (France, Sentinel-2 2017): 224-pixel JPEG pictures with masks of field boundaries or filled fields.

``clean_data.csv`` has ``ids``, a running number, and ``indices``, which names the files: the two are not the same.
Masks are 0 and 255, some saved with three channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.csvtable import (
    numbers,
    read_csv,
    records,
    refuse_duplicates,
    refuse_others,
    some_of,
    whole_numbers,
)
from sustain.data.sustainbench import figures
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.pictures import read_picture
from sustain.data.sustainbench.source import PARTS, Scheme, Source, StackSpec, write_source
from sustain.data.sustainbench.unpacked import unpacked
from sustain.data.tiles.splits import assign_splits, spatial_block
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BANDS", "FieldDelineation", "ingest"]

BANDS = ("RED", "GREEN", "BLUE")
TABLE = "clean_data.csv"
_SIDE = 224
_MASKS = {"boundary": "masks", "filled": "masks_filled"}
_BLOCK_KM = 20
_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SCHEMES = {
    "official": Scheme(
        True, "The authors' split, without pictures that overlap. Pictures of one district are on both sides."
    ),
    "blocks": Scheme(
        False, f"Proposed: whole {_BLOCK_KM} km blocks at random, 80/10/10. Leak-free but for block edges."
    ),
}


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn pictures and masks into stacks.

    Parameters
    ----------
    raw : str or Path
        Folder of ``imgs``, ``masks``, ``masks_filled`` and ``clean_data.csv``, or of an archive of them.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When there is no table.
    FileFormatError
        When a picture is damaged or of another size or type.
    DataError
        When a value of the table is wrong.
    """
    with unpacked(raw, out, TABLE) as folder:
        _ingest(folder, out)


def _ingest(folder: Path, out: str | Path) -> None:
    table = _read_table(folder / TABLE)
    side = (_SIDE, _SIDE)
    stacks = {"image": StackSpec("u1", (3, *side))} | {
        name: StackSpec("u1", side, channel_axis=None) for name in _MASKS
    }
    missing = []
    with write_source(out, stacks) as store:
        for row in tqdm(records(table), desc="ingest fields", unit="picture", disable=None):
            name = row["id"]
            paths = {"image": folder / "imgs" / f"{name}.jpeg"} | {
                kind: folder / place / f"{name}.png" for kind, place in _MASKS.items()
            }
            if not all(path.is_file() for path in paths.values()):
                missing.append(name)
                continue
            image = read_picture(paths["image"].read_bytes(), "JPEG", side, str(paths["image"]), "RGB")
            masks = {kind: _mask(paths[kind]) for kind in _MASKS}
            store.add(row, image=np.moveaxis(image, -1, 0), **masks)
        listed = {f"{name}.jpeg" for name in table["id"]}
        alone = sorted(path.name for path in (folder / "imgs").glob("*.jpeg") if path.name not in listed)
        counts = {"labels_without_file": missing, "pictures_without_row": alone}
        store.finish({"bands": {"image": BANDS}, "counts": counts}, SCHEMES)


def _read_table(path: Path) -> pd.DataFrame:
    where = str(path)
    corners = ("max_lat", "max_lon", "min_lat", "min_lon")
    table = read_csv(path, {"indices", "split", *corners})
    refuse_duplicates(table["indices"], where, "indices")
    table["id"] = whole_numbers(table, "indices", where).astype(str)
    refuse_others(table, "split", PARTS, where)
    for corner in corners:
        table[corner] = numbers(table, corner, where)
        if (missing := table[corner].isna()).any():
            raise DataError(f"{where}: {corner} is missing in {some_of(table['id'][missing].tolist())}.")
    lat, lon = (table[f"max_{axis}"] / 2 + table[f"min_{axis}"] / 2 for axis in ("lat", "lon"))
    table["group"] = spatial_block(lat, lon, _BLOCK_KM)
    enough = table["group"].nunique() >= len(_SHARES)
    blocks = assign_splits(table["group"].to_numpy(dtype=np.str_), _SHARES, seed=0) if enough else None
    table = table.rename(columns={"split": "split:official"}).assign(**{"split:blocks": blocks})
    return table[["id", "group", *corners, "split:official", "split:blocks"]]


def _mask(path: Path) -> NDArray[np.uint8]:
    picture = read_picture(path.read_bytes(), "PNG", (_SIDE, _SIDE), str(path))
    if not np.isin(picture, (0, 255)).all():
        raise FileFormatError(f"{path}: a mask must be 0 and 255, but holds {np.unique(picture)[:5]}.")
    filled: NDArray[np.uint8] = (picture[..., 0] == 255).astype(np.uint8)
    return filled


class FieldDelineation(TaskDataset):
    """Where fields, or their boundaries, are.

    ``image``: float32 ``(3, 224, 224)``, red, green, blue, 0-255 as in the JPEG. ``mask``: int ``(224, 224)``, 0 or 1.

    Parameters
    ----------
    target : {"boundary", "filled"}
        Two-pixel boundary lines (the leaderboard's), or whole fields.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "segmentation"

    def __init__(self, source: Source, *, target: str = "boundary", **options: Any) -> None:
        if target not in _MASKS:
            raise DataError(f"target is {target!r}; expected one of {', '.join(_MASKS)}.")
        self.target = target
        self.classes = (f"not {target}", target)
        super().__init__(source, **options)

    def _target(self, row: int) -> Sample:
        return {"mask": self.source.item(self.target, row).astype(np.int64)}

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the picture and the mask."""
        panels = [
            ("red, green, blue", figures.picture(sample["image"], [0, 1, 2])),
            (self.target, np.asarray(sample["mask"])),
        ]
        return figures.pictures(panels, title or str(sample["id"]), self.classes)
