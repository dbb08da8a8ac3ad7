"""``sustain effect``: a treatment effect from a trial table, a corrected map and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sustain.cli.effect_options import PANELS

_DESIGN, _CORRECTION, _ERRORS, _READING, _OUTPUT = PANELS


def effect(
    trial: Annotated[
        Path,
        typer.Argument(
            help="Units (CSV, Parquet, Stata, SPSS, Excel): lon, lat (or the key of polygons) and the treatment."
        ),
    ],
    formula: Annotated[
        str | None,
        typer.Option(
            help="Instead of columns by name: 'wealth_raw ~ treated + x | adm2 + year', fixed effects after the bar; "
            "'wealth_raw ~ x | treated ~ offer' for instruments.",
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
        Literal["difference", "ols", "ipw", "aipw", "did", "iv"] | None,
        typer.Option(
            help="Design; difference by default, with a formula ols or iv.", rich_help_panel=_DESIGN
        ),
    ] = None,
    covariates: Annotated[
        list[str] | None,
        typer.Option(
            "--covariates",
            "--covariate",
            help="Column to adjust for; may be repeated.",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    fixed_effects: Annotated[
        list[str] | None,
        typer.Option(
            help="Column whose levels are absorbed, a^b for combinations; may be repeated.",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    instrument: Annotated[
        list[str] | None,
        typer.Option(help="With --estimator iv: instrument; may be repeated.", rich_help_panel=_DESIGN),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="With --estimator did: column of units.", rich_help_panel=_DESIGN)
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="With --estimator did: column of periods.", rich_help_panel=_DESIGN)
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Column of sampling weights.", rich_help_panel=_DESIGN)
    ] = None,
    n_folds: Annotated[
        int | None,
        typer.Option(
            help="With --estimator aipw: folds of cross-fitting; 5 by default, with few clusters 20.",
            rich_help_panel=_DESIGN,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of folds, and of a block bootstrap.", rich_help_panel=_DESIGN)
    ] = 0,
    card: Annotated[
        Path | None, typer.Option(help="The map's calibration card.", rich_help_panel=_CORRECTION)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="none, response, linear, tweedie or level; response by default where the card holds it, none for a "
            "change over time.",
            rich_help_panel=_CORRECTION,
        ),
    ] = None,
    card_level: Annotated[
        str | None,
        typer.Option(help="With --method level: which of the card's levels.", rich_help_panel=_CORRECTION),
    ] = None,
    strata: Annotated[
        str | None,
        typer.Option(help="Column of strata that the card corrects apart.", rich_help_panel=_CORRECTION),
    ] = None,
    assumption: Annotated[
        Literal["measurement", "outcome", "bracket"] | None,
        typer.Option(
            help="measurement: correct; outcome: do not, all there is for a change over time; bracket: report both.",
            rich_help_panel=_CORRECTION,
        ),
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option(
            help="For a country that the card has not seen: widen the interval by how much what the method recovers "
            "differs between groups, slopes between strata, or by a standard deviation of the slope.",
            rich_help_panel=_CORRECTION,
        ),
    ] = None,
    overlap: Annotated[
        str | None,
        typer.Option(
            help="COLUMN:TABLE, where trial units are calibration rows as well: the column that knows them, the rows.",
            rich_help_panel=_CORRECTION,
        ),
    ] = None,
    vcov: Annotated[
        str | None,
        typer.Option(
            help="HC1; CRV1:COLUMN or CR2:COLUMN for clusters, CRV1:COLUMN,COLUMN for two kinds of them; conley:KM or "
            "block:KM, on lat and lon (or conley:KM,lat=COLUMN,lon=COLUMN). By default HC1, for did clusters of units.",
            rich_help_panel=_ERRORS,
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence level.", rich_help_panel=_ERRORS)] = 0.95,
    interval: Annotated[
        Literal["delta", "fieller", "bootstrap"],
        typer.Option(help="Another interval besides the delta method's.", rich_help_panel=_ERRORS),
    ] = "delta",
    conley_profile: Annotated[
        str | None,
        typer.Option(
            help="Standard error by Conley's cutoff, in km: 25,50,100,200.", rich_help_panel=_ERRORS
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Corrected raster; for several periods PERIOD=FILE, repeated. Without one the table has the outcome.",
            rich_help_panel=_READING,
        ),
    ] = None,
    map_period: Annotated[
        str | None,
        typer.Option(
            help="With several maps: column that says which one a row is of; --time by default.",
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
        str | None,
        typer.Option(help="Column that trial and polygons share.", rich_help_panel=_READING),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer of --polygons, where the file has several.", rich_help_panel=_READING),
    ] = None,
    cell_weights: Annotated[
        Path | None,
        typer.Option(help="Raster of people, for circles and polygons.", rich_help_panel=_READING),
    ] = None,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity", help="Say what it would take to overturn the effect.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to write: both estimates.", rich_help_panel=_OUTPUT)
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
    """Estimate an effect on the mapped outcome, with the calibration's uncertainty in the interval."""
    from sustain.causal import table
    from sustain.causal.correction.choice import CorrectionChoice
    from sustain.causal.effect import Analysis
    from sustain.causal.result.text import summary_text
    from sustain.causal.trial.roles import Roles
    from sustain.cli import effect_options as options
    from sustain.cli.beside import compare, say_interval, say_profile, say_sensitivity
    from sustain.cli.notices import unless_said
    from sustain.cli.output import require_result, write_result
    from sustain.cli.picture import save_picture
    from sustain.cli.trial_table import read_trial
    from sustain.debias import CalibrationCard

    require_result(out)
    loaded = None if card is None else CalibrationCard.load(card)
    choice = CorrectionChoice.read(
        loaded,
        method,
        card_level=card_level,
        strata=strata,
        assumption=assumption,
        transport=options.read_number(transport),
        overlap=options.read_overlap(overlap),
    )
    read = read_trial(
        trial,
        map_ or (),
        map_period or time,
        loaded,
        choice.method,
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
    analysis = Analysis.of(
        Roles.read(
            formula,
            outcome=outcome if formula or outcome else read.outcome,
            treatment=treatment if formula or treatment else "treated",
            covariates=covariates,
            fixed_effects=fixed_effects,
            instrument=instrument,
            estimator=estimator,
            unit=unit,
            time=time,
        ),
        choice,
        vcov=options.read_vcov(vcov, lat, lon),
        weights=weights,
        level=level,
        n_folds=n_folds,
        seed=seed,
    )
    with unless_said() as said:
        result = analysis.run(read.table)
        notes = [("map", text) for text in read.caveats]
        against = None if loaded is None else compare(result, read.table, loaded)
        if against is not None:
            said.update(against.notes)
            notes += [] if details else [("Transport", against.line)]
        typer.echo(summary_text(result, details, notes))
        said.update(map(str, result.notes))
    if against is not None and details:
        typer.echo(f"\n{against.full}")
    found: dict[str, Any] = result.to_dict() | {"map": read.caveats}
    if interval != "delta":
        found["interval"] = say_interval(result, interval)
    cutoffs = options.read_cutoffs(conley_profile)
    if cutoffs:
        places = analysis.vcov.columns if analysis.vcov.kind == "conley" else (lat or "lat", lon or "lon")
        found["conley_profile"] = say_profile(result, read.table, places, cutoffs)
    if sensitivity:
        found["sensitivity"] = say_sensitivity(result, loaded)
    if against is not None:
        found["transport"] = against.numbers
    if plot is not None:
        save_picture(result.plot, plot, (6, 1.8))
    if out is not None:
        write_result(out, found, result.tidy(), table(result))
