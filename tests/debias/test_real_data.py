"""Reference values on real tables: every fold corrected by a calibration on all other folds."""

import numpy as np
import pytest

from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.stats.atoms import atoms
from tests.debias.samples import real

OTHERS = (  # predictions of night lights alone, where all dark places have one prediction; by table
    ("yeh_dhs_incountry.parquet", ()),
    ("mosaiks_mexico_hdi.parquet", ()),
    ("aiddata_ghana2014.parquet", ()),
    ("viirs_subnational_iwi.parquet", ()),
    ("yeh_lsms_ooc.parquet", ("p_nl",)),
    ("lsms_hist_ridge.parquet", ("p_ridge_nl_hist",)),
)

TABLES = [
    # table, predictions, folds, naive RMSE, (slope, RMSE) linear, (slope, RMSE, greatest change) published Tweedie
    ("yeh_dhs_incountry.parquet", "p_resnet_18_ms", "fold", 0.572, (1.002, 0.700), (0.952, 0.946, 16.35)),
    (
        "yeh_dhs_incountry.parquet",
        "p_resnet_18_msnl_concat",
        "fold",
        0.539,
        (1.002, 0.643),
        (0.956, 0.849, 8.45),
    ),
    (
        "aiddata_ghana2014.parquet",
        "p_rf_oof_spatial",
        "fold_spatial",
        0.440,
        (1.008, 0.488),
        (0.916, 0.484, 1.0),
    ),
]


@pytest.mark.parametrize(("table", "dark"), OTHERS)
def test_atoms_are_found_where_they_are(table, dark):
    """Nor are rounded indices atoms."""
    rows = real(table)
    columns = [name for name in rows if name.startswith(("p_", "y_"))]
    assert {name for name in columns if atoms(rows[name].dropna().to_numpy())} == set(dark)
    truth = rows["y_true"].dropna().to_numpy()
    assert not any(atoms(np.round(truth, decimals)) for decimals in (0, 1, 2))


def _columns(table, column, folds):
    rows = real(table).dropna(subset=["y_true", column])
    return rows[column].to_numpy(), rows["y_true"].to_numpy(), rows[folds].to_numpy()


def _figures(corrected, truth):
    slope = np.cov(corrected, truth)[0, 1] / truth.var(ddof=1)
    return slope, np.sqrt(np.mean((corrected - truth) ** 2)) / truth.std()


@pytest.mark.parametrize(("table", "column", "folds", "naive", "expected", "_"), TABLES)
def test_linear_is_the_inverted_regression(table, column, folds, naive, expected, _):
    x, y, fold = _columns(table, column, folds)
    corrected, direct = np.empty_like(x), np.empty_like(x)
    for name in np.unique(fold):
        out = fold == name
        calibration = LinearCalibration().fit(x[~out], y[~out])
        corrected[out] = calibration.transform(x[out], check_support=False)
        slope, intercept = np.polyfit(y[~out], x[~out], 1)
        direct[out] = (x[out] - intercept) / slope
    assert np.abs(corrected - direct).max() / y.std() < 1e-9
    assert _figures(x, y)[1] == pytest.approx(naive, abs=6e-4)
    assert _figures(corrected, y) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("table", "column", "folds", "_naive", "_linear", "expected"), TABLES)
def test_published_tweedie(table, column, folds, _naive, _linear, expected):
    x, y, fold = _columns(table, column, folds)
    formula, tabled, error = np.empty_like(x), np.empty_like(x), 0.0
    for name in np.unique(fold):
        out = fold == name
        calibration = TweedieCalibration("scott", recalibrate=False, monotone=False).fit(x[~out], y[~out])
        formula[out] = calibration.exact(x[out])
        tabled[out] = calibration.transform(x[out], check_support=False)
        error = max(error, calibration.table_error_)
    *figures, change = (*_figures(formula, y), np.abs(formula - x).max() / y.std())
    assert figures == pytest.approx(expected[:2], abs=6e-4)
    assert change == pytest.approx(expected[2], abs=0.02)
    # The table bounds its error where calibration rows lie; a fold's own extremes may lie beyond.
    inside = np.abs(tabled - formula) <= error + 1e-9 * y.std()
    assert inside.mean() > 0.9998


def test_published_tweedie_against_scipy():
    """The closed-form score is that of scipy's density, differenced as the published code does."""
    from scipy.stats import gaussian_kde

    rows = real("aiddata_ghana2014.parquet").dropna(subset=["y_true", "p_rf_oof_spatial"])
    x, y = rows["p_rf_oof_spatial"].to_numpy(), rows["y_true"].to_numpy()
    calibration = TweedieCalibration("scott", recalibrate=False, monotone=False).fit(x, y)
    density, step = gaussian_kde(x), 1e-5 * x.std()
    score = (density.logpdf(x + step) - density.logpdf(x - step)) / (2 * step)
    assert np.abs(calibration.exact(x) - (x - np.std(x - y) ** 2 * score)).max() / y.std() < 1e-5
