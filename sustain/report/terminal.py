"""What a finished pipeline says on the terminal: its effects, and where the page is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sustain.debias import CalibrationCard
from sustain.report.doubts import card_doubts
from sustain.report.gather import read_trials
from sustain.report.methods import method_style
from sustain.report.verdict import FAMILY, few_units
from sustain.stage import Artefacts
from sustain.trials.results import TrialResult, method_scores

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

__all__ = ["summary"]

# A longer list of trials is summed up by method.
_SHOWN = FAMILY
_FEW = "the interval is likely too short."


def summary(artefacts: Artefacts) -> Group:
    """Return the effects of a finished pipeline and the place of its page, to be printed with rich.

    Parameters
    ----------
    artefacts : Artefacts
        The source's files; the effects and, where there is one, their truth are read.

    Returns
    -------
    rich.console.Group

    Raises
    ------
    FileNotFoundError
        When the report has not been made yet.
    """
    from rich.console import Group
    from rich.text import Text

    page = artefacts.report / "index.html"
    if not page.exists():
        raise FileNotFoundError(
            f"{page}: there is no report of {artefacts.source!r} yet. Run its pipeline first: make repro, in a clone. "
            "The base install leaves out what that needs: pip install -e '.[train,pipeline]'."
        )
    place = Text(f"page: {page}")
    trials = read_trials(artefacts)
    if not trials:
        return Group(
            Text("No effects: there is no trial, nor urban beside rural places in the test part."), place
        )
    if len(trials) >= _SHOWN:
        return Group(_per_method(trials), *_doubts(artefacts, trials), place)
    star = Text("* the method that the trial's own assumption leads to", style="dim")
    few = [Text(f"{t.title}: only {words}; {_FEW}") for t in trials if (words := few_units(t))]
    return Group(_per_trial(trials), star, *few, *_doubts(artefacts, trials), place)


def _doubts(artefacts: Artefacts, trials: Sequence[TrialResult]) -> list[Text]:
    """Say what the card warns of, in its words, and why the methods shown are shown all the same."""
    from rich.text import Text

    if not artefacts.card.exists():
        return []
    doubts = card_doubts(CalibrationCard.load(artefacts.card), trials)
    return [Text(f"The card warns, {doubt.subject}: {doubt.said} {doubt.here}") for doubt in doubts]


def _per_trial(trials: Sequence[TrialResult]) -> Table:
    from rich.table import Table

    known = any(trial.truth is not None for trial in trials)
    table = Table(title="Effects on wealth", title_justify="left")
    table.add_column("trial")
    table.add_column("method")
    table.add_column("effect", justify="right")
    table.add_column(f"{trials[0].headline.level:.0%} interval", justify="right")
    if known:
        table.add_column("truth", justify="right")
        table.add_column("inside")
    for trial in trials:
        for e in trial.estimates:
            reported = e.method == trial.reported
            cells = [
                trial.title if e is trial.estimates[0] else "",
                method_style(e.method).label.lower() + (" *" if reported else ""),
                f"{e.estimate:.3f}",
                f"{e.conf_low:.3f} to {e.conf_high:.3f}",
            ]
            if trial.truth is not None:
                cells += [f"{trial.truth:.3f}", "yes" if e.covers(trial.truth) else "no"]
            table.add_row(*cells, style="bold" if reported else "", end_section=e is trial.estimates[-1])
    return table


def _per_method(trials: Sequence[TrialResult]) -> Table:
    from rich.table import Table

    scores = {score.method: score for score in method_scores(trials)}
    table = Table(title=f"{len(trials)} contrasts from the map", title_justify="left")
    table.add_column("method")
    table.add_column("mean effect", justify="right")
    if scores:
        table.add_column("mean absolute error", justify="right")
        table.add_column("slope on truth", justify="right")
        table.add_column("intervals with truth", justify="right")
    for method in dict.fromkeys(e.method for trial in trials for e in trial.estimates):
        effects = [e.estimate for trial in trials if (e := trial.by(method)) is not None]
        cells = [method_style(method).label.lower(), f"{sum(effects) / len(effects):.3f}"]
        if method in scores:
            score = scores[method]
            cells += [f"{score.mean_abs_error:.3f}", f"{score.ratio:.2f}", f"{score.covered} of {score.n}"]
        table.add_row(*cells)
    return table
