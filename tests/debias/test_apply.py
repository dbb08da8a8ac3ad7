"""One input, same kind out."""

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.apply import is_lazy
from sustain.errors import CalibrationError, SupportWarning
from tests.debias.samples import pairs


@pytest.fixture(scope="module")
def calibration():
    return TweedieCalibration().fit(*pairs(400))


@pytest.fixture(scope="module")
def predictions():
    x, _ = pairs(400)
    x = x.reshape(20, 20).copy()
    x[3, 4] = np.nan
    return x


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_keeps_shape_type_and_nan(calibration, predictions, dtype):
    values = predictions.astype(dtype)
    corrected = calibration.transform(values)
    assert corrected.dtype == dtype
    assert corrected.shape == values.shape
    assert np.isnan(corrected[3, 4])
    assert np.isnan(corrected).sum() == 1
    exact = calibration.transform(values.astype(float))
    np.testing.assert_array_equal(corrected, exact.astype(dtype))


def test_non_contiguous_and_big_endian(calibration, predictions):
    expected = calibration.transform(predictions)
    np.testing.assert_array_equal(calibration.transform(predictions.T), expected.T)
    np.testing.assert_array_equal(calibration.transform(predictions[::2, ::-1]), expected[::2, ::-1])
    swapped = predictions.astype(">f4")
    np.testing.assert_array_equal(
        calibration.transform(swapped), calibration.transform(predictions.astype("f4"))
    )


def test_numbers_lists_integers_empty_and_masked(calibration):
    assert isinstance(calibration.transform(0.5), float)
    assert calibration.transform([0.5, 0.7]).shape == (2,)
    assert calibration.transform(np.array([0, 1])).dtype == np.float64
    assert calibration.transform(np.array([], dtype="f4")).shape == (0,)
    masked = calibration.transform(np.ma.array([0.5, 0.9], mask=[False, True]))
    assert masked.mask.tolist() == [False, True]


def test_input_is_left_alone(calibration, predictions):
    before = predictions.copy()
    calibration.transform(predictions)
    np.testing.assert_array_equal(predictions, before)


def test_pandas_keeps_index_name_and_missing(calibration):
    series = pd.Series([0.1, None, 0.3], index=["a", "b", "c"], name="wealth", dtype="float32")
    series.attrs["unit"] = "index"
    corrected = calibration.transform(series)
    assert corrected.index.equals(series.index)
    assert (corrected.name, corrected.dtype, corrected.attrs) == ("wealth", np.float32, {"unit": "index"})
    assert corrected.isna().tolist() == [False, True, False]
    nullable = calibration.transform(pd.Series([0.1, None], dtype="Float64"))
    assert nullable.isna().tolist() == [False, True]


def test_xarray_keeps_coordinates_and_attributes(calibration, predictions):
    array = xr.DataArray(
        predictions.astype("f4"),
        dims=("y", "x"),
        coords={"y": np.arange(20)},
        attrs={"units": "index"},
        name="w",
    )
    corrected = calibration.transform(array)
    assert corrected.attrs == {"units": "index"}
    assert (corrected.name, corrected.dtype, corrected.dims) == ("w", np.float32, ("y", "x"))
    np.testing.assert_array_equal(corrected.values, calibration.transform(array.values))


def test_dask_stays_lazy_and_equals_the_whole(calibration, predictions):
    chunked = xr.DataArray(predictions, dims=("y", "x"), attrs={"units": "index"}).chunk({"y": 7, "x": 9})
    assert is_lazy(chunked)
    corrected = calibration.transform(chunked)
    assert isinstance(corrected.data, dask.array.Array)
    assert corrected.data.chunks == chunked.data.chunks
    assert corrected.attrs == {"units": "index"}
    np.testing.assert_array_equal(corrected.compute().values, calibration.transform(predictions))
    bare = calibration.transform(chunked.data.astype("f4"))
    assert isinstance(bare, dask.array.Array)
    assert bare.compute().dtype == np.float32


def test_long_arrays_equal_their_pieces(calibration):
    x = np.random.default_rng(1).normal(size=100_003).astype("f4")
    whole = calibration.transform(x, check_support=False)
    pieces = [calibration.transform(part, check_support=False) for part in np.array_split(x, 17)]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_derivative_is_that_of_the_correction(calibration):
    low, high = calibration.support_
    x = np.linspace(low, high, 50)[1:-1]
    step = calibration.table_.grid.step
    difference = calibration.transform(x + step, check_support=False) - calibration.transform(
        x - step, check_support=False
    )
    np.testing.assert_allclose(calibration.derivative(x), difference / (2 * step), atol=0.15)


@pytest.mark.parametrize(
    "values",
    [
        pd.DataFrame({"a": [1.0], "b": [2.0]}),
        np.array(["a"]),
        np.array([True]),
        pd.Series(["a", "b"]),
        np.array([1j]),
    ],
    ids=["table", "text", "bool", "text column", "complex"],
)
def test_other_things_are_refused_by_name(calibration, values):
    with pytest.raises(CalibrationError, match="y_pred"):
        calibration.transform(values)


def test_support_warning_says_share_and_range():
    x, y = pairs(400)
    calibration = LinearCalibration().fit(x, y)
    with pytest.warns(SupportWarning, match=r"50\.0% of 2 predictions lie outside \["):
        calibration.transform(np.array([0.0, 100.0]))


def test_no_warning_for_the_calibration_rows_themselves(recwarn):
    x, y = pairs(2000)
    LinearCalibration().fit(x, y).transform(x)
    assert not recwarn.list


def test_unfitted_is_an_error():
    with pytest.raises(CalibrationError, match="not fitted"):
        LinearCalibration().transform(1.0)
