"""Spatial-block bootstrap: whole blocks of places are drawn again, so that neighbours stay together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sustain.causal.vcov.conley import require_degrees
from sustain.errors import EffectError
from sustain.sphere import EARTH_RADIUS_KM

__all__ = ["block_bootstrap", "spatial_blocks"]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


def spatial_blocks(lat: Floats, lon: Floats, block_km: float, seed: int) -> Codes:
    """Block of each place: squares of about `block_km`, from an origin drawn by `seed`.

    Bands of equal latitude, cut into steps of equal length on the ground. Blocks should be at least as wide as the
    distance over which residuals go together.

    Parameters
    ----------
    lat, lon : ndarray, shape (n,)
        Degrees.
    block_km : float
        Side of a block in kilometres.
    seed : int
        Of the origin.

    Returns
    -------
    ndarray of int, shape (n,)
        Codes from 0.
    """
    require_degrees(lat, lon)
    shift = np.random.default_rng(seed).uniform(size=2)
    step = math.degrees(block_km / EARTH_RADIUS_KM)
    band = np.floor(lat / step + shift[0])
    middle = np.radians(np.clip((band - shift[0] + 0.5) * step, -89.0, 89.0))
    along = np.floor(_unbroken(lon) * np.cos(middle) / step + shift[1])
    return np.unique(np.column_stack([band, along]), axis=0, return_inverse=True)[1].ravel().astype(np.intp)


def _unbroken(lon: Floats) -> Floats:
    """Longitudes counted from 0, and on from 360 up to their widest gap, so that no block is cut amid the places.

    A circle is no whole number of blocks, so one is cut somewhere, and it should be where nobody is.
    """
    east = lon % 360.0
    places = np.unique(east)
    gaps = np.diff(places, append=places[0] + 360.0)
    widest = int(gaps[::-1].argmax())  # of equal gaps the one over 0 degrees, which leaves all as it is
    return np.where(east < places[-widest], east + 360.0, east) if widest else east


def block_bootstrap(
    blocks: Codes,
    estimates: Callable[[NDArray[np.int64]], Floats],
    n_boot: int,
    seed: int,
) -> tuple[Floats, int]:
    """Covariance of estimates over resamples of blocks.

    Parameters
    ----------
    blocks : ndarray of int, shape (n,)
        Codes from 0.
    estimates : callable
        Takes how often each unit is in the resample, shape (n,), and returns the estimates, shape (m,). It raises
        `EffectError` where they do not exist: an arm is missing, or a design is singular.
    n_boot : int
        Number of resamples.
    seed : int

    Returns
    -------
    covariance : ndarray, shape (m, m)
    n_failed : int
        Resamples without estimates, which were drawn again.

    Raises
    ------
    EffectError
        When as many resamples fail as were asked for.

    Notes
    -----
    The factor G / (G - 1) makes up for a bootstrap's variance being that of the blocks at hand.
    """
    n_blocks = int(blocks.max()) + 1
    rng = np.random.default_rng(seed)
    kept: list[Floats] = []
    failed = 0
    while len(kept) < n_boot:
        counts = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks))
        try:
            kept.append(estimates(counts[blocks]))
        except EffectError as error:
            failed += 1
            if failed > n_boot:
                raise EffectError(
                    f"vcov: of {failed + len(kept)} resamples of {n_blocks} blocks {failed} have no estimate "
                    f"({error}). Use smaller blocks, or fewer covariates."
                ) from error
    covariance = np.atleast_2d(np.cov(np.array(kept), rowvar=False, ddof=1))
    return np.asarray(covariance * n_blocks / (n_blocks - 1)), failed
