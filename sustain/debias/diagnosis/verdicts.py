"""What follows from a diagnosis, in words."""

from __future__ import annotations

import math

from sustain.debias.diagnosis.diagnosis import Diagnosis
from sustain.debias.diagnosis.stability import Stability

__all__ = ["IN_SAMPLE_RATIO", "verdicts"]

IN_SAMPLE_RATIO = 0.9  # of the held-out residual sd; a training residual sd below it shows memory
MUCH_SKEWNESS = 0.5
_UNTESTED = "this cannot be tested: there is no error, or there are too few clusters."


def verdicts(d: Diagnosis) -> dict[str, str]:
    """Say what follows from a diagnosis, a sentence or two by subject."""
    alpha, b, up = 1 - d.level, d.prediction_on_truth, d.truth_on_prediction
    interval = f"{b.slope:.3f} [{b.low:.3f}, {b.high:.3f}]"
    if b.low <= 0:
        shrinkage = f"the slope of prediction on truth, {interval}, may be zero: nothing can be corrected."
    elif b.high < 1:
        shrinkage = (
            f"slope of prediction on truth {interval}: an effect that reaches the image only through the truth "
            f"comes out at {b.slope:.0%} of its size; one that the image shows by itself needs no correction."
        )
    elif b.low > 1:
        shrinkage = (
            f"slope of prediction on truth {interval}: predictions exaggerate; an effect that reaches the image only "
            f"through the truth comes out at {b.slope:.0%} of its size."
        )
    else:
        shrinkage = (
            f"slope of prediction on truth {interval}: no clear shrinkage; a correction may add more noise than it "
            "takes off bias."
        )
    said = {"shrinkage": shrinkage}
    told = f"truth on prediction {up.slope:.3f} [{up.low:.3f}, {up.high:.3f}], intercept {up.intercept:.3g}"
    if math.isnan(d.berkson.p_value):
        level = _UNTESTED
    elif d.berkson.p_value < alpha:
        level = f"p = {d.berkson.p_value:.2g}: predictions are off in level or scale; recalibrate them."
    else:
        level = f"p = {d.berkson.p_value:.2g}: no sign that predictions are off in level or scale."
    said["level and scale"] = f"{told}; {level}"
    if math.isnan(d.linearity.p_value):
        said["linearity"] = (
            "whether E[prediction | truth] is a line cannot be tested: the truth takes too few values, or there is no "
            "error."
        )
    elif d.linearity.p_value < alpha:
        said["linearity"] = (
            f"E[prediction | truth] is curved (p = {d.linearity.p_value:.2g}): one slope does not serve all levels."
        )
    else:
        said["linearity"] = f"no sign of curvature in E[prediction | truth] (p = {d.linearity.p_value:.2g})."
    faults = []
    if abs(d.shape.skewness) > MUCH_SKEWNESS:
        faults.append(
            f"skewness {d.shape.skewness:.2f}: Tweedie's formula assumes normal errors, the response curve does not"
        )
    if d.shape.variance_trend.p_value < alpha:
        faults.append(
            f"their variance changes with the prediction (p = {d.shape.variance_trend.p_value:.2g}): "
            "TweedieCalibration(heteroskedastic=False) and the published estimator assume that it does not"
        )
    if faults:
        said["residuals"] = "; ".join(faults) + "."
    if d.strata_differ is not None:
        slopes = ", ".join(f"{name} {item.slope:.3f}" for name, item in d.strata.items())
        p_value = d.strata_differ.p_value
        said["strata"] = f"slopes {slopes}; p = {p_value:.2g} that they share one line: " + (
            "calibrate within strata."
            if p_value < alpha
            else _UNTESTED
            if math.isnan(p_value)
            else "no sign that they differ."
        )
    if d.slope_without_a_group is not None:
        low, high = d.slope_without_a_group
        said["single groups"] = f"leaving one group out moves the slope between {low:.3f} and {high:.3f}."
    if d.levels:
        slopes = ", ".join(
            f"{name} {item.slope:.3f} [{low:.3f}, {high:.3f}]"
            for name, item in d.levels.items()
            for low, high in [item.interval(d.level)]
        )
        said["levels"] = f"slope {slopes}: correct a contrast by the slope of the level at which it varies."
    for name, found in d.stability.items():
        said[f"stability: {name}"] = _stability(found, alpha)
    if d.in_sample is not None:
        said["in sample"] = f"training residuals are {d.in_sample.ratio:.2f} times the held-out ones" + (
            ": calibrate on held-out rows only." if d.in_sample.ratio < IN_SAMPLE_RATIO else "."
        )
    return said


def _stability(found: Stability, alpha: float) -> str:
    told = (
        f"at equal predictions the truth differs by {found.truth_gap:.3g} (standard error "
        f"{found.truth_gap_std_error:.2g}), and by {found.truth_slope_gap:.2g} "
        f"({found.truth_slope_gap_std_error:.2g}) more for each unit of them, p = {found.outcome_p:.2g}; at equal "
        f"truth the predictions differ by {found.prediction_gap:.3g} ({found.prediction_gap_std_error:.2g}), and by "
        f"{found.prediction_slope_gap:.2g} ({found.prediction_slope_gap_std_error:.2g}) more for each unit of it, "
        f"p = {found.measurement_p:.2g}: "
    )
    if math.isnan(found.outcome_p) or math.isnan(found.measurement_p):
        return told + _UNTESTED
    if found.outcome_p >= alpha > found.measurement_p:
        return (
            told
            + "measurement stability is rejected, outcome stability is not; leave such a contrast uncorrected."
        )
    if found.measurement_p >= alpha > found.outcome_p:
        return told + "outcome stability is rejected, measurement stability is not; a correction is due."
    if found.measurement_p >= alpha:
        return told + "neither assumption is rejected; report both ends."
    return told + "both assumptions are rejected; use a slope matched to such contrasts."
