"""A trial of which some units have labels, read once: labels, predictions, arms, clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sustain.causal.trial.reader import read
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LabelledTrial", "require_clusters_in_arms", "require_rows_in_arms"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

MIN_ROWS = 10
"""Labelled rows that an arm must have where a line is fitted to it."""


@dataclass(frozen=True)
class LabelledTrial:
    """Columns of a trial.

    Attributes
    ----------
    label : ndarray, shape (n,)
        True outcomes, NaN where there is none.
    prediction : ndarray, shape (n,)
    treated : ndarray, shape (n,)
        0 or 1.
    covariates : ndarray, shape (n, k)
    group : ndarray of int, shape (n,), or None
        Cluster codes.
    """

    label: Floats
    prediction: Floats
    treated: Floats
    covariates: Floats
    group: Codes | None

    @classmethod
    def read(
        cls,
        data: pd.DataFrame,
        *,
        label: str,
        prediction: str,
        treatment: str,
        clusters: str | None = None,
        covariates: Sequence[str] = (),
        complete: bool = False,
    ) -> LabelledTrial:
        """Read the columns of a table.

        Parameters
        ----------
        data : DataFrame
        label, prediction, treatment, clusters, covariates
            Names of columns.
        complete : bool
            Whether rows with anything missing are left out; otherwise only labels may be missing.

        Raises
        ------
        EffectError
            When a column is missing or holds no numbers, values other than labels are missing, any is infinite, or the
            treatment is not 0/1.
        """
        covariates = read.names("covariates", covariates)
        used = [label, prediction, treatment, *covariates, *([] if clusters is None else [clusters])]
        read.require_columns(data, used)
        if complete:
            data = data.loc[data[list(dict.fromkeys(used))].notna().all(axis=1)]
        others = [read.vector(f"column {name!r}", data[name]) for name in covariates]
        return cls(
            label=read.vector(f"column {label!r}", data[label], missing=True),
            prediction=read.vector(f"column {prediction!r}", data[prediction]),
            treated=read.arms(treatment, data[treatment]),
            covariates=np.column_stack(others) if others else np.empty((len(data), 0)),
            group=None if clusters is None else read.labels(f"column {clusters!r}", data[clusters]).codes,
        )

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.label)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which units have a label."""
        return ~np.isnan(self.label)


def require_rows_in_arms(treated: Floats) -> None:
    """Raise `EffectError` unless both arms have ten labelled rows."""
    n_treated = int(treated.sum())
    if min(n_treated, len(treated) - n_treated) < MIN_ROWS:
        raise EffectError(
            f"treatment: {n_treated} treated and {len(treated) - n_treated} control rows have a label; both arms need "
            f"{MIN_ROWS} or more."
        )


def require_clusters_in_arms(group: Codes | None, treated: Floats) -> None:
    """Raise `EffectError` when an arm lies in a single cluster, of which no variance can be told."""
    for name, value in (("treated", 1.0), ("control", 0.0)):
        if group is not None and len(np.unique(group[treated == value])) < 2:
            raise EffectError(
                f"clusters: the {name} rows lie in a single cluster, so that nothing is seen of how clusters differ. "
                "Cluster at a finer level."
            )
