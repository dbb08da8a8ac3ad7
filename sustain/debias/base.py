"""What every calibration has in common: scikit-learn's conventions, and application through one table.

The conventions are kept without importing scikit-learn, whose import alone takes longer than a correction:
parameters are stored untouched by ``__init__``, fitted names end in an underscore, `sklearn.base.clone` works.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sustain.debias.apply import apply_by_label, apply_elementwise, is_lazy
from sustain.debias.sample import CalibrationSample, as_sample, noise_variance, read
from sustain.debias.table import Grid, Table
from sustain.errors import CalibrationError, InSampleWarning, SupportWarning, WeakCalibrationWarning
from sustain.stats.line import Line

if TYPE_CHECKING:
    from sustain.debias.card.card import CalibrationCard
    from sustain.debias.strata import StratumFit

__all__ = ["EXPECTED_OUTSIDE", "Calibration", "check_line", "warn_outside"]

Array = NDArray[np.float64]

EXPECTED_OUTSIDE = 0.02
"""Share of predictions beyond the support that passes without a warning: twice what the calibration has itself."""


FITTED = 1e-6
"""Distance of intercept and slope from 0 and 1 below which predictions are taken to be fitted values."""


class Calibration:
    """What calibrations share. See `LinearCalibration` and `TweedieCalibration`."""

    method: ClassVar[str]

    _sample: CalibrationSample
    strata_: dict[str, StratumFit]
    table_: Table
    table_error_: float
    support_: tuple[float, float]
    prediction_on_truth_: Line
    truth_on_prediction_: Line
    target_noise_var_: float

    def fit(
        self,
        y_pred: Any,
        y_true: Any,
        sample_weight: Any = None,
        groups: Any = None,
        strata: Any = None,
        target_noise_var: float = 0.0,
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
        target_noise_var : float
            Variance of the labels' own sampling error (few households to a label), in squared units of the label.

        Raises
        ------
        CalibrationError
            On unusable rows or parameters; when the interval of the slope is not above zero; when
            `target_noise_var` is as large as the variance that it is part of.

        Warns
        -----
        WeakCalibrationWarning
            When r2 is below `min_r2`, or a stratum cannot carry a correction of its own.
        InSampleWarning
            When the predictions are least-squares fitted values of these very labels. Other models' training rows
            cannot be told from their numbers alone: hold rows out, and see ``diagnose(train=...)``.
        """
        from sustain.debias.strata import fit_strata

        self._check_parameters()
        sample = as_sample(y_pred, y_true, sample_weight, groups, strata)
        self._fit_sample(sample, noise_variance(target_noise_var))
        _warn_fitted_values(self.truth_on_prediction_, float(np.std(sample.y_pred)))
        self.strata_ = fit_strata(self)
        return self

    def _check_parameters(self) -> None:
        """Raise `CalibrationError` when a parameter is out of range."""

    def _fit_sample(self, sample: CalibrationSample, noise: float) -> None:
        """Learn the pooled correction."""
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

    def influence(self, y_pred: Any, weight: Any = None, strata: Any = None) -> Array:
        """Influence of every calibration row on ``sum_j weight_j h(y_pred_j)``.

        It is all that a downstream variance needs of the calibration: with psi this influence, the calibration's
        part of the variance of the sum is ``sum(psi^2) / n^2``; for clustered rows sum psi within clusters first.
        Where trial and calibration share places, add psi / n to the trial's own influences before squaring.

        Parameters
        ----------
        y_pred : array_like, shape (n_trial,)
            Predictions to be corrected, such as a trial's.
        weight : array_like, shape (n_trial,), optional
            Their weights in the estimate, of any sign: ``treated / n_treated - control / n_control`` for a difference
            of means. Without them the estimate is the mean.
        strata : str or array_like of shape (n_trial,), optional
            As for `transform`.

        Returns
        -------
        ndarray, shape (n,)
            One value a calibration row, in the order of `fit`. What is held fixed: `sustain.debias.influence`.

        Raises
        ------
        CalibrationError
            On missing or infinite values, or a stratum that was not there at the fit.
        """
        from sustain.debias.influence import sum_influence

        self._require_fit()
        x = read.vector("y_pred", y_pred)
        read.require_same_index("weight", weight, "y_pred", y_pred)
        read.require_same_index("strata", strata, "y_pred", y_pred)
        shares = (
            np.full(x.size, 1 / max(1, x.size)) if weight is None else read.vector("weight", weight, x.size)
        )
        return sum_influence(self, x, shares, strata)

    def to_card(
        self, *, target: Any, predictor: Any, n_boot: int = 200, seed: int = 0, **about: Any
    ) -> CalibrationCard:
        """Make the calibration card of this fit alone; arguments as for `sustain.debias.build_card`."""
        from sustain.debias.card.build import card_of

        self._require_fit()
        return card_of(
            [self], self._sample, target=target, predictor=predictor, n_boot=n_boot, seed=seed, **about
        )

    # What a card needs of a calibration.

    def _grid(self) -> Grid:
        """Nodes on which a card should tabulate this correction."""
        return Grid.around(*self.support_)

    def _tabulate(self, grid: Grid) -> tuple[Table, float]:
        """Evaluate the correction on `grid`; also give the greatest difference from the formula inside the support."""
        raise NotImplementedError

    def _bootstrap(self, counts: Array, grid: Grid) -> Array | tuple[Array, Array]:
        """Refit the pooled correction on resampled groups.

        Gives curves, shape (n_draws, grid.n), or (intercepts, slopes) of prediction on truth.
        """
        raise NotImplementedError

    def _influence_of(self, nodes: Array) -> Array:
        """Influence of every row on ``nodes @ table_.h``, shape (n,)."""
        raise NotImplementedError

    def _notes(self) -> dict[str, float]:
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
    low, high = line.slope_interval(level)
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
            stacklevel=3,
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
            stacklevel=3,
        )


def warn_outside(y_pred: Any, support: tuple[float, float]) -> None:
    """Warn when more predictions than expected lie outside the support; lazy arrays are not looked at."""
    if is_lazy(y_pred):
        return
    values = y_pred.compressed() if isinstance(y_pred, np.ma.MaskedArray) else y_pred
    values = np.asarray(getattr(values, "values", values))
    if values.dtype.kind not in "fiu" or not values.size:
        return
    low, high = support
    outside = int(np.count_nonzero(values < low) + np.count_nonzero(values > high))
    if not outside:
        return
    seen = int(np.count_nonzero(values == values))
    if outside > EXPECTED_OUTSIDE * seen:
        warnings.warn(
            f"{outside / seen:.1%} of {seen} predictions lie outside [{low:.4g}, {high:.4g}], the support of the "
            "calibration. There the correction is a straight line that no label supports. Calibrate on rows "
            "with such predictions, or leave these places out.",
            SupportWarning,
            stacklevel=3,
        )
