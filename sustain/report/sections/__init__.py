"""The sections of the page: which figures and tables each holds, and captions that say what to see in them."""

from sustain.report.sections.calibration import correction_section, errors_section
from sustain.report.sections.effects import effects_section
from sustain.report.sections.maps import map_section
from sustain.report.sections.model import model_section
from sustain.report.sections.published import models_section, survey_section

__all__ = [
    "correction_section",
    "effects_section",
    "errors_section",
    "map_section",
    "model_section",
    "models_section",
    "survey_section",
]
