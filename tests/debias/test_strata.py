"""Corrections within strata: right where the pooled one fails, humble where rows are few."""

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sustain.debias import LinearCalibration, TweedieCalibration, build_card
from sustain.errors import CalibrationError, CardError, SupportWarning, WeakCalibrationWarning
from tests.debias.samples import pairs, real

ALL = [LinearCalibration(), TweedieCalibration()]
each = pytest.mark.parametrize("calibration", ALL, ids=lambda c: c.method)


def _two_slopes(n=1200, seed=0, share_small=0.5):
    rng = np.random.default_rng(seed)
    small = rng.random(n) < share_small
    truth = rng.normal(size=n) + 1.5 * small
    slope = np.where(small, 0.4, 0.8)
    predicted = 0.2 * small + slope * truth + rng.normal(scale=0.3, size=n)
    return predicted, truth, np.where(small, "town", "country")


def _fresh(calibration):
    return type(calibration)(**calibration.get_params())


@each
def test_own_slope_within_each_stratum(calibration):
    x, y, stratum = _two_slopes()
    fitted = _fresh(calibration).fit(x, y, strata=stratum)
    for name in ("town", "country"):
        inside = stratum == name
        corrected = fitted.transform(x[inside], strata=name, check_support=False)
        assert np.polyfit(y[inside], corrected, 1)[0] == pytest.approx(1.0, abs=0.06)
        assert corrected.mean() == pytest.approx(y[inside].mean(), abs=0.05)
        pooled = fitted.transform(x[inside], check_support=False)
        assert abs(np.polyfit(y[inside], pooled, 1)[0] - 1) > 0.1


@each
def test_pooled_correction_is_untouched_by_strata(calibration):
    x, y, stratum = _two_slopes()
    with_strata = _fresh(calibration).fit(x, y, strata=stratum)
    np.testing.assert_array_equal(with_strata.transform(x), _fresh(calibration).fit(x, y).transform(x))


def test_small_strata_are_drawn_to_the_pool():
    """Many strata alike but for sampling: little weight on any; the fewer the rows the less."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"s{k:02d}" for k in range(20)], [25] * 10 + [100] * 10)
    truth = rng.normal(size=names.size)
    predicted = 0.6 * truth + rng.normal(scale=0.5, size=names.size)
    fits = LinearCalibration().fit(predicted, truth, strata=names).strata_
    weights = [fit.weight for fit in fits.values() if fit.own is not None]
    assert np.mean(weights) < 0.35
    shifted = predicted + np.repeat(rng.normal(scale=0.4, size=20), [25] * 10 + [100] * 10)
    apart = LinearCalibration().fit(shifted, truth, strata=names).strata_
    small = [fit.weight for fit in apart.values() if fit.n == 25 and fit.own is not None]
    large = [fit.weight for fit in apart.values() if fit.n == 100]
    assert np.mean(small) < np.mean(large)
    assert np.mean(large) > 0.6


def test_shrinking_beats_both_ends():
    """Over strata with true differences, the weighed slope is nearer the truth than own or pooled."""
    errors = {"own": [], "pooled": [], "weighed": []}
    for seed in range(15):
        rng = np.random.default_rng(seed)
        slopes = 0.6 + 0.08 * rng.normal(size=12)
        code = np.repeat(np.arange(12), 40)
        truth = rng.normal(size=code.size)
        predicted = slopes[code] * truth + rng.normal(scale=0.45, size=code.size)
        fitted = LinearCalibration().fit(predicted, truth, strata=code)
        for k in range(12):
            fit = fitted.strata_[str(k)]
            errors["own"].append(1 / fit.own.slope_ - 1 / slopes[k])
            errors["pooled"].append(1 / fitted.slope_ - 1 / slopes[k])
            errors["weighed"].append(float(np.diff(fit.table(np.array([0.0, 1.0])))[0]) - 1 / slopes[k])
    rms = {name: np.sqrt(np.mean(np.square(values))) for name, values in errors.items()}
    assert rms["weighed"] < min(rms["own"], rms["pooled"])


def test_a_stratum_that_cannot_carry_one_gets_the_pooled():
    x, y = pairs(300)
    names = np.where(np.arange(300) < 10, "few", "rest")
    with pytest.warns(
        WeakCalibrationWarning, match=r"Stratum 'few' \(10 pairs\) gets the pooled correction: .*20"
    ):
        fitted = LinearCalibration().fit(x, y, strata=names)
    assert fitted.strata_["few"].weight == 0
    np.testing.assert_allclose(fitted.transform(x, strata="few"), fitted.transform(x), atol=1e-12)
    groups = np.where(names == "rest", np.arange(300) // 20, 99)
    names[:60] = "one group"
    groups[:60] = 99
    with pytest.warns(WeakCalibrationWarning, match="one group"):
        LinearCalibration().fit(x, y, groups=groups, strata=names)


def test_label_by_label_and_kind_by_kind():
    x, y, stratum = _two_slopes(400)
    fitted = TweedieCalibration().fit(x, y, strata=stratum)
    mixed = fitted.transform(x, strata=stratum)
    for name in ("town", "country"):
        inside = stratum == name
        expected = fitted.transform(x[inside], strata=name, check_support=False)
        np.testing.assert_array_equal(mixed[inside], expected)
        np.testing.assert_array_equal(
            fitted.derivative(x, strata=stratum)[inside], fitted.derivative(x[inside], strata=name)
        )
    small = fitted.transform(x.astype("f4").reshape(20, 20), strata=stratum.reshape(20, 20))
    assert (small.dtype, small.shape) == (np.float32, (20, 20))
    series = pd.Series(x, index=np.arange(400) + 7)
    corrected = fitted.transform(series, strata=pd.Series(stratum, index=series.index))
    assert corrected.index.equals(series.index)
    np.testing.assert_array_equal(corrected.to_numpy(), mixed)
    array = xr.DataArray(x, dims="place", attrs={"units": "index"})
    assert fitted.transform(array, strata=stratum).attrs == {"units": "index"}
    lazy = fitted.transform(array.chunk({"place": 100}), strata="town")
    assert isinstance(lazy.data, dask.array.Array)


@pytest.mark.parametrize(
    ("strata", "message"),
    [
        ("sea", r"'sea' was not there at the fit; known strata: country, town"),
        (["town"] * 3, r"has shape \(3,\), but y_pred has \(400,\)"),
    ],
)
def test_unknown_strata_are_named(strata, message):
    x, y, stratum = _two_slopes(400)
    fitted = LinearCalibration().fit(x, y, strata=stratum)
    with pytest.raises(CalibrationError, match=message):
        fitted.transform(x, strata=strata)
    with pytest.raises(CalibrationError, match="known strata: none"):
        LinearCalibration().fit(x, y).transform(x, strata="town")
    with pytest.raises(CalibrationError, match="one stratum for all"):
        fitted.transform(dask.array.from_array(x, chunks=100), strata=stratum)


def test_card_carries_strata():
    x, y, stratum = _two_slopes(600)
    groups = np.arange(600) // 5
    card = build_card(
        x,
        y,
        groups=groups,
        strata=stratum,
        methods=("linear", "tweedie"),
        target={"name": "wealth", "unit": "index"},
        predictor="m",
        n_boot=60,
    )
    assert len(card.to_json()) < 200_000
    at = np.linspace(*card.support_of("town"), 30)
    assert card.support_of("town") != card.support
    for calibration in ALL:
        own = _fresh(calibration).fit(x, y, groups=groups, strata=stratum)
        method = calibration.method
        np.testing.assert_allclose(
            card.transform(at, method, stratum="town", check_support=False),
            own.transform(at, strata="town", check_support=False),
            atol=0.01,
        )
        draws = card.draws(method, "town")(at)
        assert draws.shape == (60, 30)
        spread = np.abs(draws.mean(axis=0) - card.transform(at, method, stratum="town"))
        assert (spread < 3 * draws.std(axis=0) + 0.02).all()
        assert card.standard_error(at, method, "town").shape == (30,)
    np.testing.assert_array_equal(card.transform(at, "none", stratum="town"), at)
    with pytest.raises(
        CardError, match=r"'sea' is not in this card's linear correction; it has country, town"
    ):
        card.transform(at, stratum="sea")


def test_real_strata_recover_what_the_pool_does_not():
    """Slope of corrected on true wealth among rural and urban clusters of held-out folds."""
    rows = real("yeh_dhs_incountry.parquet")
    x, y = rows["p_resnet_18_msnl_concat"].to_numpy(), rows["y_true"].to_numpy()
    urban, held_out = rows["urban"].to_numpy(), rows["fold"].to_numpy() == "A"
    fitted = LinearCalibration().fit(x[~held_out], y[~held_out], strata=urban[~held_out])
    for code in (0, 1):
        rows_in = held_out & (urban == code)
        own = fitted.transform(x[rows_in], strata=str(code), check_support=False)
        pooled = fitted.transform(x[rows_in], check_support=False)
        assert np.polyfit(y[rows_in], own, 1)[0] == pytest.approx(1.0, abs=0.12)
        assert np.polyfit(y[rows_in], pooled, 1)[0] < 0.8


@pytest.mark.parametrize("method", ["none", "linear", "tweedie"])
def test_a_stratum_with_the_pooled_correction_is_in_the_card_as_any_other(method):
    """Support and noise too are those of all rows, and its error is the pooled one."""
    x, y = pairs(300)
    names = np.where(np.arange(300) < 10, "few", np.where(np.arange(300) % 2, "odd", "even"))
    with pytest.warns(WeakCalibrationWarning, match="gets the pooled"):
        card = build_card(
            x,
            y,
            strata=names,
            target={"name": "w", "unit": "i"},
            predictor="m",
            methods=["linear", "tweedie"],
            n_boot=30,
        )
    assert [item.name for item in card.strata] == ["even", "odd"]
    assert card.stratum_names == ("even", "odd", "few")
    at = np.linspace(*card.support, 11)
    for ask in (card.transform, card.derivative, card.standard_error):
        np.testing.assert_allclose(
            ask(at, method, stratum="few"), ask(at, method), rtol=1e-3
        )  # stored rounded
    assert card.support_of("few") == card.support != card.support_of("odd")
    with pytest.warns(SupportWarning):
        card.transform(at + 10, method if method != "none" else "linear", stratum="few")
    with pytest.raises(CardError, match="it has even, odd, few"):
        card.support_of("sea")
