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
from sustain.errors import RasterError, SupportWarning
from sustain.files import atomic_path, require_free_space
from sustain.maps.geotiff import (
    BLOCK_PX,
    NO_IMAGERY,
    OUTSIDE_SUPPORT,
    SUPPORT,
    SUPPORTED,
    WEALTH,
    WEALTH_RAW,
    WEALTH_SE,
    copy_as_cog,
    create_geotiff,
    open_raster,
    read_values,
    target_of,
    write_failures,
)

__all__ = [
    "BANDS",
    "correct_raster",
    "correct_values",
    "require_card",
    "require_corrected_with",
    "warn_outside_support",
]

BANDS = (WEALTH, WEALTH_RAW, WEALTH_SE, SUPPORT)

# A few cells beyond the calibration sample's range are in the support band; more deserve a word.
_WORTH_A_WARNING = 0.02


def correct_raster(
    src: str | Path, dst: str | Path, card: CalibrationCard | str | Path, method: str = "linear"
) -> Path:
    """Correct a raw wealth map with a calibration card.

    Parameters
    ----------
    src : str or Path
        Raster with the raw predictions: in the band named ``wealth_raw``, or in its only band. NaN, and its nodata
        number if it declares one, mean no prediction.
    dst : str or Path
        Cloud Optimised GeoTIFF to write, float32 with NaN for no data, on the grid of `src`. Bands:

        - ``wealth``: corrected by `method`, in the target's unit;
        - ``wealth_raw``: as in `src`;
        - ``wealth_se``: standard error of ``wealth`` (`CalibrationCard.standard_error`), in the target's unit;
        - ``support``: 0 where the prediction lies within the calibration sample's range, 1 outside it (the
          correction is an extrapolation), 2 without imagery (the other bands are NaN).

        Overviews are averages, for display; read ``support`` and ``wealth_se`` at full resolution.
    card : CalibrationCard, str or Path
        The calibration card or its file.
    method : str
        A correction that the card holds, or ``"none"``.

    Returns
    -------
    Path
        `dst`.

    Raises
    ------
    RasterError
        When the raw band cannot be told or holds no finite value, when `src` declares another unit, target or
        predictor than the card's, or when `dst` is `src`.
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
        index = _raw_band(source)
        _check_same_quantity(source, index, card)
        n_bytes = 4 * len(BANDS) * source.height * source.width
        require_free_space(dst.parent, 3 * n_bytes, f"correcting {source.height} x {source.width} cells")
        with atomic_path(dst) as partial, write_failures(dst), _scratch_folder(dst) as scratch:
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
    n_cells = n_outside = 0
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
            tiled=True,
            blockxsize=BLOCK_PX,
            blockysize=BLOCK_PX,
        ) as target,
        tqdm(
            total=source.height * source.width, desc="correct", unit="cell", unit_scale=True, disable=None
        ) as progress,
    ):
        for _, window in target.block_windows(1):
            raw = _read_raw(source, index, window)
            corrected = correct_values(raw, card, method)
            target.write(corrected, window=window)
            n_cells += int(np.isfinite(raw).sum())
            n_outside += int((corrected[BANDS.index(SUPPORT)] == OUTSIDE_SUPPORT).sum())
            progress.update(raw.size)
    if not n_cells:
        raise RasterError(f"{source.name}: band {index} holds no value at all; there is nothing to correct.")
    warn_outside_support(source.name, n_outside, n_cells, card)


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


def _read_raw(source: rasterio.io.DatasetReader, index: int, window: Window) -> npt.NDArray[np.float64]:
    raw: npt.NDArray[np.float64] = read_values(source, [index], window)[0]
    if np.isinf(raw).any():
        raise RasterError(
            f"{source.name}: band {index} holds {int(np.isinf(raw).sum())} infinite values at or below row "
            f"{window.row_off}. Mark cells without a prediction as NaN, or set the band's nodata number."
        )
    return raw


def _raw_band(source: rasterio.io.DatasetReader) -> int:
    named = [index for index, text in enumerate(source.descriptions, start=1) if text == WEALTH_RAW]
    if len(named) == 1:
        return named[0]
    if source.count == 1:
        return 1
    raise RasterError(
        f"{source.name}: cannot tell which of {source.count} bands holds the raw predictions; the bands are "
        f"{', '.join(str(text) for text in source.descriptions)}. Describe one of them as {WEALTH_RAW!r}."
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
