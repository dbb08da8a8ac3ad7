"""Exceptions and warnings of `sustain`, each under one base so that a caller can catch them by kind.

Messages name the argument or file, what came, what was expected and what to do.
"""

from __future__ import annotations


class SustainError(Exception):
    """Base of every error that `sustain` raises on purpose."""


class ConfigError(SustainError, ValueError):
    """A parameter file or a parameter is wrong."""


class DataError(SustainError, ValueError):
    """Input data have the wrong columns, values, shape or content."""


class FileFormatError(DataError):
    """A file is not what its name promises: truncated, empty, of another type or version."""


class ArchiveError(FileFormatError):
    """An archive is refused: it would write elsewhere, holds links or devices, or is far too large when unpacked."""


class DownloadError(SustainError, OSError):
    """Bytes could not be fetched, or what came is not what the manifest describes."""


class DiskSpaceError(SustainError, OSError):
    """There is not enough room for what is about to be written."""


class StatisticsError(SustainError, ValueError):
    """Columns cannot be read, or nothing can be estimated from them."""


class CalibrationError(StatisticsError):
    """A calibration cannot be fitted, or cannot be applied to what was passed."""


class CardError(CalibrationError):
    """A calibration card is unreadable, edited, of an unknown version or for something else."""


class RasterError(DataError):
    """A raster has the wrong bands, units, coordinate system or grid."""


class ModelError(SustainError, ValueError):
    """A trained model is missing, altered, or does not fit the imagery."""


class ClusterError(SustainError, RuntimeError):
    """A Dask cluster is missing, went away, or lost its workers over a block."""


class HardwareError(SustainError, RuntimeError):
    """A device that was asked for is absent, or too small for the work."""


class EffectError(StatisticsError):
    """A treatment effect cannot be estimated from the data as given."""


class SustainWarning(UserWarning):
    """Base of every warning of `sustain`."""


class DataWarning(SustainWarning):
    """Rows, tiles or values were left out or limited; the message counts and names them."""


class HardwareWarning(SustainWarning):
    """The work goes on, but with less of a device than was asked for."""


class SupportWarning(SustainWarning):
    """Predictions lie outside the range in which the correction was learned."""


class WeakCalibrationWarning(SustainWarning):
    """The calibration is too weak to carry a correction (slope near zero, few pairs, useless r2)."""


class CardWarning(SustainWarning):
    """A calibration card cannot hold all that was asked of it."""


class TransportWarning(SustainWarning):
    """Calibration and trial differ in a way that a correction may not survive."""


class ChangeWarning(SustainWarning):
    """A change over time is read off predictions whose errors were only seen by comparing places."""


class AtomWarning(WeakCalibrationWarning):
    """Many rows of a calibration sample have one exact value, which no smooth correction describes."""


class InSampleWarning(SustainWarning):
    """Calibration rows were seen in training, so the error of the predictions is understated."""


class MissingDataWarning(SustainWarning):
    """Rows are left out because a value is missing."""


class MirrorWarning(SustainWarning):
    """The mirror that was named could not give a file, so it came from elsewhere."""


class FewUnitsWarning(SustainWarning):
    """An arm has so few units that its standard error rests on a handful of residuals."""


class BandWarning(SustainWarning):
    """A raster's only band was taken, though its name is another one than expected."""


class GridWarning(SustainWarning):
    """A raster lies on other cells than the map, and its counts were shared out over the map's cells."""
