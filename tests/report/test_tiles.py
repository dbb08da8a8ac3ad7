"""Survey tiles are drawn whatever their number: one, a handful, in one line, on both sides of 180 degrees, many."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sustain.report import map_figures
from sustain.report.sections import map_section
from sustain.report.tile_view import read_tile_map


def cells_file(path, lat, lon):
    """A corrected map of tiles at these places, with wealth that rises from tile to tile."""
    n = len(lat)
    wealth = np.linspace(-1, 1, n)
    table = pd.DataFrame(
        {
            "id": [f"t{i}" for i in range(n)],
            "lat": lat,
            "lon": lon,
            "year": 2016,
            "country": "KE",
            "urban": False,
            "block": "b",
            "split": "test",
            "wealth": 1.5 * wealth,
            "wealth_raw": wealth,
            "wealth_se": 0.3,
            "support": 0,
        }
    )
    packed = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(packed.replace_schema_metadata({"SUSTAIN_METHOD": "linear"}), path)
    return path


PLACES = {
    "one": ([1.0], [2.0]),
    "five over a continent": ([0.0, 5.0, 10.0, -10.0, -20.0], [0.0, 30.0, 10.0, 15.0, 25.0]),
    "a line from north to south": (np.linspace(-30, 30, 40), np.full(40, 10.0)),
    "across 180 degrees": ([-17.0, -16.5, -18.0], [179.5, -179.5, 178.0]),
    "many": (
        np.random.default_rng(0).uniform(-30, 30, 200_000),
        np.random.default_rng(1).uniform(-20, 50, 200_000),
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_any_number_of_tiles_is_drawn(tmp_path, case):
    lat, lon = PLACES[case]
    view = read_tile_map(cells_file(tmp_path / "cells.parquet", lat, lon))
    rows, columns = view.wealth.shape
    assert max(rows, columns) <= 258
    assert 0.5 <= rows / columns <= 2
    assert np.isfinite(view.wealth).sum() == view.n_cells > 0
    if len(lat) <= 5:
        assert max(rows, columns) <= 40  # few squares must be large enough to be seen
        assert np.isfinite(view.wealth).sum() == len(lat)
    section = map_section(view, None, unit="points")
    assert f"{len(lat):,} tile".replace(",", "\N{NARROW NO-BREAK SPACE}") in section.intro
    assert not any(re.search(r"[ \"]nan[ \",]", panel.svg) for panel in section.figures[0].panels)


def test_tiles_on_both_sides_of_180_degrees_are_neighbours(tmp_path):
    view = read_tile_map(cells_file(tmp_path / "cells.parquet", *PLACES["across 180 degrees"]))
    assert view.cell_m * view.wealth.shape[1] < 1_000_000


def test_scales_end_where_values_end_or_say_that_they_go_on(tmp_path):
    lat, lon = PLACES["a line from north to south"]
    view = read_tile_map(cells_file(tmp_path / "cells.parquet", lat, lon))
    scale = map_figures.shared_scale(view)
    assert (scale.low, scale.high) == pytest.approx((np.nanmin(view.wealth), np.nanmax(view.wealth)))
    assert not scale.cut_low
    assert not scale.cut_high
    assert "it ends where the values end" in map_section(view, None, unit="points").figures[0].caption
