"""The calibration card: all that the upstream labels can teach a downstream user, without one label in it.

A small JSON file. It holds summaries, tables of functions and bootstrap draws of those functions; no row of the
calibration sample, no label and no coordinate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sustain.debias.apply import apply_elementwise, warn_outside
from sustain.debias.card import document
from sustain.debias.card.content import SCHEMA_VERSION, CardContent
from sustain.debias.card.draws import Draws
from sustain.debias.card.lookup import Lookup
from sustain.debias.card.response import model_of
from sustain.debias.card.text import card_html, card_line, card_text, weak_points
from sustain.debias.response.model import ResponseModel
from sustain.debias.response.slope import ResponseSlope, slope_for
from sustain.errors import CalibrationError, CardError
from sustain.files import write_text
from sustain.spelling import argument
from sustain.stats.columns import matched_label

__all__ = ["SCHEMA_VERSION", "CalibrationCard"]

Array = NDArray[np.float64]


class CalibrationCard(CardContent):
    """A correction, its uncertainty and its provenance, in one validated document.

    Load one with `CalibrationCard.load`, make one with `build_card` or a calibration's ``to_card``.
    """

    # ---- what a downstream user asks for

    @property
    def slope(self) -> float:
        """Slope ``b`` of prediction on truth."""
        return self.prediction_on_truth.slope

    @property
    def intercept(self) -> float:
        """Intercept ``a`` of prediction on truth."""
        return self.prediction_on_truth.intercept

    @property
    def slope_cov(self) -> Array:
        """Covariance of (intercept, slope) of prediction on truth, shape (2, 2)."""
        return np.array(self.prediction_on_truth.cov)

    @property
    def residual_sd(self) -> float:
        """Standard deviation of the prediction given the truth: its measurement noise."""
        return self.prediction_on_truth.residual_sd

    def support_of(self, stratum: str | None = None) -> tuple[float, float]:
        """Range of the predictions of one stratum; without a name, and for one that said too little, that of all."""
        name = None if stratum is None else matched_label(self.stratum_names, stratum)
        if name is None and stratum is not None:
            raise CardError(
                f"stratum: {stratum!r} is not in this card; it has {', '.join(self.stratum_names) or 'no strata'}."
            )
        own = self.described(name)
        return self.support if own is None else (own.support_range.low, own.support_range.high)

    def transform(
        self,
        y_pred: Any,
        method: str = "linear",
        check_support: bool = True,
        stratum: str | None = None,
        level: str | None = None,
    ) -> Any:
        """Correct predictions of the card's predictor.

        Parameters
        ----------
        y_pred : number, ndarray, pandas.Series, dask array or xarray.DataArray
            Predictions in the target's unit; NaN passes through, lazy arrays stay lazy.
        method : str
            One of `methods`; ``"none"`` returns the predictions; ``"level"`` corrects with the slope of `level`.
        check_support : bool
            Whether to warn when predictions leave the support (never for lazy arrays).
        stratum : str, optional
            Stratum that all of the predictions are in; without it the pooled correction is used.
        level : str, optional
            With ``method="level"`` one of `level_names`: the level at which the treatment varies. The result is right
            for contrasts at that level, and has the calibration's mean.

        Raises
        ------
        CardError
            When the card has no such method, stratum or level, or the slope of the level may be zero.

        Warns
        -----
        SupportWarning
            When more than 2% of the predictions lie outside `support`.
        """
        key = self._found.key(method, stratum, level)
        if check_support and method != "none":
            warn_outside(y_pred, self.support_of(stratum))
        return apply_elementwise(self._found.tables[key], y_pred)

    def derivative(
        self, y_pred: Any, method: str = "linear", stratum: str | None = None, level: str | None = None
    ) -> Any:
        """Slope of the correction at the predictions; same kind out."""
        key = self._found.key(method, stratum, level)
        return apply_elementwise(self._found.tables[key].derivative, y_pred)

    def draws(self, method: str = "linear", stratum: str | None = None, level: str | None = None) -> Draws:
        """Bootstrap draws of the correction, for intervals that carry calibration uncertainty."""
        return self._found.draws(self._found.key(method, stratum, level))

    def standard_error(
        self, y_pred: Any, method: str = "linear", stratum: str | None = None, level: str | None = None
    ) -> Any:
        """Give the standard error of one corrected prediction; same kind out as `transform`.

        ``sqrt(Var(h(x + e)) + Var_draws(h(x)))``: what the measurement noise e of the prediction given the truth makes
        of the corrected value, and the uncertainty of the correction itself. The noise is normal, with the standard
        deviation that the card has for the truth h(x) (`noise`; of a level, its residual one); where h is straight
        the first part is ``h'(x)^2 Var(e)``.
        """
        key = self._found.key(method, stratum, level)
        draws, noise, grid = self._found.draws(key), self._found.noise(key), self._found.grid

        def error(x: Array) -> Array:
            return np.asarray(np.sqrt(np.interp(x, grid.x, noise) + draws.variance(x)))

        return apply_elementwise(error, y_pred)

    @cached_property
    def response_model(self) -> ResponseModel:
        """Response of predictions to truth, by which effects are read back. Raises `CardError` when there is none."""
        if self.response is None:
            raise CardError(
                f"method: this card of {self.predictor.id!r} holds no response, which "
                f"{argument('method', 'response')} needs; it has {', '.join(self.methods)}. Build it anew, with all "
                "methods."
            )
        return model_of(self.response)

    def slope_for(self, effect: float, stratum: Any = None) -> ResponseSlope:
        """Slope of prediction on truth for an effect, by which a team that has the map alone can divide its own.

        Where every unit gains alike, the effect on predictions is this slope times the effect on the truth. A trial's
        own slope, which `sustain.causal.estimate_effect` finds, is better: it is that of the trial's population.

        Parameters
        ----------
        effect : float
            Size of the effect on the truth that is expected, in the target's unit; 0 for a small one.
        stratum : str, optional
            Population of the card; all calibration rows without it.

        Returns
        -------
        ResponseSlope
            ``value``, ``std_error``, ``df`` and ``extrapolated``; ``interval(level)``.

        Raises
        ------
        CardError
            When the card holds no response, or not of this stratum.
        """
        model = self.response_model
        try:
            return slope_for(model, model.population(stratum), effect)
        except CalibrationError as error:
            raise CardError(str(error)) from error

    @cached_property
    def _found(self) -> Lookup:
        return Lookup(self)

    # ---- for readers

    def summary(self, details: bool = False) -> str:
        """Plain text of a dozen lines: what is weak, what the card is for, what its diagnosis says; or all of it."""
        return card_text(self, details)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return card_html(self)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # What libraries that print models by their fields may show.
        yield from {
            "target": self.target.name,
            "unit": self.target.unit,
            "predictor": self.predictor.id,
        }.items()
        yield from {
            "places": self.sample.n,
            "r2": self.r2,
            "slope": self.slope,
            "methods": self.methods,
        }.items()

    def __repr__(self) -> str:
        weak = "".join(f"WEAK, {subject}; " for subject in weak_points(self))
        return f"CalibrationCard({weak}{card_line(self)})"

    # ---- files

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> CalibrationCard:
        """Copy the card, perhaps with other content; what was computed from the old content is not copied."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("sha256", "_found", "response_model"):
            copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def sha256(self) -> str:
        """Hash of the content, as stored in the file."""
        return document.digest(self._content())

    def _content(self) -> dict[str, Any]:
        content = self.model_dump(mode="json")
        for name in ("spatial_errors", "response"):
            if content[name] is None:  # so that cards that were written without this part keep their hash
                del content[name]
        if not self.recovered:
            del content["recovered"]
        return content

    def to_json(self) -> str:
        """Write the card as JSON text: keys in order, a list of numbers on one line."""
        return document.dump({**self._content(), "content_sha256": self.sha256}) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the card; the same card always gives the same bytes."""
        return write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> CalibrationCard:
        """Read a card.

        Raises
        ------
        CardError
            When the file is not a card, is of another schema version, or was changed after it was written.
        FileNotFoundError
            When there is no such file.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"), name=str(path))

    @classmethod
    def from_json(cls, text: str, name: str = "card") -> CalibrationCard:
        """Read a card from JSON text; `name` is used in errors. Raises as `load`."""
        content = document.read(text, name, SCHEMA_VERSION)
        stored = content.pop("content_sha256", None)
        try:
            card = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "card"
            raise CardError(
                f"{name}: {error.error_count()} fields are not as a card's should be; {place}: {first['msg']}."
            ) from error
        if stored != card.sha256:
            raise CardError(
                f"{name}: the content was changed after the card was written (its hash is {card.sha256[:12]}..., "
                f"the file says {str(stored)[:12]}...). Fetch the card again, or build it again from the labels."
            )
        return card
