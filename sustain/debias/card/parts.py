"""What was estimated, as parts of a card: rounded, and without what could name a label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.debias.card.prediction_noise import noise_profile
from sustain.debias.card.schema import (
    Centre,
    Correction,
    GridCard,
    Level,
    LineCard,
    Noise,
    PredictionQuantiles,
    Spread,
    Stratum,
    Support,
)
from sustain.debias.card.slope_spread import prediction_quantiles, slope_spread
from sustain.debias.contrasts.slopes import LevelSlope
from sustain.debias.diagnosis.describe import describe
from sustain.debias.diagnosis.recovery import recovery_spread
from sustain.debias.response.model import ResponseModel
from sustain.debias.sample import MIN_PAIRS, CalibrationSample
from sustain.debias.table import Nodes, Table
from sustain.stats.covariance import Wald
from sustain.stats.line import Line
from sustain.stats.natural_spline import NaturalSpline
from sustain.stats.random_effects import RandomEffects

__all__ = [
    "FittedLevels",
    "diagnostic_part",
    "level_parts",
    "line_part",
    "noise_part",
    "quantiles_part",
    "recovered_parts",
    "short",
    "short_beside",
    "spread_part",
    "strata_parts",
    "support_part",
]


class FittedLevels(Protocol):
    """What a card asks of slopes by level; `sustain.debias.LevelCalibration` has it."""

    levels_: dict[str, LevelSlope]
    centre_: tuple[float, float]

    def slope_draws(self, level: str, n_draws: int, rng: np.random.Generator) -> NDArray[np.float64] | None:
        """Bootstrap draws of a level's slope, or None where it may be zero."""


def strata_parts(sample: CalibrationSample) -> list[Stratum]:
    """Lines within each stratum; one that has too few pairs, or whose labels are all noise, is left out."""
    return [
        Stratum(
            name=name,
            n=part.n,
            support_range=support_part(part.support),
            prediction_on_truth=line_part(part.prediction_on_truth),
            truth_on_prediction=line_part(part.truth_on_prediction),
            r2=short(part.prediction_on_truth.r2),
            noise=noise_part(part),
        )
        for name, part in sample.strata_with_lines.items()
    ]


def diagnostic_part(sample: CalibrationSample, weaknesses: Mapping[str, str]) -> dict[str, Any]:
    """Keep of a diagnosis what the card has not got elsewhere, and no means of few labels.

    `weaknesses` of the corrections, by subject, stand among the verdicts.
    """
    found = describe(sample)
    enough = all(item.n >= MIN_PAIRS for item in found.deciles)
    return {
        "verdicts": {**found.verdicts, **weaknesses},
        "berkson_p": _p_value(found.berkson),
        "linearity_p": _p_value(found.linearity),
        "residual_skewness": short(found.shape.skewness),
        "residual_excess_kurtosis": short(found.shape.excess_kurtosis),
        "slope_without_a_group": [short(v) for v in found.slope_without_a_group or ()],
        "bias_by_tenth": [
            {
                "n": item.n,
                **{name: short(getattr(item, name), 4) for name in ("mean_true", "bias", "std_error")},
            }
            for item in (found.deciles if enough else ())
        ],
    }


def level_parts(
    levels: FittedLevels, sample: CalibrationSample, n_boot: int, rng: np.random.Generator
) -> list[Level]:
    """Slopes by level, with draws where the slope is clearly above zero."""
    parts = []
    mean_x, mean_y = levels.centre_
    for name, found in levels.levels_.items():
        residual = sample.y_pred - mean_x - found.slope * (sample.y_true - mean_y)
        noise = found.slope**2 * sample.noise
        variance = max(0.0, float(np.average(residual**2, weights=sample.weight)) - noise)
        slopes = levels.slope_draws(name, n_boot, rng)
        parts.append(
            Level(
                name=name,
                n_units=found.n_units,
                slope=short(found.slope, 12),
                std_error=short(found.std_error),
                df=found.df,
                slope_sd=short(found.slope_sd),
                contrast_sd=short(found.contrast_sd),
                n_spread=found.n_spread,
                residual_sd=short(math.sqrt(variance)),
                centre=Centre(y_pred=short(mean_x), y_true=short(mean_y)),
                draws=None if slopes is None else [short(v, 6) for v in slopes],
            )
        )
    return parts


def quantiles_part(sample: CalibrationSample) -> PredictionQuantiles:
    """Say where the predictions lay."""
    shares, values = prediction_quantiles(sample)
    return PredictionQuantiles(shares=[short(v) for v in shares], values=short_beside(values, 5))


def spread_part(sample: CalibrationSample) -> Spread | None:
    """Say how much slopes differ between groups, if there are enough of them."""
    found = slope_spread(sample)
    return None if found is None else _spread(found)


def recovered_parts(
    corrections: Iterable[Correction],
    grid: GridCard,
    sample: CalibrationSample,
    response: ResponseModel | None = None,
) -> dict[str, Spread]:
    """Say how much the share of an effect that each correction recovers differs between groups, where that is told.

    With a `response` also of ``"response"``, whose curve of all rows is what groups are compared with.
    """
    nodes, parts = Nodes(grid.start, grid.stop, grid.n), {}
    for item in corrections:
        own = sample if item.stratum is None else sample.strata[item.stratum]
        found = recovery_spread(own, Table(nodes, np.array(item.h)))
        if found is not None:
            parts[item.method if item.stratum is None else f"{item.method} in {item.stratum}"] = _spread(
                found
            )
    if response is None:
        return parts
    spline, values = NaturalSpline.on(response.knots), response.pooled.values
    read_back = recovery_spread(
        sample, lambda x: x, lambda y: spline((y - response.centre) / response.scale) @ values
    )
    return parts if read_back is None else parts | {"response": _spread(read_back)}


def _spread(found: RandomEffects) -> Spread:
    values = {name: short(getattr(found, name)) for name in ("mean", "sd", "q", "p_value", "i2")}
    return Spread(n_groups=found.n, **values)


def _p_value(test: Wald) -> float | None:
    return short(test.p_value) if math.isfinite(test.p_value) else None


def support_part(edges: tuple[float, float]) -> Support:
    """Round the range of the predictions."""
    return Support(low=short(edges[0]), high=short(edges[1]))


def noise_part(sample: CalibrationSample) -> Noise:
    """Round the noise by level of the truth."""
    profile = noise_profile(sample)
    return Noise(truth=short_beside(profile.truth, 5), sd=[short(v, 5) for v in profile.sd])


def line_part(line: Line) -> LineCard:
    """Round a line and its covariance."""
    return LineCard(
        intercept=short(line.intercept, 12),
        slope=short(line.slope, 12),
        cov=[[short(v) for v in row] for row in line.cov],
        vcov="HC1" if line.vcov == "HC1" else "CRV1",
        df=line.df,
        residual_sd=short(line.sigma),
    )


def short(value: float, digits: int = 7) -> float:
    """`value` to `digits` significant digits."""
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def short_beside(values: NDArray[np.float64], digits: int) -> list[float]:
    """Round values to so many digits of their range, so that an offset of all of them takes no digit."""
    reach = float(np.ptp(values)) if values.size else 0.0
    if not reach > 0:
        return [short(v, 9) for v in values]
    decimals = digits - 1 - math.floor(math.log10(reach))
    return [round(float(v), decimals) for v in values]
