"""An effect for readers: plain text, HTML for notebooks, a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from sustain.causal.result.estimates import BRACKET, EffectEstimates, end_labels
from sustain.causal.result.screen import on_a_screen, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["html_text", "plot_effects", "summary_text"]


def summary_text(
    result: EffectEstimates, details: bool = False, beside: Sequence[tuple[str, str]] = ()
) -> str:
    """Plain text: the estimates, which one is meant, where the variance comes from, and every caveat.

    `beside` has caveats, by kind, of who read the trial.
    """
    unit = f" ({result.unit})" if result.unit else ""
    level = f"{100 * result.level:.4g}% interval"
    lines = [
        f"Effect of {result.term} on {result.outcome}{unit}",
        *wrapped(f"{result.estimator}, {result.vcov}"),
        f"n = {result.n} ({result.n_treated} treated, {result.n_control} control)"
        + _few(result)
        + (
            ""
            if np.isnan(result.n_effective)
            else f", corrected worth about {result.n_effective:.0f} surveyed units (R2 n)"
        ),
        *wrapped(f"assumption: {_ASSUMPTIONS[result.assumption]}"),
        *wrapped(_correction(result)),
        *wrapped(_strength(result)),
        "",
        f"{'':26}{'estimate':>10}{'std.error':>11}{level:>24}{'calibration':>13}",
    ]
    for end in (result.naive, result.corrected):
        if end is not None:
            low, high = end.conf_int(result.level)
            name = "naive (no correction)" if end.method == "none" else f"corrected ({end.method})"
            lines.append(
                f"{'>' if end in result.reported else ' '} {name:24}{end.estimate:>10.4g}{end.std_error:>11.4g}"
                f"{f'{low:.4g} to {high:.4g}':>24}{end.share_calibration:>13.0%}"
            )
    if result.bracket is not None:
        low, high = result.conf_int()
        lines.append(f"  {'both ends':24}{'':>21}{f'{low:.4g} to {high:.4g}':>24}")
        middle = result.path((0.25, 0.5, 0.75))
        lines.append(
            "  between them, by the share of the contrast that reaches the image through the outcome:"
        )
        lines += [
            f"    {row.mediated:<22.0%}{row.estimate:>10.4g}{row.std_error:>11.4g}"
            f"{f'{row.conf_low:.4g} to {row.conf_high:.4g}':>24}"
            for row in middle.itertuples()
        ]
    if result.products:
        lines.append("  by how much the effect moves with a covariate:")
    for term, ends in result.products_reported:
        names: tuple[str, ...] = (f"    {term:22}",)
        if len(ends) > 1:
            lines.append(f"    {term}:")
            names = tuple(f"     {supposed:21}" for supposed in BRACKET)
        for name, end in zip(names, ends, strict=True):
            low, high = end.conf_int(result.level)
            lines.append(
                f"{name}{end.estimate:>10.4g}{end.std_error:>11.4g}{f'{low:.4g} to {high:.4g}':>24}"
                f"{end.share_calibration:>13.0%}"
            )
    lines.append("  (> what the method and the assumption lead to; calibration: its share of the variance)")
    notes = [(note.kind, str(note)) for note in result.notes]
    return on_a_screen(lines, [*notes, *beside], details)


def _few(result: EffectEstimates) -> str:
    fewest, arm = min((result.n_treated, "TREATED"), (result.n_control, "CONTROL"))
    return f" - FEW {arm} UNITS" if any(note.kind == "few_units" for note in result.notes) and fewest else ""


_ASSUMPTIONS = {
    None: "none named",
    "measurement": "measurement stability (given the truth, predictions are alike in both arms and in the calibration "
    "sample)",
    "outcome": "outcome stability (given the prediction, the truth is alike in both arms and in the calibration "
    "sample)",
    "bracket": "bracket (both ends: outcome stability and measurement stability)",
}


def _correction(result: EffectEstimates) -> str:
    """Say what was done to the naive effect; nothing without a correction."""
    end, read_back = result.corrected, result.response
    if end is None:
        return ""
    if read_back is not None:
        low, high = read_back.alike.conf_int(result.level)
        return (
            f"correction: response, the naive effect over the trial's own slope of prediction on truth, "
            f"{read_back.slope:.4g}, at the truths that its predictions unfold to. If every unit gains alike, the "
            f"effect is {read_back.alike.estimate:.4g} ({low:.4g} to {high:.4g}); {read_back.extrapolated:.0%} of the "
            "treated are beyond the truths that shaped the response curve"
        )
    if math.isnan(end.slope):
        return f"correction: {result.method}, of each unit's prediction, before the design"
    error = math.sqrt(end.slope_var)
    return (
        f"correction: {result.method}, the naive effect divided by the slope of prediction on truth, {end.slope:.4g} "
        f"(standard error {error:.2g})"
    )


def _strength(result: EffectEstimates) -> str:
    """Say how much the card's predictor tells of the truth; nothing without a card."""
    if math.isnan(result.r2):
        return ""
    return f"card: its predictions explain {result.r2:.1%} of the variance of the labels (r2)"


def html_text(result: EffectEstimates) -> str:
    """Table of the naive and the corrected estimate and of products, those that are meant in bold, and the caveats."""
    named = [
        ("naive (no correction)" if end.method == "none" else f"corrected ({end.method})", end)
        for end in (result.naive, result.corrected)
        if end is not None
    ]
    meant = [*result.reported]
    for term, ends in result.products_reported:
        named += zip(end_labels(term, ends), ends, strict=True)
        meant += ends
    rows = []
    for name, end in named:
        low, high = end.conf_int(result.level)
        numbers = f"{end.estimate:.4g}", f"{end.std_error:.4g}", f"{low:.4g} to {high:.4g}"
        cells = "".join(
            f"<td>{escape(cell)}</td>" for cell in (name, *numbers, f"{end.share_calibration:.0%}")
        )
        bold = ' style="font-weight: bold"' if end in meant else ""
        rows.append(f"<tr{bold}>{cells}</tr>")
    titles = (
        "",
        "estimate",
        "std. error",
        f"{100 * result.level:.4g}% interval",
        "calibration's share of variance",
    )
    head = "".join(f"<th>{title}</th>" for title in titles)
    unit = f" ({result.unit})" if result.unit else ""
    about = (
        f"Effect of {result.term} on {result.outcome}{unit}: {result.estimator}, {result.vcov}; n = {result.n}; "
        f"assumption: {result.assumption or 'none named'}"
        + ("" if math.isnan(result.r2) else f"; r2 of the card {result.r2:.3f}")
    )
    notes = "".join(f"<li><b>{escape(note.kind)}</b>: {escape(note)}</li>" for note in result.notes)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<p>{escape(about)}</p>{table}<ul>{notes}</ul>"


def plot_effects(result: EffectEstimates, ax: Axes | None = None) -> Axes:
    """Naive and corrected estimate with their intervals; with both ends reported, the path between them."""
    import matplotlib.pyplot as plt

    axes = plt.subplots(figsize=(6, 1.8), layout="constrained")[1] if ax is None else ax
    ends = [end for end in (result.corrected, result.naive) if end is not None]
    for height, end in enumerate(ends):
        low, high = end.conf_int(result.level)
        colour = "C0" if end in result.reported else "0.6"
        axes.plot([low, high], [height, height], color=colour, solid_capstyle="butt")
        axes.plot(end.estimate, height, "o", color=colour)
    if result.bracket is not None:
        middle = result.path(np.linspace(0, 1, 21).tolist())
        axes.plot(middle["estimate"], 1 - middle["mediated"], color="C0", linewidth=0.8, linestyle="--")
    axes.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    names = [
        "naive\n(outcome stability)" if end.method == "none" else f"{end.method}\n(measurement stability)"
        for end in ends
    ]
    axes.set_yticks(range(len(ends)), names if len(ends) > 1 else ["naive"])
    axes.set_ylim(-0.6, len(ends) - 0.4)
    unit = f" ({result.unit})" if result.unit else ""
    axes.set_xlabel(f"effect of {result.term} on {result.outcome}{unit}, {100 * result.level:.4g}% intervals")
    return axes
