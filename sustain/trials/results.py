"""What was found for one trial, typed: the only form in which results pass from stages to files, page and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from sustain.errors import FileFormatError
from sustain.files import atomic_directory, read_json, write_json
from sustain.trials.distribution import Number, TrialDistribution

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MethodEstimate",
    "MethodScore",
    "ReadBack",
    "TrialNote",
    "TrialResult",
    "effects_table",
    "method_scores",
    "read_results",
    "write_results",
]

EFFECTS_FILE = "effects.json"

# Kinds of caveats that no reader of an effect may miss.
_GRAVE = frozenset(
    {
        *(
            "few_units",
            "few_clusters",
            "not_clustered",
            "no_scatter",
            "weights",
            "overlap",
            "corrected_already",
        ),
        *("weak_slope", "weak_calibration", "support", "extrapolated", "failed_draws"),
    }
)

# There even where there is no trial.
_COLUMNS = (
    *("trial", "title", "assumption", "method", "reported"),
    *("estimate", "std_error", "conf_low", "conf_high", "level"),
    *("n_treated", "n_control", "truth", "error", "covered"),
)


class ReadBack(BaseModel):
    """What an effect that was read back through the response curve has beside it.

    Attributes
    ----------
    slope : float
        The trial's own slope of prediction on truth.
    alike, alike_low, alike_high : float
        The effect if every unit gains alike, with its interval.
    differs : bool
        Whether the trial can tell that units do not.
    extrapolated : float
        Share of the treated beyond the truths that shaped the curve.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: Number
    alike: Number
    alike_low: Number
    alike_high: Number
    differs: bool
    extrapolated: Number


class TrialNote(BaseModel):
    """A caveat: its kind, as of `sustain.causal.estimate.Note`, and a sentence or two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = ""
    text: str

    @property
    def grave(self) -> bool:
        """Whether it tells against the estimate or its interval, so that no reader may miss it."""
        return self.kind in _GRAVE or self.kind.startswith("single_")


class MethodEstimate(BaseModel):
    """One method's estimate of one trial's effect; `read_back` with the method ``"response"``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    estimate: Number
    std_error: Number
    conf_low: Number
    conf_high: Number
    level: float
    share_var_calibration: Number = 0.0
    notes: tuple[TrialNote, ...] = ()
    read_back: ReadBack | None = None

    def error(self, truth: float) -> float:
        """Estimate minus truth."""
        return self.estimate - truth

    def covers(self, truth: float) -> bool:
        """Whether the interval contains the truth."""
        return self.conf_low <= truth <= self.conf_high


class TrialResult(BaseModel):
    """One trial: what was asked, what each method says, and the truth where it is known.

    Attributes
    ----------
    name, title, question : str
    assumption : {"measurement", "outcome"}
        What the trial's team holds to be stable.
    why : str
        Why they do.
    estimator, vcov
        As of `sustain.causal.estimate_effect`.
    n_treated, n_control : int
        Units in each arm.
    reported : str
        The method that the trial's own assumption leads to.
    estimates : tuple of MethodEstimate
        One a method.
    truth : float or None
        The true effect, or what a survey of the same places says.
    truth_definition : str
        What `truth` is the mean of; empty where nothing is said.
    distribution : TrialDistribution or None
        Headcounts, quantiles and both distributions, under measurement stability.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    question: str
    assumption: Literal["measurement", "outcome"]
    why: str
    estimator: str
    vcov: str | dict[str, Any]
    n_treated: int
    n_control: int
    reported: str
    estimates: tuple[MethodEstimate, ...]
    truth: float | None = None
    truth_definition: str = ""
    distribution: TrialDistribution | None = None

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises
        ------
        pydantic.ValidationError
            When a key is missing, unknown, or holds something of another kind.
        """
        return cls.model_validate(content)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        content = self.model_dump()
        for name in ("truth_definition", "distribution"):
            if not content[name]:
                del content[name]
        return content

    def with_truth(self, truth: float, definition: str = "") -> Self:
        """Return this result with the truth put in."""
        return self.model_copy(update={"truth": float(truth), "truth_definition": definition})

    def by(self, method: str) -> MethodEstimate | None:
        """Return the estimate of one method, if there is one."""
        return next((e for e in self.estimates if e.method == method), None)

    @property
    def naive(self) -> MethodEstimate | None:
        """The estimate from the map as it is."""
        return self.by("none")

    @property
    def headline(self) -> MethodEstimate:
        """The estimate that the trial's own assumption leads to."""
        chosen = self.by(self.reported)
        if chosen is None:
            raise FileFormatError(
                f"effects.json: trial {self.name!r} reports method {self.reported!r}, but holds only "
                f"{[e.method for e in self.estimates]}. Run the effects stage again."
            )
        return chosen

    @property
    def corrected(self) -> tuple[MethodEstimate, ...]:
        """Every estimate but the naive one."""
        return tuple(e for e in self.estimates if e.method != "none")


def write_results(folder: str | Path, results: Sequence[TrialResult], **tables: pd.DataFrame) -> None:
    """Write ``effects.json``, ``effects.csv`` and other tables, each under its name, as one new folder."""
    tables = {"effects": effects_table(results), **tables}
    with atomic_directory(folder) as partial:
        write_json(partial / EFFECTS_FILE, {"trials": [result.to_dict() for result in results]})
        for name, table in tables.items():
            table.to_csv(partial / f"{name}.csv", index=False)


def read_results(folder: str | Path) -> tuple[TrialResult, ...]:
    """Read the results that `write_results` put into a folder.

    Raises
    ------
    FileNotFoundError
        When the folder holds none.
    FileFormatError
        When the file is of another form.
    """
    path = Path(folder) / EFFECTS_FILE
    try:
        return tuple(TrialResult.from_dict(entry) for entry in read_json(path)["trials"])
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or error.title}: {item['msg']}" for item in error.errors()
        )
    except (KeyError, TypeError) as error:
        problems = str(error)
    raise FileFormatError(f"{path}: not the effects of trials ({problems}). Run its stage again.")


def effects_table(results: Sequence[TrialResult]) -> pd.DataFrame:
    """Return one row a trial and method.

    Returns
    -------
    DataFrame
        ``trial``, ``title``, ``assumption``, ``method``, ``reported`` (whether the trial's own assumption leads to it),
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``, ``level``, ``n_treated``, ``n_control``, ``truth``,
        ``error`` (estimate minus truth) and ``covered`` (1 where the interval contains the truth, else 0). The last
        three are empty where no truth is known.
    """
    import pandas as pd

    rows = []
    for trial in results:
        for e in trial.estimates:
            row = {
                "trial": trial.name,
                "title": trial.title,
                "assumption": trial.assumption,
                "reported": e.method == trial.reported,
                "n_treated": trial.n_treated,
                "n_control": trial.n_control,
                "truth": trial.truth,
                **{name: getattr(e, name) for name in ("method", *_COLUMNS[5:10])},
            }
            if trial.truth is not None:
                row |= {"error": e.error(trial.truth), "covered": int(e.covers(trial.truth))}
            rows.append(row)
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    return table.astype({"covered": "Int64", "truth": "float64", "error": "float64"})


class MethodScore(NamedTuple):
    """How one method does over all trials whose truth is known.

    `ratio` is the slope of estimate on truth through the origin: above one, the method overshoots.
    """

    method: str
    n: int
    mean_abs_error: float
    mean_error: float
    ratio: float
    covered: int


def method_scores(results: Sequence[TrialResult]) -> tuple[MethodScore, ...]:
    """Score every method over the trials with a known truth."""
    known = [trial for trial in results if trial.truth is not None]
    scores = []
    for method in dict.fromkeys(e.method for trial in known for e in trial.estimates):
        pairs = [(t, e) for t in known if (e := t.by(method)) is not None]
        truth = np.array([t.truth for t, _ in pairs], float)
        estimate = np.array([e.estimate for _, e in pairs])
        scores.append(
            MethodScore(
                method=method,
                n=len(pairs),
                mean_abs_error=float(np.mean(np.abs(estimate - truth))),
                mean_error=float(np.mean(estimate - truth)),
                ratio=float(estimate @ truth / (truth @ truth)) if truth @ truth > 0 else float("nan"),
                covered=sum(e.covers(float(t)) for t, (_, e) in zip(truth, pairs, strict=True)),
            )
        )
    return tuple(scores)
