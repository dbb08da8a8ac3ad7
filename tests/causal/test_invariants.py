"""What no trial's effect may depend on: units, the order of rows, the scale of weights, which arm is called 1."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sustain.causal import estimate_effect

DESIGNS = {
    "difference": {},
    "ols": {"estimator": "ols", "covariates": ["x", "kind"]},
    "absorbed": {"estimator": "ols", "covariates": ["x"], "fixed_effects": ["region", "wave"]},
    "ipw": {"estimator": "ipw", "covariates": ["x"]},
    "iv": {"estimator": "iv", "covariates": ["x"], "instrument": "offer"},
    "did": {"estimator": "did", "unit": "village", "time": "wave", "treatment": "status"},
}
VCOVS = {
    "HC1": "HC1",
    "CRV1": {"CRV1": "region"},
    "CR2": {"CR2": "region"},
    "conley": {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 60}},
}
CASES = [
    pytest.param(design, vcov, id=f"{name}-{kind}")
    for name, design in DESIGNS.items()
    for kind, vcov in VCOVS.items()
    if kind != "CR2" or name in ("difference", "ols", "did")
]
each = pytest.mark.parametrize(("design", "vcov"), CASES)
few = settings(max_examples=3, deadline=None)
seeds = st.integers(0, 2**32 - 1)
N = 240


def make_trial(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    village, wave, x = np.arange(N) // 4, np.arange(N) % 4, rng.normal(size=N)
    offer = rng.integers(0, 2, N)
    treated = (offer + 0.5 * x + rng.normal(size=N) > 0.5).astype(int)
    data = {
        "wealth": 0.5 * treated + x + rng.normal(size=N),
        "treated": treated,
        "status": ((wave >= 2) & (village % 2 == 0)).astype(int),
        "x": x,
        "kind": rng.choice(["a", "b", "c"], N),
        "offer": offer,
        "village": village,
        "wave": wave,
        "region": village % 15,
        "lat": rng.uniform(0, 5, N),
        "lon": rng.uniform(0, 5, N),
        "w": rng.uniform(0.2, 3.0, N),
    }
    return pd.DataFrame(data)


def effect_of(data: pd.DataFrame, design: dict, vcov: object) -> np.ndarray:
    """Estimate, standard error and degrees of freedom."""
    found = estimate_effect(
        data, **{"outcome": "wealth", "treatment": "treated"} | design, weights="w", vcov=vcov
    )
    return np.array([found.estimate, found.std_error, found.df])


@each
@few
@given(seed=seeds, scale=st.floats(1e-3, 1e4), shift=st.floats(-1e4, 1e4))
def test_unit_of_the_outcome(design, vcov, seed, scale, shift):
    data = make_trial(seed)
    plain = effect_of(data, design, vcov)
    other = effect_of(data.assign(wealth=scale * data.wealth + shift), design, vcov)
    np.testing.assert_allclose(other, plain * [scale, scale, 1], rtol=1e-6, atol=1e-9 * (abs(shift) + scale))


@each
@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_scale_of_weights_and_of_covariates(design, vcov, seed, scale):
    data = make_trial(seed)
    other = data.assign(w=scale * data.w, x=3 - scale * data.x)
    np.testing.assert_allclose(
        effect_of(other, design, vcov), effect_of(data, design, vcov), rtol=1e-6, atol=1e-9
    )


@each
@few
@given(seed=seeds)
def test_order_of_rows_and_names_of_groups(design, vcov, seed):
    data = make_trial(seed)
    other = data.sample(frac=1, random_state=seed)
    other["region"] = "r" + (100 - other.region).astype(str)
    np.testing.assert_allclose(
        effect_of(other, design, vcov), effect_of(data, design, vcov), rtol=1e-7, atol=1e-10
    )


@each
@few
@given(seed=seeds)
def test_which_arm_is_called_treated(design, vcov, seed):
    data = make_trial(seed)
    other = data.assign(treated=1 - data.treated, status=1 - data.status)
    np.testing.assert_allclose(
        effect_of(other, design, vcov), effect_of(data, design, vcov) * [-1, 1, 1], rtol=1e-6, atol=1e-9
    )


@each
@few
@given(seed=seeds)
def test_a_weight_of_two_is_two_units_to_the_estimate_and_to_clusters(design, vcov, seed):
    """Not to HC1, for which two units are two draws; clusters and neighbours see the same sums."""
    data = make_trial(seed)
    times = np.random.default_rng(seed).integers(1, 4, N)
    if design.get("estimator") == "did":
        times = times[data.village]  # a panel: whole villages, each under a name of its own
    rows = np.repeat(np.arange(N), times)
    copy = np.concatenate([np.arange(k) for k in times])
    copies = data.iloc[rows].assign(village=data.village.to_numpy()[rows] * 10 + copy)
    weighted = effect_of(data.assign(w=data.w * times), design, vcov)
    repeated = effect_of(copies, design, vcov)
    np.testing.assert_allclose(repeated[0], weighted[0], rtol=1e-7, atol=1e-10)
    if "CRV1" in vcov or "conley" in vcov:
        # But for the small-sample factor, which counts rows.
        np.testing.assert_allclose(repeated[1], weighted[1], rtol=0.08)


@each
@few
@given(seed=seeds)
def test_rows_of_no_weight_are_absent(design, vcov, seed):
    data = make_trial(seed)
    gone = data.village % 6 == 5
    found = effect_of(data.assign(w=data.w.where(~gone, 0.0)), design, vcov)
    np.testing.assert_allclose(found, effect_of(data[~gone], design, vcov), rtol=1e-9)
