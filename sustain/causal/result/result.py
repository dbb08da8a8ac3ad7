"""What an effect estimate says: tables, sentences and pictures of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sustain.causal.correction.card import load_card
from sustain.causal.estimate import Estimate
from sustain.causal.result.conley_cutoffs import conley_profile
from sustain.causal.result.estimates import BRACKET, EffectEstimates, end_labels
from sustain.causal.result.sensitivity import Sensitivity
from sustain.causal.result.text import html_text, plot_effects, summary_text
from sustain.causal.trial.reader import read
from sustain.errors import EffectError
from sustain.spelling import argument
from sustain.stats.covariance import p_value

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from sustain.debias import CalibrationCard

__all__ = ["EffectResult"]

_AT_THE_END = ("p_value", "share_calibration")  # of a table of coefficients


@dataclass(frozen=True, repr=False)
class EffectResult(EffectEstimates):
    """The effect of a treatment on an outcome that was read off a map; see `EffectEstimates` for its attributes."""

    def sensitivity(self, card: CalibrationCard | str | Path | None = None) -> Sensitivity:
        """How wrong the assumption must be before the conclusion falls; for linear corrections.

        Parameters
        ----------
        card : CalibrationCard, str or Path, optional
            The card that was used, or its file; its residual standard deviation scales differential errors.

        Raises
        ------
        EffectError
            When the result holds no linear correction.
        """
        if self.corrected is None or math.isnan(self.corrected.slope):
            raise EffectError(
                f"result: its method is {self.method!r} and its assumption {self.assumption!r}, but sensitivity needs "
                f"an effect with a linear correction. Estimate with {argument('method', 'linear')} and "
                f"{argument('assumption', 'measurement', 'bracket')}, or none named."
            )
        opened = load_card(card)
        residual_sd = math.nan if opened is None else opened.residual_sd
        return Sensitivity.of(self.term, self.naive, self.corrected, self.level, residual_sd)

    def conley_profile(
        self,
        data: pd.DataFrame,
        lat: str,
        lon: str,
        cutoffs_km: Sequence[float] = (25, 50, 100, 200, 400),
    ) -> pd.DataFrame:
        """Give the standard error of the effect by Conley's cutoff.

        See `sustain.causal.result.conley_cutoffs.conley_profile`.

        Parameters
        ----------
        data : DataFrame
            The data that the result was estimated from; sorted otherwise, its index must tell the rows apart.
        lat, lon : str
            Columns, in degrees.
        cutoffs_km : sequence of float

        Raises
        ------
        EffectError
            When `data` are not the data of the result, or a unit has no place.
        """
        rows = self._rows_of(data)
        read.require_columns(data, (lat, lon))
        columns = [read.vector(f"lat, lon: column {name!r}", data[name], missing=True) for name in (lat, lon)]
        places = np.column_stack(columns)[rows]
        return conley_profile(self.main, self.influence, self.n_params, places, cutoffs_km, self.level)

    def _rows_of(self, data: pd.DataFrame) -> NDArray[np.intp]:
        """Positions of the units in the data that the result was estimated from, by their index."""
        rows = self.rows
        read.require_columns(data, (self.outcome,))
        if self.index is not None and self.index.is_unique and data.index.is_unique:
            rows = data.index.get_indexer(self.index)
        known = len(rows) > 0 and rows.min() >= 0 and rows.max() < len(data)
        if known and self.values is not None:
            found = read.vector(
                f"outcome: column {self.outcome!r}", data[self.outcome].iloc[rows], missing=True
            )
            known = np.array_equal(found, self.values)
        if not known:
            raise EffectError(
                "data: not the rows that this result was estimated from, or in another order under a new index. Pass "
                "the same table."
            )
        return rows

    @property
    def coefficients(self) -> pd.DataFrame:
        """The effect and the coefficients of its products with covariates, naive and corrected.

        One row a term and correction: ``term``, ``method`` (``"none"`` for naive), ``estimate``, ``std_error``,
        ``conf_low``, ``conf_high``, ``statistic``, ``p_value``, ``share_calibration``. With ``treated * x`` the row of
        the treatment is the effect where x is 0, and that of ``treated:x`` by how much the effect moves with x.
        """
        import pandas as pd

        ends = [(self.term, end) for end in (self.naive, self.corrected)]
        ends += [
            (product.term, end) for product in self.products for end in (product.naive, product.corrected)
        ]
        rows = [
            {"term": term}
            | {
                key: value
                for key, value in _plain(end, self.level).items()
                if key not in ("share_calibration", "p_value")
            }
            | {
                "statistic": end.statistic,
                "p_value": p_value(end.statistic, end.df),
                "share_calibration": end.share_calibration,
            }
            for term, end in ends
            if end is not None
        ]
        return pd.DataFrame(rows)

    def tidy(self) -> pd.DataFrame:
        """One row per reported estimate of the effect and of each product, with broom's and pyfixest's columns.

        With ``assumption="bracket"`` each has two, "(outcome stability)" and "(measurement stability)". One column
        more, ``card.r2``, has the share of the labels' variance that the card's predictions explain.
        """
        import pandas as pd

        rows = []
        for term, ends in ((self.term, self.reported), *self.products_reported):
            for end, label in zip(ends, end_labels(term, ends), strict=True):
                low, high = end.conf_int(self.level)
                p = p_value(end.statistic, end.df)
                rows.append((label, end.estimate, end.std_error, end.statistic, p, low, high, self.r2))
        columns = [
            "term",
            "estimate",
            "std.error",
            "statistic",
            "p.value",
            "conf.low",
            "conf.high",
            "card.r2",
        ]
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts (infinite numbers stay floats).

        With ``assumption="bracket"`` there is no single ``estimate``: it is None, ``bracket`` holds both ends, and
        ``conf_low`` and ``conf_high`` cover both.
        """
        low, high = self.conf_int()
        return {
            "term": self.term,
            "outcome": self.outcome,
            "unit": self.unit,
            # Of a bracket no single number is the estimate: its interval covers both ends.
            "estimate": None if self.bracket else self.estimate,
            "std_error": None if self.bracket else self.std_error,
            "conf_low": low,
            "conf_high": high,
            "level": self.level,
            "statistic": None if self.bracket else self.statistic,
            "p_value": self.pvalue,
            "df": self.df,
            "bracket": self.bracket
            and {name: _plain(end, self.level) for name, end in zip(BRACKET, self.bracket, strict=True)},
            "method": self.method,
            "assumption": self.assumption,
            "estimator": self.estimator,
            "vcov": self.vcov,
            "share_calibration": self.share_calibration,
            "share_trial": self.share_trial,
            "n": self.n,
            "n_treated": self.n_treated,
            "n_control": self.n_control,
            "n_dropped": self.n_dropped,
            "share_outside": self.share_outside,
            "n_effective": self.n_effective,
            "card_r2": self.r2,
            "response": None if self.response is None else self.response.to_dict(self.level),
            "naive": _plain(self.naive, self.level),
            "corrected": None if self.corrected is None else _plain(self.corrected, self.level),
            "products": [
                {"term": product.term, "naive": _plain(product.naive, self.level)}
                | {"corrected": None if product.corrected is None else _plain(product.corrected, self.level)}
                for product in self.products
            ],
            "about": self.about._asdict(),
            "notes": [{"kind": note.kind, "text": str(note)} for note in self.notes],
        }

    def summary(self, details: bool = False) -> str:
        """Plain text for a reader: the estimates, which one is meant, and every caveat.

        At most a screen, on which long caveats are cut after their first sentence; with `details` all of them.
        """
        return summary_text(self, details)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the naive and the corrected estimate with their intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        """
        return plot_effects(self, ax)

    def __repr__(self) -> str:
        low, high = self.conf_int()
        # A correction that nobody asked for by naming its assumption does not stand alone.
        beside = f"naive {self.naive.estimate:.4g}, " if self.corrected and self.assumption is None else ""
        ends = " to ".join(f"{end.estimate:.4g}" for end in self.reported)
        return (
            f"EffectResult({self.term} on {self.outcome}: {ends} [{low:.4g}, {high:.4g}], {beside}"
            f"method={self.method!r}, assumption={self.assumption!r}, {self.vcov}, n={self.n})"
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return html_text(self)


def _plain(end: Estimate, level: float) -> dict[str, Any]:
    low, high = end.conf_int(level)
    return {
        "method": end.method,
        "estimate": end.estimate,
        "std_error": end.std_error,
        "conf_low": low,
        "conf_high": high,
        "p_value": p_value(end.statistic, end.df),
        "share_calibration": end.share_calibration,
    }
