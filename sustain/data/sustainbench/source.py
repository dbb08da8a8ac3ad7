"""The form that published bytes are turned into: plain ``.npy`` stacks mapped into memory, one Parquet row a sample.

A folder holds ``samples.parquet`` (id, group, labels, one column ``split:SCHEME`` a split scheme), ``source.json``
(bands, schemes with their notes, what was left out and why), and one ``NAME.npy`` an array with ``NAME.moments.npy``
beside it. A series of variable length is a run of frames in one stack: columns ``NAME_start`` and ``NAME_length``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sustain.data.csvtable import some_of
from sustain.data.npy import growing_npy, save_npy
from sustain.data.sustainbench.channels import sample_moments
from sustain.errors import DataError, DataWarning, FileFormatError
from sustain.files import atomic_directory, read_json, write_json

__all__ = ["PARTS", "Scheme", "Source", "SourceWriter", "StackSpec", "write_source", "write_tables"]

PARTS = ("train", "val", "test")
_VERSION = 1


class Scheme(NamedTuple):
    """A way to split samples.

    Attributes
    ----------
    official : bool
        Whether the authors of the benchmark published it.
    note : str
        What it keeps apart, and what leaks.
    """

    official: bool
    note: str


class StackSpec(NamedTuple):
    """What is stacked in one ``.npy``.

    Attributes
    ----------
    dtype : str
    shape : tuple of int
        Of one sample, or of one frame when `ragged`.
    ragged : bool
        Whether a sample is a series of frames of variable length, ``(length, *shape)``.
    channel_axis : int or None
        Axis of a sample (of a frame, when `ragged`) whose channels get statistics; None for labels.
    """

    dtype: str
    shape: tuple[int, ...]
    ragged: bool = False
    channel_axis: int | None = 0


class SourceWriter:
    """Append samples one at a time; memory holds one. Made by `write_source`."""

    def __init__(self, folder: Path, stacks: Mapping[str, StackSpec], open_files: ExitStack) -> None:
        self.folder = folder
        self.stacks = dict(stacks)
        self.rows: list[dict[str, Any]] = []
        self._moments: dict[str, list[NDArray[np.float64]]] = {name: [] for name in stacks}
        self._files = {
            name: open_files.enter_context(growing_npy(folder / f"{name}.npy", spec.dtype, spec.shape))
            for name, spec in stacks.items()
        }

    def add(self, row: Mapping[str, Any], **arrays: NDArray[Any]) -> None:
        """Append one sample.

        Parameters
        ----------
        row : mapping
            Its ``id``, ``group``, labels and splits.
        **arrays : ndarray
            One array for each stack, or for some: the others are filled by `append`.

        Raises
        ------
        FileFormatError
            When an array does not have its stack's shape.
        """
        self.start(row, {name: len(values) for name, values in arrays.items() if self.stacks[name].ragged})
        for name, values in arrays.items():
            self.append(name, values, str(row["id"]))

    def start(self, row: Mapping[str, Any], lengths: Mapping[str, int]) -> None:
        """Note a sample whose arrays come next, by `append`; `lengths` are the frames of each ragged one."""
        places = {f"{name}_start": self._files[name].shape[0] for name in lengths}
        self.rows.append({**row, **places, **{f"{name}_length": n for name, n in lengths.items()}})

    def append(self, name: str, stored: NDArray[Any], of: str, physical: NDArray[Any] | None = None) -> None:
        """Append one array of the sample called `of`, for stacks that are filled apart from their sample's row.

        Parameters
        ----------
        name : str
        stored : ndarray
            What is written.
        of : str
            Id of the sample, for messages.
        physical : ndarray, optional
            Values to take moments of, NaN where missing, when `stored` marks missing values otherwise.

        Raises
        ------
        FileFormatError
            When the array does not have its stack's shape.
        """
        spec = self.stacks[name]
        if stored.shape[1 if spec.ragged else 0 :] != spec.shape:
            raise FileFormatError(f"sample {of}: {name} has shape {stored.shape}; expected {spec.shape}.")
        self._files[name].extend(stored if spec.ragged else stored[None])
        if spec.channel_axis is not None:
            values = stored if physical is None else physical
            self._moments[name].append(sample_moments(values, spec.channel_axis + spec.ragged))

    def finish(self, description: Mapping[str, Any], schemes: Mapping[str, Scheme]) -> None:
        """Write the statistics and the tables; the stacks are completed when the block of `write_source` ends.

        Parameters
        ----------
        description : mapping
            What goes into ``source.json``: ``bands``, and ``counts``, the names of what was left out by reason.
        schemes : mapping

        Raises
        ------
        DataError
            When there is no sample, or an id comes twice.

        Warns
        -----
        DataWarning
            For each reason why something was left out: how many, and the first of them; and for each scheme of which
            the training or the test part is empty.
        """
        if not self.rows:
            raise DataError("no sample could be read, so there is nothing to store.")
        for name, spec in self.stacks.items():
            if spec.channel_axis is not None:
                save_npy(self.folder / f"{name}.moments.npy", np.stack(self._moments[name]))
        stacks = {name: spec._asdict() for name, spec in self.stacks.items()}
        write_tables(self.folder, pd.DataFrame(self.rows), {"stacks": stacks, **description}, schemes)
        for reason, names in description.get("counts", {}).items():
            if names:
                warnings.warn(f"{reason.replace('_', ' ')}: {some_of(names)}", DataWarning, stacklevel=3)
        for scheme in schemes:
            parts = {row.get(f"split:{scheme}") for row in self.rows}
            for part in ("train", "test"):
                if part not in parts:
                    warnings.warn(f"split {scheme}: no sample in part {part}", DataWarning, stacklevel=3)


def write_tables(
    folder: Path, samples: pd.DataFrame, description: Mapping[str, Any], schemes: Mapping[str, Scheme]
) -> None:
    """Write ``samples.parquet`` and ``source.json``.

    Raises
    ------
    DataError
        When an id comes twice.
    """
    if (twice := samples["id"].duplicated()).any():
        raise DataError(f"id {samples['id'][twice].iloc[0]!r} comes twice. Keep one sample each.")
    samples.to_parquet(folder / "samples.parquet", index=False)
    write_json(
        folder / "source.json",
        {
            "version": _VERSION,
            "n_samples": len(samples),
            "stacks": {},
            "schemes": {name: scheme._asdict() for name, scheme in schemes.items()},
            **description,
        },
    )


@contextmanager
def write_source(folder: str | Path, stacks: Mapping[str, StackSpec]) -> Iterator[SourceWriter]:
    """Write an ingested source; the folder appears whole, or not at all.

    Parameters
    ----------
    folder : str or Path
    stacks : mapping
        Name of an array -> what one sample of it is.

    Yields
    ------
    SourceWriter
        Add samples, then call its ``finish``.
    """
    with atomic_directory(folder) as partial, ExitStack() as open_files:
        yield SourceWriter(partial, stacks, open_files)


class Source:
    """An ingested source, opened for reading; arrays are mapped when first asked for.

    Attributes
    ----------
    folder : Path
    samples : DataFrame
        One row a sample, in storage order.
    description : dict
        ``source.json``.
    schemes : dict of str to Scheme
    """

    def __init__(self, folder: Path, samples: pd.DataFrame, description: dict[str, Any]) -> None:
        self.folder = folder
        self.samples = samples
        self.description = description
        self.schemes = {name: Scheme(**scheme) for name, scheme in description["schemes"].items()}
        self.stacks = {
            name: StackSpec(**spec | {"shape": tuple(spec["shape"])})
            for name, spec in description["stacks"].items()
        }
        self._open: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Source:
        """Open the folder that an ingest wrote.

        Raises
        ------
        FileNotFoundError
            When there is none.
        FileFormatError
            When a file is damaged, of another version, or the files disagree.
        """
        folder = Path(folder)
        if not (folder / "source.json").is_file():
            raise FileNotFoundError(f"{folder}: no ingested source here. Ingest the published files first.")
        description = read_json(folder / "source.json")
        try:
            samples = pd.read_parquet(folder / "samples.parquet")
            source = cls(folder, samples, description)
            version, n_samples = description["version"], description["n_samples"]
        except FileNotFoundError:
            raise
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{folder}: damaged ({error}). Ingest the source again.") from error
        if version != _VERSION or n_samples != len(samples):
            raise FileFormatError(
                f"{folder}: version {version} with {len(samples)} of {n_samples} samples; expected version "
                f"{_VERSION}. Ingest the source again."
            )
        return source

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a mapped array would copy it whole to a worker process; the worker maps the file itself.
        return self.__dict__ | {"_open": {}}

    def array(self, name: str) -> NDArray[Any]:
        """Return a stack, mapped into memory, read-only.

        Raises
        ------
        FileFormatError
            When the file is damaged or shorter than the samples need.
        """
        if name not in self._open:
            path = self.folder / f"{name}.npy"
            try:
                mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise FileFormatError(f"{path}: damaged ({error}). Ingest the source again.") from error
            item = self.stacks[name].shape if name in self.stacks else mapped.shape[1:]
            if mapped.shape[0] != self._frames(name) or mapped.shape[1:] != item:
                raise FileFormatError(
                    f"{path}: shape {mapped.shape} does not fit the sample table. Ingest the source again."
                )
            self._open[name] = mapped
        return self._open[name]

    def _frames(self, name: str) -> int:
        spec = self.stacks.get(name)
        return int(self.samples[f"{name}_length"].sum()) if spec and spec.ragged else len(self)

    def item(self, name: str, row: int) -> NDArray[Any]:
        """Return one sample's array, as a copy."""
        if not self.stacks[name].ragged:
            return np.array(self.array(name)[row])
        start = int(self.samples[f"{name}_start"].iloc[row])
        return np.array(self.array(name)[start : start + int(self.samples[f"{name}_length"].iloc[row])])

    def moments(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the moments ``(n, C, 3)`` of some samples."""
        return np.asarray(self.array(f"{name}.moments")[rows])

    def rows(self, scheme: str, part: str | Sequence[str]) -> NDArray[np.int64]:
        """Return the positions of the samples of a part (or several) of a split scheme.

        Raises
        ------
        DataError
            When the scheme is unknown or the part is empty.
        """
        if scheme not in self.schemes:
            raise DataError(
                f"{self.folder}: no split scheme {scheme!r}; there are {', '.join(self.schemes)}."
            )
        column = self.samples[f"split:{scheme}"]
        rows = np.flatnonzero(column.isin([part] if isinstance(part, str) else list(part)))
        if not rows.size:
            parts = ", ".join(map(str, sorted(column.dropna().unique())))
            raise DataError(f"{self.folder}: no sample in part {part!r} of split {scheme!r}; it has {parts}.")
        return rows
