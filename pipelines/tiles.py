"""Stage `tiles`: raw survey tiles and labels into packed shards with leak-free splits."""

from sustain.config import LocalParams, Params
from sustain.data.local import pack_local_tiles
from sustain.data.tiles import pack_dhs_tiles
from sustain.stage import Artefacts, required, run_stage


def main(params: Params, artefacts: Artefacts) -> None:
    """Pack the tiles."""
    pack = pack_local_tiles if isinstance(params.acquire, LocalParams) else pack_dhs_tiles
    pack(artefacts.raw, artefacts.tiles, required(params.tiles, "tiles", params), params.seed)


if __name__ == "__main__":
    run_stage(main)
