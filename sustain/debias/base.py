"""What every calibration has in common: scikit-learn's conventions, and application through one table.

The conventions are kept without importing scikit-learn, whose import alone takes longer than a correction:
parameters are stored untouched by ``__init__``, fitted names end in an underscore, `sklearn.base.clone` works.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sustain.debias.apply import apply_by_label, apply_elementwise, warn_outside
from sustain.debias.card.assemble import card_of
from sustain.debias.card.card import CalibrationCard
from sustain.debias.card.tabulate import FittedCurve
from sustain.debias.sample import CalibrationSample, as_sample
from sustain.debias.strata import StratumFit, fit_strata, stratum_curve
from sustain.debias.table import Nodes, Table
from sustain.errors import CalibrationError, InSampleWarning, WeakCalibrationWarning
from sustain.stats.line import Line

__all__ = ["Calibration", "check_line"]

Array = NDArray[np.float64]

FITTED = 1e-6
"""Distance of intercept and slope from 0 and 1 below which predictions are taken to be fitted values."""


class Calibration:
    """What calibrations share. See `LinearCalibration` and `TweedieCalibration`."""

    method: ClassVar[str]
    straight: ClassVar[bool] = False

    _sample: CalibrationSample
    strata_: dict[str, StratumFit]
    table_: Table
    table_error_: float
    support_: tuple[float, float]
    prediction_on_truth_: Line
    truth_on_prediction_: Line
    target_noise_var_: float
    weaknesses_: dict[str, str]

    def fit(
        self,
        y_pred: Any,
        y_true: Any,
        sample_weight: Any = None,
        groups: Any = None,
        strata: Any = None,
        target_noise_var: Any = 0.0,
    ) -> Self:
        """Learn the correction from calibration rows.

        Parameters
        ----------
        y_pred, y_true : array_like, shape (n,)
            Out-of-sample predictions and labels, in one unit. Training rows understate the errors, and with them the
            correction.
        sample_weight : array_like, shape (n,), optional
            Sampling weights; only their ratios matter.
        groups : array_like, shape (n,), optional
            Clusters (survey, spatial block) for covariances and resampling.
        strata : array_like, shape (n,), optional
            Strata (urban or rural, country) that get corrections of their own beside the pooled one, each drawn
            towards it as far as its rows leave it uncertain; see `sustain.debias.strata`.
        target_noise_var : float or array_like, shape (n,)
            Variance of the labels' own sampling error (few households to a label), in squared units of the label; for
            all labels or for each.

        Raises
        ------
        CalibrationError
            On unusable rows or parameters; when the interval of the slope is not above zero; when
            `target_noise_var` is as large as the variance that it is part of.

        Warns
        -----
        WeakCalibrationWarning
            When r2 is below `min_r2`, the slope of prediction on truth below 0.2, there are fewer than 100 pairs, or a
            stratum cannot carry a correction of its own.
        InSampleWarning
            When the predictions are least-squares fitted values of these very labels. Other models' training rows
            cannot be told from their numbers alone: hold rows out, and see ``diagnose(train=...)``.
        """
        self._check_parameters()
        sample = as_sample(y_pred, y_true, sample_weight, groups, strata, target_noise_var)
        sample.warn_of_weaknesses(stacklevel=2)
        return self.fit_sample(sample)

    def fit_sample(self, sample: CalibrationSample) -> Self:
        """Learn the correction from checked rows; errors and warnings as for `fit`, but for those of the rows alone."""
        self._check_parameters()
        self.learn(sample)
        _warn_fitted_values(self.truth_on_prediction_, float(np.std(sample.y_pred)))
        self.strata_ = fit_strata(self, sample)
        for name, fit in self.strata_.items():
            if fit.own is not None:
                self.weaknesses_ |= {
                    f"{subject}, {name}": said for subject, said in fit.own.weaknesses_.items()
                }
        return self

    def learn(self, sample: CalibrationSample) -> None:
        """Learn the pooled correction, without those of strata."""
        self._sample = sample
        self.target_noise_var_ = sample.noise
        self.prediction_on_truth_ = sample.prediction_on_truth
        self.truth_on_prediction_ = sample.truth_on_prediction
        self.support_ = sample.support
        self.r2_, self.n_, self.n_groups_ = sample.prediction_on_truth.r2, sample.n, sample.n_groups
        self.weaknesses_ = {}
        self._learn(sample)

    def _check_parameters(self) -> None:
        """Raise `CalibrationError` when a parameter is out of range."""

    def _learn(self, sample: CalibrationSample) -> None:
        """Learn what is this method's own."""
        raise NotImplementedError

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters as passed to ``__init__``."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Calibration:
        """Set parameters by name and return the object.

        Raises
        ------
        ValueError
            When there is no such parameter.
        """
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(
                    f"{name!r} is not a parameter of {type(self).__name__}; it has {', '.join(self._names())}."
                )
            setattr(self, name, value)
        return self

    @classmethod
    def _names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_params().items())})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "table_")

    def _require_fit(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise CalibrationError(f"{type(self).__name__} is not fitted. Call fit(y_pred, y_true) first.")

    def transform(self, y_pred: Any, strata: Any = None, check_support: bool = True) -> Any:
        """Correct predictions.

        Parameters
        ----------
        y_pred : number, ndarray, pandas.Series, dask array or xarray.DataArray
            Predictions in the target's unit, any shape; NaN passes through. Lazy arrays stay lazy.
        strata : str or array_like of the shape of `y_pred`, optional
            Stratum of all predictions, or of each; without it the pooled correction is used. Lazy arrays take one
            name.
        check_support : bool
            Whether to warn when predictions leave the calibrated support (never for lazy arrays).

        Returns
        -------
        same kind and floating type as `y_pred`
            Through the table `table_`, within `table_error_` of the formula.

        Raises
        ------
        CalibrationError
            When `y_pred` is not numeric, or a stratum was not there at the fit.

        Warns
        -----
        SupportWarning
            When more than 2% of the predictions lie outside `support_`.
        """
        self._require_fit()
        if check_support:
            warn_outside(y_pred, self.support_)
        if strata is None:
            return apply_elementwise(self.table_, y_pred)
        return apply_by_label({name: fit.table for name, fit in self.strata_.items()}, y_pred, strata)

    def derivative(self, y_pred: Any, strata: Any = None) -> Any:
        """Slope of the correction at the predictions; arguments and kind of result as for `transform`."""
        self._require_fit()
        if strata is None:
            return apply_elementwise(self.table_.derivative, y_pred)
        slopes = {name: fit.table.derivative for name, fit in self.strata_.items()}
        return apply_by_label(slopes, y_pred, strata)

    def to_card(
        self, *, target: Any, predictor: Any, n_boot: int = 200, seed: int = 0, **about: Any
    ) -> CalibrationCard:
        """Make the calibration card of this fit alone; arguments as for `sustain.debias.build_card`."""
        self._require_fit()
        return card_of(
            [self], self._sample, target=target, predictor=predictor, n_boot=n_boot, seed=seed, **about
        )

    # What a card needs of a calibration; see `sustain.debias.card.tabulate.FittedCorrection`.

    @property
    def own_strata(self) -> frozenset[str]:
        """Strata that have a correction of their own."""
        return frozenset(name for name, fit in self.strata_.items() if fit.own is not None)

    def nodes(self) -> Nodes:
        """Nodes on which a card should tabulate this correction."""
        return Nodes.around(*self.support_)

    def curves(self, counts: Array, grid: Nodes) -> Iterator[FittedCurve]:
        """Tabulate the pooled correction and those of strata on `grid`, with refits on resampled groups.

        Parameters
        ----------
        counts : ndarray, shape (n_draws, n_groups)
            How often each group (row, without groups) is in each draw.
        grid : Nodes
        """
        table, error = self.tabulate(grid)
        pooled = FittedCurve(None, table, error, self.bootstrap(counts, grid), self.notes())
        yield pooled
        for name, fit in self.strata_.items():
            yield stratum_curve(fit, pooled, counts[:, self._sample.groups_of(name)])

    def tabulate(self, grid: Nodes) -> tuple[Table, float]:
        """Evaluate the correction on `grid`; also give the greatest difference from the formula inside the support."""
        raise NotImplementedError

    def bootstrap(self, counts: Array, grid: Nodes) -> Array:
        """Refit the pooled correction on resampled groups: curves, shape (n_draws, grid.n)."""
        raise NotImplementedError

    def notes(self) -> dict[str, float]:
        """Numbers about the fit that a reader of the card should see."""
        return {}


def check_line(line: Line, what: str, level: float, min_r2: float) -> None:
    """Refuse a slope that may be zero; warn of a useless r2.

    Raises
    ------
    CalibrationError
        When the interval of the slope at `level` is not above zero.

    Warns
    -----
    WeakCalibrationWarning
        When r2 is below `min_r2`.
    """
    low, high = line.slope_interval(level, CalibrationError)
    if not low > 0:
        raise CalibrationError(
            f"The slope of {what} is {line.slope:.3g} with a {level:.0%} interval of [{low:.3g}, {high:.3g}] "
            f"(n = {line.n}, {line.vcov}), which is not above zero: these predictions cannot carry a correction. "
            "Calibrate on more or better matched rows, or use a better model."
        )
    if line.r2 < min_r2:
        warnings.warn(
            f"The predictions explain {line.r2:.1%} of the variance of the labels (less than {min_r2:.0%}). "
            "A correction will multiply their noise; expect wide intervals.",
            WeakCalibrationWarning,
            stacklevel=6,
        )


def _warn_fitted_values(line: Line, spread: float) -> None:
    """Warn when truth on prediction is the line of identity to rounding, as it is for a regression's own rows.

    By chance a sample of thousands comes so near about once in a thousand million times.
    """
    if max(abs(line.slope - 1), abs(line.intercept) / spread) < FITTED and line.r2 < 1 - FITTED:
        warnings.warn(
            "y_pred: the regression of y_true on y_pred is y_true = y_pred exactly, as only least-squares fitted "
            "values have it on their own training rows. Their errors are smaller than elsewhere, and so is the "
            "correction. Calibrate on rows that the model has not seen, such as left-out folds.",
            InSampleWarning,
            stacklevel=4,
        )
