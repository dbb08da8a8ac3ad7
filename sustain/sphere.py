"""Distances on the ground, on the sphere of the Earth's mean radius."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["EARTH_RADIUS_KM", "arc_km", "on_sphere"]

EARTH_RADIUS_KM = 6371.0088  # mean radius of the Earth (IUGG)


def on_sphere(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    """Places on the unit sphere, shape (n, 3), from degrees: chords between them grow with distances on the ground."""
    phi, lam = np.radians(np.asarray(lat, dtype=float)), np.radians(np.asarray(lon, dtype=float))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def arc_km(chord: ArrayLike) -> Any:
    """Great-circle distance in kilometres of places whose chord on the unit sphere is known."""
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(np.asarray(chord, dtype=float) / 2, 1.0))
