"""What a pipeline's trials are: lists of trials, contrasts between places, and their results."""

from sustain.trials.contrasts import Contrast, contrast_scores, contrast_table, stability_gaps
from sustain.trials.distribution import TrialDistribution, TrialMeasure
from sustain.trials.family import as_trials, contrast_results, explain_gaps, explain_scores
from sustain.trials.results import (
    MethodEstimate,
    ReadBack,
    TrialNote,
    TrialResult,
    effects_table,
    method_scores,
    read_results,
    write_results,
)
from sustain.trials.tiles import tile_trials, urban_contrasts
from sustain.trials.trial import Trial, estimate_trials, load_trials, named_warnings

__all__ = [
    "Contrast",
    "MethodEstimate",
    "ReadBack",
    "Trial",
    "TrialDistribution",
    "TrialMeasure",
    "TrialNote",
    "TrialResult",
    "as_trials",
    "contrast_results",
    "contrast_scores",
    "contrast_table",
    "effects_table",
    "estimate_trials",
    "explain_gaps",
    "explain_scores",
    "load_trials",
    "method_scores",
    "named_warnings",
    "read_results",
    "stability_gaps",
    "tile_trials",
    "urban_contrasts",
    "write_results",
]
