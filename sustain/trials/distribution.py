"""What a trial's treatment does to the distribution of wealth, as results carry it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

if TYPE_CHECKING:
    from sustain.causal.distributions.result import DistributionResult
    from sustain.debias import CalibrationCard

__all__ = ["Number", "TrialDistribution", "TrialMeasure", "poverty_lines"]


def _from_null(value: Any) -> Any:
    """JSON has no word for a number that is none; files hold ``null``."""
    return float("nan") if value is None else value


Number = Annotated[float, BeforeValidator(_from_null)]


class TrialMeasure(BaseModel):
    """One measure of both distributions: of controls, of treated, and the effect with its interval.

    Attributes
    ----------
    kind : str
        ``"headcount"``, ``"shortfall"``, ``"quantile"``, ``"gain"`` or ``"mean"``.
    at : float
        The line or the quantile; of a gain the quantile at the upper end of its third.
    control, treated, effect, conf_low, conf_high : float
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    at: Number
    control: Number
    treated: Number
    effect: Number
    conf_low: Number
    conf_high: Number


class TrialDistribution(BaseModel):
    """Both unfolded distributions of a trial, under measurement stability.

    Attributes
    ----------
    level : float
    measures : tuple of TrialMeasure
    curves : dict of str to list of float
        ``truth`` and, for either arm, the share of units below it with its band: ``control``, ``control.low``,
        ``control.high``, ``treated``, ``treated.low``, ``treated.high``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float
    measures: tuple[TrialMeasure, ...]
    curves: dict[str, list[Number]]

    @classmethod
    def of(cls, found: DistributionResult) -> TrialDistribution:
        """Keep of a result what files and pages need."""
        measures = []
        for item in (*found.measured, found.mean):
            low, high = found.conf_int(item.effect)
            ends = (item.control.estimate, item.treated.estimate, item.effect.estimate, low, high)
            names = ("control", "treated", "effect", "conf_low", "conf_high")
            kind = "mean" if item is found.mean else item.kind
            measures.append(TrialMeasure(kind=kind, at=item.at, **dict(zip(names, ends, strict=True))))
        table = found.distributions()
        arms = [f"{arm}{end}" for arm in ("control", "treated") for end in ("", ".low", ".high")]
        curves = {name: [float(f"{v:.5g}") for v in table[name]] for name in ("truth", *arms)}
        return cls(level=found.level, measures=tuple(measures), curves=curves)

    def by(self, kind: str) -> tuple[TrialMeasure, ...]:
        """Measures of one kind."""
        return tuple(item for item in self.measures if item.kind == kind)


def poverty_lines(card: CalibrationCard, shares: Sequence[float]) -> list[float]:
    """Truths below which such shares of the card's calibration sample lie.

    Raises
    ------
    CardError
        When the card holds no response.
    """
    pooled = card.response_model.pooled
    return [float(f"{v:.3g}") for v in np.interp(shares, pooled.shares, pooled.quantiles)]
