"""The corrected map: calibration card times raw map, block by block, as a Cloud Optimised GeoTIFF."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window
from tqdm import tqdm

from sustain.debias import CalibrationCard
from sustain.errors import DataWarning, RasterError, SupportWarning
from sustain.files import require_free_space
from sustain.maps.cog import copy_as_cog
from sustain.maps.geotiff import (
    BLOCK_PX,
    NO_IMAGERY,
    OUTSIDE_SUPPORT,
    SUPPORT,
    SUPPORTED,
    WEALTH,
    WEALTH_RAW,
    WEALTH_SE,
    open_raster,
    read_window,
    require_crs,
    target_of,
    value_band,
    values_of,
)
from sustain.maps.writing import create_geotiff, in_order, whole_raster

__all__ = [
    "BANDS",
    "correct_raster",
    "correct_values",
    "require_card",
    "require_corrected_with",
    "warn_outside_support",
]

BANDS = (WEALTH, WEALTH_RAW, WEALTH_SE, SUPPORT)

_FAR = 100  # widths of the calibration sample's range, beyond which no prediction lies
_ROWS = 128  # of a block, corrected at once
# A few cells beyond the calibration sample's range are in the support band; more deserve a word.
_WORTH_A_WARNING = 0.02


def correct_raster(
    src: str | Path,
    dst: str | Path,
    card: CalibrationCard | str | Path,
    method: str = "linear",
    band: int | str | None = None,
) -> Path:
    """Correct a raw wealth map with a calibration card.

    Parameters
    ----------
    src : str or Path
        Raster with the raw predictions, of any kind of numbers and lying as it likes (south-up, rotated); its scale
        and offset are applied. NaN, an infinite number, its nodata number, its mask and its alpha band mean no
        prediction.
    dst : str or Path
        Cloud Optimised GeoTIFF to write, float32 with NaN for no data, on the grid of `src`. Bands:

        - ``wealth``: corrected by `method`, in the target's unit;
        - ``wealth_raw``: the value of `src`;
        - ``wealth_se``: standard error of ``wealth`` (`CalibrationCard.standard_error`), in the target's unit;
        - ``support``: 0 where the prediction lies within the calibration sample's range, 1 outside it (the
          correction is an extrapolation), 2 without imagery (the other bands are NaN).

        Overviews are averages, for display; read ``support`` and ``wealth_se`` at full resolution.
    card : CalibrationCard, str or Path
        The calibration card or its file.
    method : str
        A correction that the card holds, or ``"none"``.
    band : int or str, optional
        Band of the raw predictions, by number from 1 or by name. By default the one named ``wealth_raw``, else the
        only one.

    Returns
    -------
    Path
        `dst`.

    Raises
    ------
    RasterError
        When the raw band cannot be told, holds no finite value or codes instead of values, when `src` has no
        coordinate system, when a number lies so far outside the calibration sample's range (by 100 times its width)
        that it must be an undeclared nodata number, when `src` declares another unit, target or predictor than the
        card's, when the band is corrected already, or when `dst` is `src`.
    CardError, CalibrationError
        When the card is unreadable or lacks `method`.
    FileFormatError
        When `src` cannot be read.
    DiskSpaceError
        When there is no room.

    Warns
    -----
    SupportWarning
        When more than 2 % of the predictions lie outside the calibration sample's range.
    DataWarning
        When infinite numbers were taken as no prediction.
    BandWarning
        When the only band is taken, which has another name than ``wealth_raw``.

    Notes
    -----
    Memory: some blocks of 512 x 512 cells, whatever the raster's size. Disk: about three times the result while
    writing, because GDAL makes a Cloud Optimised GeoTIFF only by copying a whole raster.
    """
    dst = Path(dst)
    if isinstance(card, str | Path):
        card = CalibrationCard.load(card)
    with open_raster(src) as source:
        if dst.exists() and Path(src).exists() and dst.samefile(src):
            raise RasterError(f"{dst}: is the raw map itself. Write the corrected map to another path.")
        require_crs(source)
        index = value_band(source, band)
        _refuse_corrected(source, index)
        _check_same_quantity(source, index, card)
        n_bytes = 4 * len(BANDS) * source.height * source.width
        require_free_space(dst.parent, 3 * n_bytes, f"correcting {source.height} x {source.width} cells")
        with whole_raster(dst) as partial, _scratch_folder(dst) as scratch:
            _correct_into(scratch / "plain.tif", source, index, card, method)
            copy_as_cog(scratch / "plain.tif", scratch / "cog.tif")
            (scratch / "cog.tif").replace(partial)
    return dst


@contextmanager
def _scratch_folder(beside: Path) -> Iterator[Path]:
    """Make an empty folder that goes away again; one left by a killed process is emptied first."""
    # A folder, because GDAL puts files of its own beside the one it writes.
    folder = beside.with_name(f".partial-{beside.stem}-scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _correct_into(
    plain: Path, source: rasterio.io.DatasetReader, index: int, card: CalibrationCard, method: str
) -> None:
    name, unit = target_of(card.target)
    inherited = {key: text for key, text in source.tags().items() if key.startswith("SUSTAIN_")}
    n_cells = n_outside = n_infinite = 0
    with (
        create_geotiff(
            plain,
            like=source,
            bands=BANDS,
            units=(unit, unit, unit, "1"),
            tags=inherited
            | {
                "SUSTAIN_CARD_SHA256": card.sha256,
                "SUSTAIN_METHOD": method,
                "SUSTAIN_TARGET": name,
            },
            compressed=False,
            tiled=True,
            blockxsize=BLOCK_PX,
            blockysize=BLOCK_PX,
        ) as target,
        tqdm(
            total=source.height * source.width, desc="correct", unit="cell", unit_scale=True, disable=None
        ) as progress,
    ):

        def blocks() -> Iterator[tuple[Window, npt.NDArray[np.float64]]]:
            nonlocal n_infinite
            for _, window in target.block_windows(1):
                raw, infinite = _read_raw(source, index, window)
                n_infinite += infinite
                yield window, raw

        for window, corrected in in_order(lambda raw: _correct_block(raw, card, method), blocks()):
            _refuse_far_values(source.name, corrected[BANDS.index(WEALTH_RAW)], card)
            target.write(corrected, window=window)
            support = corrected[BANDS.index(SUPPORT)]
            n_cells += int((support != NO_IMAGERY).sum())
            n_outside += int((support == OUTSIDE_SUPPORT).sum())
            progress.update(support.size)
    if not n_cells:
        raise RasterError(f"{source.name}: band {index} holds no value at all; there is nothing to correct.")
    if n_infinite:
        warnings.warn(
            f"{source.name}: band {index} holds {n_infinite} infinite numbers, which are taken as no prediction.",
            DataWarning,
            stacklevel=3,
        )
    warn_outside_support(source.name, n_outside, n_cells, card)


def _correct_block(
    raw: npt.NDArray[np.float64], card: CalibrationCard, method: str
) -> npt.NDArray[np.float32]:
    """Correct some rows of a block at a time: intermediate arrays that fit into the processor's cache."""
    corrected = np.empty((len(BANDS), *raw.shape), dtype=np.float32)
    for top in range(0, raw.shape[0], _ROWS):
        rows = slice(top, top + _ROWS)
        with np.errstate(over="ignore"):  # of numbers that are refused later
            corrected[:, rows] = correct_values(raw[rows], card, method)
    return corrected


def _refuse_far_values(name: str, raw: npt.NDArray[np.float32], card: CalibrationCard) -> None:
    """Raise `RasterError` at a number such as -9999, which means no value and is not declared to."""
    low, high = card.support
    far = _FAR * (high - low)
    for number in (np.fmin.reduce(raw, axis=None), np.fmax.reduce(raw, axis=None)):
        if number < low - far or number > high + far:
            raise RasterError(
                f"{name}: holds {number}, but the calibration sample's predictions go from {low:.3g} to {high:.3g}. "
                f"If it stands for no value, declare it (gdal_edit.py -a_nodata {number} {name}); else this is another "
                "quantity, or another unit, than the card's."
            )


def warn_outside_support(name: str, n_outside: int, n_cells: int, card: CalibrationCard) -> None:
    """Warn when more than 2 % of the predictions of a map lie outside the calibration sample's range."""
    if n_outside <= _WORTH_A_WARNING * n_cells:
        return
    low, high = card.support
    warnings.warn(
        f"{name}: {n_outside} of {n_cells} predictions ({n_outside / n_cells:.1%}) lie outside the "
        f"calibration sample's range [{low:.3g}, {high:.3g}]. Their correction is an extrapolation; they are "
        f"flagged {OUTSIDE_SUPPORT} in the band {SUPPORT}.",
        SupportWarning,
        stacklevel=4,
    )


def correct_values(
    raw: npt.NDArray[np.float64], card: CalibrationCard, method: str
) -> npt.NDArray[np.float32]:
    """Correct raw predictions of any shape.

    Parameters
    ----------
    raw : ndarray
        Raw predictions, NaN where there is none.
    card : CalibrationCard
    method : str
        A correction that the card holds, or ``"none"``.

    Returns
    -------
    ndarray of float32, shape (4, *raw.shape)
        The bands `BANDS`, as `correct_raster` describes them.
    """
    seen = np.isfinite(raw)
    values = raw[seen]
    low, high = card.support
    corrected = np.full((len(BANDS), *raw.shape), np.nan, dtype=np.float32)
    corrected[3] = NO_IMAGERY
    if values.size:
        # Support is told once for the whole raster, not once a block.
        corrected[0, seen] = card.transform(values, method=method, check_support=False)
        corrected[2, seen] = card.standard_error(values, method=method)
        corrected[1, seen] = values
        corrected[3, seen] = np.where((values < low) | (values > high), OUTSIDE_SUPPORT, SUPPORTED)
    return corrected


def require_corrected_with(raster: rasterio.io.DatasetReader, card: CalibrationCard) -> None:
    """Raise `RasterError` unless an open raster has the bands of a corrected map, and was corrected with `card`."""
    if tuple(raster.descriptions) != BANDS:
        raise RasterError(
            f"{raster.name}: expected the bands {', '.join(BANDS)}; got "
            f"{', '.join(str(band) for band in raster.descriptions)}. Use the corrected map, not the raw one."
        )
    require_card(raster.name, raster.tags(), card)


def require_card(name: str | Path, tags: Mapping[str, str], card: CalibrationCard) -> None:
    """Raise `RasterError` unless the tags of a corrected map name `card`."""
    found = tags.get("SUSTAIN_CARD_SHA256", "none")
    if found != card.sha256:
        raise RasterError(
            f"{name}: corrected with card {found[:12]}, but the card given is {card.sha256[:12]}. "
            "Use the card that corrected it, or correct the map again."
        )


def _read_raw(
    source: rasterio.io.DatasetReader, index: int, window: Window
) -> tuple[npt.NDArray[np.float64], int]:
    """Read raw predictions of a window, NaN where there is none; and count the infinite numbers among these."""
    stored = read_window(source, [index], window)
    n_infinite = int(np.isinf(stored).sum()) if stored.dtype.kind == "f" else 0
    return values_of(source, [index], stored, window)[0], n_infinite


def _refuse_corrected(source: rasterio.io.DatasetReader, index: int) -> None:
    """Raise `RasterError` at a band of corrected values, also one cut out of its map, which keeps the map's tags."""
    method = source.tags().get("SUSTAIN_METHOD", "none")
    if method != "none" and source.descriptions[index - 1] == WEALTH:
        raise RasterError(
            f"{source.name}: band {WEALTH!r} is corrected already, by {method!r}. Give the raw band, {WEALTH_RAW!r}."
        )


def _check_same_quantity(source: rasterio.io.DatasetReader, index: int, card: CalibrationCard) -> None:
    """Refuse a raster of something else than the card corrects. What the raster does not declare is not checked."""
    name, unit = target_of(card.target)
    tags = source.tags()
    declared = (
        ("unit", source.units[index - 1], unit),
        ("target", tags.get("SUSTAIN_TARGET"), name),
        ("predictor", tags.get("SUSTAIN_PREDICTOR"), card.predictor.id),
    )
    for what, found, expected in declared:
        if found and found != expected:
            raise RasterError(
                f"{source.name}: its {what} is {found!r}, but the card corrects predictions with {what} "
                f"{expected!r}. Use the card made for this map's model and label."
            )
