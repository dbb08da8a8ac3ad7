"""The published folder: one map in the forms that its users load, with all they need to use it rightly."""

from __future__ import annotations

from pathlib import Path

from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.files import require_free_space, write_json, write_text
from sustain.maps.correct.raster import require_corrected_with
from sustain.maps.geotiff import WEALTH, open_raster, require_crs
from sustain.maps.publish.collection import COLLECTION_FILE, make_collection
from sustain.maps.publish.facts import created, require_facts
from sustain.maps.publish.folder import published_folder
from sustain.maps.publish.legend import LEGEND_FILE, legends, write_legend, write_styles
from sustain.maps.publish.map_card import map_card
from sustain.maps.publish.model_item import MODEL_ITEM_FILE, make_model_item, read_model, says_what_goes_in
from sustain.maps.publish.raster_file import publish_raster
from sustain.maps.publish.stac import make_item
from sustain.maps.publish.thumbnail import THUMBNAIL_FILE, write_thumbnail
from sustain.maps.read.areas import COLUMNS, areas_table
from sustain.maps.read.cells import write_cells
from sustain.tables import write_table

__all__ = ["publish_map"]

# A row of the CSV and of the GeoParquet together, generously.
_BYTES_PER_CELL = 160


def publish_map(
    corrected: str | Path,
    card: str | Path,
    out: str | Path,
    params: PublishParams,
    *,
    model_json: str | Path | None = None,
) -> Path:
    """Publish a corrected map.

    Parameters
    ----------
    corrected : str or Path
        Raster of `sustain.maps.correct.raster.correct_raster`.
    card : str or Path
        File of the calibration card that corrected it.
    out : str or Path
        Folder to write, whole or not at all; an older one is replaced. It holds ``wealth.tif`` (Cloud Optimised
        GeoTIFF), ``item.json`` and ``collection.json`` (STAC 1.1), ``card.json``, ``cells.parquet``
        (GeoParquet), ``cells.csv``, ``README.md`` (map card), ``thumbnail.png``, ``legend.json``, QGIS styles
        (``wealth.qml``, ``wealth_se.qml``, ``support.qml``) and, if given, ``model.json`` and ``model_item.json``
        (STAC 1.1 with the MLM extension); with ``params.areas`` also ``areas.csv``. The same inputs give
        the same bytes.
    params : PublishParams
        What is known of the map besides what stands in it and in its card. Title, licence, start and end are needed.
    model_json : str or Path, optional
        Description of the model, without weights.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    RasterError
        When `corrected` has other bands than a corrected map, or was corrected with another card.
    CardError
        When the card is unreadable.
    ConfigError
        When `params` lacks title, licence, start or end, all named at once.
    DataError
        When `out` is a folder of something else.
    DiskSpaceError
        When there is no room.
    """
    corrected, card, out = Path(corrected), Path(card), Path(out)
    calibration = CalibrationCard.load(card)
    period = require_facts(params, calibration)
    created(params)  # its errors before the work
    with open_raster(corrected) as raster:
        require_crs(raster)
        require_corrected_with(raster, calibration)
        n_cells = raster.height * raster.width
    n_bytes = corrected.stat().st_size + _BYTES_PER_CELL * n_cells
    require_free_space(out.parent, n_bytes, f"publishing {n_cells} cells")
    with published_folder(out, card, model_json) as folder:
        publish_raster(corrected, folder / "wealth.tif", calibration)
        summary = write_cells(folder / "wealth.tif", folder / "cells.parquet", folder / "cells.csv")
        if params.areas is not None and params.areas_key is not None:
            table = areas_table(
                folder / "wealth.tif",
                params.areas,
                params.areas_key,
                calibration,
                params.people,
                layer=params.areas_layer,
                weights_per_km2=params.people_per_km2,
            )
            # Measurements are rounded; names of areas, codes and numbers alike, are not.
            write_table(folder / "areas.csv", table, rounded=COLUMNS)
        with open_raster(folder / "wealth.tif") as raster:
            bands = legends(raster, summary)
            write_legend(folder / LEGEND_FILE, bands)
            write_styles(folder, raster, bands)
            if WEALTH in bands:
                write_thumbnail(folder / THUMBNAIL_FILE, raster, bands[WEALTH], period, params)
        files = [*(path.name for path in folder.iterdir()), "item.json", COLLECTION_FILE]
        if says_what_goes_in(read_model(folder)):
            files.append(MODEL_ITEM_FILE)
        with open_raster(folder / "wealth.tif") as raster:
            write_text(folder / "README.md", map_card(raster, calibration, summary, period, params, files))
        item = make_item(folder, calibration, summary, period, params)
        model_item = make_model_item(folder, calibration.predictor.id, item)
        collection = make_collection(item, calibration, params, model_item)
        catalogue = {"item.json": item, MODEL_ITEM_FILE: model_item, COLLECTION_FILE: collection}
        for name, found in catalogue.items():
            if found is not None:
                write_json(folder / name, found.to_dict(include_self_link=False, transform_hrefs=False))
    return out
