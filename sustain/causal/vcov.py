"""The `vcov` argument: which units count as dependent on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.causal.estimators import LeastSquares, LinearEstimator
from sustain.causal.leverage import bias_reduced_variance
from sustain.causal.panel import FixedEffects
from sustain.causal.variance import cluster_covariance, conley_covariance, robust_covariance
from sustain.errors import EffectError

__all__ = ["TrialVariance", "Vcov"]

FEW_CLUSTERS = 10
FEW_DF = 4.0  # under which Imbens and Kolesar's t is no longer near its nominal size

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]


class TrialVariance(NamedTuple):
    """Variance of an estimate, degrees of freedom of its interval, label, and notes (kind, text)."""

    variance: float
    df: float
    label: str
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Vcov:
    """A parsed `vcov` argument.

    Attributes
    ----------
    kind : {"HC1", "CRV1", "CR2", "conley"}
    columns : tuple of str
        Columns of the data that it needs: the clusters; or lat and lon.
    cutoff_km : float
        For ``conley``.
    kernel : {"bartlett", "uniform"}
        For ``conley``.
    """

    kind: Literal["HC1", "CRV1", "CR2", "conley"]
    columns: tuple[str, ...] = ()
    cutoff_km: float = math.nan
    kernel: Literal["bartlett", "uniform"] = "bartlett"

    @classmethod
    def parse(cls, vcov: str | Mapping[str, Any]) -> Vcov:
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
                return cls._parse_conley(value)
        raise EffectError(
            f"vcov: got {vcov!r}, expected 'HC1', {{'CRV1': column}}, {{'CR2': column}} or "
            "{'conley': {'lat': column, 'lon': column, 'cutoff_km': number}}."
        )

    @classmethod
    def _parse_conley(cls, value: Mapping[str, Any]) -> Vcov:
        required, known = {"lat", "lon", "cutoff_km"}, {"lat", "lon", "cutoff_km", "kernel"}
        if not required <= set(value) <= known:
            raise EffectError(
                f"vcov: conley got {sorted(map(str, value))}, expected lat, lon and cutoff_km (and kernel, "
                "if not bartlett)."
            )
        cutoff = value["cutoff_km"]
        if isinstance(cutoff, bool) or not isinstance(cutoff, int | float) or not 0 < cutoff < math.inf:
            raise EffectError(f"vcov: conley's cutoff_km is {cutoff!r}, expected kilometres above 0.")
        kernel = value.get("kernel", "bartlett")
        if kernel not in ("bartlett", "uniform"):
            raise EffectError(f"vcov: conley's kernel is {kernel!r}, expected 'bartlett' or 'uniform'.")
        return cls("conley", (str(value["lat"]), str(value["lon"])), float(cutoff), kernel)

    def clusters(self, columns: Columns) -> NDArray[np.intp] | None:
        """Cluster codes of the units, or None where units are not clustered.

        Raises
        ------
        EffectError
            With a single cluster.
        """
        if self.kind not in ("CRV1", "CR2"):
            return None
        names, code = np.unique(columns[self.columns[0]].astype(str), return_inverse=True)
        if len(names) < 2:
            raise EffectError(
                f"vcov: column {self.columns[0]!r} holds a single cluster ({str(names[0])!r}), so no "
                "clustered variance can be estimated. Cluster at a finer level, or use vcov='HC1' if units "
                "are independent."
            )
        return code

    def variance(self, estimator: LinearEstimator, outcome: Floats, columns: Columns) -> TrialVariance:
        """Variance of one estimate.

        Parameters
        ----------
        estimator : LinearEstimator
        outcome : ndarray, shape (n,)
        columns : mapping of str to ndarray of shape (n,)
            Holds at least `self.columns`.

        Raises
        ------
        EffectError
            With a single cluster, too few units, or a spatial variance that is not positive.
        """
        clusters = self.clusters(columns)
        if clusters is None:
            psi = estimator.influence(outcome)
            return (
                self._robust(psi, estimator) if self.kind == "HC1" else self._conley(psi, estimator, columns)
            )
        n_clusters = int(clusters.max()) + 1
        label = f"{self.kind} by {self.columns[0]} ({n_clusters} clusters)"
        if self.kind == "CR2":
            return self._bias_reduced(estimator, outcome, clusters, label)
        n_params = estimator.n_params
        if isinstance(estimator, FixedEffects) and _nested(estimator.unit, clusters):
            # Effects of units within clusters use up nothing between clusters: not counted, as in fixest and Stata.
            n_params -= estimator.n_units - 1
        variance = _scalar(cluster_covariance(estimator.influence(outcome), clusters, n_params))
        notes = [_few_clusters(n_clusters, self.columns[0])] if n_clusters < FEW_CLUSTERS else []
        return TrialVariance(variance, float(n_clusters - 1), label, tuple(notes))

    def _robust(self, psi: Floats, estimator: LinearEstimator) -> TrialVariance:
        variance = _scalar(robust_covariance(psi, estimator.n_params))
        return TrialVariance(variance, float(len(psi) - estimator.n_params), "HC1")

    def _bias_reduced(
        self, estimator: LinearEstimator, outcome: Floats, clusters: NDArray[np.intp], label: str
    ) -> TrialVariance:
        if not isinstance(estimator, LeastSquares):
            raise EffectError(
                f"vcov: CR2 is for the estimators 'difference' and 'ols', not for {estimator.name}. Use "
                "'CRV1'."
            )
        variance, df = bias_reduced_variance(estimator, outcome, clusters)
        notes: tuple[tuple[str, str], ...] = ()
        if df < FEW_DF:
            text = (
                f"The clusters of {self.columns[0]!r} are worth {df:.1f} degrees of freedom: few clusters, "
                "or few that the treatment divides. The interval is a rough one."
            )
            notes = (("few_clusters", text),)
        return TrialVariance(variance, df, label, notes)

    def _conley(self, psi: Floats, estimator: LinearEstimator, columns: Columns) -> TrialVariance:
        lat, lon = (columns[name].astype(float) for name in self.columns)
        covariance = conley_covariance(
            psi, lat, lon, self.cutoff_km, kernel=self.kernel, n_params=estimator.n_params
        )
        variance = _scalar(covariance)
        if variance <= 0:
            raise EffectError(
                f"vcov: the Conley variance with a {self.kernel} kernel and cutoff_km={self.cutoff_km:g} is "
                f"not positive ({variance:.3g}). That can happen when the cutoff spans much of the region; "
                f"use a smaller one{', or the bartlett kernel' if self.kernel == 'uniform' else ''}."
            )
        return TrialVariance(variance, math.inf, f"Conley ({self.kernel}, {self.cutoff_km:g} km)")


def _few_clusters(n_clusters: int, column: str) -> tuple[str, str]:
    text = (
        f"Only {n_clusters} clusters in {column!r}: clustered standard errors are too small with so few, "
        f"and the interval, by t with {n_clusters - 1} degrees of freedom, is still optimistic. "
        f"vcov={{'CR2': {column!r}}} is made for this."
    )
    return "few_clusters", text


def _nested(unit: NDArray[np.intp], clusters: NDArray[np.intp]) -> bool:
    pairs = unit.astype(np.int64) * (int(clusters.max()) + 1) + clusters
    return len(np.unique(pairs)) == len(np.unique(unit))


def _scalar(covariance: Floats) -> float:
    return float(covariance[0, 0])
