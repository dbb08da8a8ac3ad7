"""A corrected map as a folder for others."""

from sustain.maps.publish.folder import copy_into
from sustain.maps.publish.publish import publish_map
from sustain.maps.publish.survey_tiles import publish_survey_tiles

__all__ = ["copy_into", "publish_map", "publish_survey_tiles"]
