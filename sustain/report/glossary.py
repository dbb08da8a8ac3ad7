"""The words of the page, each said once in plain language."""

from __future__ import annotations

__all__ = ["GLOSSARY"]

GLOSSARY = {
    "Block": "A square of land whose sites go to one part together: training, validation, calibration or test. "
    "Neighbours look alike, so a model is judged in blocks that it never saw.",
    "Calibration sample": "Survey sites with a label and a prediction by a model that did not train on "
    "them. They show how predictions err.",
    "Calibration card": "A small file with everything the calibration sample teaches about the errors, "
    "and none of its labels or places. With the map and the card anybody can correct an effect.",
    "Contrast": "A difference between two groups of places. It is an effect only where chance, or a design as good, "
    "decided which place is in which group.",
    "Coverage, holds truth": "Whether an interval contains the true value. A 95% interval should, in 95 "
    "of 100 repetitions.",
    "Headcount": "The share of places below a poverty line.",
    "Linear correction": "Subtracts the intercept and divides by the slope of prediction on truth. "
    "Effects are divided by the slope.",
    "Measurement stability": "Among places of equal wealth, predictions are distributed alike in the "
    "trial and in the calibration sample, treated or not. Then a correction is right.",
    "Naive": "The estimate from the map as it is, without correction.",
    "Outcome stability": "Among places of equal prediction, wealth is distributed alike in the trial and "
    "in the calibration sample, treated or not. Then the uncorrected map is right and a correction overshoots.",
    "Prediction on truth": "The slope b of a regression of predictions on survey wealth. Below one: "
    "differences are understated (shrinkage, attenuation).",
    "ResNet, ridge regression, random forest": "Ways to learn from images what goes with wealth: a network of many "
    "layers, a line through many measures of an image, and many small decision trees.",
    "Response curve": "The mean prediction among places of a given wealth. An effect is read back through it: its "
    "slope depends on how rich the trial's places are and on how far the treatment moves them.",
    "RMSE": "Root of the mean squared error: how far a prediction typically lies from the survey's value.",
    "R²": "Share of the differences in wealth between sites that the predictions explain: one is all, zero is no "
    "better than giving every site the mean.",
    "Standard error": "How far an estimate typically lies from what it estimates. For effects it holds "
    "both the trial's own chance and the uncertainty of the calibration.",
    "Stratum": "A kind of site, such as urban or rural.",
    "Support": "The range of predictions on which a correction was learned: the central 99% of the "
    "calibration sample. Beyond it the correction extrapolates.",
    "Truth on prediction": "The slope of a regression the other way. At one predictions are right in scale: "
    "places with a given prediction are, on average, as much richer than others as it says.",
    "Tweedie's correction": "Moves a prediction away from where predictions are dense, by the noise "
    "variance times the slope of the log density. Unlike the linear correction it may bend.",
    "Unfolding": "Finding the distribution of wealth that, blurred as the calibration sample shows, gives the "
    "predictions that were seen. It says where on the response curve a trial lies.",
    "Wealth index": "A weighted sum of assets and housing quality from a household survey, averaged over "
    "the households of a site.",
}
