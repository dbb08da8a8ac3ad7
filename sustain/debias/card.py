"""The calibration card: all that the upstream labels can teach a downstream user, without one label in it.

A small JSON file. It holds summaries, tables of functions and bootstrap draws of those functions; no row of the
calibration sample, no label and no coordinate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sustain.debias.apply import apply_elementwise
from sustain.debias.draws import Components, Draws, expand, knots
from sustain.debias.estimator import warn_outside
from sustain.debias.table import SUPPORT_QUANTILES, Grid, Table
from sustain.errors import CardError
from sustain.files import write_text

__all__ = ["SCHEMA_VERSION", "CalibrationCard"]

Array = NDArray[np.float64]

SCHEMA_VERSION: Literal[1] = 1

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
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


class Support(_Part):
    """Predictions between which a correction was learned."""

    low: Finite
    high: Finite
    quantiles: tuple[float, float] = SUPPORT_QUANTILES


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
    """Draws of a curve: ``h + scale * scores @ curves``.

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
        if not self.scores or {len(row) for row in self.scores} != {len(self.curves)}:
            raise ValueError("every draw needs one score a curve")
        if {len(curve) for curve in self.curves} != {n_knots}:
            raise ValueError(f"every curve of the draws needs {n_knots} values")


class Correction(_Part):
    """One correction as a table on the card's grid: straight between nodes, straight on beyond the ends."""

    method: str = Field(min_length=1)
    stratum: str | None = None
    options: dict[str, Any] = {}
    notes: dict[str, Finite] = {}
    h: list[Finite]
    dh: list[Finite]
    max_error: Finite = Field(
        ge=0, description="Greatest difference between table and formula inside the support."
    )
    draws: Annotated[LineDraws | ComponentDraws, Field(discriminator="kind")]


class Stratum(_Part):
    """Lines within one stratum, and the range of its predictions."""

    name: str
    n: int = Field(ge=1)
    prediction_on_truth: LineCard
    truth_on_prediction: LineCard
    r2: Finite
    support_range: Support


class Level(_Part):
    """Slope of prediction on truth at one level of variation."""

    name: str
    slope: Finite
    variance: Finite
    n_units: int


class CalibrationCard(_Part):
    """A correction, its uncertainty and its provenance, in one validated document.

    Load one with `CalibrationCard.load`, make one with `build_card` or a calibration's ``to_card``.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    target: Target
    predictor: Predictor
    sample: Sample
    r2: Finite
    prediction_on_truth: LineCard
    truth_on_prediction: LineCard
    target_noise_var: Finite = 0.0
    support_range: Support
    grid: GridCard
    corrections: list[Correction] = Field(min_length=1)
    strata: list[Stratum] = []
    levels: list[Level] = []
    diagnostics: dict[str, Any] = {}
    licence: str = ""
    citation: str = ""

    @model_validator(mode="after")
    def _tables_fit_the_grid(self) -> CalibrationCard:
        seen = set()
        for item in self.corrections:
            name = item.method if item.stratum is None else f"{item.method} in {item.stratum}"
            if item.method == "none" or name in seen:
                raise ValueError(f"correction {name!r} is reserved or there twice")
            seen.add(name)
            if not len(item.h) == len(item.dh) == self.grid.n:
                raise ValueError(f"correction {name!r} has {len(item.h)} values for {self.grid.n} nodes")
            item.draws.check(self.grid.n)
        if not (self.grid.stop > self.grid.start and self.support_range.high > self.support_range.low):
            raise ValueError("the grid or the support is empty")
        return self

    # ---- what a downstream user asks for

    @property
    def methods(self) -> tuple[str, ...]:
        """Names that `transform` accepts; ``"none"`` is the identity."""
        return ("none", *(item.method for item in self.corrections if item.stratum is None))

    @property
    def slope(self) -> float:
        """Slope ``b`` of prediction on truth."""
        return self.prediction_on_truth.slope

    @property
    def intercept(self) -> float:
        """Intercept ``a`` of prediction on truth."""
        return self.prediction_on_truth.intercept

    @property
    def slope_cov(self) -> Array:
        """Covariance of (intercept, slope) of prediction on truth, shape (2, 2)."""
        return np.array(self.prediction_on_truth.cov)

    @property
    def residual_sd(self) -> float:
        """Standard deviation of the prediction given the truth: its measurement noise."""
        return self.prediction_on_truth.residual_sd

    @property
    def support(self) -> tuple[float, float]:
        """Lowest and highest prediction that the correction was learned for."""
        return self.support_range.low, self.support_range.high

    def support_of(self, stratum: str | None = None) -> tuple[float, float]:
        """Range of the predictions of one stratum; without a name, that of all (`support`)."""
        if stratum is None:
            return self.support
        for item in self.strata:
            if item.name == stratum:
                return item.support_range.low, item.support_range.high
        raise CardError(
            f"stratum: {stratum!r} is not in this card; it has {_listed(s.name for s in self.strata)}."
        )

    def transform(
        self, y_pred: Any, method: str = "linear", check_support: bool = True, stratum: str | None = None
    ) -> Any:
        """Correct predictions of the card's predictor.

        Parameters
        ----------
        y_pred : number, ndarray, pandas.Series, dask array or xarray.DataArray
            Predictions in the target's unit; NaN passes through, lazy arrays stay lazy.
        method : str
            One of `methods`; ``"none"`` returns the predictions.
        check_support : bool
            Whether to warn when predictions leave the support (never for lazy arrays).
        stratum : str, optional
            Stratum that all of the predictions are in; without it the pooled correction is used.

        Raises
        ------
        CardError
            When the card has no such method or stratum.

        Warns
        -----
        SupportWarning
            When more than 2% of the predictions lie outside `support`.
        """
        table = self._table(method, stratum)
        if check_support and method != "none":
            warn_outside(y_pred, self.support_of(stratum))
        return apply_elementwise(table, y_pred)

    def derivative(self, y_pred: Any, method: str = "linear", stratum: str | None = None) -> Any:
        """Slope of the correction at the predictions; same kind out."""
        return apply_elementwise(self._table(method, stratum).derivative, y_pred)

    def draws(self, method: str = "linear", stratum: str | None = None) -> Draws:
        """Bootstrap draws of the correction, for intervals that carry calibration uncertainty."""
        self._table(method, stratum)
        if (method, stratum) not in self._draws:
            self._draws[method, stratum] = self._make_draws(method, stratum)
        return self._draws[method, stratum]

    def standard_error(self, y_pred: Any, method: str = "linear", stratum: str | None = None) -> Any:
        """Give the standard error of one corrected prediction; same kind out as `transform`.

        ``sqrt(h'(x)^2 residual_sd^2 + Var_draws(h(x)))``: measurement noise of the prediction given the truth,
        magnified by the correction, and uncertainty of the correction itself.
        """
        table, draws = self._table(method, stratum), self.draws(method, stratum)
        noise = self.residual_sd**2
        if stratum is not None:
            noise = next(s.prediction_on_truth.residual_sd for s in self.strata if s.name == stratum) ** 2

        def error(x: Array) -> Array:
            return np.asarray(np.sqrt(table.derivative(x) ** 2 * noise + draws.variance(x)))

        return apply_elementwise(error, y_pred)

    # ---- files

    @cached_property
    def sha256(self) -> str:
        """Hash of the content, as stored in the file."""
        return _digest(self.model_dump(mode="json"))

    def to_json(self) -> str:
        """Write the card as JSON text: keys in order, a list of numbers on one line."""
        content = self.model_dump(mode="json")
        return _dump({**content, "content_sha256": self.sha256}) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the card; the same card always gives the same bytes."""
        return write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> CalibrationCard:
        """Read a card.

        Raises
        ------
        CardError
            When the file is not a card, is of another schema version, or was changed after it was written.
        FileNotFoundError
            When there is no such file.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"), name=str(path))

    @classmethod
    def from_json(cls, text: str, name: str = "card") -> CalibrationCard:
        """Read a card from JSON text; `name` is used in errors. Raises as `load`."""
        try:
            content: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise CardError(
                f"{name}: not a calibration card ({error}). Fetch it again from its publisher."
            ) from error
        if not isinstance(content, dict) or "schema_version" not in content:
            raise CardError(f"{name}: not a calibration card: it has no schema_version.")
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise CardError(
                f"{name}: a card of schema version {version!r}; this sustain reads version {SCHEMA_VERSION}. "
                "Install the release that wrote the card, or have the card built again."
            )
        stored = content.pop("content_sha256", None)
        try:
            card = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "card"
            raise CardError(
                f"{name}: {error.error_count()} fields are not as a card's should be; {place}: {first['msg']}."
            ) from error
        if stored != card.sha256:
            raise CardError(
                f"{name}: the content was changed after the card was written (its hash is {card.sha256[:12]}..., "
                f"the file says {str(stored)[:12]}...). Fetch the card again, or build it again from the labels."
            )
        return card

    # ---- inside

    @cached_property
    def _tables(self) -> dict[tuple[str, str | None], Table]:
        grid = Grid(self.grid.start, self.grid.stop, self.grid.n)
        identity = Table(Grid(*self.support, 2), np.array(self.support))
        tables = {("none", name): identity for name in (None, *(s.name for s in self.strata))}
        return tables | {
            (item.method, item.stratum): Table(grid, np.array(item.h)) for item in self.corrections
        }

    @cached_property
    def _draws(self) -> dict[tuple[str, str | None], Draws]:
        return {}

    def _table(self, method: str, stratum: str | None = None) -> Table:
        table = self._tables.get((method, stratum))
        if table is None and method not in self.methods:
            raise CardError(
                f"method: {method!r} is not in this card of {self.predictor.id!r}; it has {', '.join(self.methods)}."
            )
        if table is None:
            known = _listed(s for m, s in self._tables if m == method and s is not None)
            raise CardError(
                f"stratum: {stratum!r} is not in this card's {method} correction; it has {known}."
            )
        return table

    def _make_draws(self, method: str, stratum: str | None) -> Draws:
        ends = Grid(*self.support, 2)
        if method == "none":
            first = self.corrections[0].draws
            n_draws = len(first.slope if isinstance(first, LineDraws) else first.scores)
            return Draws(ends, np.broadcast_to(ends.x, (n_draws, 2)))
        item = next(item for item in self.corrections if (item.method, item.stratum) == (method, stratum))
        if isinstance(item.draws, LineDraws):
            intercept, slope = np.array(item.draws.intercept), np.array(item.draws.slope)
            return Draws(ends, (ends.x - intercept[:, None]) / slope[:, None])
        stored = item.draws
        parts = Components(stored.scale, np.array(stored.scores), np.array(stored.curves), stored.max_error)
        table = self._tables[method, stratum]
        return Draws(table.grid, expand(parts, table.h))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no strata"


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _dump(value: Any, indent: str = "") -> str:
    """JSON with sorted keys, where a list without objects takes one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{json.dumps(key)}: {_dump(value[key], deeper)}" for key in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}" + "}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(deeper + _dump(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
