"""Stage `tiles`: raw survey tiles and labels into packed shards with leak-free splits."""

from sustain.config import DownloadParams, LocalParams, Params
from sustain.data.sustainbench.dhs_tiles import pack_dhs_tiles
from sustain.data.tiles.local import pack_local_tiles
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Pack the tiles."""
    section = required(params.tiles, "tiles", params)
    if isinstance(params.acquire, LocalParams):
        pack_local_tiles(artefacts.raw, artefacts.tiles, section, params.seed)
    else:
        raw = artefacts.raw / "dhs" if isinstance(params.acquire, DownloadParams) else artefacts.raw
        pack_dhs_tiles(raw, artefacts.tiles, section, params.seed, work=artefacts.work / "tiles")


if __name__ == "__main__":
    run_stage(main)
