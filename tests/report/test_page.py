"""The page holds what the artefacts hold, loads nothing, and is the same twice."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import rasterio
from rich.console import Console
from scipy.special import ndtr

from sustain.errors import CardError, FileFormatError, RasterError
from sustain.report import build_report, figures, summary
from sustain.report.methods import METHODS
from sustain.report.rasters import read_map
from sustain.report.style import WIDTH

from . import fabricate

SECTIONS = ["verdict", "effects", "maps", "errors", "correction", "model", "provenance", "words"]
FIGURES = [
    "effects-forest",
    "distributions",
    "map",
    "uncertainty",
    "endline",
    "response",
    "prediction-truth",
    "deciles",
    "neighbours",
    "calibration",
    "training",
]


class Outline(HTMLParser):
    """What the tests need to know of a page."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.resources, self.headings, self.tags = [], [], [], [], []
        self.svg_labels, self.scopes, self.open, self.text = [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        if tag not in self.VOID:
            self.open.append((tag, values.get("id")))
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        else:
            self.resources += [
                value for name, value in values.items() if name in ("src", "href", "srcset", "data")
            ]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "svg" and values.get("role") == "img":
            self.svg_labels.append(values.get("aria-label"))
        if tag == "th":
            self.scopes.append(values.get("scope"))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, name in self.open:
            if name:
                self.text[name] = self.text.get(name, "") + data


def html(places):
    return (places.report / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def page(synthetic):
    return Outline(html(synthetic))


def test_every_section_and_figure_is_there(page):
    assert set(SECTIONS) <= set(page.ids)
    assert set(FIGURES) <= set(page.ids)
    assert page.tags.count("figure") == page.tags.count("figcaption") == len(FIGURES)
    assert [f"#{name}" for name in SECTIONS] == [link for link in page.links if link.startswith("#")][1:]


def test_every_drawing_has_a_text_alternative_and_unique_identifiers(page):
    assert len(page.svg_labels) >= len(FIGURES)
    assert all(label and len(label) > 20 for label in page.svg_labels)
    assert len(page.ids) == len(set(page.ids))
    assert not page.open


def test_headings_and_tables_are_semantic(page):
    assert page.headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    assert page.scopes
    assert None not in page.scopes
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


@pytest.mark.parametrize("which", ["synthetic", "real"])
def test_nothing_is_loaded_from_elsewhere(which, request):
    text = html(request.getfixturevalue(which))
    outline = Outline(text)
    assert all(value.startswith(("data:", "#")) for value in outline.resources)
    assert "script" not in outline.tags
    assert "iframe" not in outline.tags
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(text) < 2_000_000


def test_colours_follow_the_scheme_and_methods_keep_theirs(synthetic):
    text = html(synthetic)
    assert "var(--ink)" in text
    assert not re.search("#0a0b0c|#5d5e5f|#c1c2c3|#fdfcfb", text)
    for method in ("none", "response", "linear", "tweedie"):
        assert text.count(METHODS[method].colour.lower()) + text.count(METHODS[method].colour) > 4


def luminance(colour):
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return np.dot(
        [0.2126, 0.7152, 0.0722],
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels],
    )


def contrast(first, second):
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out_in_both_schemes(synthetic, scheme):
    block = re.findall(r":root \{(.*?)\}", html(synthetic), flags=re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for name in ("ink", "muted", "accent"):
        assert contrast(colours[name], colours["paper"]) >= 4.5
    for method in ("none", "response", "linear", "tweedie"):
        assert contrast(METHODS[method].colour, colours["paper"]) >= 3


def test_the_same_artefacts_give_the_same_bytes(synthetic, tmp_path):
    places = fabricate.artefacts(tmp_path)
    build_report(places, fabricate.params())
    for name in ("index.html", "effects.csv", "metrics.json", "maps.png"):
        assert (places.report / name).read_bytes() == (synthetic.report / name).read_bytes(), name


def test_numbers_on_the_page_and_in_the_files(synthetic, page):
    effects = pd.read_csv(synthetic.report / "effects.csv").set_index(["trial", "method"])
    assert effects.loc[("villages", "none"), "error"] == pytest.approx(0.3 - 0.5)
    assert effects.loc[("towns", "linear"), "covered"] == 0
    assert effects.loc[("districts", "response"), ["covered", "reported"]].tolist() == [1, True]
    metrics = json.loads((synthetic.report / "metrics.json").read_text())
    assert metrics["trials"]["villages"]["linear"]["covered"] == 1
    assert metrics["trials"]["towns"]["linear"]["error"] == pytest.approx(0.83)
    assert metrics["scores"]["none"]["covered"] == 1
    assert metrics["survey"]["cnn"]["r2"] == 0.71
    assert "the map's model explains 71%" in page.text["verdict"]
    assert "A programme randomised over villages: 0.50 (0.42 to 0.58; truth 0.50)" in page.text["verdict"]
    assert "+0.83" in page.text["effects-table"]
    assert "Slope of prediction on truth 0.578" in page.text["errors"]


def test_the_verdict_changes_with_the_numbers(tmp_path, page):
    trials = [fabricate.trial(naive=0.48, linear=0.9), *fabricate.three_trials()[1:]]
    places = fabricate.artefacts(tmp_path, trials=trials, maps=False, model=False)
    build_report(places, fabricate.params())
    text = Outline(html(places)).text["verdict"]
    assert text != page.text["verdict"]
    assert "In all 3 trials" in page.text["verdict"]
    assert "in 2 of 3 trials; it misses it in: “A programme randomised over villages”" in text
    assert "0.90 (0.82 to 0.98; truth 0.50)" in text


@pytest.mark.parametrize(
    ("without", "sections", "gone"),
    [
        ({"model": False}, ["maps", "errors", "correction"], ["model", "training"]),
        ({"maps": False}, ["errors", "correction", "model"], ["maps", "map"]),
        ({"endline": False}, ["maps", "errors"], ["endline"]),
        ({"predictions": False}, ["maps", "errors", "correction"], ["prediction-truth", "deciles", "check"]),
        ({"truth": None}, ["maps", "errors", "effects"], []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_a_source_lacks_is_left_out(tmp_path, without, sections, gone):
    places = fabricate.artefacts(tmp_path, **without)
    build_report(places, fabricate.params())
    outline = Outline(html(places))
    assert set(sections) <= set(outline.ids)
    assert not set(gone) & set(outline.ids)
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert (places.report / "maps.png").exists() == without.get("maps", True)
    if "truth" in without:
        assert "decided by the assumption" in outline.text["verdict"]
        assert "Holds truth" not in outline.text["effects"]
        assert pd.read_csv(places.report / "effects.csv")["covered"].isna().all()


@pytest.mark.parametrize(("name", "stage"), [("card.json", "calibrate"), ("effects.json", "effects")])
def test_required_artefacts_are_named_when_missing(tmp_path, name, stage):
    places = fabricate.artefacts(tmp_path, maps=False)
    next(tmp_path.rglob(name)).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}.*Run the {stage} stage"):
        build_report(places, fabricate.params())
    assert not places.report.exists()


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda p: (p.effects / "effects.json").write_text("{}"), FileFormatError, "effects.json"),
        (lambda p: (p.effects / "effects.json").write_text("{"), FileFormatError, "not a JSON file"),
        (
            lambda p: (p.calibration / "curves.csv").write_text("x,h\n1,2\n"),
            FileFormatError,
            "curves.csv.*method",
        ),
        (lambda p: p.card.write_text(p.card.read_text().replace("0.6", "0.7", 1)), CardError, "card.json"),
        (
            lambda p: (p.maps / "wealth_corrected.tif").write_bytes(b"II*"),
            FileFormatError,
            "wealth_corrected.tif",
        ),
        (
            lambda p: shutil.copy(p.maps / "wealth.tif", p.maps / "wealth_corrected.tif"),
            RasterError,
            "wealth_se.*are missing",
        ),
    ],
)
def test_a_damaged_artefact_is_named_and_nothing_is_written(tmp_path, damage, error, words):
    places = fabricate.artefacts(tmp_path, model=False)
    damage(places)
    with pytest.raises(error, match=words):
        build_report(places, fabricate.params())
    assert not places.report.exists()


def test_a_family_of_contrasts_is_judged_together(real):
    outline = Outline(html(real))
    assert "need no correction" in outline.text["verdict"]
    assert "12 contrasts" in outline.text["verdict"]
    assert {"contrasts", "contrast-scores", "contrasts-table"} <= set(outline.ids)
    assert "A made-up country" not in html(real)
    assert "Because the design says so." in outline.text["contrasts-why"]
    assert "Over the 10 contrasts" in outline.text["map-scores"]
    metrics = json.loads((real.report / "metrics.json").read_text())
    assert metrics["scores"]["none"]["mean_abs_error"] == pytest.approx(0.03)


def test_published_models_and_maps_are_compared(real):
    outline = Outline(html(real))
    assert {
        "survey",
        "models",
        "stability",
        "countries",
        "map-tenths",
        "agreement",
        "maps-compared",
        "models-table",
    } <= set(outline.ids)
    assert "Districts (54)" in outline.text["agreement"]
    assert "nearer to the survey for none of them" in outline.text["models"]
    assert "Ridge regression on visible bands and night lights, as histograms" in outline.text["models-table"]
    told = "Tweedie as published, for ResNet of 18 layers on all daytime bands: slope 0.97, RMSE 0.75"
    assert told in outline.text["models-table"]


def test_a_confidential_survey_shows_no_single_site(real):
    text = html(real)
    survey = pd.read_parquet(real.predictions / "survey.parquet")
    assert "Cells with fewer than 5 sites are left out" in text
    assert not any(name in text for name in survey["id"])
    truth, pred = np.repeat([0.0, 2.0], [6, 4]), np.repeat([0.0, 1.0], [6, 4])
    settings = {
        "slope": 0.5,
        "intercept": 0,
        "reverse_slope": 1,
        "reverse_intercept": 0,
        "unit": "u",
        "alt": "a",
    }

    def cells(least):
        svg = figures.prediction_against_truth(truth, pred, min_count=least, **settings)
        return len(re.findall("<path", svg.split("PolyCollection_1")[1].split("line2d")[0]))

    assert cells(1) == 2
    assert cells(5) == 1


def test_words_from_outside_are_escaped(synthetic):
    assert "<trials>" not in html(synthetic)
    assert "A made-up map &amp; its &lt;trials&gt;" in html(synthetic)


def test_a_large_map_is_shown_smaller_with_the_same_mean(tmp_path):
    places = fabricate.artefacts(tmp_path, predictions=False, model=False, endline=False)
    path = places.maps / "wealth_corrected.tif"
    whole, small = read_map(path), read_map(path, max_px=20)
    assert small.wealth.shape == (20, 20)
    assert small.cell_m == pytest.approx(2 * whole.cell_m)
    assert np.nanmean(small.wealth) == pytest.approx(np.nanmean(whole.wealth), abs=0.05)
    assert set(np.unique(small.support)) <= {0.0, 1.0, 2.0}
    assert read_map(tmp_path / "none.tif") is None


def test_metres_of_a_cell_on_the_ground(tmp_path):
    places = fabricate.artefacts(tmp_path, predictions=False, model=False, endline=False)
    path = places.maps / "wealth_corrected.tif"
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as target:
        # 60 degrees north: a metre of the Mercator map is half a metre on the ground.
        target.transform = rasterio.Affine(960, 0, 0, 0, -960, 8_399_737.9 + 20 * 960)
    assert read_map(path).native_m == pytest.approx(480, rel=0.01)


def test_drawings_are_as_wide_as_a_phone_can_read(page, synthetic):
    boxes = re.findall(r'<svg viewBox="0 0 ([\d.]+) ', html(synthetic))
    assert boxes
    assert {float(box) for box in boxes if box != "10"} == {WIDTH}


def test_the_summary_shows_effects_and_where_the_page_is(synthetic, real):
    def printed(places):
        console = Console(width=200, record=True, quiet=True)
        console.print(summary(places))
        with console.capture() as captured:
            console.quiet = False
            console.print(summary(places))
        return captured.get()

    text = printed(synthetic)
    assert "response *" in text
    assert "0.422 to 0.578" in text
    assert "index.html" in text
    assert "12 contrasts" in printed(real)


def test_few_treated_units_and_the_cards_warnings_are_on_page_and_terminal(tmp_path, capsys):
    few = fabricate.trial().model_copy(update={"n_treated": 3})
    places = fabricate.artefacts(
        tmp_path, trials=[few, *fabricate.three_trials()[1:]], maps=False, model=False
    )
    build_report(places, fabricate.params())
    outline = Outline(html(places))
    assert "with only 3 treated units" in outline.text["verdict"]
    assert "only 3 treated units" in outline.text["effects-forest"]
    assert "Only 3 treated units: the interval is likely too short." in outline.text["effects"]
    warned = "predictions are off in level or scale; recalibrate them."
    assert warned in outline.text["errors"]
    assert "without this rescaling" in outline.text["errors"]
    Console(width=400).print(summary(places))
    printed = capsys.readouterr().out
    assert "only 3 treated units" in printed
    assert warned in printed
    assert "without this rescaling" in printed


def test_no_page_names_a_function_or_a_file_of_code(synthetic, real):
    for places in (synthetic, real):
        # Names of files belong where their checksums are, and parameters where all of them are listed.
        text = re.sub(r"<(style|svg|pre).*?</\1>", "", html(places), flags=re.DOTALL)
        text = re.sub(r"<dl class=.hashes.*?</dl>", "", text, flags=re.DOTALL)
        text = re.sub(r"<[^>]+>", " ", text)
        assert not re.search(
            r"\w+\.py\b|params\.yaml|model\.json|\w+\(\w+=|\bstrata=|method=|resnet_18|knn_nl", text
        )
        assert "Admin-2" not in text


def test_the_summary_without_trials_says_so(tmp_path, capsys):
    """As of your own tiles, where the survey does not tell town from country."""
    places = fabricate.artefacts(tmp_path, "local", trials=[], truth={}, maps=False, predictions=False)
    assert pd.read_csv(places.effects / "effects.csv").empty
    build_report(places, fabricate.params("local"))
    Console(width=200).print(summary(places))
    assert "No effects" in capsys.readouterr().out


def test_the_summary_without_a_report_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make repro"):
        summary(fabricate.artefacts(tmp_path, maps=False, model=False, predictions=False))


def test_the_report_needs_no_torch():
    code = "import sys, sustain.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_was_read_back_and_unfolded_is_on_the_page(synthetic):
    text = html(synthetic)
    assert "Read back through the response curve" in text
    assert "0.51 (0.41 to 0.61)" in text  # the villages' effect if everyone gains alike
    assert "Effects differ between units, as far as their trial can tell, in “A reform randomised" in text
    table = text[text.index('id="distribution-table"') :]
    assert table.index("Share below −0.80") < table.index("Median") < table.index("Mean of the poorest third")
    before, after = 100 * ndtr(-0.8), 100 * ndtr(-0.8 - 0.5)
    assert f"{before:.0f}%" in table
    assert f"−{before - after:.1f} points" in table


def test_the_slope_for_an_effect_is_that_of_the_card(synthetic):
    text = html(synthetic)
    card = fabricate.made_card()
    effect = float(f"{0.5 * card.response_model.scale:.1g}")
    found = card.slope_for(effect, "urban")
    low, high = found.interval()
    assert f"{found.value:.2f} ({low:.2f} to {high:.2f})" in text[text.index('id="slopes-for-effects"') :]
