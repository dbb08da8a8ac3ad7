"""``sustain effect``: a treatment effect from a trial table, a corrected map and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def effect(
    trial: Annotated[Path, typer.Argument(help="Units, CSV or Parquet, with lon, lat and the treatment.")],
    map_: Annotated[Path, typer.Option("--map", help="Corrected raster.")],
    card: Annotated[Path, typer.Option(help="The map's calibration card.")],
    treatment: Annotated[
        str, typer.Option(help="Column that is 1 for treated units, 0 for others.")
    ] = "treated",
    method: Annotated[str, typer.Option(help="none, linear, tweedie or bridge.")] = "linear",
    assumption: Annotated[
        Literal["measurement", "outcome", "bracket"] | None,
        typer.Option(help="measurement: correct; outcome: do not; bracket: report both."),
    ] = None,
    vcov: Annotated[str, typer.Option(help="HC1, or CRV1:COLUMN for clusters.")] = "HC1",
) -> None:
    """Estimate a difference in means with the calibration's uncertainty in the interval."""
    from sustain.causal import estimate_effect
    from sustain.cli.tables import read_table
    from sustain.debias import CalibrationCard
    from sustain.maps.zonal import sample_points

    data = read_table(trial, ["lon", "lat", treatment])
    data = data.join(sample_points(map_, data["lon"], data["lat"]))
    kind, _, column = vcov.partition(":")
    covariance: Any = {kind: column} if column else kind
    result = estimate_effect(
        data,
        outcome="wealth_raw",
        treatment=treatment,
        calibration=CalibrationCard.load(card),
        method=method,
        assumption=assumption,
        vcov=covariance,
    )
    typer.echo(result.summary())
