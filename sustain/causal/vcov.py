"""The `vcov` argument: which units count as dependent on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.causal.variance import cluster_covariance, conley_covariance, robust_covariance
from sustain.errors import EffectError

__all__ = ["TrialVariance", "Vcov"]

FEW_CLUSTERS = 10


class TrialVariance(NamedTuple):
    """Variance of an estimate, degrees of freedom of its interval, label, and notes (kind, text)."""

    variance: float
    df: float
    label: str
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Vcov:
    """A parsed `vcov` argument.

    Attributes
    ----------
    kind : {"HC1", "CRV1", "conley"}
    columns : tuple of str
        Columns of the data that it needs: the clusters; or lat and lon.
    cutoff_km : float
        For ``conley``.
    kernel : {"bartlett", "uniform"}
        For ``conley``.
    """

    kind: Literal["HC1", "CRV1", "conley"]
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
            if kind == "conley" and isinstance(value, Mapping):
                return cls._parse_conley(value)
        raise EffectError(
            f"vcov: got {vcov!r}, expected 'HC1', {{'CRV1': column}} or "
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

    def variance(
        self, influence: NDArray[np.float64], n_params: int, columns: Mapping[str, NDArray[Any]]
    ) -> TrialVariance:
        """Variance of one estimate.

        Parameters
        ----------
        influence : ndarray, shape (n,)
            Influence of each unit on the estimate.
        n_params : int
            Number of estimated coefficients.
        columns : mapping of str to ndarray of shape (n,)
            Holds at least `self.columns`.

        Raises
        ------
        EffectError
            With a single cluster, too few units, or a spatial variance that is not positive.
        """
        n = len(influence)
        if self.kind == "HC1":
            return TrialVariance(
                _scalar(robust_covariance(influence, n_params)), float(n - n_params), "HC1", ()
            )
        if self.kind == "CRV1":
            (column,) = self.columns
            clusters = columns[column]
            n_clusters = len(set(clusters.tolist()))
            if n_clusters < 2:
                raise EffectError(
                    f"vcov: column {column!r} holds a single cluster ({clusters[0]!r}), so no clustered "
                    "variance can be estimated. Cluster at a finer level, or use vcov='HC1' if units are "
                    "independent."
                )
            notes: tuple[tuple[str, str], ...] = ()
            if n_clusters < FEW_CLUSTERS:
                notes = (
                    (
                        "few_clusters",
                        f"Only {n_clusters} clusters in {column!r}: clustered standard errors are too small "
                        f"with so few; the interval uses t with {n_clusters - 1} degrees of freedom and is "
                        "still optimistic.",
                    ),
                )
            _, code = np.unique(clusters.astype(str), return_inverse=True)
            return TrialVariance(
                _scalar(cluster_covariance(influence, code, n_params)),
                float(n_clusters - 1),
                f"CRV1 by {column} ({n_clusters} clusters)",
                notes,
            )
        lat, lon = (columns[name].astype(float) for name in self.columns)
        variance = _scalar(
            conley_covariance(influence, lat, lon, self.cutoff_km, kernel=self.kernel, n_params=n_params)
        )
        if variance <= 0:
            raise EffectError(
                f"vcov: the Conley variance with a {self.kernel} kernel and cutoff_km={self.cutoff_km:g} is "
                f"not positive ({variance:.3g}). That can happen when the cutoff spans much of the region; "
                f"use a smaller one{', or the bartlett kernel' if self.kernel == 'uniform' else ''}."
            )
        return TrialVariance(variance, math.inf, f"Conley ({self.kernel}, {self.cutoff_km:g} km)", ())


def _scalar(covariance: NDArray[np.float64]) -> float:
    return float(covariance[0, 0])
