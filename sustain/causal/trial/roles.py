"""Which column plays which role in an estimate, by name or by formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sustain.causal.trial.covariates import Columns, Covariates
from sustain.causal.trial.formula import parse_formula
from sustain.errors import EffectError

__all__ = ["EstimatorName", "Roles"]

EstimatorName = Literal["difference", "ols", "ipw", "aipw", "did", "iv"]

_BY_NAME = "outcome, covariates, fixed effects and instruments"


@dataclass(frozen=True)
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
    """

    estimator: EstimatorName
    outcome: str
    treatment: str
    covariates: Covariates
    instruments: Covariates
    fixed_effects: tuple[str, ...] = ()
    unit: str | None = None
    time: str | None = None

    @classmethod
    def read(
        cls,
        formula: str | None,
        outcome: str | None,
        treatment: str | None,
        covariates: str | Sequence[str],
        fixed_effects: str | Sequence[str],
        instrument: str | Sequence[str] | None,
        estimator: EstimatorName | None,
        unit: str | None,
        time: str | None,
    ) -> Roles:
        """Read the arguments as `estimate_effect` documents them."""
        adjust = Columns.of(covariates, "covariates")
        moving = Columns.of(instrument, "instrument")
        effects = Columns.of(fixed_effects, "fixed_effects").columns
        if formula is None:
            if outcome is None or treatment is None:
                raise EffectError(
                    "outcome, treatment: name both columns, or pass a formula such as 'wealth ~ treated'."
                )
            roles = cls(estimator or "difference", outcome, treatment, adjust, moving, effects, unit, time)
        else:
            if outcome is not None or adjust.columns or moving.columns or effects:
                raise EffectError(f"formula: it names {_BY_NAME}; pass none of them beside it.")
            parsed = parse_formula(formula, treatment)
            effects = parsed.fixed_effects
            if estimator == "did" and unit is None and time is None and len(effects) == 2:
                (unit, time), effects = effects, ()
            roles = cls(
                estimator or ("ols" if parsed.instruments is None else "iv"),
                parsed.outcome,
                parsed.treatment,
                parsed.covariates,
                moving if parsed.instruments is None else parsed.instruments,
                effects,
                unit,
                time,
            )
        if roles.estimator == "difference" and roles.covariates.columns:
            raise EffectError(
                f"covariates: {list(roles.covariates.columns)} given, but a difference in means adjusts for none. "
                "Use estimator='ols'."
            )
        return roles
