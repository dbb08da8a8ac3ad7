"""Slopes of prediction on truth by level of variation: between surveys, between regions, within a region.

The slope depends on what moves the truth. Predictions follow the difference between town and country nearly one to
one and that between two villages by half, so a contrast needs the slope of the level at which its treatment varies.

Means of a few labels are noisy, and noise in the truth flattens a slope. Products are therefore taken between
*different* members of a group, whose errors are independent: one half of each group is the instrument for the other
half, averaged over all ways of halving it (a split-sample instrument; Angrist & Krueger 1995,
doi:10.1080/07350015.1995.10524597).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.apply import apply_elementwise, warn_outside
from sustain.debias.card.assemble import card_of
from sustain.debias.card.card import CalibrationCard
from sustain.debias.contrasts.families import ContrastDesign, require_quiet_labels
from sustain.debias.contrasts.slopes import (
    LevelSlope,
    Term,
    between,
    cluster_sums,
    contrasts,
    inside,
    nested,
    slope_of,
)
from sustain.debias.linear import LinearCalibration
from sustain.debias.sample import MIN_PAIRS, CalibrationSample, as_sample, read, warn_of, weak_slopes
from sustain.errors import CalibrationError

__all__ = ["LevelCalibration", "LevelSlope"]

Array = NDArray[np.float64]


class LevelCalibration:
    """Linear corrections by level of variation, and for named families of contrasts.

    At one level ``h(x) = m_y + (x - m_x) / b``: contrasts at the level are divided by its own slope b, and the mean
    of the calibration sample is kept. Under measurement stability at that level (what moves the truth there reaches
    the prediction as it does in the calibration sample) such contrasts are right; all others are not.

    Attributes
    ----------
    levels_ : dict of str to LevelSlope
        ``"between <level>"`` for each level within the one above it, ``"within <finest level>"``, ``"within
        stratum"``, then one for each family. A level with fewer than five groups or 20 rows, or without true
        variation beyond its noise, is left out.
    pooled_ : LevelSlope
        The slope over all rows.
    centre_ : tuple of float
        Means of predictions and labels, about which every line turns.
    support_ : tuple of float
        Range of predictions in which the slopes were learned.
    cov_ : ndarray, shape (k, k)
        Covariance of the slopes in `levels_`, in their order, clustered by `groups`, without them by the coarsest
        level.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> region = np.repeat(np.arange(100), 8)
    >>> between, within = rng.normal(size=100)[region], rng.normal(size=800)
    >>> predicted = 0.9 * between + 0.5 * within + rng.normal(scale=0.2, size=800)
    >>> found = LevelCalibration().fit(predicted, between + within, levels={"region": region})
    >>> [round(item.slope, 1) for item in found.levels_.values()]
    [0.9, 0.5]
    """

    _sample: CalibrationSample
    _terms: dict[str, Term]
    _top: NDArray[np.intp]
    levels_: dict[str, LevelSlope]
    pooled_: LevelSlope
    centre_: tuple[float, float]
    support_: tuple[float, float]
    target_noise_var_: float

    def fit(
        self,
        y_pred: Any,
        y_true: Any,
        levels: Mapping[str, Any] | None = None,
        sample_weight: Any = None,
        groups: Any = None,
        strata: Any = None,
        target_noise_var: float = 0.0,
        families: Iterable[ContrastDesign] = (),
    ) -> LevelCalibration:
        """Estimate the slope at every level.

        Parameters
        ----------
        y_pred, y_true : array_like, shape (n,)
            Out-of-sample predictions and labels.
        levels : mapping of str to array_like, shape (n,)
            Group labels by level, coarse to fine, such as ``{"survey": ..., "region": ...}``. Each level is taken
            within those above it.
        sample_weight : array_like, shape (n,), optional
            Weights of rows in the pooled slope and within groups; groups, and rows of families' contrasts, count alike.
        groups : array_like, shape (n,), optional
            Clusters for covariances. A level whose groups hold several clusters is clustered by its own groups, and so
            are all levels when no clusters are given.
        strata : array_like, shape (n,), optional
            Strata such as urban and rural: adds ``"within stratum"``, within the coarsest level.
        target_noise_var : float
            Variance of the labels' own sampling error. Only slopes within groups need it.
        families : iterable of ContrastFamily or DonorTrials
            Families of contrasts that get a slope of their own; see `matched`.

        Raises
        ------
        CalibrationError
            On unusable rows, when there is neither a level, nor a stratum, nor a family, or with donor trials on labels
            with noise.

        Warns
        -----
        WeakCalibrationWarning
            When there are fewer than 100 pairs, or a slope that corrects is below 0.2: the pooled one, that of a
            stratum, or that of a level or family.
        """
        sample = as_sample(y_pred, y_true, sample_weight, groups, strata, target_noise_var)
        self.fit_sample(sample, levels, families)
        warn_of(sample.weaknesses, stacklevel=2)
        warn_of(
            weak_slopes({name: item.slope for name, item in self.levels_.items() if item.usable}),
            stacklevel=2,
        )
        return self

    def fit_sample(
        self,
        sample: CalibrationSample,
        levels: Mapping[str, Any] | None = None,
        families: Iterable[ContrastDesign] = (),
    ) -> LevelCalibration:
        """Estimate the slope at every level from checked rows, whose strata are used; arguments as for `fit`."""
        families = tuple(families)
        if not levels and sample.stratum is None and not families:
            raise CalibrationError(
                "levels: expected at least one, such as {'region': labels}, or strata, or families; got none."
            )
        for family in families:
            require_quiet_labels(family, sample.noise)
        for name, labels in (levels or {}).items():
            read.require_same_index(f"levels[{name!r}]", labels, "y_pred", sample)
        self._sample, self.target_noise_var_, self.support_ = sample, sample.noise, sample.support
        self.centre_ = (
            float(np.average(sample.y_pred, weights=sample.weight)),
            float(np.average(sample.y_true, weights=sample.weight)),
        )
        self._terms, self.levels_ = {}, {}
        line = sample.prediction_on_truth
        self.pooled_ = LevelSlope("pooled", line.slope, line.slope_se, line.df, sample.n)
        top = parent = np.zeros(sample.n, dtype=np.intp)
        name = ""
        for k, (name, labels) in enumerate((levels or {}).items()):
            found = read.labels(f"levels[{name!r}]", labels, sample.n_passed)
            group = nested(parent, sample.kept(found.codes))
            self._keep(f"between {name}", between(sample, group, parent))
            parent, top = group, group if k == 0 else top
        self._top = top if levels else np.arange(sample.n)
        # A trial lies in a new group of the coarsest kind that is known.
        places = top if levels or sample.group is None else sample.group
        if levels:
            self._keep(f"within {name}", inside(sample, parent, places))
        if sample.stratum is not None:
            stratum = nested(top, read.labels("strata", sample.stratum).codes)
            self._keep("within stratum", inside(sample, stratum, places))
        for family in families:
            self._keep(family.name, contrasts(sample, family))
        return self

    def matched(self, design: ContrastDesign) -> LevelSlope:
        """Slope for a family of contrasts, built from covariates or places.

        Parameters
        ----------
        design : ContrastFamily or DonorTrials
            For example ``ContrastFamily.treated("urban - rural", urban, within=survey)``.

        Returns
        -------
        LevelSlope
            Slope through the origin of the predicted contrasts on the true ones, the noise of both arms' means taken
            off.

        Raises
        ------
        CalibrationError
            When fewer than five contrasts have two rows or more in either arm, the true contrasts do not exceed
            their noise, or the design is donor trials on labels with noise.
        """
        self._require_fit()
        require_quiet_labels(design, self.target_noise_var_)
        term = contrasts(self._sample, design)
        if term is None:
            raise CalibrationError(
                f"design: the family {design.name!r} has fewer than five contrasts with two rows or more in either "
                "arm, or its true contrasts do not exceed their noise. Take wider groups, or a level."
            )
        return slope_of(design.name, term, self._sample)[0]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters as passed to ``__init__``: there are none."""
        return {}

    def set_params(self, **params: Any) -> LevelCalibration:
        """Set parameters by name. Raises `ValueError`, as there are none."""
        if params:
            raise ValueError(f"LevelCalibration has no parameters; got {', '.join(params)}.")
        return self

    def __repr__(self) -> str:
        return "LevelCalibration()"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "levels_")

    def transform(self, y_pred: Any, level: str, check_support: bool = True) -> Any:
        """Correct predictions for contrasts at one level.

        Parameters
        ----------
        y_pred : number, ndarray, pandas.Series, dask array or xarray.DataArray
            Predictions; NaN passes through, the same kind comes out.
        level : str
            A key of `levels_`.
        check_support : bool
            Whether to warn when predictions leave the support (never for lazy arrays).

        Raises
        ------
        CalibrationError
            When there is no such level, or its slope is not clearly above zero.

        Warns
        -----
        SupportWarning
            When more than 2% of the predictions lie outside `support_`.
        """
        found, (mean_x, mean_y) = self._usable(level), self.centre_
        if check_support:
            warn_outside(y_pred, self.support_)
        return apply_elementwise(lambda x: mean_y + (x - mean_x) / found.slope, y_pred)

    @property
    def cov_(self) -> Array:
        """Covariance of the slopes, shape (k, k)."""
        self._require_fit()
        group = self._top if self._sample.group is None else self._sample.group
        rows = [slope_of(name, term, self._sample)[1] for name, term in self._terms.items()]
        influence = np.column_stack([np.bincount(group, weights=row) for row in rows])
        few = influence.shape[0] / (influence.shape[0] - 1)
        cov = influence.T @ influence * few
        # Where the level's own groups are wider than the clusters, the errors are those of its groups.
        own = np.array([item.std_error for item in self.levels_.values()])
        scale = own / np.sqrt(np.maximum(np.diag(cov), 1e-300))
        return np.asarray(cov * np.outer(scale, scale))

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Give slope, standard error and number of units by level, the pooled one first."""
        found = {"pooled": self.pooled_, **self.levels_}
        return {
            k: {"slope": v.slope, "std_error": v.std_error, "n_units": v.n_units} for k, v in found.items()
        }

    def to_card(
        self, *, target: Any, predictor: Any, n_boot: int = 200, seed: int = 0, **about: Any
    ) -> CalibrationCard:
        """Make a card with the linear correction and these levels; arguments as for `sustain.debias.build_card`."""
        self._require_fit()
        sample = replace(
            self._sample, stratum=None, stratum_names=(), stratum_parts=()
        )  # strata are levels here
        return card_of(
            [LinearCalibration().fit_sample(sample)],
            sample,
            target=target,
            predictor=predictor,
            n_boot=n_boot,
            seed=seed,
            levels=self,
            **about,
        )

    def slope_draws(self, level: str, n_draws: int, rng: np.random.Generator) -> Array | None:
        """Draws of a new contrast's slope at a level; all above zero.

        The mean slope by a bootstrap of clusters, to first order, times a log-normal factor of mean 1 with the spread
        between contrasts. None when the mean slope is not clearly above zero, or fewer than half of its draws are.
        """
        self._require_fit()
        if not self.levels_[level].usable:
            return None
        parts = cluster_sums(self._terms[level], self._sample)
        n = parts.size
        counts = rng.multinomial(n, np.full(n, 1 / n), size=2 * n_draws)
        slopes = self.levels_[level].slope + (counts - 1.0) @ parts
        kept = slopes[slopes > 0][:n_draws]
        if kept.size < n_draws:
            return None
        found = self.levels_[level]
        scale = np.sqrt(np.log1p((found.slope_sd / found.slope) ** 2))
        return np.asarray(kept * np.exp(scale * rng.normal(size=n_draws) - scale**2 / 2))

    def _keep(self, name: str, term: Term | None) -> None:
        if term is None or np.count_nonzero(term.unit >= 0) < MIN_PAIRS:
            return
        if name in self._terms:
            raise CalibrationError(
                f"families: two levels or families are called {name!r}. Give each its own name."
            )
        self._terms[name] = term
        self.levels_[name] = slope_of(name, term, self._sample)[0]

    def _usable(self, level: str) -> LevelSlope:
        self._require_fit()
        if level not in self.levels_:
            raise CalibrationError(
                f"level: {level!r} is unknown; there are {', '.join(self.levels_) or 'none'}."
            )
        found = self.levels_[level]
        if not found.usable:
            low, high = found.interval()
            raise CalibrationError(
                f"level: the slope of {level!r} is {found.slope:.3g} with a 95% interval of [{low:.3g}, {high:.3g}], "
                "which is not above zero: contrasts at this level cannot be corrected."
            )
        return found

    def _require_fit(self) -> None:
        if not hasattr(self, "levels_"):
            raise CalibrationError(
                "LevelCalibration is not fitted. Call fit(y_pred, y_true, levels=...) first."
            )
