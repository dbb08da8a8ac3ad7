"""``sustain distribution``: what a treatment does to headcounts and quantiles, from a trial table and a card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sustain.cli.effect_options import PANELS

_DESIGN, _, _ERRORS, _READING, _OUTPUT = PANELS
_MEASURES = "What is measured"


def distribution(
    trial: Annotated[
        Path,
        typer.Argument(
            help="Units (CSV, Parquet, Stata, SPSS, Excel): lon, lat (or the key of polygons) and the treatment."
        ),
    ],
    card: Annotated[Path, typer.Option(help="The map's calibration card; it must hold a response.")],
    line: Annotated[
        list[float] | None,
        typer.Option(help="Poverty line, in the unit of the truth; repeat.", rich_help_panel=_MEASURES),
    ] = None,
    quantile: Annotated[
        list[float] | None,
        typer.Option(
            help="Between 0 and 1; repeat. 0.1, 0.25, 0.5, 0.75 and 0.9 by default.",
            rich_help_panel=_MEASURES,
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="headcount, shortfall, quantile or gain; repeat. All by default, those of lines where there are.",
            rich_help_panel=_MEASURES,
        ),
    ] = None,
    formula: Annotated[
        str | None,
        typer.Option(
            help="Instead of columns by name: 'wealth_raw ~ treated + x | adm2', fixed effects after the bar.",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            help="Column of raw predictions; with --map wealth_raw, the map's band.",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    treatment: Annotated[
        str | None,
        typer.Option(
            help="Column that is 1 for treated units, 0 for others; treated by default.",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    estimator: Annotated[
        Literal["difference", "ols", "ipw", "aipw"] | None,
        typer.Option(help="Design; difference by default, with a formula ols.", rich_help_panel=_DESIGN),
    ] = None,
    covariates: Annotated[
        list[str] | None,
        typer.Option(
            "--covariate", help="Column held equal between the arms; repeat.", rich_help_panel=_DESIGN
        ),
    ] = None,
    fixed_effects: Annotated[
        list[str] | None,
        typer.Option(
            help="Column whose levels are absorbed, a^b for combinations; repeat.", rich_help_panel=_DESIGN
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Column of sampling weights.", rich_help_panel=_DESIGN)
    ] = None,
    strata: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of populations that the card knows apart; repeat.", rich_help_panel=_DESIGN
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of folds, and of a block bootstrap.", rich_help_panel=_DESIGN)
    ] = 0,
    vcov: Annotated[str | None, typer.Option(help="As for sustain effect.", rich_help_panel=_ERRORS)] = None,
    level: Annotated[float, typer.Option(help="Confidence level.", rich_help_panel=_ERRORS)] = 0.95,
    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Corrected raster. Without one the table has the outcome.",
            rich_help_panel=_READING,
        ),
    ] = None,
    band: Annotated[
        str | None,
        typer.Option(
            help="Name or number of the band of raw predictions; wealth_raw by default, else the only band.",
            rich_help_panel=_READING,
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            help="Sheet of an Excel workbook, where several hold anything.", rich_help_panel=_READING
        ),
    ] = None,
    lon: Annotated[
        str | None, typer.Option(help="Column of longitudes; lon by default.", rich_help_panel=_READING)
    ] = None,
    lat: Annotated[
        str | None, typer.Option(help="Column of latitudes; lat by default.", rich_help_panel=_READING)
    ] = None,
    buffer_m: Annotated[
        str | None,
        typer.Option(
            help="Mean over circles of this radius in metres, or that of a column.", rich_help_panel=_READING
        ),
    ] = None,
    displaced: Annotated[
        str | None,
        typer.Option(
            help="Displaced survey coordinates: column, 1 or U urban (circles of 2 km), 0 or R rural (5 km).",
            rich_help_panel=_READING,
        ),
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(help="Areas of the units: any vector file, with --key.", rich_help_panel=_READING),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Column that trial and polygons share.", rich_help_panel=_READING)
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer of --polygons, where the file has several.", rich_help_panel=_READING),
    ] = None,
    cell_weights: Annotated[
        Path | None,
        typer.Option(help="Raster of people, for circles and polygons.", rich_help_panel=_READING),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to write: both distributions.", rich_help_panel=_OUTPUT)
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Every caveat in full.", rich_help_panel=_OUTPUT)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Also write the result: .json all of it, .tex .md .html a table for readers, .csv .xlsx its numbers.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
) -> None:
    """Estimate effects on headcounts, quantiles and thirds of the mapped outcome, by two unfolded distributions."""
    from sustain.causal import estimate_distribution
    from sustain.cli import effect_options as options
    from sustain.cli.notices import unless_said
    from sustain.cli.output import require_result, write_result
    from sustain.cli.picture import save_picture
    from sustain.cli.trial_table import read_trial
    from sustain.debias import CalibrationCard

    require_result(out)
    loaded = CalibrationCard.load(card)
    read = read_trial(
        trial,
        [] if map_ is None else [str(map_)],
        None,
        loaded,
        "linear",
        buffer_m=options.read_number(buffer_m),
        displaced=displaced,
        polygons=polygons,
        layer=layer,
        key=key,
        weights=cell_weights,
        band=band,
        lon=lon,
        lat=lat,
        named=bool(formula or outcome),
        sheet=sheet,
    )
    asked: dict[str, Any] = {} if not quantile else {"quantiles": quantile}
    with unless_said() as said:
        result = estimate_distribution(
            read.table,
            formula,
            outcome=outcome if formula or outcome else read.outcome,
            treatment=treatment if formula or treatment else "treated",
            calibration=loaded,
            lines=line or (),
            measures=measure or None,  # type: ignore[arg-type]  # checked there
            covariates=covariates or (),
            fixed_effects=fixed_effects or (),
            estimator=estimator,
            weights=weights,
            strata=strata or None,
            vcov=options.read_vcov(vcov, lat, lon),
            level=level,
            seed=seed,
            **asked,
        )
        notes = [("map", text) for text in read.caveats]
        typer.echo(result.summary(details, notes))
        said.update(map(str, result.notes))
    if plot is not None:
        save_picture(result.plot, plot, (6, 3.5))
    if out is not None:
        write_result(out, result.to_dict() | {"map": read.caveats}, result.tidy(), result.table())
