"""The parts of a calibration card, each a typed and validated model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from sustain.debias.card.brief import Brief
from sustain.debias.card.draws import knots
from sustain.debias.contrasts.spread import new_slope
from sustain.debias.table import SUPPORT_QUANTILES
from sustain.stats.covariance import critical_value

__all__ = [
    "Centre",
    "ComponentDraws",
    "Correction",
    "Correlogram",
    "CountryErrors",
    "GridCard",
    "Level",
    "LineCard",
    "LineDraws",
    "Noise",
    "PredictionQuantiles",
    "Predictor",
    "Sample",
    "SpatialErrors",
    "Spread",
    "Stratum",
    "Support",
    "Target",
]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(Brief, BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Part):
    """What is measured."""

    name: str = Field(min_length=1)
    unit: str = Field(min_length=1)


class Predictor(_Part):
    """The model whose predictions the card corrects."""

    id: str = Field(min_length=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class Sample(_Part):
    """Size and extent of the calibration sample."""

    n: int = Field(ge=1)
    n_groups: int | None = None
    years: list[int] = []
    countries: list[str] = []


class LineCard(_Part):
    """A regression line; `cov` is that of (intercept, slope)."""

    intercept: Finite
    slope: Finite
    cov: list[list[Finite]]
    vcov: Literal["HC1", "CRV1"]
    df: int = Field(ge=1)
    residual_sd: Finite = Field(ge=0)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the slope, by Student's t."""
        margin = critical_value(level, self.df) * float(np.sqrt(self.cov[1][1]))
        return self.slope - margin, self.slope + margin


class Support(_Part):
    """Predictions between which a correction was learned."""

    low: Finite
    high: Finite
    quantiles: tuple[float, float] = SUPPORT_QUANTILES


class PredictionQuantiles(_Part):
    """Where the calibration sample's predictions lay: inner quantiles, 20 places or more between two."""

    shares: list[Finite]
    values: list[Finite]

    @model_validator(mode="after")
    def _ascending(self) -> PredictionQuantiles:
        if len(self.shares) != len(self.values) or sorted(self.values) != self.values:
            raise ValueError("quantiles of the predictions must ascend, one for each share")
        return self


class Spread(_Part):
    """How much the slope differs between groups of the calibration sample; see `sustain.debias.card.slope_spread`."""

    n_groups: int = Field(ge=2)
    mean: Finite
    sd: Finite = Field(ge=0)
    q: Finite
    p_value: Finite
    i2: Finite


class GridCard(_Part):
    """Evenly spaced nodes, shared by all tables."""

    start: Finite
    stop: Finite
    n: int = Field(ge=2)


class LineDraws(_Part):
    """Draws of a linear correction: lines of prediction on truth."""

    kind: Literal["line"] = "line"
    intercept: list[Finite]
    slope: list[Finite]

    def check(self, n_nodes: int) -> None:
        """Raise `ValueError` unless the parts fit together."""
        if len(self.intercept) != len(self.slope) or not self.slope or not min(self.slope) > 0:
            raise ValueError("draws need as many intercepts as slopes, all slopes above zero")


class ComponentDraws(_Part):
    """Draws of a curve: ``h + scale * scores.T @ curves``, with one list of scores, a score a draw, for each curve.

    The curves are given at every fourth node of the grid and at the outer two on either side, straight between.
    """

    kind: Literal["components"] = "components"
    scale: Finite = Field(gt=0)
    scores: list[list[int]]
    curves: list[list[int]]
    max_error: Finite = Field(ge=0)

    def check(self, n_nodes: int) -> None:
        """Raise `ValueError` unless the parts fit together and the grid."""
        n_knots = knots(n_nodes).size
        if len(self.scores) != len(self.curves) or len({len(row) for row in self.scores}) != 1:
            raise ValueError("every curve of the draws needs one score a draw")
        if {len(curve) for curve in self.curves} != {n_knots}:
            raise ValueError(f"every curve of the draws needs {n_knots} values")


class Correction(_Part):
    """One correction as a table on the card's grid: straight between nodes, straight on beyond the ends."""

    method: str = Field(min_length=1)
    stratum: str | None = None
    options: dict[str, Any] = {}
    notes: dict[str, Finite] = {}
    h: list[Finite]
    dh: list[Finite] = Field(description="Slope at the nodes; strata go without, it follows from h.")
    max_error: Finite = Field(
        ge=0, description="Greatest difference between table and formula inside the support."
    )
    draws: Annotated[LineDraws | ComponentDraws, Field(discriminator="kind")]


class Noise(_Part):
    """Standard deviation of the prediction given the truth, at the mean truth of parts of 20 rows or more."""

    truth: list[Finite] = Field(min_length=1)
    sd: list[Annotated[Finite, Field(ge=0)]]

    @model_validator(mode="after")
    def _ascends(self) -> Noise:
        if len(self.truth) != len(self.sd) or sorted(set(self.truth)) != self.truth:
            raise ValueError("noise needs as many standard deviations as truths, and truths that ascend")
        return self


class CountryErrors(_Part):
    """Spread of the mean errors of countries; the correlogram that holds it is of errors about those means."""

    n: int = Field(ge=2, description="Countries of 20 rows or more.")
    sd: Finite = Field(ge=0, description="Of the countries' mean errors, beyond their sampling errors.")
    within_sd: Finite = Field(
        gt=0, description="Of errors about the mean of their country, labels' own error off."
    )

    @property
    def df(self) -> int:
        """Degrees of freedom of `sd`."""
        return self.n - 1


class Correlogram(_Part):
    """Correlation of the errors of two places, by their distance; see `sustain.debias.card.correlogram`.

    The fitted function is ``sum_k share_k exp(-d / range_k)``. What the shares lack to one is a place's own. With
    `countries` the errors are those about the mean of their country; without, about the line of all.
    """

    range_km: list[Annotated[Finite, Field(gt=0)]]
    share: list[Annotated[Finite, Field(ge=0)]]
    distance_km: list[Finite] = Field(description="Mean distance of each class of pairs of places.")
    correlation: list[Finite] = Field(description="Correlation in each class, free of the labels' own error.")
    pairs: list[int]
    countries: CountryErrors | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if self.countries is None:
            del content["countries"]  # so that cards that were written without this part keep their hash
        return content

    @model_validator(mode="after")
    def _is_a_correlation(self) -> Correlogram:
        if len(self.range_km) != len(self.share) or sum(self.share) > 1 + 1e-9:
            raise ValueError(
                "a correlogram needs one share for each range, and shares that sum to at most one"
            )
        if not len(self.distance_km) == len(self.correlation) == len(self.pairs):
            raise ValueError(
                "a correlogram needs one correlation and number of pairs for each class of distances"
            )
        return self

    @property
    def shared(self) -> float:
        """Share of the variance that close neighbours have in common."""
        return float(sum(self.share))

    def __call__(self, distance_km: Any) -> Any:
        """Correlation at distances, of two places; at 0 that of two close neighbours."""
        distance = np.asarray(distance_km, dtype=np.float64)
        return sum(
            (
                share * np.exp(-distance / reach)
                for share, reach in zip(self.share, self.range_km, strict=True)
            ),
            np.zeros_like(distance),
        )


class SpatialErrors(_Part):
    """How far the errors of neighbouring places are alike."""

    prediction_given_truth: Correlogram
    truth_given_prediction: Correlogram


class Stratum(_Part):
    """Lines within one stratum, and the range of its predictions."""

    name: str
    n: int = Field(ge=1)
    prediction_on_truth: LineCard
    truth_on_prediction: LineCard
    r2: Finite
    support_range: Support
    noise: Noise


class Centre(_Part):
    """Means of the calibration sample, about which the lines of levels turn."""

    y_pred: Finite
    y_true: Finite


class Level(_Part):
    """Slope of prediction on truth for one kind of variation: a level, or a named family of contrasts.

    The correction is ``centre.y_true + (x - centre.y_pred) / slope``: it divides contrasts by the slope and moves no
    mean of the calibration sample. Without `draws` (of the slope) the slope may be zero and corrects nothing.

    `std_error` and `df` are those of the mean slope. A trial is one more contrast (of a level: in one more group of
    places): its slope has `new_std_error` and `new_df`, and its prediction an own error of `contrast_sd`.
    """

    name: str = Field(min_length=1)
    n_units: int = Field(ge=1, description="Groups or contrasts that the slope rests on.")
    slope: Finite
    std_error: Finite = Field(ge=0)
    df: int = Field(ge=1)
    slope_sd: Finite = Field(0.0, ge=0, description="Spread of the slope between contrasts or groups.")
    contrast_sd: Finite = Field(0.0, ge=0, description="Spread of predicted contrasts of equal truth.")
    n_spread: int | None = Field(None, ge=2, description="Contrasts or groups that the spread rests on.")
    residual_sd: Finite = Field(ge=0)
    centre: Centre
    draws: list[Finite] | None = Field(
        None, min_length=2, description="Of a new contrast's slope: the mean's error and the spread."
    )

    @model_validator(mode="after")
    def _slopes_above_zero(self) -> Level:
        if self.draws is not None and not min(self.slope, *self.draws) > 0:
            raise ValueError(f"the draws of level {self.name!r} are not all above zero")
        return self

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the mean slope, by Student's t."""
        margin = critical_value(level, self.df) * self.std_error
        return self.slope - margin, self.slope + margin

    @model_serializer(mode="wrap")
    def _as_written(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = whole(self)
        if self.n_spread is None:  # so that cards that were written without a spread keep their hash
            for name in ("slope_sd", "contrast_sd", "n_spread"):
                del content[name]
        return content

    @property
    def new_std_error(self) -> float:
        """Standard error of a new contrast's slope: the mean's and the spread between contrasts."""
        return new_slope(self.std_error, self.df, self.slope_sd, self.n_spread)[0]

    @property
    def new_df(self) -> int:
        """Degrees of freedom of `new_std_error`."""
        return new_slope(self.std_error, self.df, self.slope_sd, self.n_spread)[1]

    def corrected(self, y_pred: Any, slope: Any = None) -> Any:
        """Correct by the slope of the level, or by another such as a draw."""
        return self.centre.y_true + (y_pred - self.centre.y_pred) / (self.slope if slope is None else slope)
