"""``.npy`` files that are whole or absent, and that grow item by item, so that memory holds one.

Plain writes are used, not a memory map, because a disk that fills up under a map kills the process; and not
`numpy.save`, which does not hear of it when a disk refuses the last bytes of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sustain.files import atomic_path

__all__ = ["GrowingArray", "growing_npy", "save_npy"]


class GrowingArray:
    """An array whose first axis grows in its file; made by `growing_npy`.

    Attributes
    ----------
    dtype : dtype
        Little-endian.
    shape : tuple of int
        Shape of all of it so far.
    """

    def __init__(self, file: BinaryIO, dtype: str | np.dtype[Any], item: tuple[int, ...]) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.shape = (0, *item)
        self._file = file
        self.complete()

    def extend(self, items: NDArray[Any]) -> None:
        """Write some items ``(n, *item)``."""
        if items.shape[1:] != self.shape[1:]:
            raise ValueError(f"items have shape {items.shape[1:]}; expected {self.shape[1:]}")
        self._file.write(np.ascontiguousarray(items, dtype=self.dtype).data)
        self.shape = (self.shape[0] + len(items), *self.shape[1:])

    def complete(self) -> None:
        """Write the header anew; NumPy pads it so that the length of the first axis always has room."""
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)


@contextmanager
def growing_npy(path: Path, dtype: str | np.dtype[Any], item: tuple[int, ...]) -> Iterator[GrowingArray]:
    """Write a file item by item; it appears when the block ends without error.

    Parameters
    ----------
    path : Path
    dtype : str or dtype
    item : tuple of int
        Shape of one item.

    Raises
    ------
    DiskSpaceError
        When the disk fills up.
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
        array = GrowingArray(file, dtype, item)
        yield array
        array.complete()


def save_npy(path: Path, array: NDArray[Any]) -> None:
    """Write a whole array, ``(n, ...)``, as `growing_npy`."""
    with growing_npy(path, array.dtype, array.shape[1:]) as file:
        file.extend(array)
