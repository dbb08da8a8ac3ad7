"""Arrows between rooms point down only, and an analyst's import is light."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sustain"

GROUND = {"config", "errors", "files", "masks", "palettes", "spelling", "sphere", "tables"}
# The floors of the house, from below; a room imports itself and what is named here.
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "palettes": set(),
    "masks": set(),
    "spelling": set(),
    "sphere": set(),
    "config": {"errors"},
    "tables": {"errors", "files"},
    "stage": GROUND,
    "stats": GROUND,
    "data": GROUND,
    "debias": GROUND | {"stats"},
    "models": GROUND | {"data"},
    "causal": GROUND | {"stats", "debias"},
    "maps": GROUND | {"stats", "debias"},
    "trials": GROUND | {"stats", "debias", "causal", "maps"},
    "baselines": GROUND | {"data", "models"},
    "viewer": GROUND | {"stats", "debias", "maps"},
    "report": GROUND | {"stage", "stats", "data", "debias", "models", "causal", "maps", "trials"},
    "cli": GROUND
    | {"stage", "stats", "data", "debias", "models", "causal", "maps", "trials"}
    | {"report", "baselines", "viewer"},
}
# The maps need the model where they are predicted, and nowhere else.
FOLDER_MAY_IMPORT = {"maps.predict": {"models"}}

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


@functools.cache
def modules() -> dict[str, Path]:
    """Dotted name below `sustain` of every module that exists."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> set[str]:
    """Dotted names below `sustain` that a module imports: at its top, inside functions, or for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
    return found - {name, ""}


@pytest.mark.parametrize("name", sorted(modules()))
def test_arrows_point_down(name):
    room = name.split(".")[0]
    if room == "":
        assert not imports(name, modules()[name]), "sustain/__init__.py imports no room"
        return
    assert room in MAY_IMPORT, f"{room} is a new room: say in MAY_IMPORT what it may import"
    folder = ".".join(name.split(".")[:2])
    allowed = MAY_IMPORT[room] | {room} | FOLDER_MAY_IMPORT.get(folder, set())
    wrong = {target for target in imports(name, modules()[name]) if target.split(".")[0] not in allowed}
    assert not wrong, f"sustain.{name} imports {sorted(wrong)}, but may import only {sorted(allowed)}"


def test_no_circles():
    graph = {name: imports(name, path) & set(modules()) for name, path in modules().items()}
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
    assert {"causal", "causal.effect"} <= set(modules())
    assert {"causal.effect", "causal.result.result"} <= imports("causal", modules()["causal"])
    deferred = imports("debias.judge.agreement", modules()["debias.judge.agreement"])
    assert "errors" in deferred


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
