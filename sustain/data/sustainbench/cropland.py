"""Weakly supervised cropland (US Midwest, 2017): Landsat 8 patches with dense, one-pixel and whole-image labels.

Read from the published sample (the folder on Google Drive has not been seen): ``patch{N}.npy``, float64
``(50, 50, 18)`` with NaN where missing, channels 0-6 reflectance and channel 17 the Cropland Data Layer's code
times 1e-4; and ``mask_patch{N}.npy``, zero but for a single 1, the labelled pixel. Folders ``train``, ``val`` and
``test``, where there are, are taken for the official split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.data.sustainbench import figures
from sustain.data.sustainbench.arrays import ArraySpec, read_npy
from sustain.data.sustainbench.dataset import Sample, TaskDataset
from sustain.data.sustainbench.source import PARTS, Scheme, Source, StackSpec, write_source
from sustain.data.sustainbench.unpacked import unpacked
from sustain.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BANDS", "IGNORE", "WeakCropland", "ingest", "is_crop"]

BANDS = ("ULTRABLUE", "BLUE", "GREEN", "RED", "NIR", "SWIR1", "SWIR2")
IGNORE = 255
_SIDE, _N_CHANNELS, _CDL = 50, 18, 17
_CODE_SCALE = 1e4
_PATCH = re.compile(r"^patch(?P<number>[0-9]+)\.npy$")
OFFICIAL = Scheme(True, "The authors' geographic split, from the folders train, val and test.")
PROPOSED = Scheme(
    False,
    "Proposed, for files without split folders: by patch number, the first 60% train, the next 20% validate, the last "
    "20% test. How numbers lie on the ground is not known, so neighbours may be on both sides of the two cuts.",
)


def is_crop(code: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether codes of the Cropland Data Layer are crops, by the rule of the authors' code."""
    return (code <= 60) | (code >= 196) | ((code >= 66) & (code <= 77))


def ingest(raw: str | Path, out: str | Path) -> None:
    """Turn patches into stacks.

    Parameters
    ----------
    raw : str or Path
        Folder of ``patch{N}.npy`` and ``mask_patch{N}.npy``, of folders train, val, test of them, or of
        an archive of either.
    out : str or Path
        Folder to write.

    Raises
    ------
    FileNotFoundError
        When there is no patch.
    FileFormatError
        When a file is not such an array.
    """
    with unpacked(raw, out, "patch*.npy") as folder:
        _ingest(folder, out)


def _ingest(raw: Path, out: str | Path) -> None:
    folders = [part for part in PARTS if (raw / part).is_dir()]
    found = sorted(
        (int(match["number"]), part, path)
        for part in (folders or [""])
        for path in (raw / part).glob("patch*.npy")
        if (match := _PATCH.match(path.name))
    )
    side = (_SIDE, _SIDE)
    stacks = {
        "image": StackSpec("f4", (len(BANDS), *side)),
        "mask": StackSpec("u1", side, channel_axis=None),
    }
    without_mask, without_pixel = [], []
    with write_source(out, stacks) as store:
        for order, (number, part, path) in enumerate(
            tqdm(found, desc="ingest cropland", unit="patch", disable=None)
        ):
            name = f"{part}/{number}".lstrip("/")
            if not (mask_path := path.with_name(f"mask_{path.name}")).is_file():
                without_mask.append(name)
                continue
            patch = _read(path, (_SIDE, _SIDE, _N_CHANNELS))
            pixel = _labelled_pixel(_read(mask_path, side), mask_path)
            code = np.rint(patch[..., _CDL] * _CODE_SCALE)
            if not np.isfinite(patch[..., : len(BANDS)]).any() or not np.isfinite(code).any():
                without_pixel.append(name)
                continue
            mask = np.where(np.isfinite(code), is_crop(code), IGNORE).astype(np.uint8)
            share = order / len(found)
            row = {
                "id": name,
                "group": name,
                "crop_share": float(np.mean(mask[mask != IGNORE])),
                "pixel_row": pixel[0],
                "pixel_column": pixel[1],
                "split:official": part or None,
                "split:proposed": "train" if share < 0.6 else "val" if share < 0.8 else "test",
            }
            store.add(row, image=np.moveaxis(patch[..., : len(BANDS)], -1, 0), mask=mask)
        counts = {
            "patches_without_mask": without_mask,
            "masks_without_patch": _masks_alone(raw, folders),
            "patches_without_valid_pixel": without_pixel,
        }
        schemes = ({"official": OFFICIAL} if folders else {}) | {"proposed": PROPOSED}
        store.finish({"bands": {"image": BANDS}, "counts": counts}, schemes)


def _masks_alone(raw: Path, folders: Sequence[str]) -> list[str]:
    masks = (path for part in folders or [""] for path in sorted((raw / part).glob("mask_patch*.npy")))
    return [
        str(path.relative_to(raw))
        for path in masks
        if not path.with_name(path.name.removeprefix("mask_")).is_file()
    ]


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    with path.open("rb") as stream:
        return read_npy(stream, ArraySpec("f", shape, 1 << 20), str(path))


def _labelled_pixel(mask: NDArray[Any], path: Path) -> tuple[int, int]:
    places = np.argwhere(mask == 1)
    if len(places) != 1 or np.count_nonzero(mask) != 1:
        raise FileFormatError(
            f"{path}: {len(places)} pixel(s) are 1 and {np.count_nonzero(mask)} are not 0; expected a single 1."
        )
    return int(places[0, 0]), int(places[0, 1])


class WeakCropland(TaskDataset):
    """Cropland or not, pixel by pixel.

    ``image``: float32 ``(7, 50, 50)`` surface reflectance, NaN where missing. ``mask``: int ``(50, 50)``, 1 cropland,
    0 not, 255 not labelled.

    Parameters
    ----------
    labels : {"dense", "pixel", "image"}
        ``dense``: every pixel (what the test uses). ``pixel``: all but the one labelled pixel are 255. ``image``: all
        are 255, and ``label`` is 1 where at least half of the patch is cropland.
    **options
        As `TaskDataset`.
    """

    kind: ClassVar[str] = "segmentation"
    classes = ("not cropland", "cropland")
    ignore_index: ClassVar[int | None] = IGNORE

    def __init__(self, source: Source, *, labels: str = "dense", **options: Any) -> None:
        if labels not in {"dense", "pixel", "image"}:
            raise DataError(f"labels is {labels!r}; expected 'dense', 'pixel' or 'image'.")
        self.label_kind = labels
        super().__init__(source, **options)

    def mask(self, i: int) -> NDArray[np.int64]:
        """Return the dense mask of a sample."""
        return self.source.item("mask", int(self.rows[i])).astype(np.int64)

    def _target(self, row: int) -> Sample:
        mask = self.source.item("mask", row).astype(np.int64)
        sample = self.source.samples.iloc[row]
        if self.label_kind == "pixel":
            place = int(sample["pixel_row"]), int(sample["pixel_column"])
            seen = mask[place]
            mask[:] = IGNORE
            mask[place] = seen
        if self.label_kind != "image":
            return {"mask": mask}
        mask[:] = IGNORE
        return {"mask": mask, "label": np.asarray(int(sample["crop_share"] >= 0.5))}

    def plot(self, sample: Sample, title: str | None = None) -> Figure:
        """Draw the true-colour picture and the mask."""
        image, mask = np.asarray(sample["image"]), np.asarray(sample["mask"])
        panels = [
            ("red, green, blue", figures.picture(image, [3, 2, 1])),
            ("cropland", np.where(mask == IGNORE, np.nan, mask)),
        ]
        return figures.pictures(panels, title or str(sample["id"]), self.classes)
