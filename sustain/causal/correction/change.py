"""Changes over time: effects that a slope learned between places does not correct."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from sustain.causal.design import Design
from sustain.causal.trial.units import Units
from sustain.errors import EffectError
from sustain.spelling import argument

__all__ = ["Change", "change_of", "may_be_change", "require_slope_of_change"]


class Change(NamedTuple):
    """The panel whose changes are compared: columns of the unit and of the period."""

    unit: str
    time: str


def change_of(design: Design, units: Units) -> Change | None:
    """Tell whether a design compares changes of the same units, where its columns leave no doubt.

    ``"did"`` does. So do fixed effects of a unit and of years where no two rows share both, and treatment changes
    within units. What else fixed effects compare cannot be told: rows of one village may be its years or its houses.
    """
    if design.unit is not None and design.time is not None:
        return Change(design.unit, design.time)
    return next((panel for panel in _panels(design, units) if _are_years(units.extra[panel.time])), None)


def may_be_change(design: Design, units: Units) -> Change | None:
    """Find fixed effects that may be those of a unit and a period, where `change_of` is not sure."""
    return next(_panels(design, units), None)


def require_slope_of_change(change: Change, asked: Mapping[str, Any]) -> None:
    """Raise `EffectError` where a correction of a change is asked for, because no card holds what it would divide by.

    A slope of change, learned from labels of the same places at two dates, would be taken from the card here.

    Parameters
    ----------
    change : Change
    asked : mapping of str to object
        Arguments that ask for a correction; None for those that were not given.
    """
    for name, value in asked.items():
        if value is not None:
            raise EffectError(
                f"{name}: got {value!r}, but the effect is a change of {change.unit!r} over {change.time!r}, and the "
                "card's slope was learned by comparing places. Predictions follow changes far less than differences "
                "between places, so that an effect corrected by it, and an interval up to it, would stay below the "
                f"true one. Pass {argument('assumption', 'outcome')} for the naive effect, which is then a lower "
                "end of its size. To correct it, collect labels of the same places at two dates, which give a "
                "slope of change."
            )


def _panels(design: Design, units: Units) -> Iterator[Change]:
    """Pairs of fixed effects of which no two rows share both, and within the first of which treatment changes."""
    import pandas as pd

    # What effects are made of: a column, or several that are joined.
    parts = [effect.split("^") if isinstance(effect, str) else [effect] for effect in design.fixed_effects]
    for unit in (part[0] for part in parts if len(part) == 1):
        for time in dict.fromkeys(name for part in parts for name in part if name != unit):
            columns = {"unit": units.extra[unit], "time": units.extra[time], "treated": units.treated}
            rows = pd.DataFrame(columns)
            share = rows.groupby("unit", observed=True)["treated"].transform("mean")
            if not rows.duplicated(["unit", "time"]).any() and ((share > 0) & (share < 1)).any():
                yield Change(unit, time)


def _are_years(column: Any) -> bool:
    """Whether a column holds dates, or whole numbers that can be nothing but years."""
    import pandas as pd

    values = pd.Series(column).infer_objects()
    if isinstance(values.dtype, pd.PeriodDtype) or pd.api.types.is_datetime64_any_dtype(values):
        return True
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    return bool(((numbers >= 1950) & (numbers <= 2100) & (numbers == np.round(numbers))).all())
