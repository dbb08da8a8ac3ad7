"""What trials do to the distribution of wealth: both distributions, headcounts, quantiles and gains."""

from __future__ import annotations

from collections.abc import Sequence

from sustain.report import effect_figures
from sustain.report.blocks import Cell, Figure, Panel, Row, Table
from sustain.report.words import interval, listing, number, percent, signed
from sustain.trials.distribution import TrialDistribution, TrialMeasure
from sustain.trials.results import TrialResult

__all__ = ["distribution_figure", "distribution_table", "headcounts_table"]

_QUANTILES = (0.1, 0.5, 0.9)  # those of the table; the results hold more
_THIRDS = ("poorest", "middle", "richest")
_STABLE = "Read under measurement stability, with the response curve of the calibration card."


def distribution_figure(trials: Sequence[TrialResult], unit: str) -> Figure | None:
    """Build the shares of places below each wealth, a panel a trial of measurement stability; None where none is."""
    panels = []
    for place, (trial, found) in enumerate(_unfolded(trials, claimed=True)):
        said = [f"below {number(item.at)} {_moved(item)}" for item in found.by("headcount")]
        svg = effect_figures.distribution_curves(
            found.curves,
            [item.at for item in found.by("headcount")],
            unit=unit,
            name=f"distribution-{place}",
            alt=f"{trial.title}: share of places below each wealth, {listing(said)}.",
        )
        panels.append(Panel(svg, trial.title))
    if not panels:
        return None
    caption = (
        "Share of places below each wealth, of treated and of controls, unfolded from their predictions; bands are "
        f"pointwise. Upright: poverty lines. {_STABLE}"
    )
    return Figure("distributions", "Both distributions", tuple(panels), caption)


def distribution_table(trials: Sequence[TrialResult], unit: str) -> Table | None:
    """Build headcounts, quantiles, gains of thirds and means, a group a trial of measurement stability."""
    groups, level = [], 0.95
    for trial, found in _unfolded(trials, claimed=True):
        level = found.level
        kept = [item for item in found.measures if item.kind != "shortfall" and _shown(item)]
        groups.append((trial.title, tuple(_row(item) for item in kept)))
    if not groups:
        return None
    return Table(
        "distribution-table",
        "Headcounts, quantiles and gains",
        ("Measure", "Without", "With", "Effect", f"{percent(level)} interval"),
        tuple(groups),
        f"Wealth in {unit}; headcounts are shares of places below a line. Gains of thirds suppose that the treatment "
        "leaves the order of places as it was. Intervals of headcounts hold; those of low quantiles and of the poorest "
        f"third can be too short where a treatment lifts the lowest end. {_STABLE}",
        wide=True,
    )


def headcounts_table(trials: Sequence[TrialResult], unit: str) -> Table | None:
    """Build one row a contrast with the share below its highest line; None where none was unfolded."""
    rows, line = [], 0.0
    for trial, found in _unfolded(trials):
        if not (heads := found.by("headcount")):
            continue
        item = max(heads, key=lambda head: head.at)
        line = item.at
        rows.append(Row(Cell(trial.title), _numbers(item)))
    if not rows:
        return None
    return Table(
        "map-headcounts",
        "Headcounts, read off the map alone",
        ("Contrast", "Others", "Treated", "Difference", "Interval"),
        (("", tuple(rows)),),
        f"Share of places below {number(line)} {unit}. {_STABLE} Where the image shows a contrast by itself, it "
        "overshoots as corrected differences do.",
        wide=True,
    )


def _unfolded(
    trials: Sequence[TrialResult], claimed: bool = False
) -> list[tuple[TrialResult, TrialDistribution]]:
    """Trials with a distribution; `claimed`: of those whose teams hold measurement stability."""
    return [
        (trial, trial.distribution)
        for trial in trials
        if trial.distribution is not None and (trial.assumption == "measurement" or not claimed)
    ]


def _shown(item: TrialMeasure) -> bool:
    return item.kind != "quantile" or any(abs(item.at - at) < 1e-9 for at in _QUANTILES)


def _row(item: TrialMeasure) -> Row:
    return Row(Cell(_name(item)), _numbers(item), strong=item.kind == "headcount")


def _numbers(item: TrialMeasure) -> tuple[str, ...]:
    if item.kind == "headcount":
        points = signed(100 * item.effect, 1), interval(100 * item.conf_low, 100 * item.conf_high, 1)
        return percent(item.control), percent(item.treated), f"{points[0]} points", f"{points[1]} points"
    ends = signed(item.effect), interval(item.conf_low, item.conf_high)
    return number(item.control), number(item.treated), *ends


def _name(item: TrialMeasure) -> str:
    if item.kind == "headcount":
        return f"Share below {number(item.at)}"
    if item.kind == "quantile":
        return "Median" if item.at == 0.5 else f"{percent(item.at)} quantile"
    if item.kind == "gain":
        return f"Mean of the {_THIRDS[round(3 * item.at) - 1]} third"
    return "Mean"


def _moved(item: TrialMeasure) -> str:
    return f"{percent(item.control)} without and {percent(item.treated)} with treatment"
