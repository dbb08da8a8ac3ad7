"""Arrows between rooms point down only, and an analyst's import is light."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sustain"

GROUND = {"config", "errors", "files", "sphere"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "sphere": set(),
    "config": {"errors"},
    "stage": GROUND,
    "data": GROUND,
    "debias": GROUND,
    "models": GROUND | {"data"},
    "causal": GROUND | {"debias"},
    "maps": GROUND,
    "baselines": GROUND | {"data", "models"},
    "viewer": GROUND | {"maps"},
    "report": GROUND | {"stage", "data", "debias", "models", "causal", "maps"},
    "cli": GROUND | {"stage", "data", "debias", "models", "causal", "maps", "report", "baselines", "viewer"},
}
# The maps need the model in one module, and the card where rasters are corrected, averaged over areas and published.
MODULE_MAY_IMPORT = {
    "maps.predict": {"models"},
    "maps.raster": {"debias"},
    "maps.areas": {"debias"},
    "maps.survey_tiles": {"debias"},
    "maps.publish_tiles": {"debias"},
    "maps.publish": {"debias"},
    "maps.mapcard": {"debias"},
    "maps.stac": {"debias"},
    "maps.collection": {"debias"},
}

HEAVY = (
    *(
        "torch",
        "torchvision",
        "lightning",
        "timm",
        "rasterio",
        "geopandas",
    ),  # not what an analyst has come for
    *("matplotlib", "plotly", "statsmodels", "sklearn", "xarray", "dask"),  # loaded by whoever uses them
)


def modules() -> dict[str, Path]:
    """Dotted name below `sustain` of every module that exists."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_deferred(node: ast.AST) -> bool:
    """Whether what stands in `node` is not run when its module is imported."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def imports(name: str, path: Path, *, at_import_time: bool = False) -> set[str]:
    """Dotted names below `sustain` that a module imports: anywhere, or only when it is imported itself."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(
                alias.name.removeprefix("sustain.")
                for alias in node.names
                if alias.name.startswith("sustain.")
            )
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["sustain", *name.split(".")][: None if path.name == "__init__.py" else -1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([base] if base else [])])
            if base == "sustain" or base.startswith("sustain."):
                inner = base.removeprefix("sustain").lstrip(".")
                for alias in node.names:
                    full = f"{inner}.{alias.name}".lstrip(".")
                    found.add(full if full in modules() else inner)
        elif at_import_time and is_deferred(node):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found - {name, ""}


@pytest.mark.parametrize("name", sorted(modules()))
def test_arrows_point_down(name):
    room = name.split(".")[0]
    if room == "":
        assert not imports(name, modules()[name]), "sustain/__init__.py imports no room"
        return
    assert room in MAY_IMPORT, f"{room} is a new room: say in MAY_IMPORT what it may import"
    allowed = MAY_IMPORT[room] | {room} | MODULE_MAY_IMPORT.get(name, set())
    wrong = {target for target in imports(name, modules()[name]) if target.split(".")[0] not in allowed}
    assert not wrong, f"sustain.{name} imports {sorted(wrong)}, but may import only {sorted(allowed)}"


def test_no_circles():
    graph = {
        name: imports(name, path, at_import_time=True) & set(modules()) for name, path in modules().items()
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join((*trail[trail.index(name) :], name))}"
        if name not in done:
            for target in sorted(graph[name]):
                walk(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        walk(name, ())


def test_the_reader_of_imports_sees_them():
    """The tests above would pass on an empty set; these imports are known to exist."""
    found = imports("causal.effect", modules()["causal.effect"])
    assert {"causal.result", "debias", "errors"} <= found
    assert "debias" not in imports("causal.effect", modules()["causal.effect"], at_import_time=True)


@pytest.mark.parametrize("room", ["debias", "causal"])
def test_an_analysts_import_is_light(room):
    # A fresh interpreter, because the tests themselves import nearly everything.
    code = f"import json, sys, sustain.{room}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {name.split(".")[0] for name in json.loads(ran.stdout)}
    assert "sustain" in loaded
    assert not set(HEAVY) & loaded
