"""What ``sustain effect`` says beside the effect: another interval, other cutoffs, what overturns it, transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import typer

if TYPE_CHECKING:
    import pandas as pd

    from sustain.causal import EffectResult
    from sustain.debias import CalibrationCard

__all__ = ["Transport", "compare", "say_interval", "say_profile", "say_sensitivity"]


class Transport(NamedTuple):
    """The trial's predictions against the card's: in a line, in full, and in numbers (None where not compared)."""

    line: str
    full: str
    numbers: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def compare(result: EffectResult, table: pd.DataFrame, card: CalibrationCard) -> Transport:
    """Compare the trial's predictions with the card's, where there are enough of them."""
    from sustain.causal import transport_checks
    from sustain.errors import EffectError

    used = table.iloc[result.rows]
    try:
        checks = transport_checks(used[result.outcome], card, treated=used[result.term])
    except EffectError as error:
        text = f"not compared with the calibration sample ({error})"
        return Transport(text, f"Transport: {text}", None)
    numbers = {"auc": checks.auc, "shift": checks.shift, "share_outside": checks.share_outside}
    line = (
        f"predictions of {checks.n} {'untreated ' if checks.untreated else ''}units against the card's: "
        f"{checks.share_outside:.1%} outside its support, shift {checks.shift:+.2f} standard deviations, "
        f"classifier AUC {checks.auc:.2f}."
    )
    line += "".join(f" {note}" for note in checks.notes if note.kind != "support")
    return Transport(line, checks.summary(), numbers, tuple(map(str, checks.notes)))


def say_interval(result: EffectResult, method: Literal["fieller", "bootstrap"]) -> dict[str, Any]:
    """Say another interval than the summary's; a set of Fieller's need not be one."""
    low, high = result.conf_int(method=method)
    shape = (
        str(result.fieller()) if method == "fieller" and not result.bracket else f"{low:.4g} to {high:.4g}"
    )
    typer.echo(f"\n{100 * result.level:.4g}% interval, {method}: {shape}")
    return {"method": method, "conf_low": low, "conf_high": high}


def say_profile(
    result: EffectResult, table: pd.DataFrame, places: Sequence[str], cutoffs: Sequence[float]
) -> list[dict[str, Any]]:
    """Say Conley's standard error by cutoff; `places` are the columns of latitude and longitude."""
    profile = result.conley_profile(table, places[0], places[1], cutoffs)
    typer.echo(f"\nConley's standard error by cutoff\n{profile.to_string(index=False)}")
    return [{str(key): value for key, value in row.items()} for row in profile.to_dict("records")]


def say_sensitivity(result: EffectResult, card: CalibrationCard | None) -> dict[str, Any]:
    """Say what it would take to overturn the effect, and what other contrasts of the card would make of it."""
    doubt = result.sensitivity(card)
    typer.echo(f"\n{doubt.summary()}")
    found: dict[str, Any] = {"breakdown": doubt.breakdown, "robust_breakdown": doubt.robust_breakdown}
    if card is not None and doubt.usable_levels(card):
        levels = doubt.levels(card)
        shown = levels[["level", "slope", "estimate", "conf_low", "conf_high", "delta"]]
        typer.echo("  if the contrast behaved like others that the card has seen (placebos):")
        typer.echo(
            "\n".join(f"    {line}" for line in shown.to_string(index=False, float_format="%.4g").split("\n"))
        )
        found["levels"] = levels.to_dict("records")
    return found
