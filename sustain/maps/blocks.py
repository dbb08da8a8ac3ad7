"""Finished blocks of a map as files, so that a run that was killed goes on where it stopped.

Blocks lie under a fingerprint of everything that they depend on: the model, the imagery, the grid, the parameters. A
run with anything changed has another fingerprint, so old blocks are never taken for new ones.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sustain.files import atomic_path
from sustain.maps.grid import Block

__all__ = ["BlockStore", "identity_of"]

_PROBE = 1 << 20  # bytes at either end of a file that its identity covers


def identity_of(files: Sequence[str | Path]) -> list[list[Any]]:
    """Tell files apart without reading them whole: name, size, time of change, and a hash of both ends.

    Imagery is too large to hash on every start. A file written anew has another time of change.
    """
    found: list[list[Any]] = []
    for file in sorted(Path(file) for file in files):
        if not file.is_file():  # a remote address stands for itself
            found.append([str(file), None, None, None])
            continue
        about = file.stat()
        with file.open("rb") as stream:
            ends = stream.read(_PROBE)
            stream.seek(max(0, about.st_size - _PROBE))
            ends += stream.read(_PROBE)
        found.append([file.name, about.st_size, about.st_mtime_ns, hashlib.sha256(ends).hexdigest()])
    return found


class BlockStore:
    """Where the finished blocks of one map are kept until the map is whole.

    Parameters
    ----------
    folder : Path
        Folder of this map's blocks; nothing else may be in it, because `clear` removes it.
    inputs : mapping
        All that the blocks depend on, as JSON types.
    """

    def __init__(self, folder: Path, inputs: Mapping[str, Any]) -> None:
        text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._root = folder
        self._folder = folder / self.fingerprint[:16]

    def save(self, block: Block, values: npt.NDArray[np.float32]) -> None:
        """Keep a block's bands, shape (bands, rows, cols)."""
        with atomic_path(self._path(block)) as partial:
            np.save(partial, values, allow_pickle=False)

    def load(self, block: Block) -> npt.NDArray[np.float32] | None:
        """Give a block's bands, or None when it is not finished; a damaged file counts as not finished."""
        try:
            values: npt.NDArray[np.float32] = np.load(self._path(block), allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return values if values.shape[1:] == block.cells.shape else None

    def clear(self) -> None:
        """Remove the blocks of this map, those of earlier inputs too."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _path(self, block: Block) -> Path:
        return self._folder / f"{block.cells.row:06d}-{block.cells.col:06d}.npy"
