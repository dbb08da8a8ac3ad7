"""Cross-prediction: the trial's few labels both train the predictor and correct it.

Where no map is at hand, or covariates could sharpen one, a predictor is fitted on the trial's own labels. Used on the
units it was fitted on it would hide its errors, so each labelled unit is predicted by a model that did not see it, and
an unlabelled one by the mean of the models (Zrnic and Candes 2024, doi:10.1073/pnas.2322083121).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.labels.ppi import ppi_effect
from sustain.causal.labels.result import PPIResult
from sustain.causal.trial.reader import read
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cross_ppi_effect", "cross_predict"]

Floats = NDArray[np.float64]


def cross_ppi_effect(
    data: pd.DataFrame,
    *,
    label: str,
    features: Sequence[str],
    treatment: str,
    model: Any = None,
    n_folds: int = 5,
    seed: int = 0,
    clusters: str | None = None,
    lam: float | None = None,
    clip: bool = False,
) -> PPIResult:
    """Difference in means of the truth between arms, with predictions learned from the trial's own labels.

    Parameters
    ----------
    data : DataFrame
        One row a unit of the trial.
    label : str
        Column of true outcomes, NaN where there is none. Which units have one must be random within an arm.
    features : sequence of str
        Numeric columns to predict from, a map's raw prediction among them. The treatment may be one.
    treatment : str
        Column of 0 and 1.
    model : scikit-learn regressor, optional
        Fitted anew in every fold; by default ridge regression on standardised features, with a built-in choice of the
        penalty.
    n_folds, seed : int
        Folds of the labelled units, and the seed that draws them. Clusters are kept whole.
    clusters, lam, clip
        As in `ppi_effect`.

    Returns
    -------
    PPIResult
        Its variance takes the models as given, which is right for models that hardly change when a few labels do.

    Raises
    ------
    EffectError
        As `ppi_effect`; and when a feature is missing, not a number, or there are fewer labels than folds.
    """
    predicted = cross_predict(
        data, label=label, features=features, model=model, n_folds=n_folds, seed=seed, clusters=clusters
    )
    return ppi_effect(
        data.assign(**{_PREDICTED: predicted}),
        label=label,
        prediction=_PREDICTED,
        treatment=treatment,
        clusters=clusters,
        lam=lam,
        clip=clip,
    )


def cross_predict(
    data: pd.DataFrame,
    *,
    label: str,
    features: Sequence[str],
    model: Any = None,
    n_folds: int = 5,
    seed: int = 0,
    clusters: str | None = None,
) -> Floats:
    """Predict every unit by models that did not see its label.

    Parameters
    ----------
    data, label, features, model, n_folds, seed, clusters
        As in `cross_ppi_effect`.

    Returns
    -------
    ndarray, shape (n,)
        For `sustain.causal.ppi_effect`, `ppi_mean` or `ppi_ols`.
    """
    from sklearn.base import clone
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = read.names("features", features)
    if not columns or label in columns:
        raise EffectError(
            f"features: got {list(columns)}; name columns to predict from, without the label {label!r}."
        )
    read.require_columns(data, (label, *columns, *(() if clusters is None else (clusters,))))
    truth = read.vector(f"label {label!r}", data[label], missing=True)
    table = np.column_stack([read.vector(f"feature {name!r}", data[name]) for name in columns])
    labelled = np.flatnonzero(~np.isnan(truth))
    # A fold holds whole clusters: neighbours of a left-out unit would tell the model its label.
    codes = np.arange(len(labelled))
    if clusters is not None:
        group = read.labels(f"column {clusters!r}", data[clusters]).codes
        codes = np.unique(group[labelled], return_inverse=True)[1]
    n_groups = int(codes.max()) + 1 if len(codes) else 0
    n_folds = read.whole("n_folds", n_folds, "a whole number of 2 or more", least=2)
    if n_folds > n_groups:
        raise EffectError(
            f"n_folds: got {n_folds} for {n_groups} labelled {'units' if clusters is None else 'clusters'}; "
            "expected 2 or more, and no more than there are labels."
        )
    # Standardised: a penalty on coefficients depends on the units of the features otherwise.
    default = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 3, 13)))
    base = default if model is None else model
    predicted = np.zeros(len(data))
    unlabelled = np.isnan(truth)
    for train, left_out in KFold(n_folds, shuffle=True, random_state=seed).split(np.arange(n_groups)):
        seen, unseen = labelled[np.isin(codes, train)], labelled[np.isin(codes, left_out)]
        fitted = clone(base).fit(table[seen], truth[seen])
        predicted[unseen] = fitted.predict(table[unseen])
        if unlabelled.any():
            predicted[unlabelled] += fitted.predict(table[unlabelled]) / n_folds
    return predicted


_PREDICTED = "_cross_predicted"
