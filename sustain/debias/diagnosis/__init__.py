"""What a calibration sample says of the errors of its predictions, before any correction."""

from sustain.debias.diagnosis.diagnosis import Diagnosis
from sustain.debias.diagnosis.stability import Stability, stability_of

__all__ = ["Diagnosis", "Stability", "stability_of"]
