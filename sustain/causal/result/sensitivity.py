"""How wrong an assumption must be before a conclusion falls.

Three ways in which a linear correction can fail in a trial, each with the effect as a function of the failure:

- *differential error*: at equal truth, predictions in the treated arm differ by ``delta`` from those in the control
  arm, so that ``tau(delta) = (d - delta) / b``;
- *visibility*: the image shows part of the contrast by itself, so that the slope of this contrast is not b but
  ``1 - m (1 - b)``, with m from 0 (all visible: outcome stability) to 1 (none: measurement stability);
- *arm-specific slopes*: each arm has a line of prediction on truth of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from sustain.causal.correction.ratio import CorrectedEffect, corrected_effect
from sustain.causal.estimate import Estimate
from sustain.causal.result.between_assumptions import effect_table, visible_share, visible_share_path
from sustain.errors import EffectError
from sustain.spelling import Placeholder, argument
from sustain.stats.covariance import critical_value

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sustain.debias import CalibrationCard
    from sustain.debias.card.schema import Level

__all__ = ["Sensitivity"]


@dataclass(frozen=True)
class Sensitivity:
    """A linearly corrected effect under failures of its assumption.

    Attributes
    ----------
    term : str
        Treatment.
    effect, effect_var : float
        Naive effect d and its variance.
    slope, slope_var : float
        Slope b of prediction on truth and its variance.
    df, level : float
        Of the intervals.
    residual_sd : float
        Standard deviation of the prediction given the truth, in which a differential error can be judged; NaN if
        unknown.
    covariance : float
        Of d and b; zero unless trial and calibration share units.
    own_var : float
        Part of `effect_var` that is the own error of a contrast of this kind, and no unit's.
    """

    term: str
    effect: float
    effect_var: float
    slope: float
    slope_var: float
    df: float
    level: float
    residual_sd: float = math.nan
    covariance: float = 0.0
    own_var: float = 0.0

    @classmethod
    def of(
        cls, term: str, naive: Estimate, corrected: Estimate, level: float, residual_sd: float = math.nan
    ) -> Self:
        """Sensitivity of an effect whose correction divides by a slope."""
        return cls(
            term=term,
            effect=naive.estimate,
            effect_var=corrected.variance_trial * corrected.slope**2,
            own_var=corrected.variance_own * corrected.slope**2,
            slope=corrected.slope,
            slope_var=corrected.slope_var,
            df=corrected.df,
            level=level,
            residual_sd=residual_sd,
            # The covariance of effect and slope: that of the estimate's parts, d/b and -tau V_b/b, undone.
            covariance=-corrected.covariance * corrected.slope**2 / corrected.estimate
            if corrected.covariance
            else 0.0,
        )

    def differential(self, delta: float) -> CorrectedEffect:
        """Effect when treated places are predicted `delta` higher than control places of the same truth."""
        found = corrected_effect(self.effect - delta, self.effect_var, self.slope, self.slope_var)
        shared = -2 * found.estimate * self.covariance / self.slope**2
        return found._replace(std_error=math.sqrt(max(0.0, found.std_error**2 + shared)))

    @property
    def _critical(self) -> float:
        return critical_value(self.level, self.df, EffectError)

    @property
    def breakdown(self) -> float:
        """Differential error that would explain the whole effect: the naive effect itself."""
        return self.effect

    @property
    def robust_breakdown(self) -> float:
        """Smallest differential error, towards zero effect, at which the interval includes zero.

        Zero when it already does. In the unit of the prediction; divide by `residual_sd` to judge it.
        """
        critical = self._critical
        # The gaps e = |d - delta| at which the interval ends at zero: room e^2 + 2 shared e = critical^2 effect_var.
        room = 1 - critical**2 * self.slope_var / self.slope**2
        shared = critical**2 * math.copysign(self.covariance, self.covariance * self.effect) / self.slope
        root = shared**2 + room * critical**2 * self.effect_var
        if room > 0:
            gap = (math.sqrt(root) - shared) / room
        elif root > 0 and 0 < shared + math.sqrt(root) >= -room * abs(self.effect):
            # A slope that is hardly known, and errors of it that go with those of d: zero is outside between two gaps.
            gap = critical**2 * self.effect_var / (shared + math.sqrt(root))
        else:
            return 0.0
        return math.copysign(max(abs(self.effect) - gap, 0.0), self.effect)

    def bounds(self, largest: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """Bounds of the effect when the differential error is at most `largest` in size, and their interval.

        Returns
        -------
        (low, high) : tuple of float
            Effects at both extremes.
        (conf_low, conf_high) : tuple of float
            Covers the effect, wherever between the bounds it lies, with probability `level` (Imbens and Manski 2004,
            doi:10.1111/j.1468-0262.2004.00555.x).
        """
        if not largest >= 0:
            raise EffectError(
                f"largest: got {largest!r}, expected the size of a differential error, 0 or more."
            )
        ends = sorted((self.differential(largest), self.differential(-largest)), key=lambda end: end.estimate)
        low, high = ends
        critical = self._imbens_manski((high.estimate - low.estimate) / max(low.std_error, high.std_error))
        interval = low.estimate - critical * low.std_error, high.estimate + critical * high.std_error
        return (low.estimate, high.estimate), interval

    def visibility(self, mediated: float) -> CorrectedEffect:
        """Effect when a share `mediated` of the contrast reaches the image only through the outcome.

        0 is outcome stability (the naive effect), 1 measurement stability (the corrected one).
        """
        return visible_share(*self._ends, self.slope, mediated)

    def path(self, shares: Sequence[float] = tuple(np.linspace(0, 1, 11).tolist())) -> pd.DataFrame:
        """Effects from outcome stability to measurement stability: the table of `EffectResult.path`."""
        return visible_share_path(*self._ends, self.slope, self.level, shares)

    @property
    def _ends(self) -> tuple[Estimate, Estimate]:
        """The naive and the corrected effect."""
        end = corrected_effect(self.effect, self.effect_var, self.slope, self.slope_var)
        corrected = Estimate(
            "linear",
            end.estimate,
            end.variance_trial,
            end.variance_calibration,
            self.df,
            slope=self.slope,
            slope_var=self.slope_var,
            covariance=-self.covariance * end.estimate / self.slope**2,
            covariance_naive=self.effect_var / self.slope,
        )
        return Estimate("none", self.effect, self.effect_var, 0.0, self.df), corrected

    def table(self, deltas: Sequence[float] | None = None) -> pd.DataFrame:
        """Effects under differential errors.

        Parameters
        ----------
        deltas : sequence of float, optional
            By default from minus to plus the naive effect's size.

        Returns
        -------
        DataFrame
            ``delta``, ``estimate``, ``std_error``, ``conf_low``, ``conf_high``.
        """
        if deltas is None:
            deltas = (np.linspace(-1, 1, 9) * abs(self.effect)).tolist()
        return effect_table("delta", deltas, [self.differential(delta) for delta in deltas], self._critical)

    def levels(self, card: CalibrationCard) -> pd.DataFrame:
        """Effect if the contrast behaved like others that the card has seen: a bank of placebos.

        Every level of the card (between surveys, between regions, town against country, ...) is a family of contrasts
        with a slope of its own. The effect is then d / b_level, which is a differential error of d (1 - b / b_level)
        at the pooled slope: placebos say how large such errors are among untreated places.

        Parameters
        ----------
        card : CalibrationCard
            With levels, from ``build_card(..., levels=...)``.

        Returns
        -------
        DataFrame
            ``level``, ``slope``, ``slope_std_error``, ``n_units``, ``estimate``, ``std_error``, ``conf_low``,
            ``conf_high``, ``delta``. Levels whose slope may be zero are left out.

        Raises
        ------
        EffectError
            When the card holds no usable level.
        """
        usable = self.usable_levels(card)
        if not usable:
            raise EffectError(
                f"card: it holds {len(card.levels)} levels, none with a slope clearly above zero. Levels are "
                f"put there by {argument('levels', Placeholder('column'))} when the card is made."
            )
        effects = [
            corrected_effect(
                self.effect,
                self.effect_var - self.own_var + item.contrast_sd**2,
                item.slope,
                item.new_std_error**2,
            )
            for item in usable
        ]
        table = effect_table("level", [item.name for item in usable], effects, self._critical)
        table.insert(1, "slope", [item.slope for item in usable])
        table.insert(2, "slope_std_error", [item.new_std_error for item in usable])
        table.insert(3, "n_units", [item.n_units for item in usable])
        table["delta"] = self.effect * (1 - self.slope / table["slope"])
        return table

    @staticmethod
    def usable_levels(card: CalibrationCard) -> list[Level]:
        """Levels of a card whose slope is clearly above zero."""
        return [item for item in card.levels if item.slope > 2 * item.std_error]

    def summary(self) -> str:
        """Plain text: what it would take to overturn the effect."""
        naive, corrected = self.visibility(0.0), self.visibility(1.0)
        lines = [
            f"Sensitivity of the effect of {self.term}",
            f"  outcome stability (all visible)    {naive.estimate:.4g} (standard error {naive.std_error:.2g})",
            f"  measurement stability (none)       {corrected.estimate:.4g} ({corrected.std_error:.2g})",
            f"  differential error that explains all of it  {self._in_sd(self.breakdown)}",
            "  its interval reaches zero at                "
            + (
                self._in_sd(self.robust_breakdown) if self.robust_breakdown else "none: it holds zero already"
            ),
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def plot(self, ax: Axes | None = None, card: CalibrationCard | None = None) -> Axes:
        """Draw the effect and its interval against the differential error.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        card : CalibrationCard, optional
            Marks the differential errors that its levels amount to (see `levels`), where it has any.
        """
        import matplotlib.pyplot as plt

        axes = plt.subplots(figsize=(7, 4), layout="constrained")[1] if ax is None else ax
        placebos = self.levels(card) if card is not None and self.usable_levels(card) else None
        reach = 1.25 * max(abs(self.effect), 0.0 if placebos is None else placebos["delta"].abs().max())
        rows = self.table(np.linspace(-reach, reach, 51).tolist())
        axes.fill_between(
            rows["delta"],
            rows["conf_low"],
            rows["conf_high"],
            color="C0",
            alpha=0.2,
            linewidth=0,
            label=f"{self.level:.0%} interval",
        )
        axes.plot(rows["delta"], rows["estimate"], color="C0", label="effect")
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.plot(
            0, self.differential(0.0).estimate, "o", color="C0", label="no differential error (corrected)"
        )
        naive = self.effect * (1 - self.slope)
        axes.plot(naive, self.effect, "s", color="C1", label="naive effect: the image shows the contrast")
        if self.robust_breakdown:
            axes.axvline(
                self.robust_breakdown,
                color="C3",
                linewidth=1,
                linestyle="--",
                label=f"interval reaches zero: {self.robust_breakdown:.3g}",
            )
        if placebos is not None:
            axes.plot(placebos["delta"], placebos["estimate"], "x", color="C2", label="as the card's levels")
            # Names in turn above to the right and below to the left of the falling line, so that they stay legible.
            for place, row in enumerate(placebos.sort_values("delta").to_dict("records")):
                side = 1 if place % 2 == 0 else -1
                axes.annotate(
                    row["level"],
                    (row["delta"], row["estimate"]),
                    xytext=(6 * side, 6 * side),
                    textcoords="offset points",
                    fontsize=8,
                    ha="left" if side > 0 else "right",
                    va="bottom" if side > 0 else "top",
                    color="C2",
                )
        axes.set_xlabel("differential error: treated less control prediction at equal truth")
        axes.set_ylabel(f"effect of {self.term}")
        # The line falls, so these corners are free; the dashed line is in the other half.
        corner: Literal["lower left", "upper right"] = "lower left" if self.effect > 0 else "upper right"
        axes.legend(fontsize=8, framealpha=0.9, edgecolor="none", loc=corner)
        return axes

    def _in_sd(self, delta: float) -> str:
        if not self.residual_sd > 0:
            return f"{delta:.4g}"
        return f"{delta:.4g} ({delta / self.residual_sd:.2g} standard deviations given the truth)"

    def _imbens_manski(self, width: float) -> float:
        """Critical value c with F(c + width) - F(-c) = level: two-sided for a point, one-sided for wide bounds.

        F is Student's t with `df` degrees of freedom, so that bounds of no width have the effect's own interval.
        """
        from scipy.optimize import brentq
        from scipy.special import ndtr, stdtr

        def below(c: float) -> float:
            return float(ndtr(c) if math.isinf(self.df) else stdtr(self.df, c))

        top = self._critical
        return float(brentq(lambda c: below(c + width) - below(-c) - self.level, 0.0, top + 1e-9))
