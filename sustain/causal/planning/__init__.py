"""Before a trial: what a map can find, and whether a calibration carries over."""

from sustain.causal.planning.power import Power, effective_sample_size, minimum_detectable_effect, power
from sustain.causal.planning.transport import TransportReport, classifier_auc, transport_checks

__all__ = [
    "Power",
    "TransportReport",
    "classifier_auc",
    "effective_sample_size",
    "minimum_detectable_effect",
    "power",
    "transport_checks",
]
