"""Build a calibration card from calibration rows: fit, tabulate, resample groups, refit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from sustain.debias.base import Calibration
from sustain.debias.bridge.calibration import BridgeCalibration
from sustain.debias.card.card import CalibrationCard
from sustain.debias.card.correlogram import spatial_errors
from sustain.debias.card.parts import (
    diagnostic_part,
    level_parts,
    line_part,
    noise_part,
    quantiles_part,
    short,
    spread_part,
    strata_parts,
    support_part,
)
from sustain.debias.card.schema import (
    GridCard,
    Predictor,
    Sample,
    Target,
)
from sustain.debias.card.tabulate import tabulate
from sustain.debias.contrasts.families import Design
from sustain.debias.level import LevelCalibration
from sustain.debias.linear import LinearCalibration
from sustain.debias.sample import MIN_PAIRS, CalibrationSample, as_sample
from sustain.debias.strata import stratum_columns
from sustain.debias.table import Grid
from sustain.debias.tweedie.calibration import TweedieCalibration
from sustain.errors import CalibrationError
from sustain.stats.line import weighted_moments

__all__ = ["build_card", "card_of"]

Array = NDArray[np.float64]

CARD_BYTES = (
    190_000  # that a card is to stay under, with some thousand to spare for names, licence and citation
)


def build_card(
    y_pred: Any,
    y_true: Any,
    *,
    target: Mapping[str, str],
    predictor: Mapping[str, str | None] | str,
    sample_weight: Any = None,
    groups: Any = None,
    strata: Any = None,
    levels: Mapping[str, Any] | None = None,
    families: Iterable[Design] = (),
    lon: Any = None,
    lat: Any = None,
    methods: Sequence[str | Calibration] = ("linear", "tweedie"),
    score: Literal["mixture", "kde", "scott"] = "mixture",
    target_noise_var: float = 0.0,
    n_boot: int = 200,
    seed: int = 0,
    years: Iterable[int] | None = None,
    countries: Iterable[str] | None = None,
    licence: str = "",
    citation: str = "",
) -> CalibrationCard:
    """Fit corrections on calibration rows and write down all that a downstream user needs.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels.
    target : mapping
        ``{"name": ..., "unit": ...}`` of the labels.
    predictor : mapping or str
        ``{"id": ..., "sha256": ...}`` of the model, or its id.
    sample_weight, groups, strata : array_like, shape (n,), optional
        Sampling weights; clusters, which the bootstrap resamples whole; strata (urban, rural), which get slopes and
        corrections of their own beside the pooled ones.
    levels : mapping of str to array_like, shape (n,), optional
        Group labels, coarse to fine, such as ``{"survey": ..., "region": ...}``: the card then holds the slope
        between and within them, and within strata; see `LevelCalibration`.
    families : iterable of ContrastFamily or DonorTrials, optional
        Families of contrasts, each of which gets a slope of its own in the card.
    lon, lat : array_like, shape (n,), optional
        Places in degrees: the card then says how far the errors of neighbours are alike, which the standard error of
        a mean over an area needs. They are not kept.
    methods : sequence of str or calibration
        ``"linear"``, ``"tweedie"``, ``"bridge"``, or unfitted calibrations with options of their own.
    score : str
        Score of ``"tweedie"``.
    target_noise_var : float
        Variance of the labels' sampling error.
    n_boot : int
        Bootstrap draws stored in the card.
    seed : int
        Seed of the draws; the same seed gives the same bytes.
    years, countries : iterable, optional
        Extent of the calibration sample; repeated values are fine.
    licence, citation : str
        Of the card.

    Returns
    -------
    CalibrationCard

    Raises
    ------
    CalibrationError
        When the rows cannot carry a calibration (see the calibrations' ``fit``), or an argument is unknown.
    """
    sample = as_sample(y_pred, y_true, sample_weight, groups, strata)
    fitted = []
    for method in methods:
        calibration = _make(method, score)
        calibration.fit(
            y_pred,
            y_true,
            sample_weight=sample_weight,
            groups=groups,
            strata=strata,
            target_noise_var=target_noise_var,
        )
        fitted.append(calibration)
    by_level, families = None, tuple(families)
    if levels or families:
        by_level = LevelCalibration().fit(
            y_pred,
            y_true,
            levels,
            sample_weight=sample_weight,
            groups=groups,
            strata=strata,
            target_noise_var=target_noise_var,
            families=families,
        )
    return card_of(
        fitted,
        sample,
        levels=by_level,
        lon=lon,
        lat=lat,
        target=target,
        predictor=predictor,
        n_boot=n_boot,
        seed=seed,
        years=years,
        countries=countries,
        licence=licence,
        citation=citation,
    )


def card_of(
    fitted: Sequence[Calibration],
    sample: CalibrationSample,
    *,
    target: Mapping[str, str],
    predictor: Mapping[str, str | None] | str,
    n_boot: int,
    seed: int,
    levels: LevelCalibration | None = None,
    lon: Any = None,
    lat: Any = None,
    years: Iterable[int] | None = None,
    countries: Iterable[str] | None = None,
    licence: str = "",
    citation: str = "",
) -> CalibrationCard:
    """Card of calibrations that were fitted on `sample`; arguments as for `build_card`."""
    names = [calibration.method for calibration in fitted]
    if not names or len(set(names)) < len(names):
        raise CalibrationError(f"methods: expected at least one, each once; got {names}.")
    if n_boot < 20:
        raise CalibrationError(f"n_boot: {n_boot} draws cannot describe an uncertainty. Pass 20 or more.")
    if (lon is None) != (lat is None):
        raise CalibrationError("lon and lat go together: pass both, or neither.")
    first = fitted[0]
    noise = first.target_noise_var_
    grid = _widest([calibration._grid() for calibration in fitted])
    counts = _resample(fitted, sample, n_boot, seed)
    by_level = [] if levels is None else level_parts(levels, n_boot, _private_generator(sample, seed))
    strata, diagnostics = strata_parts(sample, noise), diagnostic_part(sample, noise)
    about = (
        quantiles_part(sample),
        spread_part(sample, noise),
        None if lon is None else spatial_errors(sample, noise, lon, lat),
    )
    rest = len(to_json([by_level, strata, diagnostics, *about]))
    corrections = tabulate(fitted, counts, grid, CARD_BYTES - rest)
    return CalibrationCard(
        target=Target.model_validate(target),
        predictor=Predictor(id=predictor)
        if isinstance(predictor, str)
        else Predictor.model_validate(predictor),
        sample=Sample(
            n=sample.n_used,
            n_groups=sample.n_groups_used,
            years=[] if years is None else sorted({int(year) for year in years}),
            countries=[] if countries is None else sorted({str(country) for country in countries}),
        ),
        r2=short(first.prediction_on_truth_.r2),
        prediction_on_truth=line_part(first.prediction_on_truth_),
        truth_on_prediction=line_part(first.truth_on_prediction_),
        target_noise_var=noise,
        noise=noise_part(sample, noise),
        support_range=support_part(first.support_),
        grid=GridCard(start=grid.start, stop=grid.stop, n=grid.n),
        corrections=corrections,
        strata=strata,
        levels=by_level,
        predictions=about[0],
        slope_spread=about[1],
        spatial_errors=about[2],
        diagnostics=diagnostics,
        licence=licence,
        citation=citation,
    )


def _make(method: str | Calibration, score: Literal["mixture", "kde", "scott"]) -> Calibration:
    if isinstance(method, Calibration):
        return type(method)(**method.get_params())
    if method == "linear":
        return LinearCalibration()
    if method == "tweedie":
        return TweedieCalibration(score=score)
    if method == "bridge":
        return BridgeCalibration()
    raise CalibrationError(
        f"methods: {method!r} is unknown. Pass 'linear', 'tweedie', 'bridge' or a calibration object."
    )


def _resample(fitted: Sequence[Calibration], sample: CalibrationSample, n_boot: int, seed: int) -> Array:
    """How often each group (row, without groups) is in each draw, shape (n_boot, n_groups).

    Groups without weight are in none. A draw in which the predictions do not rise with the truth, in the sample or in
    a stratum that has a correction of its own, has no inverse; it is drawn again, at most as often as there are draws.
    """
    n, noise = sample.n_groups or sample.n, fitted[0].target_noise_var_
    parts = [(np.arange(n), sample)]
    for code, fit in enumerate(fitted[0].strata_.values()):
        if any(list(item.strata_.values())[code].own is not None for item in fitted) and fit.n >= MIN_PAIRS:
            rows = np.flatnonzero(fitted[0]._sample.stratum == code)
            parts.append((stratum_columns(fitted[0]._sample, code), fitted[0]._sample.take(rows)))
    rng = _private_generator(sample, seed)
    counted = np.flatnonzero(
        np.bincount(np.arange(n) if sample.group is None else sample.group, sample.weight)
    )
    kept: list[Array] = []
    for _ in range(2 * n_boot):
        counts = np.zeros(n)
        counts[counted] = rng.multinomial(counted.size, np.full(counted.size, 1 / counted.size))
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


def _widest(grids: Sequence[Grid]) -> Grid:
    """Take the widest of the calibrations' grids, so that one grid serves all."""
    return max(grids, key=lambda grid: (grid.stop - grid.start, grid.n))
