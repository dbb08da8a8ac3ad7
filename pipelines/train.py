"""Stage `train`: the CNN wealth predictor."""

from sustain.config import Params
from sustain.models.train import train
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Train on the packed tiles."""
    train(artefacts.tiles, artefacts.model, required(params.train, "train", params), params.seed)


if __name__ == "__main__":
    run_stage(main)
