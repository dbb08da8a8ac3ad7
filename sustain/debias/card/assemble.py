"""A card from fitted corrections: resample groups, tabulate, and put the parts together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from sustain.debias.card import facts
from sustain.debias.card.card import CalibrationCard
from sustain.debias.card.correlogram import spatial_errors
from sustain.debias.card.parts import (
    FittedLevels,
    diagnostic_part,
    level_parts,
    line_part,
    noise_part,
    quantiles_part,
    recovered_parts,
    short,
    spread_part,
    strata_parts,
    support_part,
)
from sustain.debias.card.response import response_part
from sustain.debias.card.schema import GridCard, Sample
from sustain.debias.card.tabulate import FittedCorrection, tabulate
from sustain.debias.response.model import ResponseModel
from sustain.debias.sample import CalibrationSample
from sustain.debias.table import Nodes
from sustain.errors import CalibrationError
from sustain.stats.line import weighted_moments

__all__ = ["card_of"]

Array = NDArray[np.float64]

CARD_BYTES = 290_000
"""That a card is to stay under, with some thousand to spare for names, licence and citation."""


def card_of(
    fitted: Sequence[FittedCorrection],
    sample: CalibrationSample,
    *,
    target: Mapping[str, str],
    predictor: Mapping[str, str | None] | str,
    n_boot: int,
    seed: int,
    response: ResponseModel | None = None,
    levels: FittedLevels | None = None,
    lon: Any = None,
    lat: Any = None,
    years: Iterable[int] | None = None,
    countries: Iterable[str] | None = None,
    licence: str = "",
    citation: str = "",
) -> CalibrationCard:
    """Card of calibrations that were fitted on `sample`; arguments as for `build_card`."""
    about: dict[str, Any] = {
        "target": facts.target_of(target),
        "predictor": facts.predictor_of(predictor),
        "licence": facts.text_of("licence", licence),
        "citation": facts.text_of("citation", citation),
    }
    extent: dict[str, Any] = {"years": facts.years_of(years), "countries": facts.countries_of(countries)}
    sample.require_strength()
    names = [calibration.method for calibration in fitted]
    if not names or len(set(names)) < len(names):
        raise CalibrationError(f"methods: expected at least one that corrects cells, each once; got {names}.")
    if n_boot < 20:
        raise CalibrationError(f"n_boot: {n_boot} draws cannot describe an uncertainty. Pass 20 or more.")
    if (lon is None) != (lat is None):
        raise CalibrationError("lon and lat go together: pass both, or neither.")
    grid = _widest([correction.nodes() for correction in fitted])
    counts = _resample(fitted, sample, n_boot, seed)
    by_level = [] if levels is None else level_parts(levels, sample, n_boot, _private_generator(sample, seed))
    strata = strata_parts(sample)
    weaknesses = {subject: said for item in fitted for subject, said in item.weaknesses_.items()}
    diagnostics = diagnostic_part(sample, weaknesses)
    measured = (
        quantiles_part(sample),
        spread_part(sample),
        None if lon is None else spatial_errors(sample, lon, lat, countries),
    )
    read_back = None if response is None else response_part(response)
    rest = len(to_json([by_level, strata, diagnostics, *measured, read_back]))
    corrections = tabulate(fitted, counts, grid, CARD_BYTES - rest)
    nodes = GridCard(start=grid.start, stop=grid.stop, n=grid.n)
    return CalibrationCard(
        **about,
        sample=Sample(n=sample.n, n_groups=sample.n_groups, **extent),
        r2=short(sample.prediction_on_truth.r2),
        prediction_on_truth=line_part(sample.prediction_on_truth),
        truth_on_prediction=line_part(sample.truth_on_prediction),
        target_noise_var=sample.noise,
        noise=noise_part(sample),
        support_range=support_part(sample.support),
        grid=nodes,
        corrections=corrections,
        strata=strata,
        levels=by_level,
        predictions=measured[0],
        slope_spread=measured[1],
        recovered=recovered_parts(corrections, nodes, sample, response),
        spatial_errors=measured[2],
        response=read_back,
        diagnostics=diagnostics,
    )


def _resample(fitted: Sequence[FittedCorrection], sample: CalibrationSample, n_boot: int, seed: int) -> Array:
    """How often each group (row, without groups) is in each draw, shape (n_boot, n_groups).

    A draw in which the predictions do not rise with the truth, in the sample or in
    a stratum that has a correction of its own, has no inverse; it is drawn again, at most as often as there are draws.
    """
    n, noise = sample.n_groups or sample.n, sample.noise
    own = frozenset().union(*(correction.own_strata for correction in fitted))
    parts = [(np.arange(n), sample)]
    parts += [(sample.groups_of(name), part) for name, part in sample.strata.items() if name in own]
    rng = _private_generator(sample, seed)
    kept: list[Array] = []
    for _ in range(2 * n_boot):
        counts = rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)
        if all(_rises(counts[None, columns], part, noise) for columns, part in parts):
            kept.append(counts)
        if len(kept) == n_boot:
            return np.stack(kept)
    raise CalibrationError(
        f"groups: in half of the resamples of {n} groups the predictions do not rise with the truth, so the "
        "uncertainty of a correction cannot be computed. Calibrate on more groups, or without small strata."
    )


def _private_generator(sample: CalibrationSample, seed: int) -> np.random.Generator:
    """Make a generator that only somebody who has the labels can make again.

    From a stored line of draw k follows ``mean_k(truth) = (mean_k(prediction) - intercept_k) / slope_k``: with known
    predictions and resamples, as many draws as places would give every label away. So the seed is not enough.
    """
    secret = hashlib.sha256(sample.y_true.tobytes() + sample.weight.tobytes()).digest()
    return np.random.default_rng([seed, int.from_bytes(secret, "little")])


def _rises(counts: Array, part: CalibrationSample, noise: float) -> bool:
    if not counts.any():
        return False
    m = weighted_moments(part.y_true, part.y_pred, part.weight, part.group, counts)
    return bool(m.cov_xy[0] > 0 and m.var_x[0] > noise)


def _widest(grids: Sequence[Nodes]) -> Nodes:
    """Take the widest of the calibrations' grids, so that one grid serves all."""
    return max(grids, key=lambda grid: (grid.stop - grid.start, grid.n))
