"""Which assumption holds: both regressions against statsmodels, on any scale; size and power, simulated and real."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.debias import diagnose
from sustain.debias.diagnosis.curves import Spline, knots_for
from sustain.debias.diagnosis.stability import stability_of
from sustain.errors import CalibrationError, EffectError
from tests.debias.samples import real

N = 900


def arms(seed=0):
    rng = np.random.default_rng(seed)
    group = np.arange(N) // 15
    treated = (rng.random(N) < 0.4) * 1.0
    other = rng.normal(size=N)
    y = rng.normal(size=60)[group] + rng.normal(size=N) + 0.3 * treated + 0.2 * other
    return treated, (0.6 + 0.1 * treated) * y + 0.4 * rng.normal(size=N), y, other, group


def test_are_the_regressions_of_statsmodels():
    treated, x, y, other, group = arms()
    names = {"covariates": other[:, None], "covariate_names": ("other",)}
    found = stability_of(treated, x, y, **names)
    for response, along, what in ((y, x, "truth"), (x, y, "prediction")):
        spline = Spline.of(along, knots_for(N, None))
        columns = [treated, treated * (along - along.mean()), other, spline(along)]
        fitted = sm.OLS(response, sm.add_constant(np.column_stack(columns))).fit(cov_type="HC2")
        for k, kind in ((1, "gap"), (2, "slope_gap")):
            assert getattr(found, f"{what}_{kind}") == pytest.approx(fitted.params[k])
            assert getattr(found, f"{what}_{kind}_std_error") == pytest.approx(fitted.bse[k])
    clustered = stability_of(treated, x, y, group=group, **names)
    assert clustered.truth_gap_std_error != pytest.approx(found.truth_gap_std_error, rel=1e-3)


def bent(seed, n=400, shift=0.0, distance=False):
    """Predictions flatten where the truth is high or low, whatever the treatment: measurement stability holds."""
    rng = np.random.default_rng(seed)
    treatment = rng.normal(size=n) if distance else rng.permutation(n) % 2 * 1.0
    y = 0.7 * rng.normal(size=n) + 1.5 * treatment
    weight = rng.uniform(0.3, 2.0, n)
    x = np.tanh(y) + 0.15 * rng.normal(size=n)
    return treatment, x + shift * x.std() * treatment, y, weight / weight.mean()


@pytest.mark.parametrize("with_weights", [False, True])
def test_a_bent_curve_does_not_refute_measurement_stability(with_weights):
    """A straight line refutes in a third of these or more; a gap of 0.3 standard deviations is found."""
    curve = line = found = 0
    for seed in range(200):
        treated, x, y, weight = bent(seed)
        weight = weight if with_weights else np.ones(y.size)
        curve += stability_of(treated, x, y, weight=weight).measurement_p < 0.05
        straight = sm.WLS(x, sm.add_constant(np.column_stack([treated, y])), weights=weight)
        line += straight.fit(cov_type="HC1").pvalues[1] < 0.05
        treated, x, y, _ = bent(seed, shift=0.3)
        found += stability_of(treated, x, y, weight=weight).measurement_p < 0.05
    assert curve <= 16
    assert line > 60
    assert found > 180


def test_a_treatment_may_be_any_number():
    """Size, and how much of a gap of 0.1 standard deviations a unit is found."""
    refuted = [stability_of(*bent(seed, distance=True)[:3]).measurement_p < 0.05 for seed in range(200)]
    assert np.mean(refuted) <= 0.08
    distance, x, y, _ = bent(0, distance=True, n=4000, shift=0.1)
    found = stability_of(distance, x, y)
    assert found.measurement_p < 1e-6
    assert found.prediction_gap == pytest.approx(0.1 * np.tanh(y).std(), rel=0.2)
    assert stability_of(distance / 1000, x, y).prediction_gap == pytest.approx(1000 * found.prediction_gap)
    assert stability_of(distance + 50, x, y).measurement_p == pytest.approx(found.measurement_p, rel=1e-4)


def test_donors_of_a_real_table():
    """Arms draw real places at equal truth, with sampling weights: measurement stability holds by construction."""
    survey = real("yeh_dhs_incountry.parquet")
    refuted = draws = 0
    for country in ("togo", "senegal", "nigeria", "malawi"):
        rows = survey[survey["country"] == country].sort_values("y_true", ignore_index=True)
        truth, predicted = rows["y_true"].to_numpy(), rows["p_resnet_18_msnl_concat"].to_numpy()
        able = np.flatnonzero(truth + 0.5 < np.quantile(truth, 0.98))
        for seed in range(50):
            rng = np.random.default_rng(seed)
            treated = rng.permutation(200) % 2 * 1.0
            place = np.searchsorted(truth, rng.choice(truth[able], 200) + 0.5 * treated)
            place = np.clip(place + rng.integers(-3, 4, 200), 0, truth.size - 1)
            code = np.unique(place, return_inverse=True)[1]
            weight = rng.uniform(0.5, 2.0, 200)
            found = stability_of(treated, predicted[place], truth[place], weight=weight, group=code)
            refuted, draws = refuted + (found.measurement_p < 0.05), draws + 1
    assert draws == 200
    assert refuted <= 16


@settings(max_examples=20, deadline=None)
@given(
    scale=st.floats(-12, 13).map(lambda v: 10.0**v),
    offset=st.floats(-1e4, 1e4),
    noise=st.sampled_from([0.0, 0.1]),
)
def test_units_and_offsets_pass_through(scale, offset, noise):
    """Predictions and labels of 3e13 +- 1e13 say what those of 3 +- 1 say."""
    treated, x, y, _, group = arms()
    fields = ("truth_gap", "truth_gap_std_error", "prediction_gap", "prediction_gap_std_error")
    before = stability_of(treated, x, y, group=group, noise=noise)
    after = stability_of(
        treated, scale * (x + offset), scale * (y + offset), group=group, noise=noise * scale**2
    )
    for name in fields:
        assert getattr(after, name) / scale == pytest.approx(getattr(before, name), rel=1e-6, abs=1e-8)
    assert after.outcome_p == pytest.approx(before.outcome_p, rel=1e-5)
    assert after.measurement_p == pytest.approx(before.measurement_p, rel=1e-5)


@pytest.mark.parametrize("distance", [False, True])
def test_noise_of_the_labels_is_taken_off(distance):
    """At equal noisy truth predictions differ with what the truth differs with, though not at equal truth."""
    ignored = known = 0
    for seed in range(16):
        treatment, x, y, weight = bent(seed, distance=distance)
        label = y + np.random.default_rng([seed, 1]).normal(scale=0.4**0.5, size=y.size)
        ignored += stability_of(treatment, x, label, weight=weight).measurement_p < 0.05
        known += stability_of(treatment, x, label, weight=weight, noise=0.4).measurement_p < 0.05
    assert ignored > 13
    assert known <= 3


def test_weights_of_the_unfolding_are_rows():
    """Noise and a weight of two: the gap of a row that came twice."""
    treated, x, y, _ = bent(3, n=900)
    label = y + np.random.default_rng(5).normal(scale=0.3, size=y.size)
    twice = np.arange(y.size) % 3 == 0
    weight = np.where(twice, 2.0, 1.0)
    again = np.concatenate([np.arange(y.size), np.flatnonzero(twice)])
    found = stability_of(treated, x, label, weight=weight, noise=0.09)
    listed = stability_of(treated[again], x[again], label[again], noise=0.09)
    assert found.prediction_gap == pytest.approx(
        listed.prediction_gap, abs=0.1 * found.prediction_gap_std_error
    )


def test_diagnose_takes_the_same_test():
    treated, x, y, _, group = arms()
    found = diagnose(x, y, groups=group, treatment_like={"t": treated}).stability["t"]
    expected = stability_of(treated, x, y, group=np.unique(group.astype(str), return_inverse=True)[1])
    assert found.truth_gap == pytest.approx(expected.truth_gap)
    assert found.measurement_p == pytest.approx(expected.measurement_p)


def test_what_cannot_be_tested_is_said():
    treated, x, y, _, _ = arms()
    exact = stability_of(treated, 2 * y + 1, y)
    assert np.isnan(exact.outcome_p)
    assert np.isnan(exact.measurement_p)
    with pytest.raises(EffectError, match="again is constant or a linear combination"):
        stability_of(
            treated, x, y, covariates=treated[:, None], covariate_names=("again",), error=EffectError
        )
    with pytest.raises(CalibrationError, match="target_noise_var: 9 is not below"):
        stability_of(treated, x, y, noise=9.0)
