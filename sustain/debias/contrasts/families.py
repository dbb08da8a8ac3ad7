"""Families of contrasts between places: the pseudo-trials on which a correction is tuned and judged.

A family is built from covariates or places, never from predictions: groups that are made by thresholding a prediction
make that prediction look right, whatever its errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import read
from sustain.errors import CalibrationError
from sustain.stats.natural_spline import NaturalSpline, quantile_knots

__all__ = ["ContrastDesign", "ContrastFamily", "DonorTrials", "require_quiet_labels"]

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_KNOTS = 10
_ROWS_PER_KNOT = 20


class ContrastDesign(Protocol):
    """Anything that builds contrasts among some of the rows of a sample."""

    @property
    def name(self) -> str:
        """Name of the family."""

    def on(self, rows: NDArray[np.bool_], min_arm: int) -> ContrastFamily:
        """Contrasts among `rows` only, with at least `min_arm` of them in either arm."""

    def smooth(self, values: Array, rows: NDArray[np.bool_]) -> Array:
        """Values as the contrasts among `rows` are to see them, shape (n,)."""


@dataclass(frozen=True)
class ContrastFamily:
    """Contrasts of one kind: each the mean of some rows less the mean of others.

    Attributes
    ----------
    name : str
        Such as ``"urban - rural"``.
    arms : tuple of (ndarray, ndarray)
        Row numbers of the treated and of the control arm of each contrast; a row may be there more than once.
    index : pandas.Index or None
        Index of the columns that it was made of, so that a sample in another order is refused.
    """

    name: str
    arms: tuple[tuple[Rows, Rows], ...]
    index: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def treated(cls, name: str, treated: Any, within: Any = None) -> ContrastFamily:
        """Treated rows against the others, within every group: town against country within a survey.

        Parameters
        ----------
        name : str
        treated : array_like of bool, shape (n,)
        within : array_like, shape (n,), optional
            Groups, each of which gives one contrast; without them there is a single one.
        """
        side = read.arms("treated", treated) == 1
        index = read.require_one_index(treated=treated, within=within)
        group = _codes("within", within, side.size)
        pieces = (group == code for code in range(int(group.max()) + 1))
        arms = ((np.flatnonzero(here & side), np.flatnonzero(here & ~side)) for here in pieces)
        return cls(name, tuple((on, off) for on, off in arms if on.size and off.size), index)

    @classmethod
    def one_against_rest(cls, name: str, labels: Any, within: Any = None) -> ContrastFamily:
        """Each place against the others of its group: a region against the rest of its survey.

        Parameters
        ----------
        name : str
        labels : array_like, shape (n,)
            Region, country, ... of each row.
        within : array_like, shape (n,), optional
            Groups inside which contrasts are made.
        """
        index = read.require_one_index(labels=labels, within=within)
        place = read.labels("labels", labels).codes
        group = _codes("within", within, place.size)
        arms = []
        for code in range(int(group.max()) + 1):
            here = np.flatnonzero(group == code)
            for own in np.unique(place[here]):
                inside = place[here] == own
                if not inside.all():
                    arms.append((here[inside], here[~inside]))
        return cls(name, tuple(arms), index)

    @classmethod
    def of(cls, name: str, contrasts: Iterable[Any]) -> ContrastFamily:
        """Take contrasts that have `rows` (row numbers) and `treated` (0 and 1, or booleans) of each of these rows.

        Such are those of `sustain.data.aid.AidTrial`.
        """
        arms = []
        for place, item in enumerate(contrasts):
            rows = np.asarray(item.rows)
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise CalibrationError(
                    f"contrasts[{place}].rows: got {rows.dtype} of shape {rows.shape}, expected the numbers of rows. "
                    "Of a mask these are np.flatnonzero(mask)."
                )
            named = f"contrasts[{place}].treated"
            side = read.arms(named, item.treated, rows.size, like=f"contrasts[{place}].rows") == 1
            arms.append((rows[side].astype(np.intp), rows[~side].astype(np.intp)))
        return cls(name, tuple(arms))

    def on(self, rows: NDArray[np.bool_], min_arm: int = 1) -> ContrastFamily:
        """Contrasts among `rows` (a mask, shape (n,)), with at least `min_arm` of them in either arm."""
        kept = ((on[rows[on]], off[rows[off]]) for on, off in self.arms)
        arms = tuple((a, b) for a, b in kept if min(a.size, b.size) >= min_arm)
        return ContrastFamily(self.name, arms, self.index)

    def smooth(self, values: Array, rows: NDArray[np.bool_]) -> Array:
        """Give `values` as they are: places are what is compared, with their errors."""
        return values

    def take(self, rows: Rows) -> ContrastFamily:
        """Contrasts among `rows` (row numbers, each once), numbered as in ``values[rows]``."""
        n = 1 + max((int(arm.max()) for arms in self.arms for arm in arms if arm.size), default=0)
        place = np.full(max(n, int(rows.max()) + 1), -1, dtype=np.intp)
        place[rows] = np.arange(rows.size)
        moved = ((place[on], place[off]) for on, off in self.arms)
        kept = ((on[on >= 0], off[off >= 0]) for on, off in moved)
        arms = tuple((on, off) for on, off in kept if on.size and off.size)
        return ContrastFamily(self.name, arms, None if self.index is None else self.index[rows])

    def differences(self, values: Array) -> Array:
        """Difference in means of `values` (shape (n,)) for every contrast."""
        return np.array([values[on].mean() - values[off].mean() for on, off in self.arms])

    def __len__(self) -> int:
        return len(self.arms)


@dataclass(frozen=True)
class DonorTrials:
    """Trials whose effect reaches the image through the truth alone, made of real errors.

    Units are drawn from a population and randomised. A treated unit takes the (truth, prediction) pair of the place of
    its population whose truth is nearest to its own plus the effect; a control that of the place nearest to its own.
    The true effect is the difference of the truths so taken.

    Labels must have next to no noise of their own. Donors are chosen by their labels, and one with a high label has, on
    average, a lower truth: the difference in labels overstates the effect by one over their reliability, and a right
    correction seems too weak. Donors of one label are also spread over the truth, which hides where a correction fails.

    Attributes
    ----------
    y_true : array_like, shape (n,)
        Labels of all rows of the sample.
    effect : float
        By how much the treatment moves the truth.
    population : array_like, shape (n,), optional
        Population of each row; every trial is made inside one. Without it all rows are one.
    n_units, n_trials : int
        Units of a trial; trials of each population.
    seed : int
    name : str
    """

    y_true: Any
    effect: float
    population: Any = None
    n_units: int = 400
    n_trials: int = 20
    seed: int = 0
    name: str = "donor trials"

    @property
    def index(self) -> Any:
        """Index of the labels and populations, or None."""
        return read.require_one_index(y_true=self.y_true, population=self.population)

    def on(self, rows: NDArray[np.bool_], min_arm: int = 1) -> ContrastFamily:
        """Trials with units and donors from `rows`; populations with fewer than twice `min_arm` are left out."""
        y = read.vector("y_true", self.y_true, rows.size)
        population = _codes("population", self.population, rows.size)
        rng = np.random.default_rng(self.seed)
        arms = []
        for code in np.unique(population[rows]):
            here = np.flatnonzero(rows & (population == code))
            if here.size < max(2 * min_arm, 4):
                continue
            here = here[np.argsort(y[here], kind="stable")]
            for _ in range(self.n_trials):
                unit = rng.integers(here.size, size=self.n_units)
                shift = np.where(rng.permutation(self.n_units) % 2 == 0, self.effect, 0.0)
                donor = here[_nearest_other(y[here], unit, shift)]
                arms.append((donor[shift != 0], donor[shift == 0]))
        return ContrastFamily(self.name, tuple(arms), self.index)

    def smooth(self, values: Array, rows: NDArray[np.bool_]) -> Array:
        """Replace `values` by their regression on the truth, within each population of `rows`.

        Few places give the donors of either arm, and their errors do not average out over trials: which method comes
        closest would be theirs to say. What is left is what the effect does, and no luck. A natural cubic spline with
        a knot for every 20 rows and at most ten; populations with fewer than 60 rows are left as they are.
        """
        y = read.vector("y_true", self.y_true, rows.size)
        population = _codes("population", self.population, rows.size)
        smoothed = np.array(values, dtype=np.float64)
        for code in np.unique(population[rows]):
            here = np.flatnonzero(rows & (population == code))
            n_knots = min(_KNOTS, here.size // _ROWS_PER_KNOT)
            low, high = np.quantile(y[here], [0.005, 0.995])
            if n_knots >= 3 and high > low and np.unique(y[here]).size > n_knots:
                knots = quantile_knots(y[here], np.ones(here.size), low, high, n_knots)
                basis = np.linalg.qr(NaturalSpline.on(knots)(y[here]))[0]
                smoothed[here] = basis @ (basis.T @ smoothed[here])
        return smoothed


def require_quiet_labels(design: ContrastDesign, target_noise_var: float) -> None:
    """Raise `CalibrationError` for donor trials on labels that are said to be noisy."""
    if target_noise_var > 0 and isinstance(design, DonorTrials):
        raise CalibrationError(
            f"design: {design.name!r} chooses donors by labels with a noise variance of {target_noise_var:g}, so that "
            "the differences in labels overstate the effects and a right correction seems too weak. Use contrasts of "
            "places (ContrastFamily), whose arms average the noise."
        )


def _nearest_other(ordered: Array, unit: Rows, shift: Array) -> Rows:
    """Place in `ordered` of the value nearest to ``ordered[unit] + shift``, never the unit itself."""
    wanted = ordered[unit] + shift
    # The nearest two others are among the two places on either side.
    place = np.searchsorted(ordered, wanted)[:, None] + np.arange(-2, 2)
    apart = np.abs(ordered[np.clip(place, 0, ordered.size - 1)] - wanted[:, None])
    apart[(place < 0) | (place >= ordered.size) | (place == unit[:, None])] = np.inf
    return np.asarray(place[np.arange(unit.size), apart.argmin(axis=1)], dtype=np.intp)


def _codes(name: str, labels: Any, n: int) -> NDArray[np.intp]:
    if labels is None:
        return np.zeros(n, dtype=np.intp)
    return read.labels(name, labels, n).codes
