"""The response calibration: effects are read back through the curve E[prediction | truth]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from sustain.debias.response.population import fit_model
from sustain.debias.response.slope import ResponseSlope, slope_for
from sustain.debias.response.two_samples import compare_samples
from sustain.debias.sample import CalibrationSample, as_sample, read
from sustain.errors import CalibrationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sustain.debias.card.card import CalibrationCard
    from sustain.debias.response.model import ResponseModel

__all__ = ["LEAST_ROWS", "ResponseCalibration"]

LEAST_ROWS = 50
"""Fewer calibration rows than this are refused: they would tell a reader of the card more than the response."""


class ResponseCalibration:
    """The response of predictions to truth: mean prediction by truth, scatter about it, distribution of truth.

    A calibration of effects, not of cells: which slope an effect has depends on where on the curve the trial lies and
    on how far the treatment moves it. `sustain.causal.estimate_effect` finds both by unfolding the trial's
    predictions, from the card of this calibration. For maps, which need one function of the prediction, see
    `LinearCalibration`.

    Attributes
    ----------
    model_ : ResponseModel
        Curve, kernel and distribution, of all rows and by stratum.
    n_ : int
        Calibration rows.
    reliability_ : float
        Share of the labels' variance that is no sampling error.

    Notes
    -----
    The curve is a penalised natural spline; the kernel a smoothed histogram of its residuals by windows in truth. See
    `sustain.debias.response`.
    """

    method = "response"

    _sample: CalibrationSample
    model_: ResponseModel
    n_: int
    reliability_: float

    def fit(
        self,
        y_pred: Any,
        y_true: Any,
        sample_weight: Any = None,
        groups: Any = None,
        strata: Any = None,
        target_noise_var: Any = 0.0,
    ) -> Self:
        """Learn the response from calibration rows.

        Parameters
        ----------
        y_pred, y_true, sample_weight, groups, strata
            As for the `fit` of other calibrations.
        target_noise_var : float or array_like, shape (n,)
            Variance of the labels' own sampling error, for all or for each; the response is that behind it.

        Raises
        ------
        CalibrationError
            On unusable rows; when the labels are mostly noise; when the curve does not rise on the whole.

        Warns
        -----
        WeakCalibrationWarning
            As other calibrations.
        """
        sample = as_sample(y_pred, y_true, sample_weight, groups, strata, target_noise_var)
        sample.warn_of_weaknesses(stacklevel=2)
        return self.fit_sample(sample)

    def fit_sample(self, sample: CalibrationSample) -> Self:
        """Learn the response from checked rows."""
        if sample.n < LEAST_ROWS:
            raise CalibrationError(
                f"y_pred: {sample.n} pairs are too few for a response curve; at least {LEAST_ROWS} are needed. Use "
                "LinearCalibration, or calibrate on more rows."
            )
        model = fit_model(sample)
        low, high = sample.prediction_on_truth.slope_interval(0.95, CalibrationError)
        mean = slope_for(model, model.pooled, 0.0).value
        if not (low > 0 and mean > 0):
            raise CalibrationError(
                f"The slope of prediction on truth has a 95% interval of [{low:.3g}, {high:.3g}], and the response "
                f"curve a mean slope of {mean:.3g} (n = {sample.n}): not above zero, so no effect can be read back. "
                "Calibrate on more or better matched rows, or use a better model."
            )
        self._sample, self.model_, self.n_ = sample, model, sample.n
        self.reliability_ = sample.reliability
        return self

    def slope_for(self, effect: float, stratum: Any = None) -> ResponseSlope:
        """Slope of prediction on truth for an effect; see `CalibrationCard.slope_for`."""
        self._require_fit()
        return slope_for(self.model_, self.model_.population(stratum), effect)

    def effect(self, y_pred_treated: Any, y_pred_control: Any) -> float:
        """Effect on the truth between two samples of predictions, of all rows' population.

        The difference in means, read back; `sustain.causal.estimate_effect` does so for any design, with an interval.

        Parameters
        ----------
        y_pred_treated, y_pred_control : array_like, shapes (n1,) and (n0,)
        """
        self._require_fit()
        treated, control = (
            read.vector("y_pred_treated", y_pred_treated),
            read.vector("y_pred_control", y_pred_control),
        )
        for name, values in (("y_pred_treated", treated), ("y_pred_control", control)):
            if values.size < 2:
                raise CalibrationError(
                    f"{name}: {values.size} predictions; an effect needs two or more in each arm."
                )
        return compare_samples(self.model_, self.model_.pooled, treated, control).effect

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve with its 95% band, the middle 80% of predictions, and the line of identity."""
        from sustain.debias.response.figure import draw_response

        self._require_fit()
        return draw_response(self.model_, ax)

    def to_card(
        self, *, target: Any, predictor: Any, n_boot: int = 200, seed: int = 0, **about: Any
    ) -> CalibrationCard:
        """Make a card of this fit, and of the linear correction beside it; arguments as `sustain.debias.build_card`."""
        from sustain.debias.card.assemble import card_of
        from sustain.debias.linear import LinearCalibration

        self._require_fit()
        beside = LinearCalibration().fit_sample(self._sample)
        return card_of(
            [beside],
            self._sample,
            response=self.model_,
            target=target,
            predictor=predictor,
            n_boot=n_boot,
            seed=seed,
            **about,
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters as passed to ``__init__``: there are none."""
        return {}

    def set_params(self, **params: Any) -> Self:
        """Raise `ValueError` on any parameter: there are none."""
        if params:
            raise ValueError(
                f"{next(iter(params))!r} is not a parameter of {type(self).__name__}; it has none."
            )
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _require_fit(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise CalibrationError(f"{type(self).__name__} is not fitted. Call fit(y_pred, y_true) first.")
