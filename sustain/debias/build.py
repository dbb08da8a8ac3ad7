"""Build a calibration card from calibration rows: check them once, fit every method on them, write all of it down."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sustain.debias.base import Calibration
from sustain.debias.card.assemble import card_of
from sustain.debias.card.card import CalibrationCard
from sustain.debias.contrasts.families import ContrastDesign
from sustain.debias.level import LevelCalibration
from sustain.debias.linear import LinearCalibration
from sustain.debias.response.calibration import ResponseCalibration
from sustain.debias.response.model import ResponseModel
from sustain.debias.retired import RETIRED
from sustain.debias.sample import CalibrationSample, as_sample
from sustain.debias.tweedie.calibration import TweedieCalibration
from sustain.errors import CalibrationError, WeakCalibrationWarning

__all__ = ["build_card"]


def build_card(
    y_pred: Any,
    y_true: Any,
    *,
    target: Mapping[str, str],
    predictor: Mapping[str, str | None] | str,
    sample_weight: Any = None,
    groups: Any = None,
    strata: Any = None,
    levels: Mapping[str, Any] | None = None,
    families: Iterable[ContrastDesign] = (),
    lon: Any = None,
    lat: Any = None,
    methods: Sequence[str | Calibration | ResponseCalibration] = ("linear", "tweedie", "response"),
    score: Literal["mixture", "kde", "scott"] = "mixture",
    target_noise_var: Any = 0.0,
    n_boot: int = 200,
    seed: int = 0,
    years: Iterable[int] | None = None,
    countries: Iterable[str] | None = None,
    licence: str = "",
    citation: str = "",
) -> CalibrationCard:
    """Fit corrections on calibration rows and write down all that a downstream user needs.

    Parameters
    ----------
    y_pred, y_true : array_like, shape (n,)
        Out-of-sample predictions and labels.
    target : mapping
        ``{"name": ..., "unit": ...}`` of the labels.
    predictor : mapping or str
        ``{"id": ..., "sha256": ...}`` of the model, or its id.
    sample_weight, groups, strata : array_like, shape (n,), optional
        Sampling weights; clusters, which the bootstrap resamples whole; strata (urban, rural), which get slopes and
        corrections of their own beside the pooled ones.
    levels : mapping of str to array_like, shape (n,), optional
        Group labels, coarse to fine, such as ``{"survey": ..., "region": ...}``: the card then holds the slope
        between and within them, and within strata; see `LevelCalibration`.
    families : iterable of ContrastFamily or DonorTrials, optional
        Families of contrasts, each of which gets a slope of its own in the card.
    lon, lat : array_like, shape (n,), optional
        Places in degrees: the card then says how far the errors of neighbours are alike, which the standard error of
        a mean over an area needs. They are not kept.
    methods : sequence of str or calibration
        ``"linear"``, ``"tweedie"`` and ``"response"``, or unfitted calibrations with options of their own; one at
        least that corrects cells, as ``"response"`` does not. A response that cannot be learned is left out, with a
        warning.
    score : str
        Score of ``"tweedie"``.
    target_noise_var : float or array_like, shape (n,)
        Variance of the labels' sampling error, for all labels or for each.
    n_boot : int
        Bootstrap draws stored in the card.
    seed : int
        Seed of the draws; the same seed gives the same bytes.
    years, countries : iterable, optional
        Extent of the calibration sample; repeated values are fine, missing ones are left out. Years are whole (2015).
        A column of countries, one value a row, also tells
        how far countries err as wholes (with `lon` and `lat`, and five countries of 20 rows or more), which the
        interval of an area's mean needs. Blocks and other small groups belong into `groups`, not here.
    licence, citation : str
        Of the card. A map that is corrected with it may be under another licence.

    Returns
    -------
    CalibrationCard

    Raises
    ------
    CalibrationError
        When the rows cannot carry a calibration (see the calibrations' ``fit``), or an argument is unknown or not
        what it should be, such as a year 15 or a hash that is none.

    Warns
    -----
    WeakCalibrationWarning
        As the calibrations' ``fit``; what it says stands in the card's verdicts too.
    """
    sample = as_sample(y_pred, y_true, sample_weight, groups, strata, target_noise_var)
    sample.warn_of_weaknesses(stacklevel=2)
    wanted = [_make(method, score) for method in methods]
    responses = [item for item in wanted if isinstance(item, ResponseCalibration)]
    fitted = [item.fit_sample(sample) for item in wanted if not isinstance(item, ResponseCalibration)]
    families = tuple(families)
    by_level = LevelCalibration().fit_sample(sample, levels, families) if levels or families else None
    return card_of(
        fitted,
        sample,
        response=_model(responses, sample),
        levels=by_level,
        lon=lon,
        lat=lat,
        target=target,
        predictor=predictor,
        n_boot=n_boot,
        seed=seed,
        years=years,
        countries=countries,
        licence=licence,
        citation=citation,
    )


def _model(responses: Sequence[ResponseCalibration], sample: CalibrationSample) -> ResponseModel | None:
    """Response of the sample, if it is wanted and can be learned; a card is of use without."""
    if not responses:
        return None
    try:
        return responses[0].fit_sample(sample).model_
    except CalibrationError as error:
        warnings.warn(f"The card holds no response: {error}", WeakCalibrationWarning, stacklevel=3)
        return None


def _make(
    method: str | Calibration | ResponseCalibration, score: Literal["mixture", "kde", "scott"]
) -> Calibration | ResponseCalibration:
    if isinstance(method, Calibration | ResponseCalibration):
        return type(method)(**method.get_params())
    if method == "linear":
        return LinearCalibration()
    if method == "tweedie":
        return TweedieCalibration(score=score)
    if method == "response":
        return ResponseCalibration()
    if method in RETIRED:
        raise CalibrationError(f"methods: {RETIRED[method]}")
    raise CalibrationError(
        f"methods: {method!r} is unknown. Pass 'linear', 'tweedie', 'response' or a calibration object."
    )
