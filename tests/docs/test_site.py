"""The documentation as it is built: pages that fit the window, code that is whole, every public name on a page."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chromium import open_chromium

ROOT = Path(__file__).parents[2]
# What stands beyond the window's right edge with nothing around it that scrolls; code that its box cuts.
LOOK = """() => {
  const scrolls = (node) => node
    && (/auto|scroll/.test(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
  const all = (selector, fault) => [...document.querySelectorAll(`.md-content ${selector}`)]
    .filter((node) => node.offsetParent && fault(node)).map((node) => node.outerHTML.slice(0, 90));
  return {
    width: document.documentElement.scrollWidth,
    height: document.documentElement.scrollHeight,
    beyond: all(":is(table, pre, img, h1, h2, h3, p)",
      (node) => node.getBoundingClientRect().right > innerWidth + 1 && !scrolls(node.parentElement)),
    cut: all("pre > code", (node) => node.scrollWidth > node.clientWidth + 1),
    broken: all("img", (node) => node.complete && !node.naturalWidth),
  };
}"""
ROOMS = [
    *("debias", "causal", "causal.labels", "causal.planning", "trials", "maps", "maps.imagery", "maps.read"),
    *("maps.correct", "maps.predict", "maps.publish", "models", "report", "viewer", "tables", "palettes"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return folder


def pages(site):
    return sorted(page for page in site.rglob("*.html") if page.name != "404.html")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 390])
def test_no_page_is_wider_than_the_window_and_none_is_endless(site, width):
    found = {}
    with open_chromium() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 900})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        for path in pages(site):
            page.goto(path.as_uri())
            seen = page.evaluate(LOOK)
            faults = {name: seen[name] for name in ("beyond", "broken") if seen[name]}
            if width >= 1400 and seen["cut"]:
                faults["cut"] = seen["cut"]
            if seen["width"] > width or seen["height"] > 30_000:
                faults["size"] = (seen["width"], seen["height"])
            if faults:
                found[str(path.relative_to(site))] = faults
    assert found == {}
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_every_public_name_has_a_page(site):
    texts = {page.parent.relative_to(site): page.read_text(encoding="utf-8") for page in pages(site)}
    written = "".join(text for name, text in texts.items() if name.parts[:1] == ("api",))
    missing = []
    for room in ROOMS:
        module = importlib.import_module(f"sustain.{room}")
        for name in module.__all__:
            found = getattr(module, name)
            if not (inspect.isclass(found) or inspect.isfunction(found)):
                continue  # constants, and names of types
            home = found.__module__
            anchors = [f'id="{place}.{name}"' for place in (home, f"sustain.{room}")]
            if not any(anchor in written for anchor in anchors):
                missing.append(f"sustain.{room}.{name}")
    assert missing == []


def test_notebooks_are_pages_with_their_pictures(site):
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        folder = site / "notebooks" / notebook.stem
        text = (folder / "index.html").read_text(encoding="utf-8")
        assert text.count("what the cell draws") >= 1
        assert (site / "notebooks" / notebook.name).exists()
        assert 'class="shown"' in text
    assert 'href="notebooks/01_debias/"' in (site / "index.html").read_text(encoding="utf-8")
