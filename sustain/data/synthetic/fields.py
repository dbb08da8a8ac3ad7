"""Random fields on the pixel grid, and the seeds they grow from."""

from __future__ import annotations

import zlib

import numpy as np
import scipy.fft
from numpy.typing import NDArray

__all__ = ["FloatField", "Streams", "gaussian_field", "orthogonal", "standard"]

FloatField = NDArray[np.float32]

# Nodes per correlation length: linear interpolation between them misses less than 1% of a Gaussian field.
_NODES_PER_LENGTH = 8


class Streams:
    """Independent random generators, one a name, all from one seed.

    A name's generator does not depend on which others are asked for, or in which order: one more site, band or
    date changes nothing else in the world. The keys play the part of the counter in `SeedSequence.spawn`.

    Parameters
    ----------
    seed : int
        Non-negative seed of the world.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def rng(self, name: str, index: int = 0) -> np.random.Generator:
        """Return the generator called `name`; `index` numbers its parts, such as the strips of an image."""
        key = (zlib.crc32(name.encode()), index)
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))


def gaussian_field(rng: np.random.Generator, size: int, length: float) -> FloatField:
    """Draw a stationary Gaussian random field by filtering white noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the noise.
    size : int
        Side of the square field, in pixels.
    length : float
        Correlation length L in pixels: the correlation at distance r is ``exp(-r**2 / (2 * L**2))``.

    Returns
    -------
    numpy.ndarray of float32, shape (size, size)
        The field, standardised to mean 0 and standard deviation 1.
    """
    # A smooth field is drawn on a coarser grid. The FFT makes it periodic, so more is drawn than is kept.
    step = max(1, int(length / _NODES_PER_LENGTH))
    nodes = -(-size // step) + 2
    wide = scipy.fft.next_fast_len(nodes + int(np.ceil(4 * length / step)), real=True)
    noise = rng.standard_normal((wide, wide), dtype=np.float32)
    # A Gaussian kernel of width L / sqrt(2) gives a Gaussian correlation of width L.
    wavenumber = 2 * np.pi * scipy.fft.fftfreq(wide) * length / step
    falloff = np.exp(-(wavenumber**2) / 4).astype(np.float32)
    spectrum = scipy.fft.rfft2(noise) * falloff[:, None] * falloff[None, : wide // 2 + 1]
    field = scipy.fft.irfft2(spectrum, s=(wide, wide))
    return standard(_stretched(field, size, step) if step > 1 else field[:size, :size])


def _stretched(nodes: FloatField, size: int, step: int) -> FloatField:
    """Interpolate bilinearly between nodes that are `step` pixels apart."""
    below = np.arange(size) // step
    weight = ((np.arange(size) % step) / step).astype(np.float32)
    across = nodes[:, below] * (1 - weight) + nodes[:, below + 1] * weight
    return np.asarray(across[below] * (1 - weight[:, None]) + across[below + 1] * weight[:, None])


def fractal_field(rng: np.random.Generator, size: int, length: float, octaves: int) -> FloatField:
    """Sum Gaussian fields of halving length and amplitude: rough as soils, woods and relief are."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        total += np.float32(0.5**octave) * gaussian_field(rng, size, length / 2**octave)
    return standard(total)


def standard(field: FloatField) -> FloatField:
    """Shift and scale a field to mean 0 and standard deviation 1 (sums in float64)."""
    centred = field - np.float32(field.mean(dtype=np.float64))
    centred /= np.float32(np.sqrt(np.square(centred).mean(dtype=np.float64)))
    return np.asarray(centred, dtype=np.float32)


def orthogonal(field: FloatField, *others: FloatField) -> FloatField:
    """Remove from `field` what it shares with `others` over the scene, and standardise what is left.

    A scene holds only a handful of independent regions, so that two independent long-range fields correlate by
    chance, and a nuisance would become a proxy of wealth. Here it is none, exactly.

    Parameters
    ----------
    field : numpy.ndarray of float32
        What to clear.
    *others : numpy.ndarray of float32
        Standardised fields that are uncorrelated with each other (one step of Gram-Schmidt).
    """
    field = standard(field)
    for other in others:
        field = field - np.float32((field * other).mean(dtype=np.float64)) * other
    return standard(field)
