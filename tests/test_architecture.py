"""The page on where things are says what the tests of imports enforce, and names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_imports import FOLDER_MAY_IMPORT, GROUND, MAY_IMPORT, PACKAGE

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
# | 3 | `sustain.causal` | what it is | `debias`, `stats` |
ROWS = re.findall(r"^\| (\d) \| `sustain\.(\w+)` \|[^|]*\|([^|]*)\|$", PAGE, flags=re.MULTILINE)
FLOOR = {room: int(floor) for floor, room, _ in ROWS}
USES = {room: set(re.findall(r"`(\w+)`", names)) for _, room, names in ROWS}
DRAWN = {
    room: int(line.split()[0])
    for line in PAGE.split("```text\n")[1].split("```")[0].splitlines()
    for room in line.split()[1:]
}
# More than some twenty entries, and nobody finds a thing by its name.
MOST = 22
LARGE = {"data/sustainbench"}  # a file a task of the benchmark


def test_the_table_names_every_room_once():
    assert sorted(room for _, room, _ in ROWS) == sorted(MAY_IMPORT)
    assert DRAWN == FLOOR


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_the_table_says_what_a_room_may_import(room):
    ground = set() if room in GROUND else GROUND
    assert USES[room] | ground == MAY_IMPORT[room]


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - GROUND))
def test_what_a_room_may_import_lies_lower(room):
    assert [other for other in MAY_IMPORT[room] if FLOOR[other] >= FLOOR[room]] == []


def test_folders_that_may_import_more_are_named():
    for folder, rooms in FOLDER_MAY_IMPORT.items():
        assert re.search(rf"`sustain\.{folder}` uses {', '.join(f'`{r}`' for r in sorted(rooms))}", PAGE)
        assert all(FLOOR[room] < FLOOR[folder.split(".")[0]] for room in rooms)


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"`(sustain/[\w/]+\.py)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_no_folder_is_too_large_to_find_things_in():
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir() and "__" not in path.name)]
    sizes = {
        str(folder.relative_to(PACKAGE)): sum("__" not in path.name for path in folder.iterdir())
        for folder in folders
    }
    assert {name: n for name, n in sizes.items() if n > MOST and name not in LARGE} == {}
