"""Which column plays which role in an estimate, by name or by formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from sustain.causal.trial.covariates import Covariates, NamedColumns
from sustain.causal.trial.formula import parse_formula
from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.spelling import argument

__all__ = ["EstimatorName", "Roles"]

EstimatorName = Literal["difference", "ols", "ipw", "aipw", "did", "iv"]

_NONE = NamedColumns((), "covariates")


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Columns of a trial by their role.

    Attributes
    ----------
    estimator : str
    outcome, treatment : str
    covariates, instruments : Covariates
    fixed_effects : tuple of str
    unit, time : str or None
        Of a panel.
    interactions : Covariates or None
        Covariates and products of the treatment with some of them; these columns then come after `covariates`.
    """

    estimator: EstimatorName
    outcome: str
    treatment: str
    covariates: Covariates = _NONE
    instruments: Covariates = _NONE
    fixed_effects: tuple[str, ...] = ()
    unit: str | None = None
    time: str | None = None
    interactions: Covariates | None = None

    def __post_init__(self) -> None:
        """Check that no role contradicts another."""
        products = () if self.interactions is None else self.interactions.columns
        for role, columns in (
            ("covariates", self.covariates.columns),
            ("covariates", products),
            ("instrument", self.instruments.columns),
        ):
            if self.treatment in columns or self.outcome in columns:
                raise EffectError(f"{role}: {list(columns)} holds the treatment or the outcome. Take it out.")
        if self.estimator == "difference" and self.covariates.columns:
            raise EffectError(
                f"covariates: {list(self.covariates.columns)} given, but a difference in means adjusts for none. "
                f"Use {argument('estimator', 'ols')}."
            )
        if self.interactions is not None and self.estimator != "ols":
            raise EffectError(
                f"formula: a term uses the treatment, so the effect would be no single number. "
                f"{argument('estimator', 'ols')} takes treated * x and gives a coefficient for each product; "
                f"{self.estimator!r} takes none."
            )

    @classmethod
    def read(
        cls,
        formula: str | None = None,
        *,
        outcome: Any = None,
        treatment: Any = None,
        covariates: Any = (),
        fixed_effects: Any = (),
        instrument: Any = None,
        estimator: EstimatorName | None = None,
        unit: str | None = None,
        time: str | None = None,
    ) -> Self:
        """Read the arguments as `estimate_effect` documents them."""
        named = {
            "covariates": NamedColumns.of(covariates, "covariates"),
            "instruments": NamedColumns.of(instrument, "instrument"),
        }
        effects = read.names("fixed_effects", fixed_effects)
        if formula is None:
            if outcome is None or treatment is None:
                raise EffectError(
                    "outcome, treatment: name both columns, or pass a formula such as 'wealth ~ treated'."
                )
            return cls(
                estimator=estimator or "difference",
                outcome=outcome,
                treatment=treatment,
                fixed_effects=effects,
                unit=unit,
                time=time,
                **named,
            )
        if outcome is not None or effects or any(columns.columns for columns in named.values()):
            raise EffectError(
                "formula: it names outcome, covariates, fixed effects and instruments; pass none of them beside it."
            )
        parsed = parse_formula(formula, treatment)
        effects = parsed.fixed_effects
        if estimator == "did" and unit is None and time is None and len(effects) == 2:
            (unit, time), effects = effects, ()
        return cls(
            estimator=estimator or ("ols" if parsed.instruments is None else "iv"),
            outcome=parsed.outcome,
            treatment=parsed.treatment,
            covariates=parsed.covariates,
            instruments=parsed.instruments or named["instruments"],
            fixed_effects=effects,
            unit=unit,
            time=time,
            interactions=parsed.interactions,
        )
