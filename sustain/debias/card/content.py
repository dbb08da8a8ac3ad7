"""The content of a calibration card: its parts, and what must hold between them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sustain.debias.card.brief import Brief
from sustain.debias.card.response import ResponseCard
from sustain.debias.card.schema import (
    Correction,
    Finite,
    GridCard,
    Level,
    LineCard,
    Noise,
    PredictionQuantiles,
    Predictor,
    Sample,
    SpatialErrors,
    Spread,
    Stratum,
    Support,
    Target,
)
from sustain.debias.retired import RETIRED
from sustain.errors import CardError
from sustain.spelling import Placeholder, argument

__all__ = ["SCHEMA_VERSION", "CardContent"]

SCHEMA_VERSION: Literal[2] = 2
"""Of cards as they are written; the first version had no response, and is read."""


class CardContent(Brief, BaseModel):
    """All that a card holds; `sustain.debias.CalibrationCard` is this and what can be done with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    target: Target
    predictor: Predictor
    sample: Sample
    r2: Finite
    prediction_on_truth: LineCard
    truth_on_prediction: LineCard
    target_noise_var: Finite = 0.0
    noise: Noise
    support_range: Support
    grid: GridCard
    corrections: list[Correction] = Field(min_length=1)
    strata: list[Stratum] = []
    levels: list[Level] = []
    predictions: PredictionQuantiles | None = None
    slope_spread: Spread | None = None
    recovered: dict[str, Spread] = {}
    spatial_errors: SpatialErrors | None = None
    response: ResponseCard | None = None
    diagnostics: dict[str, Any] = {}
    licence: str = ""
    citation: str = ""

    @model_validator(mode="after")
    def _tables_fit_the_grid(self) -> CardContent:
        seen = set()
        for item in self.corrections:
            name = item.method if item.stratum is None else f"{item.method} in {item.stratum}"
            if item.method == "none" or name in seen:
                raise ValueError(f"correction {name!r} is reserved or there twice")
            seen.add(name)
            if len(item.h) != self.grid.n or len(item.dh) not in (0, self.grid.n):
                raise ValueError(f"correction {name!r} has {len(item.h)} values for {self.grid.n} nodes")
            item.draws.check(self.grid.n)
        names = [item.name for item in self.levels]
        if len(set(names)) < len(names):
            raise ValueError(f"a level is there twice: {', '.join(names)}")
        if not (self.grid.stop > self.grid.start and self.support_range.high > self.support_range.low):
            raise ValueError("the grid or the support is empty")
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """Names that `transform` accepts as they are; ``"none"`` is the identity. See also `level_names`."""
        held = (item.method for item in self.corrections if item.stratum is None)
        return ("none", *(method for method in held if method not in RETIRED))

    @property
    def effect_methods(self) -> tuple[str, ...]:
        """Names that `sustain.causal.estimate_effect` accepts as they are: ``"response"`` is of effects alone."""
        return self.methods if self.response is None else ("none", "response", *self.methods[1:])

    @property
    def stratum_names(self) -> tuple[str, ...]:
        """Strata that `transform` accepts; one that is not among `strata` said too little and has what all have."""
        corrected = (item.stratum for item in self.corrections if item.stratum is not None)
        return tuple(dict.fromkeys([*(item.name for item in self.strata), *corrected]))

    def described(self, stratum: str | None) -> Stratum | None:
        """Lines, support and noise of a stratum; None where those of all rows are its own too."""
        return next((item for item in self.strata if item.name == stratum), None)

    @property
    def level_names(self) -> tuple[str, ...]:
        """Levels and families of contrasts that ``transform(..., method="level", level=...)`` accepts."""
        return tuple(item.name for item in self.levels if item.draws is not None)

    def level(self, name: str) -> Level:
        """Slope of one level or family of contrasts. Raises `CardError` when the card does not hold it."""
        for item in self.levels:
            if item.name == name:
                return item
        raise CardError(
            f"level: {name!r} is not in this card; it has {', '.join(i.name for i in self.levels) or 'no levels'}. "
            f"Levels are put there by {argument('levels', Placeholder('column'))} when the card is made."
        )

    def recovered_by(self, method: str, stratum: str | None = None) -> Spread | None:
        """Spread between groups of the share of an effect that a correction recovers; None where it is not known.

        A stratum without a spread of its own has that of all rows.
        """
        own = self.recovered.get(f"{method} in {stratum}")
        return self.recovered.get(method) if own is None or stratum is None else own

    @property
    def support(self) -> tuple[float, float]:
        """Lowest and highest prediction that the correction was learned for."""
        return self.support_range.low, self.support_range.high
