"""Finished blocks of a map as files, so that a run that was killed goes on where it stopped.

Blocks lie under a fingerprint of everything that they depend on: the model, the imagery, the grid, the parameters. A
run with anything changed has another fingerprint, so old blocks are never taken for new ones.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sustain.errors import RasterError
from sustain.files import atomic_path, only_run
from sustain.maps.grid import Block

__all__ = ["BlockStore"]

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_BLOCK = re.compile(r"(\.partial-.+-)?\d+-\d+\.npy")


class BlockStore:
    """Where the finished blocks of one map are kept until the map is whole.

    Parameters
    ----------
    folder : Path
        Folder of this map's blocks.
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
        # By way of memory: NumPy does not hear of it when a disk refuses the last bytes of a file.
        content = io.BytesIO()
        np.save(content, values, allow_pickle=False)
        with atomic_path(self._path(block)) as partial:
            partial.write_bytes(content.getbuffer())

    def load(self, block: Block) -> npt.NDArray[np.float32] | None:
        """Give a block's bands, or None when it is not finished; a damaged file counts as not finished."""
        try:
            values: npt.NDArray[np.float32] = np.load(self._path(block), allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return values if values.shape[1:] == block.cells.shape else None

    def clear(self) -> None:
        """Remove the blocks of this map, those of earlier inputs too; and the folder, if nothing else is in it."""
        for folder in self._root.iterdir():
            if not (_FINGERPRINT.fullmatch(folder.name) and folder.is_dir()):
                continue
            for file in folder.iterdir():
                if _BLOCK.fullmatch(file.name):
                    file.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                folder.rmdir()

    @contextmanager
    def only_run(self, what: Path) -> Iterator[None]:
        """Keep other runs out of the folder; leave nothing empty behind. The lock ends with the process.

        Raises
        ------
        RasterError
            When another run is at it.
        """
        busy = RasterError(
            f"{what}: another run is making this map; its blocks are in {self._root}. Wait for it, or stop it, or "
            "write to another path."
        )
        with only_run(self._root, busy):
            try:
                yield
            finally:
                with suppress(OSError):  # not empty
                    self._root.rmdir()

    def _path(self, block: Block) -> Path:
        return self._folder / f"{block.cells.row:06d}-{block.cells.col:06d}.npy"
