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
        Everything else on the right, but for what is multiplied with the treatment.
    fixed_effects : tuple of str
        Columns, or several joined by ``^`` for their combinations.
    instruments : Terms or None
    interactions : Terms or None
        Covariates and products of the treatment with some of them, where there are products.
    """

    outcome: str
    treatment: str
    covariates: Terms
    fixed_effects: tuple[str, ...] = ()
    instruments: Terms | None = None
    interactions: Terms | None = None


def parse_formula(formula: str, treatment: str | None = None) -> ParsedFormula:
    """Read a formula.

    Parameters
    ----------
    formula : str
        ``outcome ~ treatment + covariates [| fixed effects] [| treatment ~ instruments]``. The treatment is the first
        term on the right unless the last part or `treatment` names it.
    treatment : str, optional
        Column that is the treatment.

    Raises
    ------
    EffectError
        When the formula does not parse, transforms the outcome or the treatment, or leaves out the constant.
    """
    if not isinstance(formula, str):
        raise EffectError(f"formula: got {type(formula).__name__}, expected text. {_EXAMPLES}")
    head, *rest = _split(formula, "|")
    left, right = _sides(head, formula)
    outcome = _one_column(_read(left, formula))
    if outcome is None:
        raise EffectError(
            f"formula: the outcome is {left!r}, expected one column of raw predictions, because the card "
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
            given = _one_column(_read(named, formula))
            if given is None or treatment not in (None, given):
                raise EffectError(f"treatment: got {treatment!r}, but the formula instruments {named!r}.")
            treatment, instruments = given, Terms(_read(moving, formula), "formula (instruments)")
        elif place == 0:
            effects = tuple(name.replace("`", "") for name in _split(part, "+") if name not in ("", "0"))
        else:
            raise EffectError(f"formula: {formula!r} has too many parts. {_EXAMPLES}")
    terms = _read(right, formula)
    if instruments is None:
        treatment = _treatment(terms, treatment, formula)
        terms = tuple(term for term in terms if _one_column((term,)) != treatment)
    return _parsed(outcome, str(treatment), terms, effects, instruments, formula)


def _treatment(terms: tuple[Any, ...], named: str | None, formula: str) -> str:
    """Find the column that is the treatment: the one that is named, or the first term."""
    if not terms:
        raise EffectError(f"formula: {formula!r} names no treatment. {_EXAMPLES}")
    if named is not None:
        if all(_one_column((term,)) != named for term in terms):
            raise EffectError(f"treatment: {named!r} is no term of {formula!r}. {_EXAMPLES}")
        return named
    first = _one_column(terms[:1])
    if first is None:
        raise EffectError(
            f"formula: the treatment is {str(terms[0])!r}, expected a column of 0 and 1 as the first term on the right "
            f"(or treatment=). {_EXAMPLES}"
        )
    return first


def _parsed(
    outcome: str,
    treatment: str,
    terms: tuple[Any, ...],
    effects: tuple[str, ...],
    instruments: Terms | None,
    formula: str,
) -> ParsedFormula:
    """Tell covariates from products with the treatment; other uses of the treatment are refused."""
    using = [term for term in terms if treatment in variables_of((term,))]
    for term in using:
        others = tuple(factor for factor in term.factors if factor.expr != treatment)
        within = any(treatment in variables_of((type(term)([factor]),)) for factor in others)
        if within or len(others) == len(term.factors) or instruments is not None:
            raise EffectError(
                f"formula: {str(term)!r} in {formula!r} uses the treatment, so the effect would be no single number. "
                "Write treated * x for an effect that moves with x, or estimate within subsets of the data."
            )
    covariates = tuple(term for term in terms if term not in using)
    if not using:
        return ParsedFormula(outcome, treatment, Terms(covariates), effects, instruments)
    alone = _read(f"`{treatment}`", formula)
    # The treatment's own term is among them, so that categories in its products are coded as beside it.
    together = Terms((*alone, *covariates, *using), without=treatment)
    return ParsedFormula(outcome, treatment, Terms(covariates), effects, instruments, together)


def _one_column(terms: tuple[Any, ...]) -> str | None:
    """Name of the column that one bare term is, or None."""
    if len(terms) != 1 or len(terms[0].factors) != 1:
        return None
    factor = terms[0].factors[0]
    return str(factor.expr) if factor.eval_method.value == "lookup" else None


def _split(text: str, at: str) -> list[str]:
    """Split at a sign outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'`":
            quote = sign
        depth += (sign in "([{") - (sign in ")]}") if not quote else 0
        if sign == at and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _sides(part: str, formula: str) -> tuple[str, str]:
    left, *right = _split(part, "~")
    if len(right) != 1 or not left:
        raise EffectError(f"formula: {formula!r} is not outcome ~ terms. {_EXAMPLES}")
    return left, right[0]


def _read(text: str, formula: str) -> tuple[Any, ...]:
    """Terms of one side, without the constant, which must be there."""
    from formulaic import Formula, SimpleFormula
    from formulaic.errors import FormulaicError

    try:
        terms = Formula(text or "1", _ordering="none")
    except (FormulaicError, SyntaxError) as error:
        raise EffectError(f"formula: {formula!r} does not parse: {error} {_EXAMPLES}") from error
    if not isinstance(terms, SimpleFormula):
        raise EffectError(f"formula: {formula!r} has parts that are not understood. {_EXAMPLES}")
    if "1" not in map(str, terms):
        raise EffectError(
            f"formula: {formula!r} leaves out the constant, without which an effect is no comparison of arms. Take "
            "'0 +' or '- 1' out."
        )
    return tuple(term for term in terms if str(term) != "1")
