"""``sustain publish`` says what its options say, asks for what is missing, and knows nothing of any profile."""

import json

import numpy as np
import pytest

from sustain.maps.correct.raster import correct_raster
from tests.in_process import sustain
from tests.maps.fakes import make_card, write_raster

FACTS = {
    "--title": "Wealth of Exampleland",
    "--licence": "ODbL-1.0",
    "--start": "2014-01-01",
    "--end": "2015-06-30",
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = make_card().save(tmp_path / "card.json")
    raw = np.random.default_rng(1).uniform(-0.9, 0.9, (1, 20, 30))
    write_raster(tmp_path / "raw.tif", raw, ("wealth_raw",), units=("index points",))
    correct_raster(tmp_path / "raw.tif", tmp_path / "corrected.tif", card)
    # What stands beside is another map's business.
    (tmp_path / "params.yaml").write_text(
        "{source: synthetic, seed: 0, profiles: {synthetic: {publish: {title: Made up, licence: CC0-1.0, "
        "start: 2016-01-01, end: 2016-12-31}}}}"
    )
    return tmp_path


def publish(*options, **facts):
    given = [word for pair in (FACTS | facts).items() for word in pair]
    return sustain("publish", "corrected.tif", "out", "--card", "card.json", *given, *options)


def test_what_is_missing_is_asked_for_and_nothing_is_taken_from_a_profile(made):
    done = sustain("publish", "corrected.tif", "out", "--card", "card.json")
    assert done.returncode == 1
    asked = [line.split(":")[0].strip() for line in done.stderr.splitlines() if line.startswith("  --")]
    assert asked == ["--title", "--licence", "--start", "--end"]
    assert not (made / "out").exists()
    given = ["--title", "T", "--licence", "MIT", "--start", "2014-01-01"]
    done = sustain("publish", "corrected.tif", "out", "--card", "card.json", *given)
    assert [line for line in done.stderr.splitlines() if line.startswith("  --")] == [
        "  --end: last day of the imagery, YYYY-MM-DD"
    ]


def test_the_folder_says_what_the_options_say(made):
    done = publish(
        *("--provider", "Example University", "--provider-url", "https://example.org"),
        *("--provider", "Host", "--provider-url", ""),
        *("--keywords", "poverty, wealth", "--keyword", "Exampleland", "--version", "1.2"),
        *(
            "--created",
            "2017-01-02",
            "--citation",
            "A. Author (2017).",
            "--doi",
            "https://doi.org/10.5281/zenodo.1",
        ),
        *("--description", "A map.", "--imagery-licence", "public domain", "--labels-licence", "by request"),
    )
    assert done.returncode == 0, done.stderr
    item = json.loads((made / "out" / "item.json").read_text())["properties"]
    assert (item["title"], item["license"], item["description"]) == (
        "Wealth of Exampleland",
        "ODbL-1.0",
        "A map.",
    )
    assert (item["start_datetime"], item["end_datetime"]) == ("2014-01-01T00:00:00Z", "2015-06-30T23:59:59Z")
    assert item["providers"] == [
        {"name": "Example University", "roles": ["producer"], "url": "https://example.org"},
        {"name": "Host", "roles": ["producer"]},
    ]
    assert item["keywords"] == ["poverty", "wealth", "Exampleland", "asset_index"]
    assert (item["version"], item["created"]) == ("1.2", "2017-01-02T00:00:00Z")
    assert (item["sci:citation"], item["sci:doi"]) == ("A. Author (2017).", "10.5281/zenodo.1")
    text = (made / "out" / "README.md").read_text()
    assert "2014-01-01 to 2015-06-30" in text
    assert "| imagery | public domain |" in text
    for path in (made / "out").iterdir():
        if path.suffix in (".json", ".md", ".qml"):
            assert "CC0" not in path.read_text(), path
            assert "Made up" not in path.read_text(), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--start", "2016-01-01"), "start 2016-01-01 is after end 2015-06-30"),
        (("--doi", "zenodo.1"), "--doi: String should match pattern"),
        (("--provider-url", "https://a.org"), "--provider-url: 1 for 0 of --provider"),
        (("--areas", "a.gpkg"), "--areas and --areas-key go together"),
        (("--people", "p.tif"), "--people and --areas-layer are about areas"),
        (("--people-per-km2",), "--people-per-km2 says what --people holds"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_words_of_the_shell(made, options, message):
    done = publish(*options)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (made / "out").exists()


def test_a_day_that_is_none_is_refused(made):
    done = publish(**{"--start": "January 2016"})
    assert done.returncode == 2
    assert "--start" in done.stderr
