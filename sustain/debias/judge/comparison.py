"""What a comparison of methods found: scores, the methods that it recommends, and why in words."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sustain.debias.judge.scores import MARGIN, MethodScore, recommended
from sustain.errors import CalibrationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison"]

SHOWN = 0.8  # an image that holds this share of a contrast, or more, is said to show it
_MORE_EVEN = 0.05  # by how much another share must be nearer to 1 to be named
_WORDS: Mapping[str, str] = {
    "none": "the predictions as they are",
    "level": "the slope matched to these contrasts",
}


@dataclass(frozen=True)
class Comparison:
    """A ranking of methods. It recommends and explains; it switches nothing.

    Attributes
    ----------
    family : str
        What kind of contrasts was judged.
    n_contrasts, n_folds : int
        Held-out contrasts, and the folds that they come from.
    scores : tuple of MethodScore
        Those that are not clearly biased first, and among them by mean absolute error.
    level_slope : float or None
        Mean over folds of the slope that is matched to the family; None when it could not be estimated.
    notes : tuple of str
        What was left out, and why.
    """

    family: str
    n_contrasts: int
    n_folds: int
    scores: tuple[MethodScore, ...]
    level_slope: float | None
    notes: tuple[str, ...]

    @property
    def recommended(self) -> tuple[str, ...]:
        """Methods that cannot be told apart as the best, the first one first; see `sustain.debias.judge.scores`.

        A method is dropped when its share is clearly more than a tenth away from 1, and clearly farther than that of
        another which is not. Of the rest it is the one with the least mean absolute error, and all whose error is not
        clearly larger.
        """
        return recommended(self.scores)

    @property
    def first(self) -> str:
        """The first of the recommended methods."""
        return self.scores[0].method

    def score(self, method: str) -> MethodScore:
        """Score of one method. Raises `CalibrationError` when it was not compared."""
        for item in self.scores:
            if item.method == method:
                return item
        raise CalibrationError(
            f"method: {method!r} was not compared; there are {', '.join(s.method for s in self.scores)}."
        )

    def explain(self) -> str:
        """Say in words what is recommended, and why."""
        best, none = self.scores[0], self.score("none")
        named = [_WORDS.get(name, name) for name in self.recommended]
        said = [
            f"{self.n_contrasts} contrasts ({self.family}) in {self.n_folds} folds that the calibration did not see.",
            f"Closest: {named[0]}, mean absolute error {best.mae:.3g}, {_share(best)} of the true contrasts."
            if len(named) == 1
            else f"These cannot be told apart: {', '.join(named)}. Closest, by a distance that may be chance: "
            f"{named[0]}, mean absolute error {best.mae:.3g}, {_share(best)} of the true contrasts.",
        ]
        nearer = [item for item in self.scores if item.behind < 0]
        if nearer:
            said.append(
                "Nearer to single contrasts, but clearly off over many: "
                + "; ".join(f"{_WORDS.get(s.method, s.method)} ({s.mae:.3g}, {_share(s)})" for s in nearer)
                + "."
            )
        if best.share_high < 1 - MARGIN or best.share_low > 1 + MARGIN:
            said.append("Even this one is clearly biased: see the shares.")
        even = min(self.scores, key=lambda item: abs(item.share - 1))
        if abs(best.share - 1) - abs(even.share - 1) > _MORE_EVEN:
            said.append(
                f"Over many contrasts, or in large arms, {_WORDS.get(even.method, even.method)} is nearer the truth: "
                f"{_share(even)} of it, at a mean absolute error of {even.mae:.3g}."
            )
        if best.method != "none":
            said.append(f"The predictions as they are hold {_share(none)}.")
        if best.method == "none" and (self.level_slope is None or self.level_slope >= SHOWN):
            said.append("The image shows these contrasts by itself: a correction would make them too large.")
        elif best.method == "none":
            said.append(
                "They come out too small, but at arms of this size a correction adds more noise than it takes off "
                f"bias (matched slope {self.level_slope:.2f}); in larger arms, or over many trials, it may be due."
            )
        elif best.method == "level":
            said.append(
                "Neither the predictions as they are nor the slope over all places is right at this level."
            )
        else:
            said.append(
                "The contrasts reach the predictions as other differences in truth do: a correction is due."
            )
        said.append(
            "This holds for contrasts of this kind only; nothing is switched: pass the method yourself."
        )
        return " ".join((*said, *self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Give all of it as dictionaries, lists and numbers, with the explanation."""
        return {**asdict(self), "recommended": self.recommended, "explanation": self.explain()}

    def __str__(self) -> str:
        rows = [f"  {'method':10} {'MAE':>9} {'RMSE':>9} {'bias':>9}  {'share':17} behind the first"]
        for s in self.scores:
            behind = (
                "-" if s is self.scores[0] else f"{s.behind:.3g} [{s.behind_low:.2g}, {s.behind_high:.2g}]"
            )
            mark = "*" if s.method in self.recommended else " "
            rows.append(
                f"{mark} {s.method:10} {s.mae:9.4g} {s.rmse:9.4g} {s.bias:9.3g}  {_share(s):17} {behind}"
            )
        return "\n".join((*rows, self.explain()))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("method", "MAE", "RMSE", "bias", "share", "behind"))
        rows = ""
        for s in self.scores:
            name = html.escape(s.method)
            name = f"<b>{name}</b>" if s.method in self.recommended else name
            behind = f"{s.behind:.3g} [{s.behind_low:.2g}, {s.behind_high:.2g}]"
            cells = (f"{s.mae:.4g}", f"{s.rmse:.4g}", f"{s.bias:.3g}", _share(s), behind)
            rows += (
                f"<tr><th style='text-align:left'>{name}</th>"
                + "".join(f"<td>{c}</td>" for c in cells)
                + "</tr>"
            )
        return f"<table><tr>{head}</tr>{rows}</table><p>{html.escape(self.explain())}</p>"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the shares that come out, with their intervals and the margin that is let pass."""
        from matplotlib import pyplot

        if ax is None:
            ax = pyplot.subplots(layout="constrained")[1]
        scores = self.scores[::-1]
        ax.axvspan(1 - MARGIN, 1 + MARGIN, color="0.92", label="within a tenth of the truth")
        bars = [[s.share - s.share_low for s in scores], [s.share_high - s.share for s in scores]]
        ax.errorbar([s.share for s in scores], range(len(scores)), xerr=bars, fmt="o", capsize=3)
        for place, s in enumerate(scores):
            ax.annotate(
                f"error {s.mae:.3g}" + (", recommended" if s.method in self.recommended else ""),
                (s.share, place),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
        ax.legend(frameon=False)
        ax.set_yticks(range(len(scores)), [s.method for s in scores])
        ax.set_xlabel(f"share of the true contrasts that comes out ({self.family}), with 95% intervals")
        return ax


def _share(score: MethodScore) -> str:
    """Share and interval, as text."""
    return f"{score.share:.0%} [{score.share_low:.0%}, {score.share_high:.0%}]"
