"""Where an unfinished training waits to be resumed: beside the model's folder, out of DVC's reach.

A stage that fails, or is killed, loses its outputs at the next ``dvc repro``; what is kept here survives. Everything
lies under a fingerprint of what the training depends on, so that nothing is ever resumed with other data, parameters
or code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.data.tiles.packed import TileStore

__all__ = ["Scratch", "fingerprint", "store_identity"]

_CODE = Path(__file__).parents[1]


def store_identity(store: TileStore) -> dict[str, Any]:
    """Return what tells one folder of packed tiles from another, without reading all of it.

    The page and the index by content; shards, which may hold 100 GB, by name, size and time of change.
    """
    digest = hashlib.sha256()
    for name in ("tiles.json", "index.parquet"):
        digest.update((store.folder / name).read_bytes())
    shards = [(path, path.stat()) for path in sorted(store.folder.glob("shard-*.npy"))]
    return {
        "tables": digest.hexdigest(),
        "shards": [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in shards],
    }


def fingerprint(content: Mapping[str, Any], *arrays: NDArray[np.int64]) -> str:
    """Hash what a training depends on, and the code of `sustain.models`; 32 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    for path in sorted(_CODE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


class Scratch:
    """The folder ``.resume/<name>`` beside a model's folder.

    Parameters
    ----------
    out : Path
        The model's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.parent / ".resume" / out.name

    def place(self, key: str) -> Path:
        """Return the folder of one training, making it if need be."""
        place = self.folder / key
        place.mkdir(parents=True, exist_ok=True)
        return place

    def clear(self) -> None:
        """Remove everything that waits here; the model is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
