"""Stage `train`: the wealth predictor, a network or a simple model."""

import os

from sustain.config import Params
from sustain.models import train_model
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Train on the packed tiles."""
    section = required(params.train, "train", params)
    tensorboard = os.environ.get("SUSTAIN_TENSORBOARD") or None  # no parameter, as no result depends on it
    train_model(artefacts.tiles, artefacts.model, section, params.seed, tensorboard)


if __name__ == "__main__":
    run_stage(main)
