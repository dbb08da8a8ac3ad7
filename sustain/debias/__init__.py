"""Corrections of shrunken predictions, and the calibration card that carries them.

Satellite models predict the poor too rich and the rich too poor. These corrections undo that for a purpose: so that
group means and treatment effects computed from the corrected map equal those of the truth, when the predictions
relate to the truth in the trial as they do in the calibration sample ("measurement stability").
"""

from typing import NoReturn

from sustain.debias.build import build_card
from sustain.debias.card.card import CalibrationCard
from sustain.debias.contrasts.families import ContrastFamily, DonorTrials
from sustain.debias.diagnosis.diagnosis import Diagnosis
from sustain.debias.functions import linear_correct, tweedie_correct
from sustain.debias.judge.compare import Comparison, compare
from sustain.debias.judge.diagnose import diagnose
from sustain.debias.level import LevelCalibration, LevelSlope
from sustain.debias.linear import LinearCalibration
from sustain.debias.response.calibration import ResponseCalibration
from sustain.debias.retired import NAMES
from sustain.debias.tweedie.calibration import TweedieCalibration

__all__ = [
    "CalibrationCard",
    "Comparison",
    "ContrastFamily",
    "Diagnosis",
    "DonorTrials",
    "LevelCalibration",
    "LevelSlope",
    "LinearCalibration",
    "ResponseCalibration",
    "TweedieCalibration",
    "build_card",
    "compare",
    "diagnose",
    "linear_correct",
    "tweedie_correct",
]


def __getattr__(name: str) -> NoReturn:
    if name in NAMES:
        raise ImportError(NAMES[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
