"""Draw docs/images/tweedie.png: corrections of made-up predictions with unequal errors, and what they leave over.

python docs/images/tweedie.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray

from sustain.debias import LinearCalibration, TweedieCalibration

Array = NDArray[np.float64]


def draw(n: int, seed: int) -> tuple[Array, Array]:
    """Predictions and errors shaped like those of wealth maps: many poor places, twice as certain as the middle."""
    rng = np.random.default_rng(seed)
    rich = rng.random(n) < 0.4
    predicted = np.where(rich, rng.normal(0.8, 0.5, n), rng.normal(-0.45, 0.3, n))
    spread = 0.3 + 0.3 * np.exp(-0.5 * ((predicted - 0.45) / 0.6) ** 2)
    return predicted, predicted + spread * rng.normal(size=n)


def main() -> None:
    x, y = draw(5_000, 0)
    trial, truth = draw(500_000, 1)
    methods = {
        "none": None,
        "linear": LinearCalibration().fit(x, y),
        "Tweedie, errors of one size": TweedieCalibration(heteroskedastic=False).fit(x, y),
        "Tweedie": TweedieCalibration().fit(x, y),
        "Tweedie, second order": TweedieCalibration(second_order=True).fit(x, y),
    }
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    grid = np.linspace(-1.4, 2.2, 300)
    edges = np.quantile(truth, np.linspace(0, 1, 21))
    bins = np.searchsorted(edges[1:-1], truth)
    middle = [truth[bins == i].mean() for i in range(20)]
    for (name, fitted), colour in zip(methods.items(), ("0.6", "C0", "C1", "C3", "C2"), strict=True):
        curve, corrected = (
            (values if fitted is None else fitted.transform(values, check_support=False))
            for values in (grid, trial)
        )
        left.plot(grid, curve, color=colour, label=name)
        bias = [(corrected - truth)[bins == i].mean() for i in range(20)]
        right.plot(middle, bias, color=colour, marker=".")
    left.set(xlabel="prediction", ylabel="corrected")
    left.legend(frameon=False)
    right.axhline(0, color="0.8", linewidth=1, zorder=0)
    right.set(xlabel="truth", ylabel="mean error given the truth")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
