"""Specifications side by side, as users of ``etable`` and ``modelsummary`` know them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sustain.causal.result.markup import html_table, latex_table, markdown_table
from sustain.causal.result.result import EffectResult
from sustain.errors import EffectError
from sustain.files import read_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STARS", "EffectTable", "number", "table"]

STARS = (0.05, 0.01, 0.001)
"""p-values under which a star each is put."""

_FORMATS = ("latex", "markdown", "html", "dataframe")


@dataclass(frozen=True)
class EffectTable:
    """Effects of several specifications; shown as Markdown in a terminal and as HTML in a notebook.

    Attributes
    ----------
    names : tuple of str
        Heads of the columns.
    effects : tuple of (str, tuple of str)
        Rows of effects, standard errors and intervals: the row's name and a cell for each specification.
    facts : tuple of (str, tuple of str)
        Rows of what each specification rests on.
    notes : tuple of str
        Lines below.
    """

    names: tuple[str, ...]
    effects: tuple[tuple[str, tuple[str, ...]], ...]
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """All cells as text: a row of the table each, a column a specification."""
        import pandas as pd

        rows = [*self.effects, *self.facts]
        index = pd.Index([name for name, _ in rows], name="")
        return pd.DataFrame([cells for _, cells in rows], index=index, columns=list(self.names))

    def to_latex(self) -> str:
        """LaTeX, with the rules of package ``booktabs``."""
        return latex_table(self.names, (self.effects, self.facts), self.notes)

    def to_markdown(self) -> str:
        """Markdown, as GitHub and Quarto read it."""
        return markdown_table(self.names, (self.effects, self.facts), self.notes)

    def to_html(self) -> str:
        """Give an HTML table without styles of its own."""
        return html_table(self.names, (self.effects, self.facts), self.notes)

    def __str__(self) -> str:
        return markdown_table(self.names, (self.effects, self.facts), self.notes, escaped=False)

    def _repr_html_(self) -> str:
        return self.to_html()


def table(
    results: Sequence[EffectResult | Mapping[str, Any] | str | Path] | EffectResult,
    *,
    names: Sequence[str] | None = None,
    stars: bool | Sequence[float] = True,
    digits: int = 3,
    format: str | None = None,
) -> Any:
    """Put effects of several specifications side by side.

    Parameters
    ----------
    results : sequence of EffectResult, of their ``to_dict()``, or of files that ``sustain effect -o`` wrote
        A column each.
    names : sequence of str, optional
        Heads of the columns; ``(1)``, ``(2)``, ... by default.
    stars : bool or sequence of float
        p-values under which a star each is put; True for 0.05, 0.01 and 0.001, as pyfixest does.
    digits : int
        Decimals of effects.
    format : {"latex", "markdown", "html", "dataframe"}, optional
        Give text or a DataFrame instead of an `EffectTable`.

    Returns
    -------
    EffectTable, str or DataFrame
        Rows of each effect, corrected and raw (as predicted), with standard errors in parentheses and intervals in
        brackets; then units, clusters, covariates, fixed effects, standard errors, method, assumption and card.

    Raises
    ------
    EffectError
        When there are no results, names of another number, or a file holds something else.

    Examples
    --------
    >>> table([first, second], names=["OLS", "AIPW"], format="latex")  # doctest: +SKIP
    """
    given = [results] if isinstance(results, EffectResult | Mapping | str | Path) else list(results)
    if not given:
        raise EffectError("results: none given, expected a sequence of effects.")
    if format is not None and format not in _FORMATS:
        raise EffectError(f"format: got {format!r}, expected one of {', '.join(map(repr, _FORMATS))}.")
    limits = _limits(stars)
    found = [_content(item) for item in given]
    heads = tuple(f"({place})" for place in range(1, len(found) + 1)) if names is None else tuple(names)
    if len(heads) != len(found):
        raise EffectError(f"names: got {len(heads)} for {len(found)} results, expected one each.")
    made = EffectTable(heads, _effects(found, limits, digits), _facts(found), _notes(found, limits))
    if format is None:
        return made
    if format == "dataframe":
        return made.frame
    if format == "latex":
        return made.to_latex()
    return made.to_markdown() if format == "markdown" else made.to_html()


def _limits(stars: bool | Sequence[float]) -> tuple[float, ...]:
    limits = STARS if stars is True else () if stars is False else tuple(stars)
    if not all(0 < limit < 1 for limit in limits):
        raise EffectError(f"stars: got {stars!r}, expected p-values between 0 and 1, such as {list(STARS)}.")
    return tuple(sorted(limits, reverse=True))


def _content(item: EffectResult | Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(item, EffectResult):
        return item.to_dict()
    found = item if isinstance(item, Mapping) else read_json(Path(item))
    if not isinstance(found, Mapping) or not {"term", "naive", "corrected", "about"} <= set(found):
        name = "result" if isinstance(item, Mapping) else item
        raise EffectError(f"{name}: not an effect, expected what sustain effect -o FILE.json writes.")
    return found


def _effects(
    found: Sequence[Mapping[str, Any]], limits: Sequence[float], digits: int
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Three rows an effect: the estimate, its standard error, its interval."""
    columns = [dict(_ends(content)) for content in found]
    # The order in which they first come, corrected before raw.
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = []
    for key in keys:
        ends = [column.get(key) for column in columns]
        rows.append((key, tuple("" if end is None else _estimate(end, limits, digits) for end in ends)))
        errors = tuple("" if end is None else f"({number(end['std_error'], digits)})" for end in ends)
        rows.append(("", errors))
        rows.append(("", tuple("" if end is None else _interval(end, digits) for end in ends)))
    return tuple(rows)


def _ends(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Estimates of a specification by the name of their row."""
    found = []
    for item in (content, *content["products"]):
        corrected, naive = item["corrected"], item["naive"]
        if corrected is not None:
            found.append((f"{item['term']}, corrected", corrected))
        found.append((f"{item['term']}, raw", naive))
    return found


def _estimate(end: Mapping[str, Any], limits: Sequence[float], digits: int) -> str:
    p: float | None = end.get("p_value")
    n_stars = 0 if p is None else sum(p < limit for limit in limits)
    return number(end["estimate"], digits) + "*" * n_stars


def _interval(end: Mapping[str, Any], digits: int) -> str:
    return f"[{number(end['conf_low'], digits)}, {number(end['conf_high'], digits)}]"


def number(value: float | None, digits: int) -> str:
    """Write a number; a minus sign only where digits are left."""
    if value is None or math.isnan(value):
        return "n/a"
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _facts(found: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    rows = {
        "Outcome": [content["outcome"] for content in found],
        "Units": [f"{content['n']:,}" for content in found],
        "Treated units": [f"{content['n_treated']:,}" for content in found],
        "Clusters": [_clusters(content) for content in found],
        "Covariates": [", ".join(content["about"]["covariates"]) for content in found],
        "Fixed effects": [", ".join(content["about"]["fixed_effects"]) for content in found],
        "Weights": [content["about"]["weights"] for content in found],
        # How many clusters there are, and which effects are absorbed, have rows of their own.
        "Estimator": [_ABSORBED.sub("", content["estimator"]) for content in found],
        "Standard errors": [_COUNTED.sub("", content["vcov"]) for content in found],
        "Correction": [content["method"] for content in found],
        "Assumption": [_ASSUMED.get(content["assumption"], "none named") for content in found],
        "Calibration's share of variance": [_share(content) for content in found],
        "Card": [_card(content["about"]) for content in found],
        "Card's r2": [number(content["card_r2"], 3).replace("n/a", "") for content in found],
    }
    return tuple((name, tuple(cells)) for name, cells in rows.items() if any(cells))


_ASSUMED = {
    "measurement": "measurement stability",
    "outcome": "outcome stability",
    "bracket": "both (bracket)",
}
_ABSORBED = re.compile(r", \d+ fixed effects? absorbed.*")
_COUNTED = re.compile(r" \([\d, and]+ clusters\)$")


def _clusters(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} ({column})" for column, n in content["about"]["clusters"])


def _card(about: Mapping[str, Any]) -> str:
    return f"{about['card']} ({about['card_sha256'][:12]})" if about["card"] else ""


def _share(content: Mapping[str, Any]) -> str:
    return "" if content["corrected"] is None else f"{content['corrected']['share_calibration']:.0%}"


def _notes(found: Sequence[Mapping[str, Any]], limits: Sequence[float]) -> tuple[str, ...]:
    levels = " and ".join(dict.fromkeys(f"{100 * content['level']:.4g}%" for content in found))
    notes = [f"Standard errors in parentheses, {levels} intervals in brackets."]
    if any(content["corrected"] is not None for content in found):
        notes.append(
            "Errors of corrected effects carry the calibration's uncertainty; those of raw ones leave it out."
        )
    if limits:
        notes.append(", ".join(f"{'*' * place} p < {limit:g}" for place, limit in enumerate(limits, 1)) + ".")
    few = [place for place, content in enumerate(found, 1) if _has(content, "few_units")]
    if few:
        notes.append(
            f"Few units in an arm of column {', '.join(map(str, few))}: standard errors are likely too small."
        )
    return tuple(notes)


def _has(content: Mapping[str, Any], kind: str) -> bool:
    return any(note["kind"] == kind for note in content["notes"])
