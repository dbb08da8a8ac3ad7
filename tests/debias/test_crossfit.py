"""Cross-fitting: the same as doing it by hand, and no fold sees its own labels."""

import numpy as np
import pytest

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.judge.cross_fit import cross_fit, cross_fit_models, model_table
from sustain.errors import CalibrationError


def sample(n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=n)
    return 0.1 + 0.7 * truth + rng.normal(scale=0.4, size=n), truth, np.repeat(["a", "b", "c"], n // 3)


def test_it_is_an_inverted_regression_on_the_other_folds() -> None:
    x, y, folds = sample()
    corrected = cross_fit(LinearCalibration(), x, y, folds)
    for fold in "abc":
        out = folds == fold
        slope, intercept = np.polyfit(y[~out], x[~out], 1)
        np.testing.assert_allclose(corrected[out], (x[out] - intercept) / slope, atol=1e-9)


@pytest.mark.parametrize(
    "calibration", [LinearCalibration(), TweedieCalibration()], ids=["linear", "tweedie"]
)
def test_labels_of_a_fold_do_not_reach_its_own_correction(calibration: LinearCalibration) -> None:
    x, y, folds = sample()
    before = cross_fit(calibration, x, y, folds)
    inside = folds == "b"
    changed = cross_fit(calibration, x, np.where(inside, 3 * y + 1, y), folds)
    np.testing.assert_array_equal(before[inside], changed[inside])
    assert (before[~inside] != changed[~inside]).all()
    assert not hasattr(calibration, "table_")  # the caller's object is left as it was


def test_parameters_are_those_of_the_calibration() -> None:
    x, y, folds = sample()
    flat = cross_fit(TweedieCalibration(score="kde", bandwidth=5.0), x, y, folds)
    sharp = cross_fit(TweedieCalibration(score="kde", bandwidth=0.2), x, y, folds)
    assert np.abs(flat - sharp).max() > 0.01


def test_models_and_their_table() -> None:
    x, y, folds = sample()
    estimates = cross_fit_models({"one": x, "two": x / 2}, y, folds, {"linear": LinearCalibration()})
    assert list(estimates) == [("one", "none"), ("one", "linear"), ("two", "none"), ("two", "linear")]
    np.testing.assert_allclose(estimates["one", "linear"], estimates["two", "linear"], atol=1e-9)
    table = model_table(estimates, y).set_index(["model", "method"])
    assert table.loc[("one", "none"), "max_change"] == 0
    assert table.loc[("two", "none"), "slope"] == pytest.approx(table.loc[("one", "none"), "slope"] / 2)
    assert table.loc[("one", "linear"), "slope"] == pytest.approx(1, abs=0.02)
    expected = np.abs(estimates["one", "linear"] - x).max()
    assert table.loc[("one", "linear"), "max_change"] == pytest.approx(expected)


@pytest.mark.parametrize("folds", [["a"] * 600, ["a", "b"]])
def test_folds_must_be_several_and_one_a_row(folds: list[str]) -> None:
    x, y, _ = sample()
    with pytest.raises(CalibrationError, match="folds"):
        cross_fit(LinearCalibration(), x, y, folds)
