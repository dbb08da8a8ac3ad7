"""What nominal 95% intervals of effects cover: every design, with lines; curves for the difference in means.

    python benchmarks/coverage.py [--replications 1000] [--curves 1000] [--seed 0] [--out benchmarks/results]

Lines: predictions are 0.64 times the truth plus noise, so that measurement stability and a straight line hold. Truth
and noise are Gaussian, a skewed mixture with skewed noise, or Gaussian with noise that grows with the truth. Units are
independent, or 40 regions of 25 with treatment by region and errors that go together within and between regions;
calibration rows are then in groups of ten. One replication draws a calibration sample of each size and, for each
design, a trial in which the treatment has effects of 0, 0.5 and 2 (the truth's standard deviation is 1.25).

Curves: Berkson errors, truth = prediction + noise, for which a line is right only if all is Gaussian; the trial's
predictions are drawn given the truth, from the calibration's own distribution.

Beside them stands what intervals cover that take the calibration as known.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from machine import RESULTS, describe
from numpy.typing import NDArray
from tqdm import tqdm

from sustain.causal import estimate_effect
from sustain.causal.correction.correct import combined_df
from sustain.causal.correction.ratio import corrected_effect
from sustain.causal.design import Design
from sustain.causal.estimate import Estimate
from sustain.causal.trial.units import Units
from sustain.causal.vcov.vcov import Vcov
from sustain.debias import build_card
from sustain.errors import EffectError, SustainWarning
from sustain.files import write_text
from sustain.stats.line import Line, fit_line

Floats = NDArray[np.float64]

SLOPE, SD_TRUTH, SD_NOISE = 0.64, 1.25, 0.6
EFFECTS, SIZES = (0.0, 0.5, 2.0), (80, 250, 2000)
ERRORS = ("gaussian", "skewed mixture", "heteroskedastic")
REGIONS, IN_REGION, IN_GROUP, SHARED = 40, 25, 10, 0.3
ABOUT = {"target": {"name": "wealth", "unit": "index"}, "predictor": "simulation"}

# A mixture of four Gaussians, two of them far to the right (weights, means, standard deviations).
MIXTURE = np.array([0.64, 0.16, 0.16, 0.04]), np.array([5, 7.2, 13, 14.2]), np.array([1, 2, 4, 5.0])


def draw_truth(kind: str, n: int, rng: np.random.Generator) -> Floats:
    """Mean zero, variance one."""
    if kind != "skewed mixture":
        return rng.normal(size=n)
    weight, mean, sd = MIXTURE
    part = rng.choice(4, n, p=weight)
    centre = weight @ mean
    return (rng.normal(mean[part], sd[part]) - centre) / math.sqrt(weight @ (sd**2 + (mean - centre) ** 2))


def draw_noise(kind: str, n: int, rng: np.random.Generator) -> Floats:
    """Mean zero, variance one; the heteroskedastic kind is scaled later, by the truth."""
    return rng.exponential(size=n) - 1 if kind == "skewed mixture" else rng.normal(size=n)


def predict(kind: str, truth: Floats, noise: Floats) -> Floats:
    scale = np.sqrt(0.4 + 0.6 * (truth / SD_TRUTH) ** 2) if kind == "heteroskedastic" else 1.0
    return 0.3 + SLOPE * truth + SD_NOISE * scale * noise


def mix(own: Floats, shared: Floats | None) -> Floats:
    return own if shared is None else math.sqrt(1 - SHARED) * own + math.sqrt(SHARED) * shared


def calibration_line(kind: str, n: int, grouped: bool, rng: np.random.Generator) -> Line:
    group = np.arange(n) // IN_GROUP if grouped else None
    common = [rng.normal(size=n // IN_GROUP)[group] if grouped else None for _ in range(2)]
    truth = SD_TRUTH * mix(draw_truth(kind, n, rng), common[0])
    predicted = predict(kind, truth, mix(draw_noise(kind, n, rng), common[1]))
    return fit_line(truth, predicted, np.ones(n), group)


class Places:
    """40 regions on a grid of 100 km, and fields of errors that go together over about that distance."""

    def __init__(self) -> None:
        row, column = np.divmod(np.arange(REGIONS), 8)
        distance = np.hypot(np.subtract.outer(row, row), np.subtract.outer(column, column))
        self.root = np.linalg.cholesky(np.exp(-distance))
        self.region = np.repeat(np.arange(REGIONS), IN_REGION)
        self.lat, self.lon = row[self.region] * 0.9, column[self.region] * 0.9

    def field(self, rng: np.random.Generator) -> Floats:
        return self.root @ rng.normal(size=REGIONS)


def draw_trial(
    design: str, clustered: bool, places: Places, rng: np.random.Generator
) -> tuple[Units, list[tuple[str, float, Floats]]]:
    """A trial's units, and its predictions by kind of error and effect."""
    n = REGIONS * IN_REGION
    unit, period = np.arange(n), np.zeros(n, dtype=int)
    if design == "did":
        unit, period = np.divmod(np.arange(n), 2)
    region = places.region[(2 if design == "did" else 1) * unit]  # both periods of a unit are in one region
    level = region if clustered else unit
    per = int(level.max()) + 1
    x, hidden, offer = (rng.normal(size=per)[level] for _ in range(3))
    chance = rng.uniform(size=per)
    if design in ("ipw", "aipw"):
        treated = (chance < 1 / (1 + np.exp(-0.5 * x[np.unique(level, return_index=True)[1]])))[level]
    elif design == "iv":
        treated = offer + 0.5 * hidden + 0.5 * rng.normal(size=per)[level] > 0
    else:
        treated = (rng.permutation(per) < per / 2)[level]
    if design == "did":
        treated = treated & (period == 1)
    treated = treated.astype(float)
    base = 0.4 * x if design in ("ols", "ipw", "aipw") else 0.4 * hidden if design == "iv" else np.zeros(n)
    adjusts = design in ("ols", "ipw", "aipw")
    covariates = x[:, None] if adjusts else np.empty((n, 0))
    outcomes = []
    for kind in ERRORS:
        # Errors that go together are shocks of a period, or unit effects would take them out.
        fields = [np.where(period == 1, *(places.field(rng)[region] for _ in range(2))) for _ in range(2)]
        common = fields if clustered else [None, None]
        own, noise = mix(draw_truth(kind, n, rng), common[0]), mix(draw_noise(kind, n, rng), common[1])
        if design == "did":
            own = math.sqrt(0.5) * own + math.sqrt(0.5) * rng.normal(size=n)[unit] + 0.2 * period
        for effect in EFFECTS:
            truth = base + SD_TRUTH * own + effect * treated
            outcomes.append((kind, effect, predict(kind, truth, noise)))
    extra = {"region": region, "unit": unit, "time": period, "lat": places.lat, "lon": places.lon}
    units = Units(
        outcome=outcomes[0][2],
        treated=treated,
        weights=np.ones(n),
        covariates=covariates,
        names=("x",) * adjusts,
        instruments=offer[:, None] if design == "iv" else np.empty((n, 0)),
        instrument_names=("offer",) * (design == "iv"),
        extra=extra,
        n_dropped=0,
        n_unweighted=0,
        rows=np.arange(n),
    )
    return units, outcomes


DESIGNS = ("difference", "ols", "ipw", "aipw", "did", "iv")
CONLEY = {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 250}}
CASES = [
    *(("independent", design, "HC1") for design in ("difference", "ols", "ipw", "aipw", "iv")),
    ("independent", "did", {"CRV1": "unit"}),
    *(
        ("regions", design, {"CRV1": "region"})
        for design in ("difference", "ols", "ipw", "aipw", "did", "iv")
    ),
    *(("regions", design, {"CR2": "region"}) for design in ("difference", "ols", "did")),
    ("regions", "difference", CONLEY),
    ("regions", "difference", "HC1"),
]


def corrected(effect: float, variance: float, df: float, line: Line) -> Estimate:
    """The linear correction, as `estimate_effect` makes it."""
    slope_var = float(line.cov[1, 1])
    found = corrected_effect(effect, variance, line.slope, slope_var)
    trial, calibration = found.variance_trial, found.variance_calibration
    df = combined_df(trial, df, calibration, line.df)
    return Estimate("linear", found.estimate, trial, calibration, df, slope=line.slope, slope_var=slope_var)


def lines(replications: int, seed: int, designs: Sequence[str] = DESIGNS) -> pd.DataFrame:
    """Coverage of linear corrections in every design; each case has random numbers of its own."""
    places = Places()
    tally: dict[tuple, Floats] = defaultdict(lambda: np.zeros(6))
    for number in tqdm(range(replications), desc="lines", unit="replication"):
        rng = np.random.default_rng([seed, number, len(CASES)])
        calibrations = {
            (dependence, kind, n): calibration_line(kind, n, dependence == "regions", rng)
            for dependence in ("independent", "regions")
            for kind in ERRORS
            for n in SIZES
        }
        for case, (dependence, design, vcov) in enumerate(CASES):
            if design not in designs:
                continue
            rng = np.random.default_rng([seed, number, case])
            spec = Vcov.parse(vcov)
            units, outcomes = draw_trial(design, dependence == "regions", places, rng)
            panel = ("unit", "time") if design == "did" else (None, None)
            plan = Design(design, *panel, instrumented=design == "iv", seed=number)
            label = spec.kind if spec.kind != "CRV1" else f"CRV1 by {spec.columns[0]}"
            values = np.stack([outcome for _, _, outcome in outcomes])
            try:
                linear = plan.build(units, spec)
                trial = spec.covariance(linear, values, units.extra)
            except EffectError:  # few regions: the arms may be told apart, or a fold may lack one
                for kind, effect, _ in outcomes:
                    for n in SIZES:
                        tally[dependence, design, label, kind, n, effect][5] += 1
                continue
            for (kind, effect, _), tau, variance in zip(
                outcomes, values @ linear.weights, np.diag(trial.covariance), strict=True
            ):
                for n in SIZES:
                    end = corrected(float(tau), float(variance), trial.df, calibrations[dependence, kind, n])
                    low, high = end.conf_int(0.95)
                    alone = Estimate("none", end.estimate, end.variance_trial, 0.0, trial.df)
                    first, last = alone.conf_int(0.95)
                    tally[dependence, design, label, kind, n, effect] += (
                        1,
                        low <= effect <= high,
                        effect in end.fieller(0.95),
                        first <= effect <= last,
                        end.estimate - effect,
                        0,
                    )
    names = ["dependence", "design", "vcov", "errors", "n_cal", "effect"]
    rows = []
    for key, (count, delta, fieller, fixed, error, failed) in tally.items():
        rows_made = {"replications": int(count), "no_estimate": int(failed)}
        count = count or math.nan
        shares = {"delta": delta / count, "fieller": fieller / count, "calibration_as_known": fixed / count}
        rows.append(dict(zip(names, key, strict=True)) | rows_made | shares | {"mean_error": error / count})
    return pd.DataFrame(rows)


class Pool:
    """Many pairs of prediction and truth with Berkson errors, to draw predictions given the truth from."""

    def __init__(self, kind: str, rng: np.random.Generator, size: int = 1_000_000) -> None:
        self.kind = kind
        predicted, truth = self.pairs(size, rng)
        order = np.argsort(truth)
        self._predicted, self._truth = predicted[order], truth[order]

    def pairs(self, n: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        predicted = draw_truth(self.kind, n, rng)
        sd = 0.4 + 0.35 * np.abs(predicted) if self.kind == "heteroskedastic" else 0.75
        return predicted, predicted + sd * rng.normal(size=n)

    def given(self, truth: Floats, rng: np.random.Generator) -> Floats:
        """Predictions of pairs whose truth is the nearest, or among the 20 nearest."""
        place = np.searchsorted(self._truth, truth) + rng.integers(-10, 11, len(truth))
        return self._predicted[np.clip(place, 0, len(self._truth) - 1)]


def curves(
    replications: int, seed: int, sizes: tuple[int, ...] = SIZES, n_trial: int = 2000, n_boot: int = 50
) -> pd.DataFrame:
    """Coverage of curves, and of a line where it is not right, for the difference in means."""
    rows = []
    methods = ("response", "linear", "tweedie")
    for kind in ERRORS:
        pool = Pool(kind, np.random.default_rng([seed, 1]))
        for n in sizes:
            tally = {(method, effect): np.zeros(4) for method in methods for effect in EFFECTS}
            for number in tqdm(range(replications), desc=f"curves, {kind}, {n}", unit="replication"):
                rng = np.random.default_rng([seed, 2, number, n])
                card = build_card(*pool.pairs(n, rng), methods=methods, n_boot=n_boot, seed=number, **ABOUT)
                treated = rng.integers(0, 2, n_trial)
                truth = pool.pairs(n_trial, rng)[1]
                for effect in EFFECTS:
                    data = pd.DataFrame(
                        {"wealth": pool.given(truth + effect * treated, rng), "treated": treated}
                    )
                    for method in methods:
                        found = estimate_effect(
                            data,
                            "wealth ~ treated",
                            calibration=card,
                            method=method,
                            assumption="measurement",
                        )
                        # The truth's own difference is part of the sampling error of the trial.
                        low, high = found.conf_int()
                        half = 1.96 * math.sqrt(found.main.variance_trial)
                        inside = abs(found.estimate - effect) <= half
                        tally[method, effect] += (1, low <= effect <= high, inside, found.estimate - effect)
            for (method, effect), (count, covered, fixed, error) in tally.items():
                rows.append(
                    {
                        "errors": kind,
                        "n_cal": n,
                        "effect": effect,
                        "method": method,
                        "replications": int(count),
                    }
                    | {"coverage": covered / count, "calibration_as_known": fixed / count}
                    | {"mean_error": error / count}
                )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=1000, help="Of lines; 0 leaves them out.")
    parser.add_argument("--curves", type=int, default=1000, help="Replications of curves; 0 leaves them out.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="Calibration rows, for curves.")
    parser.add_argument("--designs", nargs="+", default=DESIGNS, choices=DESIGNS, help="For lines.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    machine = describe()
    for name, run, count in (
        ("coverage", partial(lines, designs=arguments.designs), arguments.replications),
        ("coverage_curves", partial(curves, sizes=tuple(arguments.sizes)), arguments.curves),
    ):
        if not count:
            continue
        start = time.perf_counter()
        with warnings.catch_warnings():
            # Weak calibrations and predictions off the support are what is being counted.
            warnings.simplefilter("ignore", SustainWarning)
            table = run(count, arguments.seed)
        seconds = time.perf_counter() - start
        write_text(
            arguments.out / f"{name}.csv",
            f"# {machine}; {seconds:.0f} s\n" + table.round(4).to_csv(index=False),
        )
        print(table.round(3).to_string())


if __name__ == "__main__":
    main()
