"""The `vcov` argument: which units count as dependent on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import params_between
from sustain.causal.estimators.least_squares import LeastSquares, LinearEstimator
from sustain.causal.trial.reader import read
from sustain.causal.vcov.block_bootstrap import block_bootstrap, spatial_blocks
from sustain.causal.vcov.conley import conley_covariance
from sustain.causal.vcov.few_clusters import bias_reduced_covariance, rests_on_one_cluster
from sustain.errors import EffectError
from sustain.spelling import argument
from sustain.stats.covariance import cluster_covariance, robust_covariance

__all__ = ["TrialCovariance", "Vcov"]

FEW_CLUSTERS = 30  # Cameron and Miller (2015): few is anything from under 20 to under 50
FEW_BLOCKS = 20
WIDE_KERNEL = 0.1  # mean weight of two units, which is missing from the variance
SOME_UNITS = 2000
FEW_DF = 4.0  # under which Imbens and Kolesar's t is no longer near its nominal size

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Columns = Mapping[Any, NDArray[Any]]
Estimates = Callable[[NDArray[np.int64]], Floats]

_EXPECTED = (
    "expected 'HC1', {'CRV1': column or two columns}, {'CR2': column}, {'conley': {'lat': column, 'lon': "
    "column, 'cutoff_km': number}} or {'block': {'lat': column, 'lon': column, 'block_km': number}}."
)


class TrialCovariance(NamedTuple):
    """Covariance of estimates on several outcomes, shape (m, m), with what an interval needs beside it.

    Degrees of freedom, label, and notes (kind, text).
    """

    covariance: Floats
    df: float
    label: str
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Vcov:
    """A parsed `vcov` argument.

    Attributes
    ----------
    kind : {"HC1", "CRV1", "CR2", "conley", "block"}
    columns : tuple of str
        Columns of the data that it needs: the clusters, of one or (for CRV1) two kinds; or lat and lon.
    distance_km : float
        Cutoff of ``conley``, side of a ``block``.
    kernel : {"bartlett", "uniform"}
        For ``conley``.
    n_boot, seed : int
        For ``block``.
    """

    kind: Literal["HC1", "CRV1", "CR2", "conley", "block"]
    columns: tuple[Any, ...] = ()
    distance_km: float = math.nan
    kernel: Literal["bartlett", "uniform"] = "bartlett"
    n_boot: int = 399
    seed: int = 0

    @classmethod
    def parse(cls, vcov: str | Mapping[str, Any], seed: int = 0) -> Vcov:
        """Read the argument as `estimate_effect` documents it."""
        if vcov == "HC1":
            return cls("HC1")
        if isinstance(vcov, Mapping) and len(vcov) == 1:
            kind, value = next(iter(vcov.items()))
            if kind == "CRV1":
                return cls("CRV1", _cluster_columns(kind, value, most=2))
            if kind == "CR2":
                return cls("CR2", _cluster_columns(kind, value, most=1))
            if kind == "conley" and isinstance(value, Mapping):
                options = _options(value, kind, "cutoff_km", "kernel")
                kernel = options.get("kernel", "bartlett")
                if kernel not in ("bartlett", "uniform"):
                    raise EffectError(
                        f"vcov: conley's kernel is {kernel!r}, expected 'bartlett' or 'uniform'."
                    )
                return cls("conley", *_place(options, kind, "cutoff_km"), kernel)
            if kind == "block" and isinstance(value, Mapping):
                options = _options(value, kind, "block_km", "n_boot")
                n_boot = read.whole(
                    "vcov: block's n_boot", options.get("n_boot", 399), "50 resamples or more", least=50
                )
                return cls("block", *_place(options, kind, "block_km"), n_boot=n_boot, seed=seed)
        raise EffectError(f"vcov: got {vcov!r}, {_EXPECTED}")

    def clusters(self, columns: Columns) -> tuple[Codes, ...]:
        """Cluster codes of the units, one for each kind of clusters; none where units are not clustered.

        Raises
        ------
        EffectError
            With a single cluster.
        """
        if self.kind in ("HC1", "conley"):
            return ()
        if self.kind == "block":
            lat, lon = self._coordinates(columns)
            code = spatial_blocks(lat, lon, self.distance_km, self.seed)
            if code.max() == 0:
                raise EffectError(
                    f"vcov: all units lie in one block of {self.distance_km:g} km, so nothing can be drawn "
                    "again. Use smaller blocks, or another vcov."
                )
            return (code,)
        found = [read.labels(f"vcov: column {name!r}", columns[name]) for name in self.columns]
        for name, labels in zip(self.columns, found, strict=True):
            if labels.n < 2:
                raise EffectError(
                    f"vcov: column {name!r} holds a single cluster ({labels.names[0]!r}), so no "
                    f"clustered variance can be estimated. Cluster at a finer level, or use {argument('vcov', 'HC1')} "
                    "if units are independent."
                )
        return tuple(labels.codes for labels in found)

    def covariance(
        self,
        estimator: LinearEstimator,
        outcomes: Floats,
        columns: Columns,
        estimates: Estimates | None = None,
    ) -> TrialCovariance:
        """Covariance of the estimates on several outcomes of the same units.

        Parameters
        ----------
        estimator : LinearEstimator
        outcomes : ndarray, shape (m, n)
        columns : mapping of str to ndarray of shape (n,)
            Holds at least `self.columns`.
        estimates : callable, optional
            For ``block``: the m estimates anew, given how often each unit counts.

        Raises
        ------
        EffectError
            With a single cluster, too few units, or a spatial or two-way clustered variance that is not positive.
        """
        clusters = self.clusters(columns)
        if self.kind == "CR2":
            return self._bias_reduced(estimator, outcomes, clusters[0])
        if self.kind == "block":
            return self._resampled(clusters[0], estimates)
        psi = np.stack([estimator.influence(outcome) for outcome in outcomes], axis=1)
        if clusters:
            return self._clustered(psi, estimator, clusters)
        if self.kind == "conley":
            return self._conley(psi, estimator, columns)
        df = float(len(psi) - estimator.n_params)
        return TrialCovariance(robust_covariance(psi, estimator.n_params), df, "HC1")

    def unless_one_decides(
        self, found: TrialCovariance, estimator: LinearEstimator, columns: Columns, term: str
    ) -> TrialCovariance:
        """Covariance `found`, or NaN and a note where one cluster (or unit) decides the coefficient of a term.

        One decides, for example, a product with a category of which all units lie in one cluster.
        """
        if not isinstance(estimator, LeastSquares) or self.kind == "conley":
            return found
        unit = "unit" if self.kind == "HC1" else "cluster"
        ways = self.clusters(columns) or (np.arange(len(estimator.weights)),)
        if not any(rests_on_one_cluster(estimator, way) for way in ways):
            return found
        text = (
            f"A single {unit} decides the coefficient of {term}, so that nothing is seen of how {unit}s differ, and no "
            "standard error can be given."
        )
        note = (f"single_{unit}", text)
        return found._replace(covariance=np.full_like(found.covariance, np.nan), notes=(*found.notes, note))

    def _clustered(
        self, psi: Floats, estimator: LinearEstimator, clusters: tuple[Codes, ...]
    ) -> TrialCovariance:
        counts = [int(codes.max()) + 1 for codes in clusters]
        n_params = params_between(estimator.n_params, estimator.effects, clusters)
        covariance = cluster_covariance(psi, clusters, n_params, error=EffectError)
        if len(clusters) > 1 and _is_rounding(covariance, psi):
            raise EffectError(
                f"vcov: the variance clustered by {' and '.join(map(repr, self.columns))} is not positive "
                f"({np.diag(covariance).min():.3g}), as two-way variances can be with few clusters. Cluster by the one "
                "in which errors go together most."
            )
        df = min(counts) - 1
        reducible = isinstance(estimator, LeastSquares) and len(clusters) == 1
        notes = tuple(
            _few_clusters(count, column, df, reducible)
            for count, column in zip(counts, self.columns, strict=True)
            if count < FEW_CLUSTERS
        )
        return TrialCovariance(covariance, float(df), self._label(counts), notes)

    def _bias_reduced(self, estimator: LinearEstimator, outcomes: Floats, clusters: Codes) -> TrialCovariance:
        if not isinstance(estimator, LeastSquares):
            raise EffectError(
                "vcov: CR2 is for the estimators 'difference', 'ols' and 'did', not for "
                f"{estimator.name}. Use 'CRV1'."
            )
        covariance, df = bias_reduced_covariance(estimator, outcomes, clusters)
        notes: tuple[tuple[str, str], ...] = ()
        if df < FEW_DF:
            text = (
                f"The clusters of {self.columns[0]!r} are worth {df:.1f} degrees of freedom: few clusters, "
                "or few that the treatment divides. The interval is a rough one."
            )
            notes = (("few_clusters", text),)
        return TrialCovariance(covariance, df, self._label([int(clusters.max()) + 1]), notes)

    def _conley(self, psi: Floats, estimator: LinearEstimator, columns: Columns) -> TrialCovariance:
        lat, lon = self._coordinates(columns)
        covariance = conley_covariance(
            psi, lat, lon, self.distance_km, kernel=self.kernel, n_params=estimator.n_params
        )
        places = len(np.unique(np.column_stack([lat, lon]), axis=0))
        if places == 1:
            raise EffectError(
                "vcov: all units stand at one place, so nothing is known of how errors fade with distance. Check lat "
                "and lon, or cluster."
            )
        # Influences that are all 1/n give the kernel's mean weight over pairs of units; some units tell it.
        some = np.linspace(0, len(psi) - 1, min(len(psi), SOME_UNITS)).astype(np.intp)
        alike = np.full(len(some), 1 / len(some))
        mean_weight = conley_covariance(
            alike, lat[some], lon[some], self.distance_km, kernel=self.kernel
        ).item()
        if _is_rounding(covariance, psi):
            raise EffectError(
                f"vcov: the Conley variance with a {self.kernel} kernel and cutoff_km={self.distance_km:g} is "
                f"not positive ({np.diag(covariance).min():.3g}). That can happen when the cutoff spans much of the "
                f"region; use a smaller one{', or the bartlett kernel' if self.kernel == 'uniform' else ''}."
            )
        notes: tuple[tuple[str, str], ...] = ()
        if mean_weight > WIDE_KERNEL:
            # Influences sum to zero, so that errors alike in all units leave V (1 - mean weight) of a variance V.
            text = (
                f"The cutoff of {self.distance_km:g} km spans much of the region: two units have a weight of "
                f"{mean_weight:.2f} on average, and the variance is too small by about that share, or more. Use a "
                "smaller cutoff, or cluster by regions."
            )
            notes = (("wide_cutoff", text),)
        if places < len(psi):
            text = (
                f"{len(psi)} units stand at {places} places: those of one place count as fully dependent. Are "
                "coordinates displaced, rounded or given by district?"
            )
            notes = (*notes, ("duplicate_places", text))
        return TrialCovariance(
            covariance, math.inf, f"Conley ({self.kernel}, {self.distance_km:g} km)", notes
        )

    def _resampled(self, blocks: NDArray[np.intp], estimates: Estimates | None) -> TrialCovariance:
        if estimates is None:
            raise EffectError("vcov: a block bootstrap needs a way to estimate anew; use 'CRV1' or 'conley'.")
        covariance, failed = block_bootstrap(blocks, estimates, self.n_boot, self.seed)
        n_blocks = int(blocks.max()) + 1
        notes = []
        if n_blocks < FEW_BLOCKS:
            text = (
                f"Only {n_blocks} blocks of {self.distance_km:g} km: the bootstrap's standard error is too small "
                f"with so few, and the interval, by t with {n_blocks - 1} degrees of freedom, is still optimistic."
            )
            notes.append(("few_clusters", text))
        if failed:
            text = f"{failed} resamples of blocks had no estimate and were drawn again."
            notes.append(("block_bootstrap", text))
        label = f"block bootstrap ({n_blocks} blocks of {self.distance_km:g} km, {self.n_boot} resamples)"
        return TrialCovariance(covariance, float(n_blocks - 1), label, tuple(notes))

    def _coordinates(self, columns: Columns) -> tuple[Floats, Floats]:
        lat, lon = (read.vector(f"lat, lon: column {name!r}", columns[name]) for name in self.columns)
        return lat, lon

    def _label(self, counts: Sequence[int]) -> str:
        by, many = (" and ".join(map(str, items)) for items in (self.columns, counts))
        return f"{self.kind} by {by} ({many} clusters)"


def _cluster_columns(kind: str, value: Any, most: int) -> tuple[Any, ...]:
    columns = () if isinstance(value, Mapping) else read.names(f"vcov: {kind}", value)
    if not 1 <= len(columns) <= most:
        expected = "one column of clusters, or two" if most == 2 else "one column of clusters"
        raise EffectError(f"vcov: {kind} got {value!r}, expected {expected}.")
    return columns


def _is_rounding(covariance: Floats, psi: Floats) -> bool:
    """Whether a variance is negative, or what rounding leaves of influences that sum to zero in every cluster."""
    return bool(np.any(np.diag(covariance) <= 1e-12 * np.square(psi).sum(axis=0)))


def _options(value: Mapping[str, Any], kind: str, distance: str, optional: str) -> Mapping[str, Any]:
    required = {"lat", "lon", distance}
    if not required <= set(value) <= required | {optional}:
        raise EffectError(
            f"vcov: {kind} got {sorted(map(str, value))}, expected lat, lon and {distance} (and perhaps {optional})."
        )
    return value


def _place(options: Mapping[str, Any], kind: str, key: str) -> tuple[tuple[Any, Any], float]:
    name, least = f"vcov: {kind}'s {key}", float(np.finfo(float).tiny)
    return (options["lat"], options["lon"]), read.number(
        name, options[key], "kilometres above 0", least=least
    )


def _few_clusters(n_clusters: int, column: str, df: int, reducible: bool) -> tuple[str, str]:
    text = (
        f"Only {n_clusters} clusters in {column!r}: clustered standard errors are too small with so few, "
        f"and the interval, by t with {df} degrees of freedom, is still optimistic."
    )
    if reducible:
        text += f" {argument('vcov', {'CR2': column})} is made for this."
    return "few_clusters", text
