"""The units of one trial, checked: which rows are used, and what was wrong with the others."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sustain.causal.trial.reader import read
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
        Further columns that were asked for, such as clusters, lat and lon, as they came: who needs labels reads them
        by `sustain.causal.trial.reader.read`.
    n_dropped, n_unweighted : int
        Rows left out for a missing value, and for a weight of zero.
    rows : ndarray of int, shape (n,)
        Positions of the units in the data.
    n_products : int
        How many of the covariates, the last ones, are products of the treatment with others.
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
    n_products: int = 0
    dropped: str = ""

    @property
    def n(self) -> int:
        """Number of units used."""
        return len(self.outcome)

    @property
    def n_treated(self) -> int:
        """Number of treated units."""
        return int(self.treated.sum())

    @property
    def products(self) -> tuple[str, ...]:
        """Names of the products of the treatment with covariates."""
        return self.names[len(self.names) - self.n_products :]

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
    outcome, treatment, extra = roles.outcome, roles.treatment, tuple(extra)
    adjust = roles.covariates if roles.interactions is None else roles.interactions
    beside = (*adjust.columns, *roles.instruments.columns, *extra)
    read.require_columns(data, (outcome, treatment, *beside))
    y = read.vector(f"outcome: column {outcome!r}", data[outcome], missing=True)
    t = read.vector(f"treatment (0 or 1): column {treatment!r}", data[treatment], missing=True)
    weight = _weights(data, weights)
    missing = {outcome: np.isnan(y), treatment: np.isnan(t), "weights": np.isnan(weight)}
    missing |= {name: data[name].isna().to_numpy() for name in beside}
    incomplete = np.logical_or.reduce(list(missing.values()))
    dropped = ""
    unweighted = ~incomplete & (weight == 0)
    use = ~incomplete & ~unweighted
    if incomplete.any():
        counts = ", ".join(f"{name} {int(where.sum())}" for name, where in missing.items() if where.any())
        first = ", ".join(map(str, data.index[incomplete][:5]))
        rows = f"{first}, ..." if incomplete.sum() > 5 else first
        dropped = (
            f"{int(incomplete.sum())} of {len(data)} rows are left out for missing values ({counts}; rows {rows}). If "
            "they are missing for a reason (clouds, places off the map), the effect is that of the rows "
            "that remain."
        )
        warnings.warn(dropped, MissingDataWarning, stacklevel=4)
    _require_arms(t[use], treatment)
    largest = float(np.abs(y[use]).max())
    if largest > LARGEST:
        raise EffectError(
            f"outcome: column {outcome!r} holds values of {largest:g}. Mark missing predictions as NaN."
        )
    # The treatment as numbers: a boolean would be coded as two categories in its products.
    used = data.loc[use].assign(**{treatment: t[use]}) if roles.interactions else data.loc[use]
    values, names = adjust.matrix(used)
    moving, moving_names = roles.instruments.matrix(used)
    return Units(
        outcome=y[use],
        treated=t[use],
        weights=weight[use],
        covariates=values,
        names=names,
        instruments=moving,
        instrument_names=moving_names,
        extra={name: data[name].to_numpy()[use] for name in extra},
        n_dropped=int(incomplete.sum()),
        dropped=dropped,
        n_unweighted=int(unweighted.sum()),
        rows=np.flatnonzero(use),
        n_products=len(names) - len(roles.covariates.matrix(used)[1]) if roles.interactions else 0,
    )


def _weights(data: pd.DataFrame, weights: str | ArrayLike | None) -> Floats:
    """Weights of all rows, NaN where missing."""
    if weights is None:
        return np.ones(len(data))
    if isinstance(weights, str) or np.ndim(weights) == 0:
        name: Any = weights
        read.require_columns(data, [name])
        values = read.vector(f"weights: column {name!r}", data[name], missing=True)
    else:
        read.require_same_index("weights", weights, "data", data)
        values = read.vector("weights", weights, len(data), like="data", missing=True)
    if (values < 0).any():
        raise EffectError(f"weights: must not be negative; the smallest is {np.nanmin(values):g}.")
    return values


def _require_arms(treated: Floats, name: str) -> None:
    read.require_arms(name, treated)
    n_treated = int(treated.sum())
    n_control = len(treated) - n_treated
    if min(n_treated, n_control) < 2:
        raise EffectError(
            f"treatment: {n_treated} treated and {n_control} control units are usable in column {name!r}; "
            "each arm needs at least 2. Check for missing predictions, zero weights, and whether the arms "
            "are coded as 0 and 1."
        )
