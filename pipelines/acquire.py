"""Stage `acquire`: the raw data of a source, exactly as published, or the embedded world."""

from sustain.config import DownloadParams, LocalParams, Params, SyntheticWorldParams
from sustain.data.catalogue.manifest import load_manifest
from sustain.data.fetch.published import fetch
from sustain.data.synthetic import write_world
from sustain.data.tiles.local import copy_local, copy_trials
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Generate the world or fetch every manifest of the source."""
    acquire = required(params.acquire, "acquire", params)
    if isinstance(acquire, SyntheticWorldParams):
        write_world(acquire, params.seed, artefacts.raw, artefacts.truth)
    elif isinstance(acquire, DownloadParams):
        for name in acquire.manifests:
            fetch(load_manifest(name), artefacts.raw / name)
    elif isinstance(acquire, LocalParams):
        copy_local(acquire, artefacts.raw)
    if isinstance(acquire, DownloadParams | LocalParams):
        copy_trials(acquire.trials, artefacts.raw / "trials")
        artefacts.truth.mkdir(parents=True, exist_ok=True)  # nobody knows it; DVC expects the folder


if __name__ == "__main__":
    run_stage(main)
