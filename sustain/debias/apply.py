"""One function of one variable, applied to whatever the caller holds: the same kind comes out.

numpy arrays and scalars, pandas Series, dask arrays and xarray DataArrays (which stay lazy and keep their
attributes). Floating types keep their type and are computed in float64; integers become float64.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sustain.debias.sample import read
from sustain.debias.table import Table
from sustain.errors import CalibrationError, SupportWarning
from sustain.stats.columns import matched_label

__all__ = ["EXPECTED_OUTSIDE", "apply_by_label", "apply_elementwise", "is_lazy", "warn_outside"]

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

EXPECTED_OUTSIDE = 0.02
"""Share of predictions beyond the support that passes without a warning: twice what the calibration has itself."""


def apply_elementwise(function: Function, values: Any, whole: bool = False) -> Any:
    """Apply `function` to every value.

    Parameters
    ----------
    function : callable
        Maps a one-dimensional float64 array to one of the same length.
    values : number, ndarray, list, pandas.Series, dask.array.Array or xarray.DataArray
        Of any shape. NaN is passed on to `function`.
    whole : bool
        Whether `function` must see all values at once, in their order; not for lazy arrays.

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
            kwargs={"function": function, "whole": whole},
            dask="parallelized",
            output_dtypes=[_result_type(values.dtype)],
            keep_attrs=True,
        )
    if pandas is not None and isinstance(values, pandas.Series):
        numbers = values.to_numpy(dtype=_result_type(values.dtype), na_value=np.nan)
        result = pandas.Series(_on_array(numbers, function, whole), index=values.index, name=values.name)
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
        return np.ma.array(_on_array(values.data, function, whole), mask=values.mask)
    result = _on_array(np.asarray(values), function, whole)
    return result if np.ndim(values) else result[()]


def apply_by_label(functions: Mapping[str, Function], values: Any, labels: Any) -> Any:
    """Apply to every value the function that its label names; same kind out.

    Parameters
    ----------
    functions : mapping of str to callable
        As `apply_elementwise` takes, by label.
    values : as for `apply_elementwise`
    labels : str or array_like of the shape of `values`
        One label for all values, or one for each; compared as `sustain.stats.columns` says. Lazy arrays take one.

    Raises
    ------
    CalibrationError
        When a label has no function, shapes or (among pandas objects) indexes differ, or labels are given one by one to
        a lazy array.
    """
    if np.ndim(labels) == 0:
        return apply_elementwise(_named(functions, labels), values)
    if is_lazy(values) or is_lazy(labels):
        raise CalibrationError(
            "strata: a lazy array takes one stratum for all its values. Correct each stratum by itself and combine "
            "them, for example with xarray.where."
        )
    read.require_same_index("strata", labels, "y_pred", values)
    if np.shape(labels) != np.shape(values):
        raise CalibrationError(
            f"strata: has shape {np.shape(labels)}, but y_pred has {np.shape(values)}. Pass one name, or one for each."
        )
    column = labels if np.ndim(labels) == 1 else np.asarray(labels).reshape(-1)
    codes, names = read.labels("strata", column)
    pieces = [_named(functions, name) for name in names]

    def function(x: Array) -> Array:
        out = np.empty(x.shape)
        for code, piece in enumerate(pieces):
            rows = np.flatnonzero(codes == code)
            out[rows] = piece(x[rows])
        return out

    return apply_elementwise(function, values, whole=True)


def _named(functions: Mapping[str, Function], label: Any) -> Function:
    """Get what belongs to a stratum; raises `CalibrationError` when there is no such stratum."""
    name = matched_label(functions, label)
    if name is None:
        known = ", ".join(functions) or "none: fit with strata=..."
        raise CalibrationError(f"strata: {str(label)!r} was not there at the fit; known strata: {known}.")
    return functions[name]


def warn_outside(y_pred: Any, support: tuple[float, float]) -> None:
    """Warn when more predictions than expected lie outside the support; lazy arrays are not looked at."""
    if is_lazy(y_pred):
        return
    values = y_pred.compressed() if isinstance(y_pred, np.ma.MaskedArray) else y_pred
    values = np.asarray(getattr(values, "values", values))
    if values.dtype.kind not in "fiu" or not values.size:
        return
    low, high = support
    outside = int(np.count_nonzero(values < low) + np.count_nonzero(values > high))
    if not outside:
        return
    seen = int(np.count_nonzero(values == values))
    if outside > EXPECTED_OUTSIDE * seen:
        warnings.warn(
            f"{outside / seen:.1%} of {seen} predictions lie outside [{low:.4g}, {high:.4g}], the support of the "
            "calibration. There the correction is a straight line that no label supports. Calibrate on rows "
            "with such predictions, or leave these places out.",
            SupportWarning,
            stacklevel=3,
        )


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


def _on_array(values: NDArray[Any], function: Function, whole: bool = False) -> NDArray[Any]:
    dtype = _result_type(values.dtype)
    flat = values.reshape(-1)
    if isinstance(function, Table):  # works in float64 by itself, a block at a time
        return function(flat.astype(dtype, copy=False)).reshape(values.shape)
    if whole or dtype == np.float64:
        return function(np.asarray(flat, dtype=np.float64)).astype(dtype, copy=False).reshape(values.shape)
    out = np.empty(flat.shape, dtype=dtype)
    step = 1 << 16  # small enough that the float64 copies stay in cache
    for begin in range(0, flat.size, step):
        out[begin : begin + step] = function(flat[begin : begin + step].astype(np.float64))
    return out.reshape(values.shape)
