"""``sustain publish``: a corrected map as a folder for others."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sustain.config import PublishParams

_DAY = ["%Y-%m-%d"]


def publish(
    corrected: Annotated[
        Path, typer.Argument(metavar="MAP", help="Corrected raster, of sustain debias correct.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write; an older publication there is replaced.")],
    card: Annotated[Path, typer.Option(help="Calibration card that corrected the map.")],
    title: Annotated[str, typer.Option(help="What the map is called. Needed.")] = "",
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="Of the map, such as CC-BY-4.0. Needed.")
    ] = "",
    start: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First day of the imagery. Needed.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last day of the imagery. Needed.")
    ] = None,
    description: Annotated[str, typer.Option(help="A sentence or two, at the head of the map card.")] = "",
    provider: Annotated[list[str] | None, typer.Option(help="Who made the map; may be repeated.")] = None,
    provider_url: Annotated[
        list[str] | None, typer.Option(help="Address of each provider, in the same order; '' for none.")
    ] = None,
    citation: Annotated[str, typer.Option(help="How to cite the map.")] = "",
    doi: Annotated[str, typer.Option(help="Such as 10.5281/zenodo.123.")] = "",
    keyword: Annotated[
        list[str] | None,
        typer.Option("--keyword", "--keywords", help="Separate several by commas, or repeat it."),
    ] = None,
    version: Annotated[str, typer.Option(help="Of the publication, such as 1.0.")] = "",
    created: Annotated[
        datetime | None,
        typer.Option(
            formats=_DAY, help="Day of the publication; by default SOURCE_DATE_EPOCH's, else not said."
        ),
    ] = None,
    imagery_licence: Annotated[str, typer.Option(help="Licence of the imagery.")] = "",
    labels_licence: Annotated[str, typer.Option(help="Terms of the survey labels, which stay here.")] = "",
    model: Annotated[
        Path | None, typer.Option(help="Folder of the model, whose description goes along.")
    ] = None,
    areas: Annotated[
        Path | None, typer.Option(help="Vector file of areas, whose means go along (with --areas-key).")
    ] = None,
    areas_key: Annotated[str | None, typer.Option(help="Column of the areas' names.")] = None,
    areas_layer: Annotated[
        str | None, typer.Option(help="Layer of --areas; needed where the file has several.")
    ] = None,
    people: Annotated[
        Path | None, typer.Option(help="Raster of people per cell, to weigh the cells of areas by.")
    ] = None,
    people_per_km2: Annotated[
        bool, typer.Option(help="--people holds people per square kilometre rather than counts.")
    ] = False,
) -> None:
    """Write the folder that others download: raster, cells, card, STAC items, styles, a page on how to use it.

    What the folder says comes from the map, its card and these options. Nothing is made up: what is needed and missing
    is asked for, and the rest is left out.
    """
    from sustain.debias import CalibrationCard
    from sustain.errors import ConfigError
    from sustain.maps.publish import publish_map
    from sustain.maps.publish.facts import require_facts

    if (areas is None) != (areas_key is None):
        raise ConfigError("--areas and --areas-key go together: a vector file, and its column of names.")
    if areas is None and (people is not None or areas_layer is not None):
        raise ConfigError("--people and --areas-layer are about areas. Give --areas and --areas-key too.")
    if people_per_km2 and people is None:
        raise ConfigError("--people-per-km2 says what --people holds. Give that raster too.")
    params = _params(
        title=title,
        licence=licence,
        description=description,
        providers=_providers(provider or [], provider_url or []),
        citation=citation,
        doi=doi.removeprefix("https://doi.org/").removeprefix("doi:"),
        keywords=[word.strip() for text in keyword or [] for word in text.split(",") if word.strip()],
        version=version,
        created=created and created.date(),
        imagery_licence=imagery_licence,
        labels_licence=labels_licence,
        areas=None if areas is None else str(areas),
        areas_key=areas_key,
        areas_layer=areas_layer,
        people=None if people is None else str(people),
        people_per_km2=people_per_km2,
    )
    # The period apart, for its two ends are asked for one by one.
    period = {"start": start and start.date(), "end": end and end.date()}
    given = params.model_copy(update=period)
    require_facts(given, CalibrationCard.load(card), spelling=_option)
    model_json = None if model is None else model / "model.json"
    publish_map(corrected, card, out, _params(**given.model_dump()), model_json=model_json)
    typer.echo(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def _option(name: str) -> str:
    """How the shell writes the name of a parameter."""
    return f"--{name.replace('_', '-')}"


def _params(**given: object) -> PublishParams:
    from pydantic import ValidationError

    from sustain.config import PublishParams
    from sustain.errors import ConfigError

    try:
        return PublishParams.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        text = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            text = f"{_option(str(first['loc'][0]))}: {text}; got {first['input']!r}"
        raise ConfigError(f"{text}.") from error


def _providers(names: list[str], urls: list[str]) -> list[dict[str, str]]:
    from sustain.errors import ConfigError

    if urls and len(urls) != len(names):
        raise ConfigError(
            f"--provider-url: {len(urls)} for {len(names)} of --provider. Give one for each, in the same order; '' for "
            "one without."
        )
    return [{"name": name, "url": url} for name, url in zip(names, urls or [""] * len(names), strict=True)]
