"""Arrays out of files that nobody vouches for: no pickles, and nothing allocated before its size is checked."""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sustain.errors import FileFormatError

__all__ = ["DAMAGE", "ArraySpec", "read_npy", "read_npz"]

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error),
    *(ValueError, TypeError, SyntaxError, tokenize.TokenError, IndexError, OverflowError, RecursionError),
    *(NotImplementedError, RuntimeError),  # unknown compression, encrypted member
)
"""What NumPy and zipfile raise over damaged bytes."""


_MAX_HEADER = 1 << 16


class ArraySpec(NamedTuple):
    """What an array must be.

    Attributes
    ----------
    kinds : str
        NumPy's one-letter kinds that are allowed: ``"f"`` float, ``"iu"`` integers, ``"U"`` text.
    shape : tuple of int or None
        Length of each axis; None is free.
    max_bytes : int
        Bound on the array's size.
    """

    kinds: str
    shape: tuple[int | None, ...]
    max_bytes: int = 1 << 31

    def problem_of(self, dtype: np.dtype, shape: tuple[int, ...]) -> str | None:
        """Say what is wrong with an array of this type and shape, or return None."""
        if dtype.hasobject:
            return "holds Python objects (a pickle), which are never read"
        fits = len(shape) == len(self.shape) and all(
            want in (None, got) and got >= 0 for want, got in zip(self.shape, shape, strict=True)
        )
        if dtype.kind not in self.kinds or not fits:
            return f"holds {dtype} {shape}; expected {self}"
        if (n_bytes := math.prod(shape) * dtype.itemsize) > self.max_bytes:
            return f"declares {n_bytes} bytes; at most {self.max_bytes} are expected"
        return None

    def __str__(self) -> str:
        names = {"f": "float", "i": "int", "u": "uint", "U": "text", "b": "bool"}
        axes = ", ".join("any" if n is None else str(n) for n in self.shape)
        return f"{' or '.join(names[kind] for kind in self.kinds)} ({axes})"


def read_npy(stream: IO[bytes], spec: ArraySpec, where: str) -> NDArray[Any]:
    """Read one ``.npy`` array.

    Parameters
    ----------
    stream : binary file
        Read to its end, so that a zip member's checksum is compared.
    spec : ArraySpec
        What the array must be.
    where : str
        File and member, for messages.

    Raises
    ------
    FileFormatError
        When the bytes are not such an array, or are cut short or too long.
    """
    header = _read_header(stream, spec, where)
    try:
        data = stream.read(header.n_bytes + 1)
    except DAMAGE as error:
        raise _unreadable(where, error) from error
    return _array(data, header, where)


def read_npz(
    content: bytes | Path, specs: Mapping[str, ArraySpec], where: str = ""
) -> dict[str, NDArray[Any]]:
    """Read named arrays of an ``.npz``.

    Parameters
    ----------
    content : bytes or Path
        The file's bytes, or its path.
    specs : mapping
        Name of an array -> what it must be. Other arrays of the file are not read.
    where : str
        File and member, for messages; by default the path.

    Raises
    ------
    FileFormatError
        When the bytes are not an npz, an array is missing, or it is not what `specs` asks for.
    """
    where = where or str(content if isinstance(content, Path) else "npz")
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content) as npz:
            names = npz.namelist()
            for name, spec in specs.items():
                if f"{name}.npy" not in names:
                    raise FileFormatError(
                        f"{where}: no array {name!r}; the file has {', '.join(names[:8]) or 'none'}."
                    )
                arrays[name] = _read_member(npz, f"{name}.npy", spec, f"{where}, array {name!r}")
    except FileFormatError:
        raise
    except DAMAGE as error:
        raise FileFormatError(f"{where}: not a readable npz ({error}). Get the file again.") from error
    return arrays


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _read_member(npz: zipfile.ZipFile, name: str, spec: ArraySpec, where: str) -> NDArray[Any]:
    # Inflated in one go into one buffer, which becomes the array: reading header and data apart would copy the data.
    # zipfile gives no more than the size that the directory states, and compares the checksum at its end.
    size = npz.getinfo(name).file_size
    if size > spec.max_bytes + _MAX_HEADER:
        with npz.open(name) as member:
            _read_header(member, spec, where)  # says more where the header tells what is wrong
        raise FileFormatError(f"{where}: states {size} bytes; at most {spec.max_bytes} are expected.")
    try:
        with npz.open(name) as member:
            content = member.read(size)
    except DAMAGE as error:
        raise _unreadable(where, error) from error
    stream = io.BytesIO(content)
    header = _read_header(stream, spec, where)
    return _array(memoryview(content)[stream.tell() :], header, where)


def _read_header(stream: IO[bytes], spec: ArraySpec, where: str) -> _Header:
    try:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        header = _Header(*read_header(stream))
        problem = spec.problem_of(header.dtype, header.shape)
    except DAMAGE as error:
        raise _unreadable(where, error) from error
    if problem:
        raise FileFormatError(f"{where}: {problem}.")
    return header


def _array(data: bytes | memoryview, header: _Header, where: str) -> NDArray[Any]:
    if len(data) != header.n_bytes:
        raise FileFormatError(
            f"{where}: {'more' if len(data) > header.n_bytes else len(data)} bytes of data, but its shape "
            f"{header.shape} needs {header.n_bytes}. Get the file again."
        )
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    return np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order=order)


def _unreadable(where: str, error: Exception) -> FileFormatError:
    return FileFormatError(f"{where}: not a readable npy array ({error}). Get the file again.")
