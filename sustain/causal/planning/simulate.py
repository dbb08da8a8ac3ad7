"""The simulation of "One Map, Many Trials" (arXiv:2508.01341), with a true effect to compare with.

One confounder, an outcome, and an image that is a random function of the outcome alone, so that measurement stability
holds by construction: ``C ~ N(0, 1)``, ``T ~ Bernoulli(1 / (1 + exp(-C)))``, ``Y = effect T + C + N(0, 1)``,
``X = g(Y) + N(0, 0.3^2)`` in 100 dimensions, with g a random network (1-50-50-50-100, ReLU, dropout of 0.2 left on).
An upstream team fits a network on 8,000 places and calibrates on 2,000 others; the trial is 10,000 more.

What differs from the published code: the predictor is by default scikit-learn's network of the same layers, stopped
early on a tenth of its training places; propensities are estimated and weights add up to one in each arm; corrections
are fitted on the held-out places only.

The remedy of Ratledge et al. (2022, doi:10.1038/s41586-022-05322-8) works at training: a loss that adds the largest
squared mean error over the fifths of the truth. Its network is passed to `simulate_paper_world` as `fit_flat`
(benchmarks/paper_tables.py has one in torch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "METHODS",
    "Fit",
    "PaperWorld",
    "estimate_paper_world",
    "fit_network",
    "paper_table",
    "score_effects",
    "simulate_paper_world",
]

Floats = NDArray[np.float64]

Fit = Callable[[Floats, Floats, int], Callable[[Floats], Floats]]
"""From images (n, 100), truths (n,) and a seed to a function that predicts from images."""

METHODS = ("oracle", "none", "response", "linear", "tweedie", "ratledge", "ppi")
"""Truth observed; predictions as they are; read back through the response curve; two corrections; a network trained for
flat errors; 100 labels."""

IMAGE_DIM, IMAGE_NOISE, DROPOUT = 100, 0.3, 0.2


@dataclass(frozen=True)
class PaperWorld:
    """One draw of the simulation.

    Attributes
    ----------
    effect : float
        True effect.
    y_pred, y_true : ndarray, shape (n_calibration,)
        Held-out predictions and truth upstream.
    trial : DataFrame
        ``prediction``, ``treated``, ``confounder``, ``truth``; ``prediction_flat`` where there is a second network.
    """

    effect: float
    y_pred: Floats
    y_true: Floats
    trial: pd.DataFrame


def simulate_paper_world(
    effect: float,
    seed: int,
    n_upstream: int = 10_000,
    n_trial: int = 10_000,
    *,
    fit: Fit | None = None,
    fit_flat: Fit | None = None,
) -> PaperWorld:
    """Draw one world and train its predictor.

    Parameters
    ----------
    effect : float
        True effect.
    seed : int
        Of everything random, training included.
    n_upstream, n_trial : int
        Places upstream, of which a fifth is held out to calibrate; units of the trial.
    fit : callable, optional
        Trains the predictor; by default scikit-learn's network.
    fit_flat : callable, optional
        Trains the network of method ``"ratledge"``, whose predictions are used as they are.
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    layers = _random_network(rng)
    upstream, trial = (_draw(effect, n, layers, rng) for n in (n_upstream, n_trial))
    cut = n_upstream - n_upstream // 5
    images, truths = upstream["image"][:cut], upstream["truth"][:cut]
    predict = (fit_network if fit is None else fit)(images, truths, seed)
    table = {name: trial[name] for name in ("treated", "confounder", "truth")}
    if fit_flat is not None:
        table["prediction_flat"] = fit_flat(images, truths, seed)(trial["image"])
    return PaperWorld(
        effect=effect,
        y_pred=predict(upstream["image"][cut:]),
        y_true=upstream["truth"][cut:],
        trial=pd.DataFrame({"prediction": predict(trial["image"])} | table),
    )


def fit_network(images: Floats, truths: Floats, seed: int) -> Callable[[Floats], Floats]:
    """Train a network of 64-32-32 units on squared errors, and give the function that predicts.

    Parameters
    ----------
    images : ndarray, shape (n, 100)
    truths : ndarray, shape (n,)
    seed : int
    """
    from sklearn.neural_network import MLPRegressor

    network = MLPRegressor(
        hidden_layer_sizes=(64, 32, 32), alpha=1e-2, early_stopping=True, random_state=seed
    )
    predict: Callable[[Floats], Floats] = network.fit(images, truths).predict
    return predict


def estimate_paper_world(
    world: PaperWorld, methods: Sequence[str] | None = None, n_labels: int = 100
) -> pd.DataFrame:
    """Effect of one world by every method, weighted by the inverse propensity.

    Parameters
    ----------
    world : PaperWorld
    methods : sequence of str, optional
        Of `METHODS`; by default all, without ``"ratledge"`` where the world has no second network.
    n_labels : int
        Labelled trial units for ``"ppi"``: the effect on the predictions of the others, plus the effect on the errors
        of these.

    Returns
    -------
    DataFrame
        ``effect`` (true), ``method``, ``estimate``.
    """
    import pandas as pd

    from sustain.causal.effect import estimate_effect
    from sustain.debias import LinearCalibration, ResponseCalibration, TweedieCalibration

    def weighted(outcome: Any, rows: slice = slice(None), **correction: Any) -> float:
        data = world.trial.assign(outcome=outcome).iloc[rows]
        result = estimate_effect(
            data,
            outcome="outcome",
            treatment="treated",
            covariates=["confounder"],
            estimator="ipw",
            **correction,
        )
        return result.estimate

    prediction, truth = world.trial["prediction"], world.trial["truth"]
    corrections = {"linear": LinearCalibration, "tweedie": TweedieCalibration}
    flat = "prediction_flat" in world.trial
    if methods is None:
        methods = [method for method in METHODS if flat or method != "ratledge"]
    rows = []
    for method in methods:
        if method == "oracle":
            estimate = weighted(truth)
        elif method == "none":
            estimate = weighted(prediction)
        elif method == "response":
            response = ResponseCalibration().fit(world.y_pred, world.y_true)
            card = response.to_card(target={"name": "truth", "unit": "1"}, predictor="network", n_boot=20)
            estimate = weighted(prediction, calibration=card, method="response", assumption="measurement")
        elif method in corrections:
            curve = corrections[method]().fit(world.y_pred, world.y_true)
            estimate = weighted(curve.transform(prediction, check_support=False))
        elif method == "ratledge":
            if not flat:
                raise EffectError(
                    "methods: 'ratledge' needs a world with a second network. Pass fit_flat to simulate_paper_world."
                )
            estimate = weighted(world.trial["prediction_flat"])
        elif method == "ppi":
            others, these = slice(n_labels, None), slice(n_labels)
            estimate = weighted(prediction, others) + weighted(truth - prediction, these)
        else:
            raise EffectError(f"methods: got {method!r}, expected some of {', '.join(METHODS)}.")
        rows.append({"effect": world.effect, "method": method, "estimate": estimate})
    return pd.DataFrame(rows)


def paper_table(
    effects: Sequence[float] = tuple(np.linspace(-2, 2, 50).tolist()),
    seed: int = 0,
    n_upstream: int = 10_000,
    n_trial: int = 10_000,
    *,
    fit: Fit | None = None,
    fit_flat: Fit | None = None,
) -> pd.DataFrame:
    """Estimates of every method at many true effects, a new world each; score them with `score_effects`.

    Parameters
    ----------
    effects : sequence of float
        True effects.
    seed, n_upstream, n_trial, fit, fit_flat
        As in `simulate_paper_world`.
    """
    import pandas as pd
    from tqdm import tqdm

    seeds = np.random.SeedSequence(seed).generate_state(len(effects))
    tables = []
    for effect, state in zip(
        tqdm(effects, desc="worlds", unit="world", disable=None), seeds.tolist(), strict=True
    ):
        world = simulate_paper_world(effect, state, n_upstream, n_trial, fit=fit, fit_flat=fit_flat)
        tables.append(estimate_paper_world(world))
    return pd.concat(tables, ignore_index=True)


def score_effects(table: pd.DataFrame) -> pd.DataFrame:
    """Regress estimates on true effects.

    Parameters
    ----------
    table : DataFrame
        ``effect``, ``method``, ``estimate``, three rows or more a method.

    Returns
    -------
    DataFrame
        One row a method: ``slope``, ``slope_std_error``, ``intercept``, ``mae``, ``rmse``, and ``f``, ``p_value``
        of the F test that the slope is 1 and the intercept 0.
    """
    import pandas as pd
    from scipy.special import fdtrc

    rows = []
    for method, part in table.groupby("method", sort=False):
        x, y = part["effect"].to_numpy(dtype=float), part["estimate"].to_numpy(dtype=float)
        if len(x) < 3:
            raise EffectError(
                f"table: method {method!r} has {len(x)} effects, but a line with a test needs 3 or more."
            )
        design = np.column_stack([x, np.ones(len(x))])
        slope, intercept = np.linalg.lstsq(design, y, rcond=None)[0]
        left = y - slope * x - intercept
        variance = float(left @ left) / (len(x) - 2)
        f = (float((y - x) @ (y - x)) - float(left @ left)) / 2 / variance
        rows.append(
            {
                "method": method,
                "slope": slope,
                "slope_std_error": np.sqrt(variance / np.square(x - x.mean()).sum()),
                "intercept": intercept,
                "mae": np.abs(y - x).mean(),
                "rmse": np.sqrt(np.square(y - x).mean()),
                "f": f,
                "p_value": fdtrc(2, len(x) - 2, f),
            }
        )
    return pd.DataFrame(rows)


def _random_network(rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
    """Weights and biases of g, uniform within 1 / sqrt(inputs), which is how torch starts a linear layer."""
    sizes = (1, 50, 50, 50, IMAGE_DIM)
    layers = []
    for inputs, outputs in pairwise(sizes):
        reach = 1 / np.sqrt(inputs)
        layers.append((rng.uniform(-reach, reach, (inputs, outputs)), rng.uniform(-reach, reach, outputs)))
    return layers


def _draw(
    effect: float, n: int, layers: Sequence[tuple[Floats, Floats]], rng: np.random.Generator
) -> dict[str, Any]:
    confounder = rng.normal(size=n)
    treated = (rng.uniform(size=n) < 1 / (1 + np.exp(-confounder))).astype(int)
    truth = effect * treated + confounder + rng.normal(size=n)
    image = truth[:, None]
    for weight, bias in layers[:-1]:
        image = np.maximum(image @ weight + bias, 0.0)
        image = image * (rng.uniform(size=image.shape) >= DROPOUT) / (1 - DROPOUT)
    image = image @ layers[-1][0] + layers[-1][1]
    image = image + IMAGE_NOISE * rng.normal(size=image.shape)
    return {"confounder": confounder, "treated": treated, "truth": truth, "image": image}
