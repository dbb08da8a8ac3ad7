"""The simulation table of "One Map, Many Trials", ours beside the published one.

    python benchmarks/paper_tables.py [--effects 50] [--out benchmarks/results/paper_tables.csv]

A new world for each of 50 true effects: random image function, two networks trained on 8,000 places (one on squared
errors, one with the loss of Ratledge et al., which adds the largest squared mean error over the fifths of the truth),
corrections learned on 2,000 held-out places, a trial of 10,000 units, inverse propensity weights. Published figures are
recomputed from the arrays printed in the authors' notebook. Theirs trains in full batches for up to 50,000 epochs, ours
in batches of 1,000 until a tenth of the places, held out, improves no more. About five minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import describe
from numpy.typing import NDArray
from torch import Tensor, nn

from sustain.causal.planning.simulate import Fit, paper_table, score_effects
from sustain.files import write_text

Floats = NDArray[np.float64]

# slope, intercept, MAE, RMSE, F over 50 effects.
PUBLISHED = {
    "oracle": (1.0022, -0.0035, 0.0244, 0.0317, 0.46),
    "none": (0.5346, 0.0060, 0.4794, 0.5493, 6420.4),
    "linear": (1.0068, -0.0237, 0.0491, 0.0599, 5.08),
    "tweedie": (0.9947, -0.0093, 0.0410, 0.0511, 1.22),
    "ratledge": (0.8062, 0.0320, 0.1845, 0.3032, 32.9),
    "ppi": (0.9834, 0.1162, 0.1914, 0.2562, 6.44),
}
FLAT = 4.0  # weight of the loss's second term: 2 in the authors' code, which applies it twice
BATCH, PATIENCE, EPOCHS, RATE, DECAY = 1000, 30, 400, 2e-3, 1e-2


def fit_torch(flat: float) -> Fit:
    """Network of 64-32-32 units whose loss is the squared error plus `flat` times the worst fifth's squared bias."""

    def loss(predicted: Tensor, truth: Tensor) -> Tensor:
        error = predicted - truth
        total = error.square().mean()
        if flat:
            fifths = torch.tensor_split(torch.argsort(truth), 5)
            total = total + flat * torch.stack([error[rows].mean().square() for rows in fifths]).max()
        return total

    def fit(images: Floats, truths: Floats, seed: int) -> Callable[[Floats], Floats]:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [nn.Linear(images.shape[1], 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()]
            network = nn.Sequential(*layers, nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
        x, y = (torch.as_tensor(values, dtype=torch.float32) for values in (images, truths))
        held = len(y) // 10
        x, y, x_held, y_held = x[held:], y[held:], x[:held], y[:held]
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        best, waited, kept = np.inf, 0, {}
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(y), generator=generator).split(BATCH):
                optimiser.zero_grad()
                loss(network(x[rows]), y[rows]).backward()
                optimiser.step()
            with torch.no_grad():
                now = float(loss(network(x_held), y_held))
            waited += 1
            if now < best:
                best, waited = now, 0
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            if waited >= PATIENCE:
                break
        network.load_state_dict(kept)

        def predict(values: Floats) -> Floats:
            with torch.no_grad():
                return network(torch.as_tensor(values, dtype=torch.float32)).double().numpy()

        return predict

    return fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--effects", type=int, default=50, help="Number of true effects between -2 and 2.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/paper_tables.csv"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    effects = np.linspace(-2, 2, arguments.effects).tolist()
    table = paper_table(effects, seed=arguments.seed, fit=fit_torch(0.0), fit_flat=fit_torch(FLAT))
    scores = score_effects(table).set_index("method")
    for place, name in enumerate(("slope", "intercept", "mae", "rmse", "f")):
        scores[f"published_{name}"] = [
            PUBLISHED[method][place] if method in PUBLISHED else np.nan for method in scores.index
        ]
    write_text(arguments.out, scores.round(4).to_csv())
    text = f"{scores.round(4).T.to_string()}\n\n{describe()}, torch {torch.__version__}\n"
    write_text(arguments.out.with_suffix(".txt"), text)
    print(text)


if __name__ == "__main__":
    main()
