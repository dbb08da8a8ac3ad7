"""The response in a card: curve with its covariance, kernel and distribution of truth, rounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sustain.debias.card.brief import Brief
from sustain.debias.card.parts import short, short_beside
from sustain.debias.card.schema import Finite, GridCard
from sustain.debias.response.kernel import ResponseKernel
from sustain.debias.response.model import Between, Population, ResponseModel
from sustain.debias.table import Nodes

__all__ = ["BetweenCard", "PopulationCard", "ResponseCard", "model_of", "response_part"]

Array = NDArray[np.float64]

WHOLE = 10_000
"""What the shares of a kernel sum to, about, for each truth."""

_DIGITS = 6


class _Part(Brief, BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PopulationCard(_Part):
    """Response curve and distribution of truth of one population."""

    stratum: str | None = None
    n: int = Field(ge=1)
    values: list[Finite]
    cov: list[list[Finite]] = Field(description="Lower triangle of the covariance of the values.")
    df: Finite = Field(gt=0)
    spread: Finite = Field(gt=0)
    shares: list[Finite] = Field(min_length=1)
    quantiles: list[Finite]

    @model_validator(mode="after")
    def _fits(self) -> PopulationCard:
        k = len(self.values)
        if [len(row) for row in self.cov] != list(range(1, k + 1)):
            raise ValueError(f"the covariance of {k} values needs a lower triangle of {k} rows")
        if len(self.shares) != len(self.quantiles) or sorted(self.quantiles) != self.quantiles:
            raise ValueError("quantiles of the truth must ascend, one for each share")
        if sorted(set(self.shares)) != self.shares or not 0 < self.shares[0] <= self.shares[-1] < 1:
            raise ValueError("shares of quantiles must ascend between 0 and 1")
        return self


class BetweenCard(_Part):
    """How far response curves of populations differ beyond sampling error: mean square of their values' distances."""

    n: int = Field(ge=2)
    cov: list[list[Finite]] = Field(description="Lower triangle.")


class ResponseCard(_Part):
    """How truth becomes predictions; see `sustain.debias.response.model`."""

    truth: GridCard
    cells: GridCard
    centre: Finite
    scale: Finite = Field(gt=0)
    knots: list[Finite] = Field(min_length=2)
    residual: GridCard
    kernel: list[list[int]] = Field(
        description="Shares of residuals, a row for each of evenly spaced truths; rows sum to about 10,000."
    )
    curves: list[PopulationCard] = Field(min_length=1, description="All rows first, then strata.")
    between: BetweenCard | None = None
    within: BetweenCard | None = None

    @model_validator(mode="after")
    def _fits(self) -> ResponseCard:
        k = len(self.knots)
        if sorted(set(self.knots)) != self.knots or any(len(item.values) != k for item in self.curves):
            raise ValueError("the knots of a response must ascend, with one value a population for each")
        if len(self.kernel) < 2 or {len(row) for row in self.kernel} != {self.residual.n}:
            raise ValueError(f"a response's kernel needs rows of {self.residual.n} shares")
        if min(map(min, self.kernel)) < 0 or not min(map(sum, self.kernel)) > 0:
            raise ValueError("the shares of a response's kernel must not be negative, nor all zero")
        names = [item.stratum for item in self.curves]
        if names[0] is not None or len(set(names)) < len(names):
            raise ValueError("a response needs all rows as its first population, and each stratum once")
        for item in (self.between, self.within):
            if item is not None and len(item.cov) != k:
                raise ValueError("the covariance between populations has another size than the knots")
        return self


def response_part(model: ResponseModel) -> ResponseCard:
    """Write a model down."""
    rows = np.rint(WHOLE * model.kernel.density).astype(int)
    return ResponseCard(
        truth=_grid(model.truth),
        cells=_grid(model.cells),
        centre=short_beside(np.array([model.centre, model.centre + model.scale]), 9)[0],
        scale=short(model.scale, 9),
        knots=[short(v) for v in model.knots],
        residual=_grid(model.kernel.residual),
        kernel=rows.tolist(),
        curves=[
            _population(None, model.pooled),
            *(_population(name, item) for name, item in model.populations.items()),
        ],
        between=_between(model.between),
        within=_between(model.within),
    )


def model_of(part: ResponseCard) -> ResponseModel:
    """Read a model."""
    truth, rows = _nodes(part.truth), np.array(part.kernel, dtype=np.float64)
    density = rows / rows.sum(axis=1, keepdims=True)
    read = {item.stratum: _read(item) for item in part.curves}
    return ResponseModel(
        truth=truth,
        cells=_nodes(part.cells),
        centre=part.centre,
        scale=part.scale,
        knots=np.array(part.knots),
        kernel=ResponseKernel(Nodes(truth.start, truth.stop, len(rows)), _nodes(part.residual), density),
        pooled=read[None],
        populations={name: item for name, item in read.items() if name is not None},
        between=_read_between(part.between),
        within=_read_between(part.within),
    )


def _population(stratum: str | None, item: Population) -> PopulationCard:
    return PopulationCard(
        stratum=stratum,
        n=item.n,
        values=short_beside(item.values, 7),
        cov=_triangle(item.cov),
        df=short(item.df),
        spread=short(item.spread, _DIGITS),
        shares=[short(v, _DIGITS) for v in item.shares],
        quantiles=short_beside(item.quantiles, 5),
    )


def _read(part: PopulationCard) -> Population:
    return Population(
        part.n,
        np.array(part.values),
        _full(part.cov),
        part.df,
        part.spread,
        np.array(part.shares),
        np.array(part.quantiles),
    )


def _between(item: Between | None) -> BetweenCard | None:
    return None if item is None else BetweenCard(n=item.n, cov=_triangle(item.cov))


def _read_between(part: BetweenCard | None) -> Between | None:
    return None if part is None else Between(_full(part.cov), part.n)


def _triangle(cov: Array) -> list[list[float]]:
    return [[short(v, 5) for v in row[: place + 1]] for place, row in enumerate(cov)]


def _full(triangle: list[list[float]]) -> Array:
    cov = np.zeros((len(triangle), len(triangle)))
    for place, row in enumerate(triangle):
        cov[place, : place + 1] = cov[: place + 1, place] = row
    return cov


def _grid(nodes: Nodes) -> GridCard:
    start, stop = short_beside(np.array([nodes.start, nodes.stop]), 9)
    return GridCard(start=start, stop=stop, n=nodes.n)


def _nodes(grid: GridCard) -> Nodes:
    return Nodes(grid.start, grid.stop, grid.n)
