"""Agreement with a survey: against formulas and other libraries, then what must hold whatever the data."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import linregress
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from sustain.debias.judge.agreement import agreement, agreement_by_level, area_means, bias_by_tenth
from sustain.errors import CalibrationError, DataError


def sample(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=n)
    return truth, 0.2 + 0.7 * truth + rng.normal(scale=0.4, size=n)


def test_agreement_is_that_of_other_libraries() -> None:
    truth, estimate = sample()
    row = agreement(truth, {"x": estimate}).iloc[0]
    line = linregress(truth, estimate)
    assert row["method"] == "x"
    assert row["n"] == 400
    assert row["r2"] == pytest.approx(r2_score(truth, estimate))
    assert row["rmse"] == pytest.approx(root_mean_squared_error(truth, estimate))
    assert row["mae"] == pytest.approx(mean_absolute_error(truth, estimate))
    assert row["pearson_r2"] == pytest.approx(line.rvalue**2)
    assert row["slope"] == pytest.approx(line.slope)
    assert row["intercept"] == pytest.approx(line.intercept)
    assert row["bias"] == pytest.approx((estimate - truth).mean())
    assert row["sd_true"] == pytest.approx(truth.std())


def test_a_constant_estimate_explains_nothing() -> None:
    truth, _ = sample()
    row = agreement(truth, {"x": np.full(400, truth.mean())}).iloc[0]
    assert row["r2"] == pytest.approx(0)
    assert row["pearson_r2"] == 0
    assert row["slope"] == pytest.approx(0)


@given(arrays(float, 30, elements=st.floats(-5, 5)), st.floats(0.1, 3), st.floats(-2, 2))
def test_a_line_is_recovered_and_correlation_ignores_it(
    noise: np.ndarray, slope: float, shift: float
) -> None:
    truth = np.arange(30.0)
    estimate = truth + noise
    raw = agreement(truth, {"x": estimate}).iloc[0]
    bent = agreement(truth, {"x": shift + slope * estimate}).iloc[0]
    assert bent["slope"] == pytest.approx(slope * raw["slope"])
    assert bent["pearson_r2"] == pytest.approx(raw["pearson_r2"], abs=1e-9)


def test_tenths_are_of_equal_size_and_ordered() -> None:
    truth, estimate = sample(405)
    table = bias_by_tenth(truth, {"a": estimate, "b": truth})
    assert list(table["method"].unique()) == ["a", "b"]
    one = table[table["method"] == "a"]
    assert one["tenth"].tolist() == list(range(1, 11))
    assert one["n"].sum() == 405
    assert one["n"].max() - one["n"].min() <= 1
    assert one["mean_true"].is_monotonic_increasing
    assert (table.loc[table["method"] == "b", "bias"] == 0).all()
    by_estimate = bias_by_tenth(truth, {"a": estimate}, by=estimate)
    assert by_estimate["mean_estimate"].is_monotonic_increasing


def test_a_tenth_by_hand() -> None:
    truth = np.arange(20.0)
    estimate = truth + np.tile([1.0, 3.0], 10)
    first = bias_by_tenth(truth, {"x": estimate}).iloc[0]
    assert (first["n"], first["mean_true"], first["bias"]) == (2, 0.5, 2.0)
    assert first["std_error"] == pytest.approx(np.std([1, 3], ddof=1) / np.sqrt(2))


def test_ties_do_not_empty_a_tenth() -> None:
    table = bias_by_tenth(np.repeat([0.0, 1.0], 50), {"x": np.zeros(100)})
    assert table["n"].tolist() == [10] * 10


def test_area_means_by_hand() -> None:
    areas = ["b", "a", "b", "c"]
    means = area_means(areas, {"y": [1.0, 5.0, 3.0, 9.0]}, min_places=2)
    pd.testing.assert_frame_equal(
        means, pd.DataFrame({"area": ["b"], "n_places": [2], "y": [2.0]}), check_dtype=False
    )
    assert area_means(areas, {"y": [1.0, 5.0, 3.0, 9.0]})["area"].tolist() == ["a", "b", "c"]


def test_the_slope_differs_by_level_where_errors_do() -> None:
    rng = np.random.default_rng(0)
    area = np.repeat(np.arange(60), 20)
    between, within = rng.normal(size=60)[area], rng.normal(size=1200)
    truth = between + within
    estimate = 0.9 * between + 0.4 * within
    table = agreement_by_level(truth, {"x": estimate}, area).set_index("level")
    assert table.loc["area", "slope"] == pytest.approx(0.88, abs=0.03)
    assert 0.55 < table.loc["place", "slope"] < 0.75
    assert table.loc["area", "n"] == 60


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="without variation"):
        agreement([1.0, 1.0, 1.0], {"x": [1, 2, 3]})
    with pytest.raises(CalibrationError, match="x: has 2 values"):
        agreement([1.0, 2.0, 3.0], {"x": [1, 2]})
    with pytest.raises(CalibrationError, match="NaN"):
        agreement([1.0, 2.0, 3.0], {"x": [1, 2, np.nan]})
    with pytest.raises(DataError, match="too few for tenths"):
        bias_by_tenth(np.arange(19.0), {"x": np.arange(19.0)})
