"""Rows belong together: by index where there is one, and never what lies under a mask."""

import numpy as np
import pandas as pd
import pytest

from sustain.debias import (
    ContrastFamily,
    LevelCalibration,
    LinearCalibration,
    TweedieCalibration,
    compare,
    diagnose,
)
from sustain.debias.judge.agreement import agreement
from sustain.debias.judge.cross_fit import cross_fit
from sustain.errors import CalibrationError
from tests.debias.samples import pairs

N = 300
EACH = [LinearCalibration, TweedieCalibration]


@pytest.fixture
def columns():
    x, y = pairs(N, seed=3)
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"x": x, "y": y, "w": rng.uniform(0.2, 3, N), "g": np.arange(N) // 10, "s": np.arange(N) % 2}
    )


def shuffled(column):
    return column.sample(frac=1, random_state=1)


@pytest.mark.parametrize("make", EACH)
@pytest.mark.parametrize(("argument", "column"), [("sample_weight", "w"), ("groups", "g"), ("strata", "s")])
def test_a_column_in_another_order_is_refused_and_not_paired_by_position(columns, make, argument, column):
    with pytest.raises(CalibrationError, match=f"{argument} are pandas objects with different indexes"):
        make().fit(columns.x, columns.y, **{argument: shuffled(columns[column])})


def test_a_shuffled_table_gives_the_same_fit(columns):
    kinds = {"sample_weight": "w", "groups": "g", "strata": "s"}
    other = shuffled(columns)
    fits = [
        LinearCalibration().fit(t.x, t.y, **{name: t[column] for name, column in kinds.items()})
        for t in (columns, other)
    ]
    np.testing.assert_allclose(fits[0].cov_, fits[1].cov_, rtol=1e-9)
    np.testing.assert_allclose(fits[0].transform(1.0), fits[1].transform(1.0), rtol=1e-12)


def test_an_index_that_repeats_is_no_obstacle(columns):
    again = columns.set_axis(np.zeros(N, dtype=int), axis=0)
    fit = LinearCalibration().fit(again.x, again.y, again.w)
    assert fit.transform(1.0) == LinearCalibration().fit(columns.x, columns.y, columns.w).transform(1.0)


def test_strata_in_another_order_are_refused_by_transform_and_influence(columns):
    fit = LinearCalibration().fit(columns.x, columns.y, strata=columns.s)
    for use in (fit.transform, fit.derivative):
        with pytest.raises(CalibrationError, match="strata are pandas objects"):
            use(columns.x, strata=shuffled(columns.s))


def test_the_rest_of_the_room_refuses_them_too(columns):
    x, y, g = columns.x, columns.y, shuffled(columns.g)
    design = ContrastFamily.one_against_rest("group", columns.g)
    calls = [
        lambda: LevelCalibration().fit(x, y, {"group": g}),
        lambda: LevelCalibration().fit(x, y, {"group": columns.g}, strata=shuffled(columns.s)),
        lambda: diagnose(x, y, treatment_like={"z": shuffled(columns.w)}),
        lambda: diagnose(x, y, levels={"group": g}),
        lambda: cross_fit(LinearCalibration(), x, y, g),
        lambda: compare(x, y, design=design, folds=g),
        lambda: agreement(y, {"x": shuffled(x)}),
    ]
    for call in calls:
        with pytest.raises(CalibrationError, match="different indexes"):
            call()


@pytest.mark.parametrize("which", ["y_pred", "y_true"])
def test_masked_rows_are_refused_at_the_fit(columns, which):
    values = {name: columns[column].to_numpy().copy() for name, column in (("y_pred", "x"), ("y_true", "y"))}
    values[which][7] = -9999.0
    values[which] = np.ma.masked_less(values[which], -100)
    with pytest.raises(CalibrationError, match=f"{which}: 1 of 300 values are masked"):
        LinearCalibration().fit(**values)


def test_a_mask_over_nothing_is_no_obstacle(columns):
    x = columns.x.to_numpy()
    plain = LinearCalibration().fit(x, columns.y.to_numpy())
    assert LinearCalibration().fit(np.ma.array(x), columns.y.to_numpy()).slope_ == plain.slope_


def test_masked_cells_are_not_counted_as_outside_the_support(columns, recwarn):
    fit = LinearCalibration().fit(columns.x.to_numpy(), columns.y.to_numpy())
    cells = np.ma.masked_less(np.append(columns.x.to_numpy(), np.full(50, -9999.0)), -100)
    assert np.ma.getmaskarray(fit.transform(cells)).sum() == 50
    assert not recwarn.list


@pytest.mark.parametrize("noise", [None, "much", [0.1, 0.2]])
def test_a_noise_variance_that_is_no_number_is_said(columns, noise):
    with pytest.raises(CalibrationError, match="target_noise_var"):
        LinearCalibration().fit(columns.x, columns.y, target_noise_var=noise)


def test_dates_are_no_predictions(columns):
    with pytest.raises(CalibrationError, match="y_pred: expected numbers, got datetime64"):
        LinearCalibration().fit(pd.date_range("2020", periods=N), columns.y.to_numpy())
