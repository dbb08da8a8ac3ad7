"""What a card's numbers are as functions: each correction's table, draws and noise, made when first asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sustain.debias.card.content import CardContent
from sustain.debias.card.draws import Components, Draws, expand
from sustain.debias.card.prediction_noise import NoiseProfile, corrected_noise
from sustain.debias.card.schema import LineDraws
from sustain.debias.retired import RETIRED
from sustain.debias.table import Nodes, Table
from sustain.errors import CardError
from sustain.stats.columns import matched_label

__all__ = ["Key", "Lookup"]

Array = NDArray[np.float64]

Key = tuple[str, str | None]
"""A correction: its method, and the stratum or level that it is for (None: all)."""


class Lookup:
    """Functions of one card."""

    def __init__(self, card: CardContent) -> None:
        self._card = card
        self.grid = Nodes(card.grid.start, card.grid.stop, card.grid.n)
        self._draws: dict[Key, Draws] = {}
        self._noises: dict[Key, Array] = {}

    @cached_property
    def tables(self) -> dict[Key, Table]:
        """Table of every correction; ``"none"`` is the identity."""
        card = self._card
        identity = Table(Nodes(*card.support, 2), np.array(card.support))
        found: dict[Key, Table] = {("none", name): identity for name in (None, *card.stratum_names)}
        for level in card.levels:
            if level.draws is not None:
                found["level", level.name] = Table(identity.grid, level.corrected(identity.h))
        for item in card.corrections:
            found[item.method, item.stratum] = Table(self.grid, np.array(item.h))
        return found

    def draws(self, key: Key) -> Draws:
        """Bootstrap draws of a correction."""
        if key not in self._draws:
            self._draws[key] = self._make_draws(*key)
        return self._draws[key]

    def noise(self, key: Key) -> Array:
        """Variance of a corrected value by the noise of its prediction, on the nodes of `grid`."""
        if key not in self._noises:
            self._noises[key] = corrected_noise(self.tables[key], self.grid, self._profile(*key))
        return self._noises[key]

    def _profile(self, method: str, name: str | None) -> NoiseProfile:
        card = self._card
        if method == "level" and name is not None:
            return NoiseProfile(np.zeros(1), np.array([card.level(name).residual_sd]))
        own = card.described(name)
        noise = card.noise if own is None else own.noise
        return NoiseProfile(np.array(noise.truth), np.array(noise.sd))

    def key(self, method: str, stratum: str | None, level: str | None) -> Key:
        """Key of a correction among the tables; raises `CardError` when there is none."""
        if method in RETIRED:
            raise CardError(f"method: {RETIRED[method]}")
        if method == "level" or level is not None:
            return self._level_key(method, stratum, level)
        if stratum is not None and method in self._card.methods:
            known = [name for found, name in self.tables if found == method and name is not None]
            stratum = matched_label(known, stratum) or stratum
        if (method, stratum) in self.tables:
            return method, stratum
        if method not in self._card.methods:
            raise CardError(
                f"method: {method!r} is not in this card of {self._card.predictor.id!r}; it has "
                f"{', '.join(self._card.methods)}."
            )
        raise CardError(
            f"stratum: {stratum!r} is not in this card's {method} correction; it has {', '.join(known) or 'no strata'}."
        )

    def _level_key(self, method: str, stratum: str | None, level: str | None) -> tuple[str, str]:
        if method != "level" or stratum is not None:
            raise CardError(
                f"level: {level!r} goes with method='level' and without a stratum; got method={method!r}, "
                f"stratum={stratum!r}."
            )
        if level is None:
            raise CardError(
                "level: method='level' needs the level at which the treatment varies; this card can correct for "
                f"{', '.join(self._card.level_names) or 'no level'}."
            )
        found = self._card.level(level)
        if found.draws is None:
            raise CardError(
                f"level: the slope of {level!r} is {found.slope:.3g} (standard error {found.std_error:.2g}) and may "
                "be zero, so contrasts at this level cannot be corrected with it."
            )
        return "level", level

    def _make_draws(self, method: str, name: str | None) -> Draws:
        ends = Nodes(*self._card.support, 2)
        if method == "none":
            first = self._card.corrections[0].draws
            n_draws = len(first.slope if isinstance(first, LineDraws) else first.scores[0])
            return Draws(ends, np.broadcast_to(ends.x, (n_draws, 2)))
        if method == "level" and name is not None:
            item = self._card.level(name)
            return Draws(ends, item.corrected(ends.x, np.array(item.draws)[:, None]))
        stored = next(
            item.draws for item in self._card.corrections if (item.method, item.stratum) == (method, name)
        )
        if isinstance(stored, LineDraws):
            intercept, slope = np.array(stored.intercept), np.array(stored.slope)
            return Draws(ends, (ends.x - intercept[:, None]) / slope[:, None])
        parts = Components(stored.scale, np.array(stored.scores).T, np.array(stored.curves), stored.max_error)
        table = self.tables[method, name]
        return Draws(table.grid, expand(parts, table.h))
