"""Contrasts of held-out folds, estimated by corrections that were learned on all other folds.

A method is either a function of predictions, which corrects places and so any contrast of them (`Calibration`), or it
reads an effect off the predictions of both arms without correcting a single place (`ReadsEffects`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sustain.debias.base import Calibration
from sustain.debias.contrasts.families import ContrastDesign, ContrastFamily
from sustain.debias.contrasts.slopes import contrasts
from sustain.debias.judge.cross_fit import cross_fit
from sustain.debias.sample import CalibrationSample, as_sample
from sustain.errors import CalibrationError

__all__ = ["HeldOut", "Method", "ReadsEffects", "cross_fit_level", "held_out_contrasts"]

Array = NDArray[np.float64]
Folds = NDArray[np.intp]

_STEADY = 0.1  # share of a predicted contrast that is left when luck is taken off, below which it is not scaled by that


@runtime_checkable
class ReadsEffects(Protocol):
    """A method that gives effects and corrects no place, in scikit-learn's conventions."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters as passed to ``__init__``."""

    def fit(self, y_pred: Any, y_true: Any, *, sample_weight: Any, target_noise_var: float) -> Self:
        """Learn from calibration rows."""

    def effect(self, y_pred_treated: Any, y_pred_control: Any) -> float:
        """Effect on the truth, from the predictions of both arms."""


Method = Calibration | ReadsEffects


def held_out_contrasts(design: ContrastDesign, fold: Folds, min_arm: int) -> list[ContrastFamily]:
    """Contrasts among the rows of each fold alone."""
    return [design.on(fold == number, min_arm) for number in range(int(fold.max()) + 1)]


def cross_fit_level(
    y_pred: Array, y_true: Array, design: ContrastDesign, fold: Folds
) -> tuple[Array | None, float | None]:
    """Divide each fold's predictions by the slope matched to the design on all other folds; also the mean slope.

    None when a fold's matched slope cannot be estimated or is not positive.
    """
    sample = as_sample(y_pred, y_true)
    corrected, slopes = np.empty(y_pred.size), []
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        seen = replace(sample, y_pred=design.smooth(y_pred, ~inside))
        term = contrasts(seen, design.on(~inside, 2))
        if term is None or not term.slope > 0:
            return None, None
        corrected[inside] = y_pred[inside] / term.slope
        slopes.append(term.slope)
    return corrected, float(np.mean(slopes))


@dataclass(frozen=True)
class HeldOut:
    """Held-out contrasts of a design, and how methods estimate them.

    Attributes
    ----------
    sample : CalibrationSample
        All rows.
    weight : ndarray, shape (n,)
        Of rows, in calibrations.
    design : ContrastDesign
    fold : ndarray of int, shape (n,)
    families : list of ContrastFamily
        Contrasts inside each fold.
    """

    sample: CalibrationSample
    weight: Array
    design: ContrastDesign
    fold: Folds
    families: list[ContrastFamily]

    @property
    def truth(self) -> Array:
        """True contrasts, shape (k,)."""
        return self._stacked(lambda family: family.differences(self.sample.y_true))

    @property
    def fold_of_contrast(self) -> Folds:
        """Fold of each contrast, shape (k,)."""
        return np.repeat(np.arange(len(self.families)), [len(family) for family in self.families])

    def differences(self, corrected: Array) -> Array:
        """Contrasts of corrected values, shape (k,), of each fold as its design is to see them."""
        parts = [
            family.differences(self.design.smooth(corrected, self.fold == number))
            for number, family in enumerate(self.families)
            if len(family)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def estimated(self, method: Method, strata: Any = None) -> Array:
        """Contrasts as a method estimates them, shape (k,).

        Raises
        ------
        CalibrationError
            When it cannot be learned on the other folds, or gives no number.
        """
        if isinstance(method, ReadsEffects):
            return self._read(method)
        corrected = cross_fit(
            method,
            self.sample.y_pred,
            self.sample.y_true,
            self.fold,
            sample_weight=self.weight,
            strata=strata,
            target_noise_var=self.sample.noise,
        )
        return self.differences(corrected)

    def _read(self, method: ReadsEffects) -> Array:
        """Effects read off the arms, scaled by what their predicted contrast is without the luck of donors."""
        x, effects = self.sample.y_pred, []
        for number, family in enumerate(self.families):
            if not len(family):
                continue
            rest = self.fold != number
            learned = type(method)(**method.get_params()).fit(
                x[rest],
                self.sample.y_true[rest],
                sample_weight=self.weight[rest],
                target_noise_var=self.sample.noise,
            )
            smooth = family.differences(self.design.smooth(x, ~rest))
            for (on, off), raw, without_luck in zip(family.arms, family.differences(x), smooth, strict=True):
                scale = without_luck / raw if abs(raw) > _STEADY * abs(without_luck) else 1.0
                effects.append(float(learned.effect(x[on], x[off])) * scale)
        found = np.array(effects)
        if not np.isfinite(found).all():
            raise CalibrationError(
                f"effect: gave {np.count_nonzero(~np.isfinite(found))} contrasts that are no number."
            )
        return found

    def _stacked(self, of: Any) -> Array:
        parts = [of(family) for family in self.families if len(family)]
        return np.concatenate(parts) if parts else np.empty(0)
