"""A map whose cells are survey tiles: what is in it, what is refused, and the page of a source without a contrast."""

import json
from datetime import date

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sustain.config import PublishParams
from sustain.data.catalogue.manifest import load_manifest
from sustain.data.catalogue.terms import may_publish_coordinates
from sustain.errors import ConfigError, DataError, EffectError, FileFormatError, RasterError, SupportWarning
from sustain.maps.correct.survey_tiles import (
    CELLS_FILE,
    correct_survey_tiles,
    map_survey_tiles,
    read_survey_tiles,
)
from sustain.maps.publish.survey_tiles import publish_survey_tiles
from sustain.report import build_report
from sustain.trials.tiles import tile_trials, urban_contrasts
from tests.report.fabricate import artefacts, card, made_card, params
from tests.report.fabricate import survey as labelled

ABOUT = PublishParams(title="Tiles", licence="CC0-1.0")


def survey(n=60, model=None, **columns):
    rng = np.random.default_rng(2)
    split = np.resize(["train", "val", "calibration", "test"], n)
    table = {
        "id": [f"KE-2014-7#-{i:08d}" for i in reversed(range(n))],
        "lat": rng.uniform(-3, 3, n),
        "lon": rng.uniform(35, 40, n),
        "year": 2014,
        "country": "KE",
        "urban": np.arange(n) % 3 == 0,
        "n": 22,
        "block": [f"b{i % 12}" for i in range(n)],
        "split": split,
        "y_true": 77.0,
        "y_pred": rng.normal(0, 0.3, n),
        "model": model or made_card().predictor.id,
        "out_of_sample": np.isin(split, ["calibration", "test"]),
    }
    return pd.DataFrame(table | columns)


@pytest.fixture
def cells(tmp_path):
    survey().to_parquet(tmp_path / "survey.parquet")
    map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
    return correct_survey_tiles(tmp_path / "raw.parquet", tmp_path / CELLS_FILE, made_card())


def test_cells_are_the_tiles_out_of_sample_without_their_labels(cells):
    table, tags = read_survey_tiles(cells)
    kept = survey().query("out_of_sample").sort_values("id")
    assert table["id"].tolist() == kept["id"].tolist()
    np.testing.assert_array_equal(table["wealth_raw"], kept["y_pred"].astype("f4"))
    assert not {"y_true", "n", "label"} & set(table)
    assert not (table.select_dtypes("number") == 77.0).any().any()
    assert tags["SUSTAIN_CARD_SHA256"] == made_card().sha256


def test_the_same_input_gives_the_same_bytes(cells, tmp_path):
    again = correct_survey_tiles(tmp_path / "raw.parquet", tmp_path / "again.parquet", made_card())
    assert again.read_bytes() == cells.read_bytes()


def test_a_prediction_beyond_the_calibration_is_flagged(tmp_path):
    survey(y_pred=50.0).to_parquet(tmp_path / "survey.parquet")
    map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
    with pytest.warns(SupportWarning, match="30 of 30 predictions"):
        correct_survey_tiles(tmp_path / "raw.parquet", tmp_path / CELLS_FILE, made_card())
    assert (read_survey_tiles(tmp_path / CELLS_FILE)[0]["support"] == 1).all()


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"out_of_sample": False}, DataError, "none of 60 predictions is finite and out of sample"),
        ({"y_pred": np.nan}, DataError, "none of 60 predictions"),
        ({"model": "another"}, RasterError, "predicted by another, but the card corrects"),
    ],
)
def test_what_cannot_be_mapped_is_refused(tmp_path, change, kind, message):
    survey(**change).to_parquet(tmp_path / "survey.parquet")
    with pytest.raises(kind, match=message):
        map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
        correct_survey_tiles(tmp_path / "raw.parquet", tmp_path / CELLS_FILE, made_card())
    assert not (tmp_path / CELLS_FILE).exists()


def test_a_table_of_something_else_or_no_table_is_named(tmp_path):
    pd.DataFrame({"id": [1]}).to_parquet(tmp_path / "survey.parquet")
    with pytest.raises(FileFormatError, match="missing column lon"):
        map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
    (tmp_path / "survey.parquet").write_bytes(b"PAR1")
    with pytest.raises(FileFormatError, match="not a readable Parquet"):
        map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
    with pytest.raises(FileNotFoundError, match="Run the predict stage"):
        map_survey_tiles(tmp_path / "none.parquet", tmp_path / "raw.parquet")


def test_a_map_of_another_card_is_not_published(cells, tmp_path):
    card(labelled(seed=1)).save(tmp_path / "card.json")
    with pytest.raises(RasterError, match="corrected with card"):
        publish_survey_tiles(cells, tmp_path / "card.json", tmp_path / "out", ABOUT)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_replaced(cells, tmp_path):
    made_card().save(tmp_path / "card.json")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds other files"):
        publish_survey_tiles(cells, tmp_path / "card.json", tmp_path / "thesis", ABOUT)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def published(cells, folder, **options):
    made_card().save(folder / "card.json")
    return publish_survey_tiles(cells, folder / "card.json", folder / "out", ABOUT, **options)


def test_the_period_is_that_of_the_tiles_or_asked_for(cells, tmp_path):
    assert "| period | 2014-01-01 to 2014-12-31 |" in (published(cells, tmp_path) / "README.md").read_text()
    survey(year=0).to_parquet(tmp_path / "survey.parquet")  # a table that names no year
    map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
    dateless = correct_survey_tiles(tmp_path / "raw.parquet", tmp_path / CELLS_FILE, made_card())
    with pytest.raises(
        ConfigError, match=r"made up for it\.(.|\n)*\n  start: first day(.|\n)*\n  end: last day"
    ):
        published(dateless, tmp_path)
    about = ABOUT.model_copy(update={"start": date(2019, 1, 1), "end": date(2020, 12, 31)})
    out = publish_survey_tiles(dateless, tmp_path / "card.json", tmp_path / "out", about)
    assert "| period | 2019-01-01 to 2020-12-31 |" in (out / "README.md").read_text()


def test_without_leave_nothing_published_tells_where_a_cluster_is(cells, tmp_path):
    out = published(cells, tmp_path)
    kept, _ = read_survey_tiles(cells)
    table = pd.read_csv(out / "cells.csv")
    columns = ["year", "country", "urban", "block", "split", "wealth", "wealth_raw", "wealth_se", "support"]
    assert list(table) == columns
    assert list(pd.read_parquet(out / "cells.parquet")) == columns
    # The same predictions, in an order of their own, and as many blocks, none by its name.
    np.testing.assert_allclose(np.sort(table["wealth_raw"]), np.sort(kept["wealth_raw"]), rtol=1e-6)
    assert not np.allclose(table["wealth_raw"], kept["wealth_raw"])
    assert table["block"].nunique() == kept["block"].nunique()
    assert not set(table["block"]) & set(kept["block"])
    together = kept.groupby("block")["wealth_raw"].apply(lambda w: tuple(np.sort(w.astype("f8")).round(5)))
    assert set(together) == set(
        table.groupby("block")["wealth_raw"].apply(lambda w: tuple(np.sort(w).round(5)))
    )
    page = (out / "README.md").read_text()
    assert "no coordinates and no ids of clusters" in page
    assert "Longitude" not in page


def test_with_leave_places_are_points_and_the_page_says_that_they_are_displaced(cells, tmp_path):
    out = published(cells, tmp_path, coordinates=True)
    table = pq.read_table(out / "cells.parquet")
    assert json.loads(table.schema.metadata[b"geo"])["primary_column"] == "geometry"
    assert table.column("id").to_pylist() == pd.read_csv(out / "cells.csv")["id"].tolist()
    assert "**displaced**" in (out / "README.md").read_text()


def test_the_example_on_the_page_without_places_runs(cells, tmp_path, monkeypatch, capsys):
    out = published(cells, tmp_path)
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(out)
    exec(compile(code, "README.md", "exec"), {})
    assert "urban" in capsys.readouterr().out


def test_without_towns_the_page_has_no_example_that_would_fail(tmp_path):
    survey(urban=False, country="").to_parquet(tmp_path / "survey.parquet")
    map_survey_tiles(tmp_path / "survey.parquet", tmp_path / "raw.parquet")
    rural = correct_survey_tiles(tmp_path / "raw.parquet", tmp_path / CELLS_FILE, made_card())
    page = (published(rural, tmp_path) / "README.md").read_text()
    assert "```python" not in page
    assert "30 survey tiles, no wall-to-wall map" in page


def manifest(allowed):
    return load_manifest("dhs").model_copy(update={"redistribute_coordinates": allowed})


@pytest.mark.parametrize(
    ("wanted", "terms", "expected"),
    [
        (None, [False], False),
        (None, [None], False),  # not known is no
        (None, [True], True),
        (None, [True, False], False),
        (None, [], False),  # your own tiles
        (True, [], True),
        (True, [True], True),
        (False, [True], False),
    ],
)
def test_terms_decide_unless_you_publish_less(wanted, terms, expected):
    allowed = may_publish_coordinates(PublishParams(coordinates=wanted), map(manifest, terms))
    assert allowed is expected


@pytest.mark.parametrize("terms", [False, None])
def test_more_than_the_terms_allow_is_refused(terms):
    with pytest.raises(ConfigError, match=r"publish\.coordinates is true, but the terms of dhs"):
        may_publish_coordinates(PublishParams(coordinates=True), [manifest(terms)])


def test_manifests_of_what_derives_from_dhs_forbid_it():
    for name in ("dhs", "dhs_street", "yeh2020"):
        assert load_manifest(name).redistribute_coordinates is False
    assert load_manifest("lsms").redistribute_coordinates is None


# --- trials


def test_the_contrast_is_of_test_tiles_alone(cells):
    table, _ = read_survey_tiles(cells)
    trials, units = urban_contrasts(table)
    assert [trial.assumption for trial in trials] == ["outcome", "measurement"]
    assert set(units["split"]) == {"test"}
    assert (units["treated"] == units["urban"]).all()


@pytest.mark.parametrize(
    ("text", "entry", "message"),
    [
        ("id,treated\nKE-2014-7#-99999999,1\n", {}, "1 of 1 tiles are not in the map"),
        ("place,treated\na,1\n", {}, "no column id"),
        ("", {}, "is empty"),
        ("id,treated\n", {"map": "endline"}, "a map of another period"),
        (None, {}, "no such table"),
        ("id,treated\nKE-2014-7#-00000002,1\nKE-2014-7#-00000002,0\n", {}, "1 rows repeat an id"),
        (",treated,id\n1,0,\n", {}, "1 values are missing"),
    ],
)
def test_a_trial_that_does_not_fit_the_tiles_is_refused(cells, tmp_path, text, entry, message):
    trial = {
        "name": "t",
        "title": "t",
        "question": "?",
        "table": "t.csv",
        "assumption": "outcome",
        "why": "!",
    }
    (tmp_path / "trials").mkdir()
    pd.Series([trial | entry]).to_json(tmp_path / "trials" / "trials.json", orient="values")
    if text is not None:
        (tmp_path / "trials" / "t.csv").write_text(text)
    with pytest.raises(EffectError, match=message):
        tile_trials(read_survey_tiles(cells)[0], tmp_path / "trials")


def test_without_towns_there_is_no_contrast_and_still_a_page(cells, tmp_path):
    table, _ = read_survey_tiles(cells)
    assert tile_trials(table.assign(urban=False), tmp_path / "nowhere") == ([], {})
    places = artefacts(tmp_path / "page", trials=[], maps=False)
    places.maps.mkdir(parents=True)
    cells.rename(places.maps / CELLS_FILE)
    build_report(places, params())
    page = (places.report / "index.html").read_text()
    assert "survey&#39;s 30 tiles" in page or "survey's 30 tiles" in page
    assert (places.report / "maps.png").exists()
