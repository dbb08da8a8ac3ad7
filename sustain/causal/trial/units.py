"""The units of one trial, checked: which rows are used, and what was wrong with the others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.trial.roles import Roles
from sustain.errors import EffectError, MissingDataWarning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Units", "read_units"]

Floats = NDArray[np.float64]

LARGEST = 1e100  # no outcome is larger, and squares of larger ones are no numbers


@dataclass(frozen=True)
class Units:
    """Columns of a trial, row by row, without missing values.

    Attributes
    ----------
    outcome, treated, weights : ndarray, shape (n,)
        Raw prediction, 0 or 1, positive weight.
    covariates : ndarray, shape (n, k)
        Numbers; a text or categorical column has become dummies, its first category left out.
    names : tuple of str
        Names of the covariates.
    instruments : ndarray, shape (n, m)
        Instruments, coded like covariates.
    instrument_names : tuple of str
        Names of the instruments.
    extra : dict of str to ndarray
        Further columns that were asked for, such as clusters, lat and lon.
    n_dropped, n_unweighted : int
        Rows left out for a missing value, and for a weight of zero.
    rows : ndarray of int, shape (n,)
        Positions of the units in the data.
    """

    outcome: Floats
    treated: Floats
    weights: Floats
    covariates: Floats
    names: tuple[str, ...]
    instruments: Floats
    instrument_names: tuple[str, ...]
    extra: dict[str, NDArray[Any]]
    n_dropped: int
    n_unweighted: int
    rows: NDArray[np.intp]

    @property
    def n(self) -> int:
        """Number of units used."""
        return len(self.outcome)

    def repeated(self, counts: NDArray[Any]) -> Units:
        """Units as often as `counts` says, shape (n,): by their weight, which is what an estimator sees of it.

        Raises
        ------
        EffectError
            When an arm is left without two units.
        """
        rows = np.flatnonzero(counts)
        _require_arms(self.treated[rows], "treated")
        return replace(
            self,
            outcome=self.outcome[rows],
            treated=self.treated[rows],
            weights=self.weights[rows] * counts[rows],
            covariates=self.covariates[rows],
            instruments=self.instruments[rows],
            extra={name: values[rows] for name, values in self.extra.items()},
            rows=self.rows[rows],
        )


def read_units(
    data: pd.DataFrame,
    roles: Roles,
    weights: str | ArrayLike | None,
    extra: Iterable[str] = (),
) -> Units:
    """Take the columns of a trial out of `data` and check them.

    Parameters
    ----------
    data : DataFrame
        One row a unit. Its index may repeat; it is used only to check that a Series of weights belongs to it.
    roles : Roles
        Columns by their role.
    weights : str or array_like of shape (n,), optional
        Column or values; all 1 by default.
    extra : iterable of str
        Further columns to keep beside the others.

    Raises
    ------
    EffectError
        When a column is missing or of the wrong type, treatment is not 0/1, an arm has fewer than two units,
        or a weight is negative, infinite or of another row (by the index).

    Warns
    -----
    MissingDataWarning
        When rows are left out because a value is missing.
    """
    if not hasattr(data, "columns"):
        raise EffectError(
            f"data: got {type(data).__name__}, expected a pandas DataFrame with one row a unit."
        )
    outcome, treatment = roles.outcome, roles.treatment
    covariates, instruments = roles.covariates, roles.instruments
    extra = tuple(extra)
    for name in (outcome, treatment, *covariates.columns, *instruments.columns, *extra):
        _require_column(data, name)
    for role, columns in (("covariates", covariates.columns), ("instrument", instruments.columns)):
        if treatment in columns or outcome in columns:
            raise EffectError(f"{role}: {list(columns)} holds the treatment or the outcome. Take it out.")
    weight = _weights(data, weights)
    y, t = _numbers(data, outcome, "outcome"), _numbers(data, treatment, "treatment")
    kept = {name: data[name] for name in extra}
    missing = {outcome: np.isnan(y), treatment: np.isnan(t), "weights": np.isnan(weight)}
    beside = (*covariates.columns, *instruments.columns, *extra)
    missing |= {name: data[name].isna().to_numpy() for name in beside}
    incomplete = np.logical_or.reduce(list(missing.values()))
    unweighted = ~incomplete & (weight == 0)
    use = ~incomplete & ~unweighted
    if incomplete.any():
        counts = ", ".join(f"{name} {int(where.sum())}" for name, where in missing.items() if where.any())
        warnings.warn(
            f"{int(incomplete.sum())} of {len(data)} rows are left out for missing values ({counts}). If "
            "they are missing for a reason (clouds, places off the map), the effect is that of the rows "
            "that remain.",
            MissingDataWarning,
            stacklevel=3,
        )
    _require_arms(t[use], treatment)
    largest = float(np.abs(y[use]).max())
    if largest > LARGEST:
        held = "infinite values" if np.isinf(largest) else f"values of {largest:g}"
        raise EffectError(f"outcome: column {outcome!r} holds {held}. Mark missing predictions as NaN.")
    values, names = covariates.matrix(data.loc[use])
    moving, moving_names = instruments.matrix(data.loc[use])
    return Units(
        outcome=y[use],
        treated=t[use],
        weights=weight[use],
        covariates=values,
        names=names,
        instruments=moving,
        instrument_names=moving_names,
        extra={name: values.to_numpy()[use] for name, values in kept.items()},
        n_dropped=int(incomplete.sum()),
        n_unweighted=int(unweighted.sum()),
        rows=np.flatnonzero(use),
    )


def _require_column(data: pd.DataFrame, name: str) -> None:
    if name not in data.columns:
        raise EffectError(f"no column {name!r} in data; it has {', '.join(map(str, data.columns))}.")
    if data.columns.tolist().count(name) > 1:
        raise EffectError(f"data has more than one column named {name!r}. Rename or drop one.")


def _numbers(data: pd.DataFrame, name: str, role: str) -> Floats:
    import pandas as pd

    kind = data[name].dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_complex_dtype(
        kind
    ):  # bool counts as numeric
        arms = " Code the arms as 0 (control) and 1 (treated)." if role == "treatment" else ""
        raise EffectError(f"{role}: column {name!r} is {kind}, expected numbers.{arms}")
    return data[name].to_numpy(dtype=float, na_value=np.nan)


def _weights(data: pd.DataFrame, weights: str | ArrayLike | None) -> Floats:
    if weights is None:
        return np.ones(len(data))
    if isinstance(weights, str):
        _require_column(data, weights)
        values = _numbers(data, weights, "weights")
    else:
        index: Any = getattr(weights, "index", None)
        if hasattr(index, "equals") and not index.equals(data.index):
            raise EffectError(
                "weights: a pandas object whose index is not that of data. Align it first (weights.loc[data.index]), "
                "put it into a column of data, or pass .to_numpy()."
            )
        try:
            values = np.asarray(weights, dtype=float)
        except (TypeError, ValueError) as error:
            raise EffectError("weights: expected a column or one number for each row of data.") from error
        if values.shape != (len(data),):
            raise EffectError(
                f"weights: got shape {values.shape}, expected ({len(data)},), one for each row of data."
            )
    if np.any(values < 0) or np.any(np.isinf(values)):
        raise EffectError(f"weights: must be finite and not negative; the smallest is {np.nanmin(values):g}.")
    return values


def _require_arms(treated: Floats, name: str) -> None:
    others = np.setdiff1d(np.unique(treated), [0.0, 1.0])
    if len(others):
        raise EffectError(
            f"treatment: column {name!r} must hold 0 and 1 only, but holds "
            f"{', '.join(f'{v:g}' for v in others[:5])}. Code the arms as 0 (control) and 1 (treated)."
        )
    n_treated, n_control = int((treated == 1).sum()), int((treated == 0).sum())
    if min(n_treated, n_control) < 2:
        raise EffectError(
            f"treatment: {n_treated} treated and {n_control} control units are usable in column {name!r}; "
            "each arm needs at least 2. Check for missing predictions, zero weights, and whether the arms "
            "are coded as 0 and 1."
        )
