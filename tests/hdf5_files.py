"""HDF5 files, written by the HDF5 library itself: the copy that GDAL's wheel brings along."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
import rasterio

_TYPES = {"f8": ("H5T_IEEE_F64LE_g", "H5T_NATIVE_DOUBLE_g"), "i8": ("H5T_STD_I64LE_g", "H5T_NATIVE_INT64_g")}


def _library() -> ctypes.CDLL:
    found = sorted((Path(rasterio.__file__).parents[1] / "rasterio.libs").glob("libhdf5-*"))
    if not found:
        pytest.skip("no HDF5 library beside rasterio to write a test file with")
    library = ctypes.CDLL(str(found[0]))
    for name in ("H5open", "H5Fcreate", "H5Screate_simple", "H5Dcreate2", "H5Pcreate"):
        getattr(library, name).restype = ctypes.c_int64
    library.H5open()
    return library


def write_hdf5(path: Path, **arrays: np.ndarray) -> None:
    """Write float64 and int64 arrays, chunked by sample and deflated, as h5py does."""
    lib, i64 = _library(), ctypes.c_int64

    def constant(name: str) -> ctypes.c_int64:
        return i64(i64.in_dll(lib, name).value)

    file = i64(lib.H5Fcreate(str(path).encode(), ctypes.c_uint(2), i64(0), i64(0)))
    for name, values in arrays.items():
        values = np.ascontiguousarray(values)
        stored, native = (constant(kind) for kind in _TYPES[values.dtype.str[1:]])
        shape, chunk = ((ctypes.c_uint64 * values.ndim)(*n) for n in (values.shape, (1, *values.shape[1:])))
        space = i64(lib.H5Screate_simple(ctypes.c_int(values.ndim), shape, None))
        layout = i64(0)
        if values.size:
            layout = i64(lib.H5Pcreate(constant("H5P_CLS_DATASET_CREATE_ID_g")))
            lib.H5Pset_chunk(layout, ctypes.c_int(values.ndim), chunk)
            lib.H5Pset_deflate(layout, ctypes.c_uint(4))
        dataset = i64(lib.H5Dcreate2(file, name.encode(), stored, space, i64(0), layout, i64(0)))
        if values.size:
            written = lib.H5Dwrite(
                dataset, native, i64(0), i64(0), i64(0), values.ctypes.data_as(ctypes.c_void_p)
            )
            if written < 0:
                raise OSError(f"{path}: {name} could not be written")
        lib.H5Dclose(dataset)
        lib.H5Sclose(space)
    lib.H5Fclose(file)
