"""The embedded world: a seeded country that never was, whose truth is known.

It comes in the formats of the real thing (SustainBench's tiles and labels, Landsat-like scenes, trial tables), so that
everything downstream runs as it would on real input. Nothing it says is evidence about a place on Earth.
"""

from sustain.data.synthetic.build import write_world

__all__ = ["write_world"]
