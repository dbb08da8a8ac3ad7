"""A small embedded world that the tests of this room share."""

from dataclasses import dataclass
from functools import cache

from sustain.config import SyntheticWorldParams
from sustain.data.synthetic.fields import Streams
from sustain.data.synthetic.world import Landscape, build_landscape

SMALL = SyntheticWorldParams(scene_px=512, tile_px=32, n_sites=300)
SEED = 4


@dataclass(frozen=True)
class World:
    params: SyntheticWorldParams
    streams: Streams
    landscape: Landscape


@cache
def small_world() -> World:
    streams = Streams(SEED)
    return World(SMALL, streams, build_landscape(SMALL, streams))
