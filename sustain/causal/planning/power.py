"""Before a trial: what effects a map can show, and what labels are worth beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sustain.causal.correction.card import load_card
from sustain.causal.trial.reader import read
from sustain.errors import EffectError

if TYPE_CHECKING:
    import pandas as pd

    from sustain.debias import CalibrationCard

__all__ = ["Power", "effective_sample_size", "minimum_detectable_effect", "power"]


def effective_sample_size(n_labelled: float, n_unlabelled: float, correlation: float) -> float:
    """Labelled units that prediction-powered inference is worth: n (n + N) / (n + N (1 - rho^2)).

    Parameters
    ----------
    n_labelled, n_unlabelled : float
        Units with and without a label.
    correlation : float
        Correlation rho of truth and prediction.
    """
    _require_numbers(n_labelled=n_labelled, n_unlabelled=n_unlabelled, correlation=correlation)
    if not (n_labelled > 0 and n_unlabelled >= 0 and abs(correlation) <= 1):
        raise EffectError(
            f"n_labelled={n_labelled!r}, n_unlabelled={n_unlabelled!r}, correlation={correlation!r}: expected sizes "
            "above zero and a correlation between -1 and 1."
        )
    return n_labelled * (n_labelled + n_unlabelled) / (n_labelled + n_unlabelled * (1 - correlation**2))


def minimum_detectable_effect(
    n_treated: float,
    n_control: float,
    sd: float,
    *,
    calibration: CalibrationCard | str | Path | None = None,
    level: float = 0.95,
    power: float = 0.8,
    icc: float = 0.0,
    cluster_size: float = 1.0,
) -> float:
    """Smallest effect that a trial finds with the given power, when the outcome is surveyed or mapped.

    A mapped unit carries the map's noise beside its own spread, ``sd^2 + (residual_sd / b)^2``; and the slope's
    relative error c adds tau^2 c^2 to the variance, so that tau solves ``tau = k sqrt(V + tau^2 c^2)`` with k the sum
    of the two normal quantiles. When k c is 1 or more no effect, however large, is found with that power. Errors of a
    map go together among neighbours, so that the design effect of clusters is applied to them as to the truth.

    Parameters
    ----------
    n_treated, n_control : float
        Units in each arm.
    sd : float
        Standard deviation of the true outcome within an arm.
    calibration : CalibrationCard or path of one, optional
        Card of the map; without one the outcome is surveyed.
    level, power : float
        Confidence level of the two-sided interval, and chance that it excludes zero.
    icc, cluster_size : float
        Where clusters are treated: intra-cluster correlation of the outcome (and, on a map, of its errors) and units in
        a cluster.

    Returns
    -------
    float
        In the unit of `sd`; infinite where the calibration is too weak.
    """
    from scipy.special import ndtri

    _require_numbers(
        n_treated=n_treated,
        n_control=n_control,
        sd=sd,
        level=level,
        power=power,
        icc=icc,
        cluster_size=cluster_size,
    )
    card = load_card(calibration)
    if not (n_treated > 0 and n_control > 0 and sd > 0):
        raise EffectError(
            f"n_treated={n_treated!r}, n_control={n_control!r}, sd={sd!r}: expected numbers above 0."
        )
    if not (0 < level < 1 and 0 < power < 1 and 0 <= icc <= 1 and cluster_size >= 1):
        raise EffectError(
            f"level={level!r}, power={power!r}, icc={icc!r}, cluster_size={cluster_size!r}: expected shares between 0 "
            "and 1 and clusters of 1 or more."
        )
    quantiles = float(ndtri(0.5 + level / 2) + ndtri(power))
    unit_variance = sd**2
    room = 1.0
    if card is not None:
        unit_variance += (card.residual_sd / card.slope) ** 2
        room -= quantiles**2 * float(card.slope_cov[1, 1]) / card.slope**2
    if room <= 0:
        return math.inf
    design_effect = 1 + (cluster_size - 1) * icc
    return quantiles * math.sqrt(unit_variance * design_effect * (1 / n_treated + 1 / n_control) / room)


@dataclass(frozen=True)
class Power:
    """What a planned trial can find, with the map, with labels, and with both.

    Labels are drawn at random, in equal shares of both arms.

    Attributes
    ----------
    n, n_treated : float
        Units of the trial, all of them on the map.
    n_labelled : float
        Units of these that are surveyed.
    quantiles : float
        Sum of the normal quantiles of level and power.
    unit_var : float
        Variance of the truth of a unit within an arm, times the design effect of clusters.
    correlation : float
        Of truth and prediction within an arm, from the card and the trial's standard deviation.
    mapped : float
        Least effect that the corrected map finds, without labels; under measurement stability only. Infinite where the
        calibration is too weak.
    """

    n: float
    n_treated: float
    n_labelled: float
    quantiles: float
    unit_var: float
    correlation: float
    mapped: float

    @property
    def labels(self) -> float:
        """Least effect that the labels alone find; infinite without labels."""
        return self._from_labels(self.n_labelled)

    @property
    def both(self) -> float:
        """Least effect that labels and predictions find together (PPI++), with no assumption about errors."""
        return self._from_labels(self._effective(self.n_labelled))

    @property
    def surveyed(self) -> float:
        """Least effect when every unit is surveyed."""
        return self._from_labels(self.n)

    @property
    def map_is_worth(self) -> float:
        """Labels that find, alone, what the corrected map finds: what the map saves, under its assumption."""
        return 0.0 if math.isinf(self.mapped) else self._labels_for(self.mapped)

    @property
    def label_is_worth(self) -> float:
        """Labels without a map that one label beside the map is worth; NaN without labels."""
        return self._effective(self.n_labelled) / self.n_labelled if self.n_labelled > 0 else math.nan

    def labels_needed(self, effect: float, *, with_map: bool = True) -> float:
        """Labels needed to find `effect` with the planned power; infinite where all units would not do.

        Parameters
        ----------
        effect : float
        with_map : bool
            Whether predictions sharpen the labels (PPI++).
        """
        _require_numbers(effect=effect)
        if not effect > 0:
            raise EffectError(f"effect: got {effect!r}, expected the size of an effect, above 0.")
        worth = self._labels_for(effect)
        if worth > self.n:
            return math.inf
        if not with_map:
            return worth
        # worth = l n / (l + (n - l)(1 - rho^2)) solved for l, the labels.
        noise = 1 - self.correlation**2
        return worth * self.n * noise / (self.n - worth * (1 - noise))

    def table(self, n_labelled: Sequence[float]) -> pd.DataFrame:
        """Least effects by number of labels.

        Returns
        -------
        DataFrame
            ``n_labelled``, ``labels``, ``both``, ``mapped``, ``worth`` (labels without a map that give ``both``).
        """
        import pandas as pd

        rows = [
            (n, self._from_labels(n), self._from_labels(self._effective(n)), self.mapped, self._effective(n))
            for n in n_labelled
        ]
        return pd.DataFrame(rows, columns=["n_labelled", "labels", "both", "mapped", "worth"])

    def __str__(self) -> str:
        lines = [
            f"Least effects found, {self.n:g} units, {self.n_treated:g} treated; correlation {self.correlation:.2f}",
            f"  corrected map, no labels (measurement stability)  {self.mapped:.3g}",
            f"  {self.n_labelled:g} labels alone  {self.labels:.3g}",
            f"  {self.n_labelled:g} labels and the map (PPI++)  {self.both:.3g}",
            f"  every unit surveyed  {self.surveyed:.3g}",
            f"The map alone is worth {self.map_is_worth:.0f} labels.",
        ]
        return "\n".join(lines)

    def _effective(self, n_labelled: float) -> float:
        if n_labelled <= 0:
            return 0.0
        return effective_sample_size(n_labelled, self.n - n_labelled, self.correlation)

    def _from_labels(self, n_labelled: float) -> float:
        if n_labelled <= 0:
            return math.inf
        share = self.n_treated / self.n
        return self.quantiles * math.sqrt(self.unit_var / (n_labelled * share * (1 - share)))

    def _labels_for(self, effect: float) -> float:
        share = self.n_treated / self.n
        return self.quantiles**2 * self.unit_var / (effect**2 * share * (1 - share))


def power(
    n_treated: float,
    n_control: float,
    sd: float,
    *,
    calibration: CalibrationCard | str | Path,
    n_labelled: float = 0,
    level: float = 0.95,
    power: float = 0.8,
    icc: float = 0.0,
    cluster_size: float = 1.0,
) -> Power:
    """Plan a trial on a map: least effects that are found, and what labels are worth.

    Parameters
    ----------
    n_treated, n_control, sd, calibration, level, power, icc, cluster_size
        As in `minimum_detectable_effect`. The design effect of clusters is taken to be the same for labels and errors.
    n_labelled : float
        Units among them that will be surveyed.

    Returns
    -------
    Power

    Notes
    -----
    Within an arm rho^2 = b^2 sd^2 / (b^2 sd^2 + residual_sd^2): a trial in a place of little variation has a smaller
    correlation than the card's r2 says.
    """
    from scipy.special import ndtri

    card = load_card(calibration)
    if card is None:
        raise EffectError("calibration: got None, expected the card of the map that the trial is planned on.")
    _require_numbers(n_labelled=n_labelled)
    mapped = minimum_detectable_effect(
        n_treated,
        n_control,
        sd,
        calibration=card,
        level=level,
        power=power,
        icc=icc,
        cluster_size=cluster_size,
    )
    if not 0 <= n_labelled <= n_treated + n_control:
        raise EffectError(
            f"n_labelled: got {n_labelled!r}, expected between 0 and the {n_treated + n_control:g} units of the trial."
        )
    signal = (card.slope * sd) ** 2
    return Power(
        n=n_treated + n_control,
        n_treated=n_treated,
        n_labelled=n_labelled,
        quantiles=float(ndtri(0.5 + level / 2) + ndtri(power)),
        unit_var=sd**2 * (1 + (cluster_size - 1) * icc),
        correlation=math.sqrt(signal / (signal + card.residual_sd**2)),
        mapped=mapped,
    )


def _require_numbers(**values: float) -> None:
    for name, value in values.items():
        read.number(name, value, "a finite number")
