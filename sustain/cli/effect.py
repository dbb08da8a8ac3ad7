"""``sustain effect``: a treatment effect from a trial table, a corrected map and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sustain.errors import CardError, EffectError


def effect(
    trial: Annotated[
        Path,
        typer.Argument(help="Units, CSV or Parquet: lon, lat (or the key of polygons) and the treatment."),
    ],
    map_: Annotated[Path, typer.Option("--map", help="Corrected raster.")],
    card: Annotated[Path, typer.Option(help="The map's calibration card.")],
    treatment: Annotated[
        str, typer.Option(help="Column that is 1 for treated units, 0 for others.")
    ] = "treated",
    method: Annotated[str, typer.Option(help="none, linear, tweedie, bridge or level.")] = "linear",
    card_level: Annotated[
        str | None, typer.Option(help="With --method level: which of the card's levels.")
    ] = None,
    assumption: Annotated[
        Literal["measurement", "outcome", "bracket"] | None,
        typer.Option(help="measurement: correct; outcome: do not; bracket: report both."),
    ] = None,
    estimator: Annotated[
        Literal["difference", "ols", "ipw", "aipw"], typer.Option(help="Design.")
    ] = "difference",
    covariate: Annotated[
        list[str] | None, typer.Option(help="Column to adjust for; may be repeated.")
    ] = None,
    strata: Annotated[str | None, typer.Option(help="Column of strata that the card corrects apart.")] = None,
    vcov: Annotated[
        str, typer.Option(help="HC1; CRV1:COLUMN or CR2:COLUMN for clusters; conley:KM, on lon and lat.")
    ] = "HC1",
    buffer_m: Annotated[
        str | None, typer.Option(help="Mean over circles of this radius in metres, or that of a column.")
    ] = None,
    displaced: Annotated[
        str | None,
        typer.Option(help="Displaced survey coordinates: column, 1 urban (circles of 2 km), 0 rural (5 km)."),
    ] = None,
    polygons: Annotated[
        Path | None, typer.Option(help="Areas of the units: any vector file, with --key.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Column that trial and polygons share.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Raster of people, for circles and polygons.")] = None,
    new_country: Annotated[
        bool,
        typer.Option("--new-country", help="Widen the interval by how much slopes differ between countries."),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the result as JSON.")] = None,
) -> None:
    """Estimate an effect on the mapped outcome, with the calibration's uncertainty in the interval."""
    import geopandas as gpd

    from sustain.causal import estimate_effect, transport_checks
    from sustain.cli.tables import read_table
    from sustain.debias import CalibrationCard
    from sustain.files import write_json
    from sustain.maps.trial_units import read_map_at_units

    loaded = CalibrationCard.load(card)
    data = read_table(trial, [*([key] if key and polygons else ["lon", "lat"]), treatment])
    reading = read_map_at_units(
        map_,
        data,
        buffer_m=_number(buffer_m),
        displaced=displaced,
        polygons=None if polygons is None else gpd.read_file(polygons),
        key=key,
        weights=weights,
    )
    stamped = reading.table.attrs.get("card_sha256")
    if stamped and stamped != loaded.sha256:
        raise CardError(
            f"{card}: its hash is {loaded.sha256[:12]}..., but {map_} was corrected with card {stamped[:12]}.... "
            "Use the card that was published with this map."
        )
    result = estimate_effect(
        reading.table,
        outcome="wealth_raw",
        treatment=treatment,
        covariates=covariate or (),
        estimator=estimator,
        calibration=loaded,
        method=method,
        assumption=assumption,
        card_level=card_level,
        strata=strata,
        transport="groups" if new_country else None,
        vcov=_vcov(vcov),
    )
    caveats = reading.caveats(method)
    checks = transport_checks(reading.table["wealth_raw"], loaded, treated=reading.table[treatment])
    typer.echo(result.summary())
    typer.echo("\n" + "\n".join(f"map: {text}" for text in caveats))
    typer.echo("\n" + checks.summary())
    if out is not None:
        seen = {"auc": checks.auc, "shift": checks.shift, "share_outside": checks.share_outside}
        write_json(out, result.to_dict() | {"map": caveats, "transport": seen})


def _number(text: str | None) -> float | str | None:
    """Take a radius as a number where it is one, else as the name of a column."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _vcov(text: str) -> Any:
    kind, _, rest = text.partition(":")
    if kind != "conley":
        return {kind: rest} if rest else kind
    try:
        return {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": float(rest)}}
    except ValueError as error:
        raise EffectError(
            f"--vcov: got {text!r}, expected conley:KM, such as conley:100 for a cutoff of 100 km."
        ) from error
