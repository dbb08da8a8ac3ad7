"""``sustain power`` and ``sustain placebo``: before a trial, what it can find; with labels, which assumption holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["placebo", "power"]


def power(
    treated: Annotated[int, typer.Option(help="Treated units of the trial.", show_default=False)],
    control: Annotated[int, typer.Option(help="Control units.", show_default=False)],
    sd: Annotated[
        float,
        typer.Option(help="Standard deviation of the truth among them, in its unit.", show_default=False),
    ],
    card: Annotated[Path, typer.Option(help="Card of the map that the trial is planned on.")],
    labels: Annotated[
        list[int] | None, typer.Option(help="Units that will be surveyed; repeat for a table.")
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    power: Annotated[float, typer.Option(help="Chance to find the effect.")] = 0.8,
    icc: Annotated[float, typer.Option(help="Correlation of units of one cluster.")] = 0.0,
    cluster_size: Annotated[float, typer.Option(help="Units of a cluster.")] = 1.0,
    effect: Annotated[
        float | None, typer.Option(help="An effect: say how many labels find it, with the map and without.")
    ] = None,
) -> None:
    """Say which effects a planned trial finds on the map, with labels, and with both."""
    from sustain.causal import power as plan

    asked = labels or [0]
    planned = plan(
        treated,
        control,
        sd,
        calibration=card,
        n_labelled=asked[0],
        level=level,
        power=power,
        icc=icc,
        cluster_size=cluster_size,
    )
    typer.echo(str(planned))
    if len(asked) > 1:
        typer.echo(f"\nLeast effects by number of labels\n{planned.table(asked).to_string(index=False)}")
    if effect is not None:
        with_map, alone = planned.labels_needed(effect), planned.labels_needed(effect, with_map=False)
        typer.echo(f"An effect of {effect:g} needs {with_map:.0f} labels with the map, {alone:.0f} without.")


def placebo(
    table: Annotated[Path, typer.Argument(help="Labelled rows: label, prediction, and the contrast.")],
    treatment: Annotated[
        str, typer.Option(help="Column of 0 and 1: the treatment, or a contrast that nobody treated.")
    ],
    y_true: Annotated[str, typer.Option(help="Column of labels.")] = "y_true",
    y_pred: Annotated[str, typer.Option(help="Column of out-of-sample predictions.")] = "y_pred",
    covariate: Annotated[
        list[str] | None, typer.Option(help="Column that the trial's design adjusts for; repeat.")
    ] = None,
    clusters: Annotated[str | None, typer.Option(help="Column of clusters.")] = None,
    noise: Annotated[float, typer.Option(help="Variance of the labels' own sampling error.")] = 0.0,
    card: Annotated[
        Path | None, typer.Option(help="Also hold this card's corrected effect against the labels' effect.")
    ] = None,
    method: Annotated[str, typer.Option(help="Correction of the card.")] = "linear",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the tests as JSON.")] = None,
) -> None:
    """Test on labelled rows which assumption holds for a contrast: whether to correct an effect, or not."""
    from sustain.causal import assumption_tests
    from sustain.cli.output import require_result
    from sustain.files import write_json
    from sustain.tables import read_table

    require_result(out, (".json",))
    found = assumption_tests(
        read_table(table, [treatment, y_true, y_pred]),
        label=y_true,
        prediction=y_pred,
        treatment=treatment,
        covariates=covariate or (),
        clusters=clusters,
        target_noise_var=noise,
        calibration=card,
        method=method,
    )
    typer.echo(str(found))
    if out is not None:
        tests = {"measurement": asdict(found.measurement), "outcome": asdict(found.outcome)}
        write_json(out, tests | {"verdict": found.verdict(), "notes": list(map(str, found.notes))})
