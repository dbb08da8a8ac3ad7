"""The `vcov` argument: which units count as dependent on each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators.absorb import is_nested, rank_of
from sustain.causal.estimators.least_squares import LeastSquares, LinearEstimator
from sustain.causal.vcov.blocks import block_bootstrap, spatial_blocks
from sustain.causal.vcov.conley import conley_covariance, read_degrees
from sustain.causal.vcov.few_clusters import bias_reduced_covariance
from sustain.errors import EffectError
from sustain.stats.covariance import cluster_covariance, robust_covariance

__all__ = ["TrialCovariance", "Vcov"]

FEW_CLUSTERS = 30  # Cameron and Miller (2015): few is anything from under 20 to under 50
FEW_BLOCKS = 20
WIDE_KERNEL = 0.1  # mean weight of two units, which is missing from the variance
SOME_UNITS = 2000
FEW_DF = 4.0  # under which Imbens and Kolesar's t is no longer near its nominal size

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
Estimates = Callable[[NDArray[np.int64]], Floats]

_EXPECTED = (
    "expected 'HC1', {'CRV1': column}, {'CR2': column}, {'conley': {'lat': column, 'lon': column, 'cutoff_km': "
    "number}} or {'block': {'lat': column, 'lon': column, 'block_km': number}}."
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
        Columns of the data that it needs: the clusters; or lat and lon.
    distance_km : float
        Cutoff of ``conley``, side of a ``block``.
    kernel : {"bartlett", "uniform"}
        For ``conley``.
    n_boot, seed : int
        For ``block``.
    """

    kind: Literal["HC1", "CRV1", "CR2", "conley", "block"]
    columns: tuple[str, ...] = ()
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
            if kind == "CRV1" and isinstance(value, str):
                return cls("CRV1", (value,))
            if kind == "CR2" and isinstance(value, str):
                return cls("CR2", (value,))
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
                n_boot = options.get("n_boot", 399)
                if isinstance(n_boot, bool) or not isinstance(n_boot, int) or n_boot < 50:
                    raise EffectError(f"vcov: block's n_boot is {n_boot!r}, expected 50 resamples or more.")
                return cls("block", *_place(options, kind, "block_km"), n_boot=n_boot, seed=seed)
        raise EffectError(f"vcov: got {vcov!r}, {_EXPECTED}")

    def clusters(self, columns: Columns) -> NDArray[np.intp] | None:
        """Cluster codes of the units, or None where units are not clustered.

        Raises
        ------
        EffectError
            With a single cluster.
        """
        if self.kind in ("HC1", "conley"):
            return None
        if self.kind == "block":
            lat, lon = self._coordinates(columns)
            code = spatial_blocks(lat, lon, self.distance_km, self.seed)
            if code.max() == 0:
                raise EffectError(
                    f"vcov: all units lie in one block of {self.distance_km:g} km, so nothing can be drawn "
                    "again. Use smaller blocks, or another vcov."
                )
            return code
        names, code = np.unique(columns[self.columns[0]].astype(str), return_inverse=True)
        if len(names) < 2:
            raise EffectError(
                f"vcov: column {self.columns[0]!r} holds a single cluster ({str(names[0])!r}), so no "
                "clustered variance can be estimated. Cluster at a finer level, or use vcov='HC1' if units "
                "are independent."
            )
        return code

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
            With a single cluster, too few units, or a spatial variance that is not positive.
        """
        clusters = self.clusters(columns)
        if self.kind == "CR2" and clusters is not None:
            return self._bias_reduced(estimator, outcomes, clusters)
        if self.kind == "block" and clusters is not None:
            return self._resampled(clusters, estimates)
        psi = np.stack([estimator.influence(outcome) for outcome in outcomes], axis=1)
        if clusters is not None:
            return self._clustered(psi, estimator, clusters)
        if self.kind == "conley":
            return self._conley(psi, estimator, columns)
        df = float(len(psi) - estimator.n_params)
        return TrialCovariance(robust_covariance(psi, estimator.n_params), df, "HC1")

    def _clustered(
        self, psi: Floats, estimator: LinearEstimator, clusters: NDArray[np.intp]
    ) -> TrialCovariance:
        n_clusters = int(clusters.max()) + 1
        n_params = estimator.n_params
        if estimator.effects:
            # Effects within clusters use up nothing between clusters: not counted, as in fixest and Stata.
            across = [code for code in estimator.effects if not is_nested(code, clusters)]
            n_params -= rank_of(estimator.effects) - rank_of(across)
        reducible = isinstance(estimator, LeastSquares)
        few = n_clusters < FEW_CLUSTERS
        notes = [_few_clusters(n_clusters, self.columns[0], reducible)] if few else []
        return TrialCovariance(
            cluster_covariance(psi, clusters, n_params),
            float(n_clusters - 1),
            self._label(n_clusters),
            tuple(notes),
        )

    def _bias_reduced(
        self, estimator: LinearEstimator, outcomes: Floats, clusters: NDArray[np.intp]
    ) -> TrialCovariance:
        if not isinstance(estimator, LeastSquares):
            raise EffectError(
                "vcov: CR2 is for the estimators 'difference', 'ols' and 'did', not for "
                f"{estimator.name}. Use 'CRV1'."
            )
        if not all(is_nested(code, clusters) for code in estimator.effects):
            raise EffectError(
                f"vcov: CR2 by {self.columns[0]!r} with fixed effects that cut across these clusters. Name that "
                "effect among the covariates, as categories, or use 'CRV1'."
            )
        covariance, df = bias_reduced_covariance(estimator, outcomes, clusters)
        notes: tuple[tuple[str, str], ...] = ()
        if df < FEW_DF:
            text = (
                f"The clusters of {self.columns[0]!r} are worth {df:.1f} degrees of freedom: few clusters, "
                "or few that the treatment divides. The interval is a rough one."
            )
            notes = (("few_clusters", text),)
        return TrialCovariance(covariance, df, self._label(int(clusters.max()) + 1), notes)

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
        # Influences sum to zero: where all units are neighbours, what is left is rounding.
        if np.any(np.diag(covariance) <= 1e-12 * np.square(psi).sum(axis=0)):
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
        lat, lon = (read_degrees(columns[name], name) for name in self.columns)
        return lat, lon

    def _label(self, n_clusters: int) -> str:
        return f"{self.kind} by {self.columns[0]} ({n_clusters} clusters)"


def _options(value: Mapping[str, Any], kind: str, distance: str, optional: str) -> Mapping[str, Any]:
    required = {"lat", "lon", distance}
    if not required <= set(value) <= required | {optional}:
        raise EffectError(
            f"vcov: {kind} got {sorted(map(str, value))}, expected lat, lon and {distance} (and perhaps {optional})."
        )
    return value


def _place(options: Mapping[str, Any], kind: str, key: str) -> tuple[tuple[str, str], float]:
    distance = options[key]
    if isinstance(distance, bool) or not isinstance(distance, int | float) or not 0 < distance < math.inf:
        raise EffectError(f"vcov: {kind}'s {key} is {distance!r}, expected kilometres above 0.")
    return (str(options["lat"]), str(options["lon"])), float(distance)


def _few_clusters(n_clusters: int, column: str, reducible: bool) -> tuple[str, str]:
    text = (
        f"Only {n_clusters} clusters in {column!r}: clustered standard errors are too small with so few, "
        f"and the interval, by t with {n_clusters - 1} degrees of freedom, is still optimistic."
    )
    if reducible:
        text += f" vcov={{'CR2': {column!r}}} is made for this."
    return "few_clusters", text
