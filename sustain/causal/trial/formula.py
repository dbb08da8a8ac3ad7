"""The formula interface: ``wealth ~ treated + x | adm2 + year | treated ~ offer``.

The notation is that of fixest and pyfixest: outcome, treatment and covariates; after the first bar fixed effects, which
are absorbed; after the last one the treatment and its instruments. Terms are read by `formulaic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sustain.causal.trial.covariates import Terms, variables_of
from sustain.errors import EffectError

__all__ = ["ParsedFormula", "parse_formula"]

_EXAMPLES = (
    "Write 'wealth ~ treated + x', 'wealth ~ treated + x | adm2 + year' or 'wealth ~ x | treated ~ offer'."
)


@dataclass(frozen=True)
class ParsedFormula:
    """The parts of a formula.

    Attributes
    ----------
    outcome, treatment : str
        Columns.
    covariates : Terms
        Everything else on the right.
    fixed_effects : tuple of str
        Columns, or several joined by ``^`` for their combinations.
    instruments : Terms or None
    """

    outcome: str
    treatment: str
    covariates: Terms
    fixed_effects: tuple[str, ...] = ()
    instruments: Terms | None = None


def parse_formula(formula: str, treatment: str | None = None) -> ParsedFormula:
    """Read a formula.

    Parameters
    ----------
    formula : str
        ``outcome ~ treatment + covariates [| fixed effects] [| treatment ~ instruments]``. The treatment is the first
        term on the right unless the last part or `treatment` names it.
    treatment : str, optional
        Term that is the treatment.

    Raises
    ------
    EffectError
        When the formula does not parse, transforms the outcome or the treatment, or leaves out the constant.
    """
    head, *rest = (part.strip() for part in _split(formula))
    outcome, right = _sides(head, formula)
    if not outcome.isidentifier():
        raise EffectError(
            f"formula: the outcome is {outcome!r}, expected one column of raw predictions, because the card "
            "corrects predictions as the model made them. Put transformed predictions into a column of their own only "
            "with a card that was built for them."
        )
    effects: tuple[str, ...] = ()
    instruments = None
    for place, part in enumerate(rest):
        if "~" in part:
            if place != len(rest) - 1:
                raise EffectError(f"formula: {formula!r} has a part after the instruments. {_EXAMPLES}")
            named, moving = _sides(part, formula)
            if treatment not in (None, named):
                raise EffectError(f"treatment: got {treatment!r}, but the formula instruments {named!r}.")
            treatment, instruments = named, Terms(_read(moving, formula), "formula (instruments)")
        elif place == 0:
            effects = tuple(name.strip() for name in part.split("+") if name.strip() not in ("", "0"))
        else:
            raise EffectError(f"formula: {formula!r} has too many parts. {_EXAMPLES}")
    read = _read(right, formula)
    terms = [term for term in read if str(term) != "1"]
    if instruments is None:
        if not terms:
            raise EffectError(f"formula: {formula!r} names no treatment. {_EXAMPLES}")
        treatment = str(terms[0]) if treatment is None else treatment
        if treatment not in map(str, terms):
            raise EffectError(f"treatment: {treatment!r} is no term of {formula!r}. {_EXAMPLES}")
        terms = [term for term in terms if str(term) != treatment]
    _require_plain(str(treatment), terms, formula)
    return ParsedFormula(
        outcome, str(treatment), Terms(_formula(["1", *map(str, terms)])), effects, instruments
    )


def _require_plain(treatment: str, terms: list[Any], formula: str) -> None:
    """Raise `EffectError` unless the treatment is a column that no other term uses."""
    if not treatment.isidentifier():
        raise EffectError(
            f"formula: the treatment is {treatment!r}, expected a column of 0 and 1 as the first term on the right "
            f"(or treatment=). {_EXAMPLES}"
        )
    others = [str(term) for term in terms if treatment in variables_of(_formula([str(term)]))]
    if others:
        raise EffectError(
            f"formula: {others[0]!r} in {formula!r} uses the treatment, so the effect would be no single number. "
            "Estimate within subsets of the data instead."
        )


def _split(formula: str) -> list[str]:
    """Split at bars outside brackets and quotes."""
    if not isinstance(formula, str):
        raise EffectError(f"formula: got {type(formula).__name__}, expected text. {_EXAMPLES}")
    parts, depth, quote = [""], 0, ""
    for sign in formula:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'`":
            quote = sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == "|" and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _sides(part: str, formula: str) -> tuple[str, str]:
    left, *right = part.split("~")
    if len(right) != 1 or not left.strip():
        raise EffectError(f"formula: {formula!r} is not outcome ~ terms. {_EXAMPLES}")
    return left.strip(), right[0].strip()


def _read(text: str, formula: str) -> Any:
    terms = _formula(text or "1", formula)
    if "1" not in map(str, terms):
        raise EffectError(
            f"formula: {formula!r} leaves out the constant, without which an effect is no comparison of arms. Take "
            "'0 +' or '- 1' out."
        )
    return terms


def _formula(terms: Any, formula: str = "") -> Any:
    from formulaic import Formula, SimpleFormula
    from formulaic.errors import FormulaicError

    try:
        read = Formula(terms, _ordering="none")
    except (FormulaicError, SyntaxError) as error:
        raise EffectError(f"formula: {formula!r} does not parse: {error} {_EXAMPLES}") from error
    if not isinstance(read, SimpleFormula):
        raise EffectError(f"formula: {formula!r} has parts that are not understood. {_EXAMPLES}")
    return read
