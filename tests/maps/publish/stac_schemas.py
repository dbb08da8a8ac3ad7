"""Validate STAC documents against the schemas kept beside the tests; nothing is fetched."""

import json
from pathlib import Path

import pystac
from jsonschema import Draft7Validator
from pystac.validation import RegisteredValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

SCHEMAS = Path(__file__).parent / "schemas"
KINDS = {"Feature": pystac.STACObjectType.ITEM, "Collection": pystac.STACObjectType.COLLECTION}


def address(path):
    extension, version = path.stem.rsplit("-", 1)
    return f"https://stac-extensions.github.io/{extension}/{version}/schema.json"


def kept_schemas():
    """Address and content of every schema.

    A schema's own ``$id`` is left out: that of processing v1.1.0 has the wrong version.
    """
    return {
        address(path): {key: value for key, value in json.loads(path.read_text()).items() if key != "$id"}
        for path in sorted(SCHEMAS.glob("*.json"))
    }


REGISTRY = Registry().with_resources(
    (url, Resource(contents=content, specification=DRAFT7)) for url, content in kept_schemas().items()
)


def problems(document):
    """What is wrong with a STAC item or collection, by STAC 1.1 and by every extension that it declares."""
    found = []
    try:
        RegisteredValidator.get_validator().validate_core(document, KINDS[document["type"]], "1.1.0")
    except (pystac.errors.STACValidationError, KeyError) as error:
        found.append(f"core: {error}")
    for url in document.get("stac_extensions", []):
        validator = Draft7Validator({"$ref": url}, registry=REGISTRY)
        found += [f"{url}: {error.message}" for error in validator.iter_errors(document)]
    return found
