"""An effect read back from two samples of predictions, without a design: as `compare` asks for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sustain.debias.response.influence import Influence, influence
from sustain.debias.response.model import ResponseModel
from sustain.debias.response.unfolding import Arms, unfold_effect

__all__ = ["effect_between"]

Array = NDArray[np.float64]


def effect_between(model: ResponseModel, treated: Array, control: Array) -> float:
    """Effect on the truth behind the difference in mean predictions of two samples.

    The same number as `sustain.causal.estimate_effect` gives for a difference in means with HC1: a mean of the unfolded
    effect e and of that of units which gain alike, s, with the weight ``min(1, V(e - s) / (e - s)^2)`` of the latter.

    Parameters
    ----------
    model : ResponseModel
    treated, control : ndarray, shape (n,), (m,)
        Predictions in both arms.
    """
    response = model.response(model.pooled)
    arms = [Arms(*(response.shares(values, np.ones(values.size)) for values in (control, treated)))]
    difference = float(treated.mean() - control.mean())
    found = unfold_effect([response], arms, difference)
    effect, shift = float(found.effect), float(found.shift)
    gap = effect - shift
    if gap == 0:
        return effect
    by_effect, by_shift = influence([response], arms, found, difference)

    def moved(derivative: Influence, values: Array, on: bool) -> Array:
        cells = response.cells(values)
        part = derivative.treated[0] if on else -derivative.control[0]
        return np.asarray(derivative.difference * values + part[cells])

    variance = 0.0
    for values, on in ((treated, True), (control, False)):
        unit = moved(by_effect, values, on) - moved(by_shift, values, on)
        variance += float(np.square(unit - unit.mean()).sum()) / values.size**2
    n = treated.size + control.size
    alike = min(1.0, n / (n - 2) * variance / gap**2)
    return alike * shift + (1 - alike) * effect
