"""The STAC item of the model behind a published map: what goes in, what comes out, by the MLM extension."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pystac

from sustain.errors import FileFormatError
from sustain.files import read_json
from sustain.maps.publish.stac import EXTENSIONS, figure, file_fields

__all__ = [
    "MLM",
    "MODEL_ITEM_FILE",
    "make_model_item",
    "read_model",
    "says_what_goes_in",
]

MODEL_ITEM_FILE = "model_item.json"
MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"

# What the input of a model needs to be told; the model.json of somebody else's predictor may lack it.
_NEEDED = ("backbone", "bands", "tile_px", "scale", "offset", "nodata", "statistics", "target")
_ARTIFACT = "sustain.models.load_model"
# The schema has a pattern for names; the identifier of somebody else's predictor may be anything.
_NAME_PATTERN = re.compile(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]")

_VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?$")  # the schema's, near enough


def read_model(folder: Path) -> dict[str, Any]:
    """Content of a published ``model.json``; empty without one.

    Raises
    ------
    FileFormatError
        When it is no JSON object.
    """
    path = folder / "model.json"
    if not path.exists():
        return {}
    model = read_json(path)
    if not isinstance(model, dict):
        raise FileFormatError(
            f"{path}: expected a JSON object that describes the model; got {type(model).__name__}."
        )
    return model


def says_what_goes_in(model: Mapping[str, Any]) -> bool:
    """Whether a ``model.json`` says enough for an item of its own."""
    if any(name not in model for name in _NEEDED):
        return False
    parts = ((model["statistics"], {"mean", "std"}), (model["target"], {"name", "unit"}))
    return all(isinstance(part, Mapping) and names <= set(part) for part, names in parts)


def _name(predictor: str) -> str:
    """Name of a predictor, letters, digits and ``_.-`` only as the MLM extension wants it."""
    if _NAME_PATTERN.fullmatch(predictor):
        return predictor
    return "model-" + (re.sub(r"[^a-zA-Z0-9]+", "-", predictor).strip("-") or "unnamed")


def make_model_item(folder: Path, predictor: str, map_item: pystac.Item) -> pystac.Item | None:
    """Describe the model of a published map, and link the map to it.

    Parameters
    ----------
    folder : Path
        The published folder, with ``model.json``.
    predictor : str
        Identifier of the model, as the card has it.
    map_item : pystac.Item
        The map's item. Its place and period become the model's, as those where the model was used and its errors
        measured; it gets a link ``derived_from``.

    Returns
    -------
    pystac.Item or None
        STAC 1.1 with the MLM extension; None where ``model.json`` does not say what goes into the model.

    Raises
    ------
    FileFormatError
        When ``model.json`` is no JSON object.
    """
    model = read_model(folder)
    if not says_what_goes_in(model):
        return None
    common = map_item.common_metadata
    stated = model.get("versions")
    versions = stated if isinstance(stated, Mapping) else {}
    simple = "scikit-learn" in versions and "torch" not in versions
    framework, package = ("scikit-learn", "scikit-learn") if simple else ("PyTorch", "torch")
    item = pystac.Item(
        id=f"{map_item.id}-model",
        geometry=map_item.geometry,
        bbox=map_item.bbox,
        datetime=None,
        start_datetime=common.start_datetime,
        end_datetime=common.end_datetime,
        properties={
            "title": f"Model of: {map_item.properties['title']}",
            "description": "The model that predicted the map. Place and period are the map's. The weights are not "
            "published; model.json holds everything else that a prediction depends on.",
            "license": map_item.properties["license"],
            "mlm:name": _name(predictor),
            "mlm:architecture": str(model["backbone"]),
            "mlm:tasks": ["regression"],
            "mlm:framework": framework,
            **_pretraining(model),
            "mlm:input": [_tile_input(model), *_site_inputs(model)],
            "mlm:output": _outputs(model),
            "bands": _bands(model),
        },
        stac_extensions=[MLM, EXTENSIONS["raster"], EXTENSIONS["file"]],
    )
    settings = model.get("params")
    if _VERSION.match(str(versions.get(package))):
        item.properties["mlm:framework_version"] = str(versions[package])
    if isinstance(settings, Mapping) and settings:
        item.properties["mlm:hyperparameters"] = {
            name: Path(str(value)).name if name == "weights" and value else value
            for name, value in sorted(settings.items())
        }
    asset = pystac.Asset(
        "./model.json",
        title="Description of the model",
        description=f"Without the weights. {_ARTIFACT} reads it together with them.",
        media_type=pystac.MediaType.JSON,
        roles=["mlm:model", "metadata"],
    )
    asset.extra_fields = file_fields(folder / "model.json") | {
        "mlm:artifact_type": _ARTIFACT,
        # STAC lets an item have bands only where one of its assets has some.
        "bands": [{"name": name} for name in model["bands"]],
    }
    item.add_asset("model", asset)
    map_item.add_link(
        pystac.Link(
            "derived_from", f"./{MODEL_ITEM_FILE}", pystac.MediaType.GEOJSON, title=item.properties["title"]
        )
    )
    return item


def _pretraining(model: Mapping[str, Any]) -> dict[str, Any]:
    settings = model.get("params")
    if not isinstance(settings, Mapping) or "weights" not in settings:
        return {}
    source = settings["weights"]
    # The name of a file, but not where it lay.
    return {
        "mlm:pretrained": bool(source),
        "mlm:pretrained_source": Path(str(source)).name if source else None,
    }


def _bands(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """STAC 1.1 bands of the imagery that goes in, with the statistics of the training tiles in physical units."""
    statistics = model["statistics"]
    columns = zip(
        model["bands"], model["scale"], model["offset"], statistics["mean"], statistics["std"], strict=True
    )
    resolution = {"raster:spatial_resolution": model["pixel_m"]} if "pixel_m" in model else {}
    return [
        {
            "name": name,
            "data_type": "uint16",
            "nodata": model["nodata"],
            "raster:scale": scale,
            "raster:offset": offset,
            **resolution,
            "statistics": {"mean": figure(mean), "stddev": figure(std)},
        }
        for name, scale, offset, mean, std in columns
    ]


def _tile_input(model: Mapping[str, Any]) -> dict[str, Any]:
    bands, side = list(model["bands"]), model["tile_px"]
    return {
        "name": "tiles",
        "description": f"Numbers as stored in the imagery, north up. {model['nodata']} is a missing value: after "
        "scaling it becomes 0, and one channel more says which pixels have every band.",
        "bands": bands,
        "input": {
            "shape": [-1, len(bands), side, side],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "uint16",
        },
        "value_scaling": [_scaling(model, i) for i in range(len(bands))],
        "resize_type": None,
        "pre_processing_function": None,
    }


def _scaling(model: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Centring and scaling of one band's stored numbers."""
    lights = _extras(model).get("lights")
    if lights and model["bands"][i] == "NIGHTLIGHTS":
        parts = "; ".join(
            f"{sensor.upper()}: (value - {found['mean']:.6g}) / {found['std']:.6g}"
            for sensor, found in sorted(lights.items())
        )
        return {
            "type": "processing",
            "format": "text",
            "expression": f"A channel each for the two sensors, 0 in that of the other. {parts}",
        }
    scale, offset = model["scale"][i], model["offset"][i]
    mean, std = model["statistics"]["mean"][i], model["statistics"]["std"][i]
    return {"type": "z-score", "mean": figure((mean - offset) / scale), "stddev": figure(std / scale)}


def _site_inputs(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe what the model is told of a place beside its pixels."""
    extras = _extras(model)
    found = []
    if extras.get("year") or extras.get("lights"):
        found.append(_site_input("year", "Year of the imagery.", 1))
    if extras.get("location"):
        found.append(_site_input("location", "Latitude and longitude in degrees.", 2))
    return found


def _site_input(name: str, description: str, n: int) -> dict[str, Any]:
    structure = {"shape": [-1, n], "dim_order": ["batch", name], "data_type": "float32"}
    return {"name": name, "description": description, "bands": [], "input": structure}


def _outputs(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    target = model["target"]
    texts = {
        target[
            "name"
        ]: f"Predicted {target['name']} of each tile, in {target['unit']}, before any correction."
    }
    if model.get("head") == "mean_variance":
        texts[f"{target['name']}_sd"] = "Standard deviation of the truth around the prediction, same unit."
    return [
        {
            "name": name,
            "description": text,
            "tasks": ["regression"],
            "bands": [],
            "result": {"shape": [-1], "dim_order": ["batch"], "data_type": "float32"},
        }
        for name, text in texts.items()
    ]


def _extras(model: Mapping[str, Any]) -> Mapping[str, Any]:
    extras = model.get("extras")
    return extras if isinstance(extras, Mapping) else {}
