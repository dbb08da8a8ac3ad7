"""The page that goes with a published map: what it is, how it was made, what it is for and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import rasterio

import sustain
from sustain.config import PublishParams
from sustain.debias import CalibrationCard
from sustain.maps.geotiff import SUPPORT, WEALTH, WEALTH_RAW, WEALTH_SE
from sustain.maps.publish.facts import created, period_text
from sustain.maps.publish.ground import size_text
from sustain.maps.publish.stac import BAND_TEXTS
from sustain.maps.read.areas import COLUMNS
from sustain.maps.read.cells import MapSummary

__all__ = [
    "FILES",
    "LIMITS",
    "code_table",
    "licences",
    "lineage",
    "map_card",
    "markdown_table",
    "publication",
]

FILES = {
    "wealth.tif": "Cloud Optimised GeoTIFF, the four bands below. Overviews are averages, for display: read "
    "`wealth_se` and `support` at full resolution.",
    "wealth.qml": "QGIS style of the band `wealth`; QGIS takes it by itself when it opens `wealth.tif`.",
    "wealth_se.qml": "QGIS style of the band `wealth_se` (Layer Properties, Style, Load Style).",
    "support.qml": "QGIS style of the band `support`.",
    "legend.json": "The colours of each band and the values that they stand for.",
    "thumbnail.png": "The map at a glance, with its legend.",
    "cells.parquet": "GeoParquet: one row a cell with imagery (`lon`, `lat`, the four bands, a point geometry).",
    "cells.csv": "The same rows as CSV.",
    "areas.csv": "Mean wealth of areas with 95% intervals, as below.",
    "card.json": "Calibration card: how predictions relate to surveyed wealth, and the corrections with their "
    "uncertainty.",
    "model.json": "What the model was trained on: bands, units, tile size, statistics.",
    "item.json": "STAC item of the map, with checksums of the files.",
    "model_item.json": "STAC item of the model, by the MLM extension: what goes in and what comes out.",
    "collection.json": "STAC collection that the item belongs to: what maps of other periods share with it.",
}

_USE = """\
QGIS opens `wealth.tif` with the colours of `wealth.qml`: band 1, `wealth`. For another question load `wealth_se.qml`
or `support.qml`, or choose the band by its name. ArcGIS opens the raster too; the colours are in `legend.json`.
`cells.csv` opens in a spreadsheet. Where the package is installed, `sustain serve .` shows the map in a browser.

Python, with the effect of a programme on places of your own. It reads the band `wealth_raw`, because the card corrects
the effect, not the cells. `assumption="measurement"` says that the map shrinks the programme's effect as it shrinks
differences between the places of the calibration sample; `"outcome"` says that it shows the effect in full, and
`"bracket"` reports both:

```python
import pandas as pd
from sustain.causal import estimate_effect
from sustain.maps.read import sample_points

trial = pd.read_csv("trial.csv")                         # lon, lat, treated
raw = sample_points("wealth.tif", trial["lon"], trial["lat"])["wealth_raw"]
effect = estimate_effect(trial.assign(wealth_raw=raw), outcome="wealth_raw", treatment="treated",
                         calibration="card.json", assumption="measurement")
print(effect.summary())
```

R, with the values at places and the means of areas, which are those of `wealth_raw` too (see the table above):

```r
library(terra)
map <- rast("wealth.tif")                   # wealth, wealth_raw, wealth_se, support
places <- read.csv("places.csv")            # lon and lat in degrees, and what you know of each place
points <- project(vect(places, geom = c("lon", "lat"), crs = "EPSG:4326"), crs(map))
places <- cbind(places, extract(map, points, ID = FALSE))
sum(is.na(places$wealth_raw))               # places without imagery
areas <- project(vect("areas.gpkg"), crs(map))
means <- extract(map[["wealth_raw"]], areas, fun = mean, exact = TRUE, na.rm = TRUE)
```
"""

_WHICH = """\
| you want | take |
| --- | --- |
| how wealthy a district is | the mean of `wealth_raw` where the model learned from surveys like those you would \
compare with; where its level may be off, the wealth to expect: {expect}. The latter alone has an interval made for \
this question: `expected` in `areas.csv` (if it is here), in the table of `sustain areas`, and on the page of \
`sustain serve` where you draw the area. Means of `wealth` spread districts too widely, because part of the errors of \
places averages out |
| the effect of a programme, a difference between groups of places | `wealth_raw` together with `card.json`, as below |
| the best guess for one single place | `wealth_raw`: the correction restores differences between groups, and enlarges \
the noise of one place |
| how far one cell of `wealth` may be off | `wealth_se`: in 95 of 100 cells the truth should lie within twice that |
| what not to trust | cells where `support` is 1: no surveyed place had such a prediction |
"""

_AREAS = """\
`areas.csv` has one row for each `{key}`, cells weighed by {weights}. `expected` and `wealth_raw` say how wealthy an
area is, the first with an interval; `wealth` is for differences. {errors} Two areas share the calibration's error: do
not judge their difference by whether their intervals overlap."""
_ERRORS = {
    True: "The intervals hold the error of the calibration and those of the cells. Neighbouring cells share part of\n"
    "their errors; how much was measured in the calibration sample.",
    False: "The intervals hold the error of the calibration and those of the cells. The card does not say how much\n"
    "of their errors neighbours share, so all cells of an area are taken to share all of it: the widest intervals.",
}
_COUNTRIES = (
    " They\nalso hold how far whole countries err, which all areas of one country share (`expected_country_se`): it "
    "cancels in\ntheir difference."
)

LIMITS = """\
- **Not for households or persons.** A cell is a mean over its surroundings, with the standard error in `wealth_se`.
- **Not for ranking or targeting single cells by `wealth`.** The correction restores the spread between groups, and
  magnifies the noise of single cells with it; to guess the wealth of one place, `wealth_raw` is the better guess.
- **Not for contrasts that the image shows apart from wealth** (town against country, irrigated against dry land): the
  correction cannot tell wealth from what changes the picture by itself. Use it where the predictions relate to wealth
  as they do in the calibration sample.
- **Not outside the calibration sample's range, countries and years** without saying so: `support` is 1 where the
  correction is an extrapolation.
- **Cells are not independent.** Tiles overlap and errors are shared; cluster standard errors in space.
"""


def map_card(
    raster: rasterio.io.DatasetReader,
    card: CalibrationCard,
    summary: MapSummary,
    period: tuple[date, date],
    params: PublishParams,
    files: Sequence[str],
) -> str:
    """Write the page.

    Parameters
    ----------
    raster : rasterio.io.DatasetReader
        The published map, open.
    card, summary, period, params
        As for `sustain.maps.publish.stac.make_item`.
    files : list of str
        Names of the files in the folder.

    Returns
    -------
    str
        Markdown.
    """
    tags = raster.tags()
    sections = [
        f"# {params.title}",
        params.description,
        f"![{params.title}, with its legend](thumbnail.png)" if "thumbnail.png" in files else "",
        "## What it is",
        _facts(raster, card, summary, period, params),
        "## Which number to take",
        _WHICH.format(expect=_line(card)).rstrip(),
        "## Files",
        code_table("file", {name: text for name, text in FILES.items() if name in files}),
        *(_areas(params, card) if "areas.csv" in files else ()),
        "## Bands",
        markdown_table(
            ("band", "unit", "content"),
            [
                (f"`{name}`", unit, BAND_TEXTS[name])
                for name, unit in zip(raster.descriptions, raster.units, strict=True)
            ],
        ),
        "## How it was made",
        lineage(card, tags),
        "## What it is for",
        f"Differences between groups of places, and effects of programmes on {card.target.name}, with intervals that "
        "include the uncertainty of the correction: estimate from `wealth_raw` and hand `card.json` over, as below.",
        "## How to read it",
        _USE.rstrip(),
        "## What it is not for",
        LIMITS.rstrip(),
        "## Licences and citation",
        licences(card, params),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(
    raster: rasterio.io.DatasetReader,
    card: CalibrationCard,
    summary: MapSummary,
    period: tuple[date, date],
    params: PublishParams,
) -> str:
    wealth, raw, error = (summary.bands[name] for name in (WEALTH, WEALTH_RAW, WEALTH_SE))
    rows = [
        ("quantity", _quantity(card)),
        ("period of the imagery", period_text(period)),
        ("coordinate system", ":".join(raster.crs.to_authority() or ["see item.json"])),
        ("cells", f"{raster.height} rows x {raster.width} columns, each {size_text(raster)}"),
        ("cells with imagery", f"{summary.n_values} of {summary.n_cells}"),
        (f"outside the calibration range (`{SUPPORT}` = 1)", f"{summary.n_outside}"),
    ]
    if summary.n_values:
        rows += [
            (f"`{WEALTH}`, mean (sd)", f"{wealth.mean:.3g} ({wealth.std:.3g})"),
            (f"`{WEALTH_RAW}`, mean (sd)", f"{raw.mean:.3g} ({raw.std:.3g})"),
            (
                "a single cell is known to",
                f"± {1.96 * error.mean:.2g} on average (95%), where cells differ with an sd of {wealth.std:.2g}",
            ),
        ]
    return markdown_table(("", ""), [*rows, *publication(params)])


def publication(params: PublishParams) -> list[tuple[str, str]]:
    """Rows on who published the map and when, as far as they said."""
    day = created(params)
    rows = [
        ("version", params.version),
        ("published", "" if day is None else day.date().isoformat()),
        ("keywords", ", ".join(params.keywords)),
    ]
    by_role: dict[str, list[str]] = {}
    for provider in params.providers:
        name = f"[{provider.name}]({provider.url})" if provider.url else provider.name
        by_role.setdefault(", ".join(provider.roles), []).append(name)
    rows += [(roles, ", ".join(names)) for roles, names in by_role.items()]
    return [(what, text) for what, text in rows if text]


def _quantity(card: CalibrationCard) -> str:
    text = f"{card.target.name}, in {card.target.unit}"
    # An index is the commonest target, and the commonest mistake is to read it as money.
    note = ". An index, not money: it compares places of this map, not maps of different indices"
    return text + (note if "index" in text else "")


def _line(card: CalibrationCard) -> str:
    line = card.truth_on_prediction
    return f"{line.intercept:.3g} + {line.slope:.3g} times that mean"


def _areas(params: PublishParams, card: CalibrationCard) -> tuple[str, str, str]:
    weights, spatial = "the people in them" if params.people else "their area", card.spatial_errors
    errors = _ERRORS[spatial is not None]
    if spatial is not None and spatial.truth_given_prediction.countries is not None:
        errors += _COUNTRIES
    text = _AREAS.format(key=params.areas_key, weights=weights, errors=errors)
    return "## Areas", text, code_table("column", COLUMNS)


def _spans(years: Sequence[int]) -> list[str]:
    """Years in words, those that follow one another as a span."""
    spans: list[list[int]] = []
    for year in years:
        if spans and year == spans[-1][-1] + 1:
            spans[-1].append(year)
        else:
            spans.append([year])
    return [str(span[0]) if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans]


def lineage(card: CalibrationCard, tags: dict[str, str]) -> str:
    """Say in numbered steps how a map was made; `tags` are those of the corrected map."""
    sample = card.sample
    where = "".join(
        f", {name} {', '.join(values)}"
        for name, values in (
            ("countries", [country.replace("_", " ") for country in sample.countries]),
            ("years", _spans(sample.years)),
        )
        if values
    )
    tiles = ""
    if "SUSTAIN_TILE_PX" in tags:
        tiles = (
            f" Each cell is the prediction for the {tags['SUSTAIN_TILE_PX']} x {tags['SUSTAIN_TILE_PX']} pixels of "
            f"imagery around its centre; centres are {tags.get('SUSTAIN_SPACING_PX', '?')} pixels apart."
        )
    slope_se = float(card.slope_cov[1, 1]) ** 0.5
    low, high = card.support
    return (
        f"1. The model `{card.predictor.id}` predicted {card.target.name} from satellite imagery.{tiles}\n"
        f"2. At {sample.n} survey sites that the model was not trained on{where}, its predictions were compared with "
        f"the survey: r2 {card.r2:.3g}; a difference of 1 in truth appears as {card.slope:.3g} "
        f"(standard error {slope_se:.2g}) in the prediction. Predictions ranged from {low:.3g} to {high:.3g}.\n"
        f"3. The band `wealth` corrects that with method `{tags.get('SUSTAIN_METHOD', '?')}` of the calibration card "
        f"`{card.sha256[:12]}`.\n"
        f"4. sustain {sustain.__version__} wrote the files."
    )


def licences(card: CalibrationCard, params: PublishParams) -> str:
    """Tabulate the licences of map, card, imagery and labels, and say what to cite."""
    rows = [
        ("this map", params.licence),
        ("calibration card", card.licence or "not stated"),
        ("imagery", params.imagery_licence or "not stated"),
        ("survey labels (not in this folder)", params.labels_licence or "not stated"),
    ]
    text = markdown_table(("", "licence"), rows)
    map_cited = " ".join(filter(None, [params.citation, params.doi and f"https://doi.org/{params.doi}"]))
    cited = (("Cite as", map_cited), ("Cite the calibration card as", card.citation))
    return "\n\n".join([text, *(f"{what}: {source}" for what, source in cited if source)])


def code_table(what: str, texts: Mapping[str, str]) -> str:
    """Tabulate names of files or columns, and what they hold."""
    return markdown_table((what, "content"), [(f"`{name}`", text) for name, text in texts.items()])


def markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a table in Markdown; a bar or a new line in a cell does not end it."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in (head, *rows)]
    cells.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
