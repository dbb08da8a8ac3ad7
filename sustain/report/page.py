"""Builds the page of a source: gathers the artefacts, puts them into sections, renders one self-contained HTML file.

The page holds no script and loads nothing: style and figures are inside it. The same artefacts give the same bytes.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from sustain import __version__
from sustain.config import DownloadParams, Params, SurveyPredictionsParams, SyntheticWorldParams
from sustain.files import atomic_path, write_json, write_text
from sustain.maps.correct import CELLS_FILE
from sustain.report import map_figures
from sustain.report.blocks import Section
from sustain.report.countries import country_names
from sustain.report.doubts import Doubt, card_doubts
from sustain.report.findings import Findings, model_label
from sustain.report.gather import gather
from sustain.report.glossary import GLOSSARY
from sustain.report.links import linked
from sustain.report.methods import method_style
from sustain.report.metrics import report_metrics
from sustain.report.rasters import MapView, read_map
from sustain.report.sections import (
    correction_section,
    effects_section,
    errors_section,
    map_section,
    model_section,
    models_section,
    survey_section,
)
from sustain.report.tile_view import read_tile_map
from sustain.report.verdict import Verdict, verdict
from sustain.report.words import number
from sustain.stage import Artefacts
from sustain.trials.family import median_gaps
from sustain.trials.results import effects_table

__all__ = ["Page", "build_report", "compose", "render"]

_LIBRARIES = ("jinja2", "matplotlib", "numpy", "pandas", "pydantic", "rasterio", "scipy")


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    source: str
    synthetic: bool
    unit: str
    verdict: Verdict
    sections: tuple[Section, ...]
    provenance: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    parameters: str
    licence: tuple[tuple[str, str], ...]
    terms: tuple[tuple[str, str], ...]


def build_report(artefacts: Artefacts, params: Params) -> None:
    """Write ``index.html``, ``effects.csv``, ``metrics.json`` and, where there is a map, ``maps.png``.

    Parameters
    ----------
    artefacts : Artefacts
        The source's files. Card and effects are required; every other part is left out of the page where missing.
    params : Params
        The source's parameters.

    Raises
    ------
    FileNotFoundError
        When the calibration card or the effects are missing.
    FileFormatError, CardError, RasterError
        When an artefact is not what its name promises.
    """
    predict = params.predict
    findings = gather(artefacts, predict.model if isinstance(predict, SurveyPredictionsParams) else "cnn")
    raster, tiles = artefacts.maps / "wealth_corrected.tif", artefacts.maps / CELLS_FILE
    view = read_map(raster) if raster.exists() else read_tile_map(tiles)
    endline = read_map(artefacts.maps / "wealth_endline_corrected.tif")
    page = compose(findings, view, endline, params)
    write_text(artefacts.report / "index.html", render(page))
    write_json(artefacts.report / "metrics.json", report_metrics(findings))
    with atomic_path(artefacts.report / "effects.csv") as partial:
        effects_table(findings.trials).to_csv(partial, index=False)
    if view is not None:
        scale = map_figures.shared_scale(view)
        picture = map_figures.maps_picture(
            view, scale, unit=findings.card.target.unit, method=method_style(view.method).name
        )
        with atomic_path(artefacts.report / "maps.png") as partial:
            partial.write_bytes(picture)


def render(page: Page) -> str:
    """Return the page as HTML."""
    environment = Environment(
        loader=PackageLoader("sustain.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["linked"] = linked
    template = environment.get_template("page.html.j2")
    return template.render(page=page, style=method_style, version=__version__)


def compose(findings: Findings, view: MapView | None, endline: MapView | None, params: Params) -> Page:
    """Put findings and maps into the parts of a page; a part without its artefact is left out."""
    card, survey = findings.card, findings.survey
    unit = card.target.unit
    synthetic = isinstance(params.acquire, SyntheticWorldParams)
    truth_name = "truth" if synthetic else "survey"
    accuracy = survey.accuracy if survey is not None else ()
    doubts = card_doubts(card, findings.trials, "" if view is None else view.method)
    stability = findings.published.stability
    return Page(
        title=params.report.title if params.report else f"Wealth map and effects: {findings.source}",
        source=findings.source,
        synthetic=synthetic,
        unit=unit,
        verdict=verdict(
            findings.trials,
            accuracy,
            card.slope,
            card.prediction_on_truth.interval(),
            unit=unit,
            truth_name=truth_name,
            held_out="in places that training never saw" if synthetic else "that the calibration never saw",
            gaps=None if stability is None else median_gaps(stability),
            doubts=doubts,
        ),
        sections=_sections(findings, view, endline, doubts, unit, truth_name, confidential=not synthetic),
        provenance=_provenance(findings, view, params),
        files=findings.files,
        parameters=yaml.safe_dump(params.model_dump(mode="json", exclude_none=True), sort_keys=True),
        licence=_licence(findings, params),
        terms=tuple(GLOSSARY.items()),
    )


def _sections(
    findings: Findings,
    view: MapView | None,
    endline: MapView | None,
    doubts: tuple[Doubt, ...],
    unit: str,
    truth_name: str,
    *,
    confidential: bool,
) -> tuple[Section, ...]:
    card, survey, published = findings.card, findings.survey, findings.published
    sections: list[Section | None] = []
    if findings.trials:
        sections.append(effects_section(findings.trials, published, unit=unit, truth_name=truth_name))
    if view is not None:
        sections.append(map_section(view, endline, unit=unit))
    sections.append(survey_section(published, findings.mapped, unit=unit))
    sections.append(
        errors_section(survey, card, findings.diagnosis, doubts, unit=unit, confidential=confidential)
    )
    if findings.curves is not None:
        test = survey.test if survey is not None else None
        sections.append(correction_section(findings.curves, card, view, test, unit=unit))
    sections.append(models_section(published, findings.mapped, unit=unit))
    if findings.training is not None or findings.model is not None:
        sections.append(model_section(findings.training, findings.model))
    return tuple(section for section in sections if section is not None)


def _provenance(findings: Findings, view: MapView | None, params: Params) -> tuple[tuple[str, str], ...]:
    card = findings.card
    rows = [
        ("Source", findings.source),
        ("Seed", str(params.seed)),
        ("Model", f"{model_label(findings.mapped)}; in the card: {card.predictor.id}"),
        ("Calibration card, checksum", card.sha256),
    ]
    if view is not None:
        rows.append(("Map", f"{view.shape[1]} x {view.shape[0]} cells of {number(view.native_m, 0)} m"))
        used = view.tags.get("SUSTAIN_CARD_SHA256", "")
        rows.append(("Card of the map", "the same" if used == card.sha256 else used or "not recorded"))
    if card.sample.countries:
        surveys = isinstance(params.acquire, DownloadParams) and "dhs" in params.acquire.manifests
        names = country_names(card.sample.countries, dhs=surveys)
        rows.append(("Countries of the calibration", ", ".join(names)))
    if card.sample.years:
        years = card.sample.years
        rows.append(
            ("Years of the calibration", str(years[0]) if len(years) == 1 else f"{years[0]} to {years[-1]}")
        )
    software = f"sustain {__version__}, Python {platform.python_version()}, "
    rows.append(("Software", software + ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)))
    trained = (findings.model or {}).get("versions")
    if isinstance(trained, dict):
        rows.append(("Trained with", ", ".join(f"{name} {trained[name]}" for name in sorted(trained))))
    return tuple(rows)


def _licence(findings: Findings, params: Params) -> tuple[tuple[str, str], ...]:
    publish, card = params.publish, findings.card
    rows = [("Licence of the card", card.licence), ("Cite for the card", card.citation)]
    if publish is not None:
        rows = [
            ("Licence of the map", publish.licence),
            ("Imagery", publish.imagery_licence),
            ("Survey labels", publish.labels_licence),
            ("Cite", publish.citation),
            *rows,
        ]
    return tuple((term, text.strip()) for term, text in rows if text.strip())
