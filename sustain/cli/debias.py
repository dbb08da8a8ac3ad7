"""``sustain debias``: describe errors of predictions, fit a card, correct a raster or a table, say a slope."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(help="Calibration cards and corrections.", no_args_is_help=True)

_PREDICTED = "out_of_sample"  # as the stage `predict` says it of every row

Sample = Annotated[
    Path, typer.Argument(help="Calibration sample, one row a place: CSV, Parquet, Stata, SPSS or Excel.")
]
Prediction = Annotated[str, typer.Option(help="Column of out-of-sample predictions.")]
Label = Annotated[str, typer.Option(help="Column of labels.")]
Groups = Annotated[str | None, typer.Option(help="Column of clusters (surveys, blocks), for covariances.")]
Strata = Annotated[
    str | None, typer.Option(help="Column of strata, which get slopes and corrections of their own.")
]
Weight = Annotated[str | None, typer.Option(help="Column of sampling weights.")]
Levels = Annotated[
    list[str] | None,
    typer.Option(
        "--level", help="Column of groups (survey, region), for slopes by level; repeat, coarse to fine."
    ),
]
Sheet = Annotated[str | None, typer.Option(help="Sheet of an Excel workbook, where several hold anything.")]
Noise = Annotated[float, typer.Option(help="Variance of the labels' own sampling error.")]


@app.command()
def fit(
    table: Sample,
    out: Annotated[Path, typer.Option("--out", "-o", help="The card to write.")],
    target: Annotated[str, typer.Option(help="What the labels measure.")],
    unit: Annotated[str, typer.Option(help="Unit of the labels.")],
    y_pred: Prediction = "y_pred",
    y_true: Label = "y_true",
    groups: Groups = None,
    strata: Strata = None,
    weight: Weight = None,
    noise: Noise = 0.0,
    method: Annotated[
        list[str] | None, typer.Option(help="linear, tweedie or response; repeat for several (default: all).")
    ] = None,
    level: Levels = None,
    lon: Annotated[
        str | None,
        typer.Option(help="Column of longitudes: with --lat, for standard errors of means of areas."),
    ] = None,
    lat: Annotated[str | None, typer.Option(help="Column of latitudes, in degrees.")] = None,
    country: Annotated[
        str | None,
        typer.Option(
            help="Column of countries: with --lon and --lat, how far countries err as wholes, for means of areas."
        ),
    ] = None,
    year: Annotated[str | None, typer.Option(help="Column of the surveys' years.")] = None,
    years: Annotated[
        str, typer.Option(help="Years of the surveys, without such a column: 2014 or 2010-2012,2015.")
    ] = "",
    countries: Annotated[
        str, typer.Option(help="Countries, separated by commas, without a column of them.")
    ] = "",
    predictor: Annotated[
        str | None,
        typer.Option(
            help="Which model made the predictions; by default the one that sustain predict wrote into the table."
        ),
    ] = None,
    predictor_sha256: Annotated[str | None, typer.Option(help="Hash of its weights.")] = None,
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="Licence of the card, such as CC-BY-4.0.")
    ] = "",
    citation: Annotated[str, typer.Option(help="How to cite the card.")] = "",
    n_boot: Annotated[int, typer.Option(help="Bootstrap draws kept in the card.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    sheet: Sheet = None,
) -> None:
    """Write the calibration card of a table of predictions and labels."""
    from sustain.debias import build_card
    from sustain.debias.card.text import weak_points
    from sustain.errors import ConfigError

    if (year and years) or (country and countries):
        raise ConfigError("--year or --years, --country or --countries: name a column, or list them.")
    data, sample = _sample(
        table, y_pred, y_true, groups, strata, weight, level, lon, lat, country, sheet, year
    )
    if years:
        sample["years"] = _listed_years(years)
    if countries:
        sample["countries"] = [name.strip() for name in countries.split(",")]
    written = _predictor(data, table, predictor)
    card = build_card(
        **sample,
        methods=method or ("linear", "tweedie", "response"),
        target={"name": target, "unit": unit},
        predictor={"id": predictor or written or "unknown", "sha256": predictor_sha256},
        licence=licence,
        citation=citation,
        target_noise_var=noise,
        n_boot=n_boot,
        seed=seed,
    )
    card.save(out)
    for subject, text in weak_points(card).items():
        typer.echo(f"WEAK, {subject}: {text}")
    held = ", ".join(card.effect_methods[1:])
    typer.echo(f"{out}: slope {card.slope:.3f}, r2 {card.r2:.3f}, {len(data)} places; {held}")


@app.command()
def correct(
    source: Annotated[
        Path, typer.Argument(help="Raster of raw predictions, or a table (CSV, Parquet, Stata, SPSS, Excel).")
    ],
    out: Annotated[Path, typer.Argument(help="What to write: raster to raster, table to table.")],
    card: Annotated[Path, typer.Option(help="The predictions' calibration card.")],
    method: Annotated[str, typer.Option(help="none, linear, tweedie or level.")] = "linear",
    stratum: Annotated[
        str | None,
        typer.Option(help="Table only: stratum that all rows are in, with a correction of its own."),
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Table only, with --method level: such as 'between region'.")
    ] = None,
    y_pred: Annotated[str, typer.Option(help="Table only: column of predictions.")] = "y_pred",
    sheet: Sheet = None,
    band: Annotated[
        str | None,
        typer.Option(
            help="Raster only: band of predictions, by name or number; by default wealth_raw, else the only band."
        ),
    ] = None,
) -> None:
    """Correct a raster block by block, or a table's column.

    A table gets the columns y_pred_corrected and y_pred_se at its end; from CSV to CSV all else stays byte for byte.
    """
    from sustain.debias import CalibrationCard
    from sustain.errors import DataError
    from sustain.tables import SUFFIXES, add_columns, read_table, require_writable

    if source.suffix.lower() not in SUFFIXES:
        from sustain.maps.correct import correct_raster
        from sustain.maps.geotiff import open_raster, value_band

        if stratum is not None:
            raise DataError(
                "--stratum: a raster's cells are in no one stratum. Correct each stratum's cells as a table."
            )
        if method == "level" or level is not None:
            raise DataError(
                "--level: a corrected map serves contrasts at every level, so it takes no single level's slope. "
                "Correct a table, or give the level to the estimate of the effect."
            )
        with open_raster(source) as raster:
            index = value_band(raster, band, option="--band")
        correct_raster(source, out, card, method=method, band=index)
        typer.echo(f"{out}: written, corrected by the method {method}")
        return
    if band is not None:
        raise DataError(f"--band: {source} is a table; name its column (--y-pred).")
    require_writable(out)
    loaded = CalibrationCard.load(card)
    data = read_table(source, [y_pred], sheet=sheet)
    expected = loaded.predictor.id
    if (found := _predictor(data, source, expected)) and found != expected:
        raise DataError(
            f"{source}: its predictor is {found!r}, but the card corrects predictions with predictor {expected!r}. "
            "Use the card made for this table's model and label."
        )
    part: dict[str, Any] = {"method": method, "stratum": stratum, "level": level}
    added = {
        f"{y_pred}_corrected": loaded.transform(data[y_pred], **part),
        f"{y_pred}_se": loaded.standard_error(data[y_pred], **part),
    }
    add_columns(source, out, added, sheet=sheet)
    typer.echo(f"{out}: written, {len(data)} rows corrected by the method {method}")


@app.command()
def slope(
    card: Annotated[Path, typer.Argument(help="A calibration card.")],
    effect: Annotated[float, typer.Option(help="Effect on the truth that is expected, in its unit.")],
    stratum: Annotated[str | None, typer.Option(help="Population of the card; all by default.")] = None,
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
) -> None:
    """Say by which slope an effect of a given size shrinks, for whoever has nothing but the map to divide."""
    from sustain.debias import CalibrationCard

    found = CalibrationCard.load(card).slope_for(effect, stratum)
    low, high = found.interval(level)
    typer.echo(
        f"slope {found.value:.4g} ({100 * level:.4g}% interval {low:.4g} to {high:.4g}), "
        f"{found.extrapolated:.0%} beyond the truths that shaped the curve"
    )


@app.command()
def diagnose(
    table: Sample,
    y_pred: Prediction = "y_pred",
    y_true: Label = "y_true",
    groups: Groups = None,
    strata: Strata = None,
    weight: Weight = None,
    level: Levels = None,
    noise: Noise = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: bias by tenth of the truth.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    sheet: Sheet = None,
) -> None:
    """Say what kind of errors predictions make, and what follows for correcting them."""
    from sustain.debias import diagnose as diagnose_sample
    from sustain.files import atomic_path, json_text

    _, sample = _sample(table, y_pred, y_true, groups, strata, weight, level, sheet=sheet)
    found = diagnose_sample(**sample, target_noise_var=noise)
    if plot is not None:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        found.plot(figure.add_subplot())
        with atomic_path(plot) as partial:
            figure.savefig(partial, dpi=150)
    typer.echo(json_text(found.to_dict()) if as_json else str(found))


def _predictor(data: pd.DataFrame, table: Path, named: str | None = None) -> str | None:
    """Model that `sustain predict` wrote into its table, of a cross-fit the main one; None in any other table.

    Models of a cross-fit are of one kind, predict each place once, share no block; the test split is the main one's.
    """
    from sustain.errors import DataError

    if _PREDICTED not in data or "model" not in data:
        return named
    models = sorted(data["model"].dropna().astype(str).unique())
    if len(models) <= 1:
        return models[0] if models else named
    folds = {"id", "block", "split"} <= set(data) and not data["id"].duplicated().any()
    if folds and len({name.rpartition("-")[0] for name in models}) == 1:
        main = data.loc[data["split"] == "test", "model"].unique()
        if not data[["block", "model"]].drop_duplicates()["block"].duplicated().any() and (
            named or len(main) == 1
        ):
            return str(main[0]) if len(main) == 1 else named
    raise DataError(
        f"{table}: column model names {len(models)} models ({', '.join(models[:5])}). A card is of one model: keep the "
        "rows of one (model == its name); of a cross-fit, keep the test split's rows too, which name its main model."
    )


def _listed_years(text: str) -> list[int]:
    """Years of a list such as ``2010-2012,2015``."""
    from sustain.errors import ConfigError

    years: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise ConfigError(f"--years: expected years such as 2014 or 2010-2012,2015; got {text!r}.")
        # The card judges whether these are years; a slip of the keyboard must not make a million.
        years += range(int(first), min(int(last or first), int(first) + 300) + 1)
    return years


def _sample(
    table: Path,
    y_pred: str,
    y_true: str,
    groups: str | None,
    strata: str | None,
    weight: str | None,
    levels: list[str] | None,
    lon: str | None = None,
    lat: str | None = None,
    country: str | None = None,
    sheet: str | None = None,
    year: str | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a calibration table; the arguments that corrections and diagnoses share."""
    import numpy as np

    from sustain.data.tiles.sites import refuse_fill_numbers
    from sustain.errors import DataError, InSampleWarning
    from sustain.stats.columns import ColumnReader
    from sustain.tables import read_table

    names = [*(name for name in (groups, strata, weight, lon, lat, country, year) if name), *(levels or ())]
    data = read_table(table, [y_pred, y_true, *names], sheet=sheet)
    if data[y_true].dtype.kind in "if":
        refuse_fill_numbers(data[y_true].astype(float), y_true, table)
    unseen = np.ones(len(data), dtype=bool)
    if _PREDICTED in data:
        unseen = ColumnReader(DataError).arms(f"{table}: column {_PREDICTED}", data[_PREDICTED]) == 1
    if not unseen.all():
        warnings.warn(
            f"{table}: {int((~unseen).sum())} of {len(data)} rows are places that the model learned from (column "
            f"{_PREDICTED}), where it errs less than on a map. Leave them out.",
            InSampleWarning,
            stacklevel=2,
        )
    optional = {"groups": groups, "strata": strata, "sample_weight": weight, "lon": lon, "lat": lat}
    optional |= {"countries": country, "years": year}
    columns = {"y_pred": y_pred, "y_true": y_true} | {key: name for key, name in optional.items() if name}
    sample: dict[str, Any] = {key: data[name].to_numpy() for key, name in columns.items()}
    if levels:
        sample["levels"] = {name: data[name].to_numpy() for name in levels}
    return data, sample
