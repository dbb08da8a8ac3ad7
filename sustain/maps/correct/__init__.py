"""Raw maps corrected with a card, and somebody else's maps taken in."""

from sustain.maps.correct.adopt import adopt_raster
from sustain.maps.correct.raster import correct_raster
from sustain.maps.correct.survey_tiles import (
    CELLS_FILE,
    correct_survey_tiles,
    map_survey_tiles,
    read_survey_tiles,
)

__all__ = [
    "CELLS_FILE",
    "adopt_raster",
    "correct_raster",
    "correct_survey_tiles",
    "map_survey_tiles",
    "read_survey_tiles",
]
