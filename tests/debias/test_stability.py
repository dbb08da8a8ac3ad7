"""Which assumption holds: both regressions against statsmodels, on any scale, and with an arm's own slope."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.debias import diagnose
from sustain.debias.diagnosis.stability import stability_of
from sustain.errors import CalibrationError, EffectError

N = 900


def arms(seed=0):
    rng = np.random.default_rng(seed)
    group = np.arange(N) // 15
    treated = (rng.random(N) < 0.4) * 1.0
    other = rng.normal(size=N)
    y = rng.normal(size=60)[group] + rng.normal(size=N) + 0.3 * treated + 0.2 * other
    return treated, (0.6 + 0.1 * treated) * y + 0.4 * rng.normal(size=N), y, other, group


@pytest.mark.parametrize("by_arm", [False, True])
def test_are_the_regressions_of_statsmodels(by_arm):
    treated, x, y, other, group = arms()
    found = stability_of(
        treated, x, y, group=group, covariates=other[:, None], covariate_names=("other",), slope_by_arm=by_arm
    )
    kwds = {"cov_type": "cluster", "cov_kwds": {"groups": group}, "use_t": True}
    truth = sm.OLS(y, sm.add_constant(np.column_stack([treated, x, other]))).fit(**kwds)
    centred = y - y.mean()
    given_truth = [treated, centred, *([treated * centred] if by_arm else []), other]
    prediction = sm.OLS(x, sm.add_constant(np.column_stack(given_truth))).fit(**kwds)
    assert found.truth_gap == pytest.approx(truth.params[1])
    assert found.truth_gap_std_error == pytest.approx(truth.bse[1])
    assert found.outcome_p == pytest.approx(truth.pvalues[1])
    assert found.prediction_gap == pytest.approx(prediction.params[1])
    assert found.prediction_gap_std_error == pytest.approx(prediction.bse[1])
    if by_arm:
        assert found.slope_gap == pytest.approx(prediction.params[3])
        assert found.slope_gap_std_error == pytest.approx(prediction.bse[3])
        both = prediction.f_test(np.eye(5)[[1, 3]])
        assert found.measurement_p == pytest.approx(float(both.pvalue))
    else:
        assert (found.slope_gap, found.slope_gap_std_error) == (None, None)
        assert found.measurement_p == pytest.approx(prediction.pvalues[1])


def test_weights_are_those_of_statsmodels():
    treated, x, y, _, _ = arms()
    weight = np.random.default_rng(1).uniform(0.2, 3, N)
    weight /= weight.mean()
    found = stability_of(treated, x, y, weight=weight)
    fitted = sm.WLS(x, sm.add_constant(np.column_stack([treated, y])), weights=weight).fit(cov_type="HC1")
    assert found.prediction_gap == pytest.approx(fitted.params[1])
    assert found.prediction_gap_std_error == pytest.approx(fitted.bse[1])


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


def test_noise_of_the_labels_is_taken_off():
    """At equal noisy truth predictions differ between arms whose truth differs, though not at equal truth."""
    rng = np.random.default_rng(2)
    treated = np.arange(40_000) % 2 * 1.0
    y = rng.normal(size=40_000) + treated
    x = 0.6 * y + 0.3 * rng.normal(size=40_000)
    label = y + rng.normal(scale=0.5**0.5, size=40_000)
    assert stability_of(treated, x, label).prediction_gap > 0.15
    for by_arm in (False, True):
        assert stability_of(treated, x, label, noise=0.5, slope_by_arm=by_arm).measurement_p > 0.05


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
