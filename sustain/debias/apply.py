"""One function of one variable, applied to whatever the caller holds: the same kind comes out.

numpy arrays and scalars, pandas Series, dask arrays and xarray DataArrays (which stay lazy and keep their
attributes). Floating types keep their type and are computed in float64; integers become float64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.errors import CalibrationError

__all__ = ["apply_elementwise", "is_lazy"]

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


def apply_elementwise(function: Function, values: Any) -> Any:
    """Apply `function` to every value.

    Parameters
    ----------
    function : callable
        Maps a one-dimensional float64 array to one of the same length.
    values : number, ndarray, list, pandas.Series, dask.array.Array or xarray.DataArray
        Of any shape. NaN is passed on to `function`.

    Returns
    -------
    same kind as `values`
        With its shape, index, coordinates, name and attributes.

    Raises
    ------
    CalibrationError
        When `values` is a table of several columns or is not numeric.
    """
    # Libraries are looked up, not imported: whoever holds a Series has imported pandas.
    pandas, xarray, dask = (sys.modules.get(name) for name in ("pandas", "xarray", "dask.array"))
    if xarray is not None and isinstance(values, xarray.DataArray):
        return xarray.apply_ufunc(
            _on_array,
            values,
            kwargs={"function": function},
            dask="parallelized",
            output_dtypes=[_result_type(values.dtype)],
            keep_attrs=True,
        )
    if pandas is not None and isinstance(values, pandas.Series):
        numbers = values.to_numpy(dtype=_result_type(values.dtype), na_value=np.nan)
        result = pandas.Series(_on_array(numbers, function=function), index=values.index, name=values.name)
        result.attrs = dict(values.attrs)
        return result
    if dask is not None and isinstance(values, dask.Array):
        return values.map_blocks(_on_array, function=function, dtype=_result_type(values.dtype))
    if hasattr(values, "columns") or hasattr(values, "data_vars"):
        raise CalibrationError(
            f"y_pred: got a {type(values).__name__} of several columns. Pass the one that holds the predictions, "
            "for example table['wealth']."
        )
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.array(_on_array(values.data, function=function), mask=values.mask)
    result = _on_array(np.asarray(values), function=function)
    return result if np.ndim(values) else result[()]


def is_lazy(values: Any) -> bool:
    """Whether `values` is computed only when asked for (dask, or xarray over dask)."""
    return hasattr(values, "dask") or getattr(values, "chunks", None) is not None


def _result_type(dtype: Any) -> np.dtype[Any]:
    try:
        kind: np.dtype[Any] = np.dtype(getattr(dtype, "numpy_dtype", dtype))  # pandas' own types wrap numpy's
    except TypeError as error:
        raise CalibrationError(f"y_pred: expected numbers, got values of type {dtype}.") from error
    if kind.kind == "f":
        return kind
    if kind.kind in "iu":
        return np.dtype(np.float64)
    raise CalibrationError(f"y_pred: expected numbers, got values of type {dtype}.")


def _on_array(values: NDArray[Any], function: Function) -> NDArray[Any]:
    dtype = _result_type(values.dtype)
    flat = values.reshape(-1)
    if dtype == np.float64:
        return function(np.asarray(flat, dtype=np.float64)).reshape(values.shape)
    out = np.empty(flat.shape, dtype=dtype)
    step = 1 << 14  # small enough that the float64 copies stay in cache
    for begin in range(0, flat.size, step):
        out[begin : begin + step] = function(flat[begin : begin + step].astype(np.float64))
    return out.reshape(values.shape)
