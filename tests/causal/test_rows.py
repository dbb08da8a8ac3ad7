"""Units and their columns belong together, and a unit without a cluster is not in one cluster with all others."""

import numpy as np
import pandas as pd
import pytest

from sustain.causal import (
    cross_ppi_effect,
    estimate_effect,
    ppi_effect,
    ppi_mean,
    ppi_ols,
    predict_then_debias,
    stability_test,
    transport_checks,
)
from sustain.causal.labels.predict_debias import least_squares
from sustain.debias import build_card
from sustain.errors import EffectError

N = 300


@pytest.fixture
def trial():
    rng = np.random.default_rng(0)
    treated = rng.integers(0, 2, N)
    truth = rng.normal(size=N) + 0.5 * treated
    return pd.DataFrame(
        {
            "wealth": 0.6 * truth + 0.3 * rng.normal(size=N),
            "treated": treated,
            "label": np.where(rng.uniform(size=N) < 0.4, truth, np.nan),
            "z": rng.normal(size=N),
            "w": rng.uniform(0.2, 3, N),
            "cluster": rng.integers(0, 30, N).astype(float),
        }
    )


COLUMNS = {"label": "label", "prediction": "wealth", "treatment": "treated"}


def test_weights_in_another_order_are_refused(trial):
    arguments = {"outcome": "wealth", "treatment": "treated"}
    with pytest.raises(EffectError, match="data and weights are pandas objects with different indexes"):
        estimate_effect(trial, **arguments, weights=trial.w.sample(frac=1, random_state=0))
    same = [estimate_effect(trial, **arguments, weights=w) for w in ("w", trial.w, trial.w.to_numpy())]
    assert len({effect.estimate for effect in same}) == 1


def test_labels_and_predictions_in_another_order_are_refused(trial):
    known = trial.label.notna()
    with pytest.raises(EffectError, match="different indexes"):
        ppi_mean(trial.label[known], trial.wealth[known].sample(frac=1, random_state=0), trial.wealth[~known])


def test_units_without_a_cluster_are_refused_everywhere(trial):
    trial.loc[:49, "cluster"] = np.nan
    known = trial.label.notna()
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=200)
    card = build_card(
        predicted,
        predicted + rng.normal(size=200),
        target={"name": "w", "unit": "i"},
        predictor="m",
        n_boot=40,
    )
    calls = [
        lambda: ppi_effect(trial, **COLUMNS, clusters="cluster"),
        lambda: stability_test(trial, **COLUMNS, calibration=card, clusters="cluster"),
        lambda: cross_ppi_effect(
            trial, label="label", features=["wealth"], treatment="treated", clusters="cluster"
        ),
        lambda: predict_then_debias(
            trial, least_squares("label", []), predicted={"label": "wealth"}, clusters="cluster"
        ),
        lambda: ppi_mean(
            trial.label[known],
            trial.wealth[known],
            trial.wealth[~known],
            clusters=trial.cluster[known],
            clusters_unlabelled=trial.cluster[~known],
        ),
    ]
    for call in calls:
        with pytest.raises(EffectError, match="units have no cluster"):
            call()


def test_clusters_of_another_length_are_said(trial):
    known = trial.label.notna()
    with pytest.raises(EffectError, match=r"clusters: got shape \(\d+,\), expected"):
        ppi_mean(
            trial.label[known],
            trial.wealth[known],
            trial.wealth[~known],
            clusters=trial.cluster[known][:-1],
            clusters_unlabelled=trial.cluster[~known],
        )


@pytest.mark.parametrize("column", ["label", "wealth", "treated"])
def test_text_where_numbers_belong_is_said(trial, column):
    with pytest.raises(EffectError, match=f"column '{column}' is .*, expected numbers"):
        ppi_effect(trial.assign(**{column: "much"}), **COLUMNS)


def test_dependent_regressors_are_said(trial):
    known = trial.label.notna().to_numpy()
    x = np.column_stack([np.ones(N), trial.z, 2 * trial.z])
    with pytest.raises(EffectError, match="singular design"):
        ppi_ols(x[known], trial.label[known], trial.wealth[known], x[~known], trial.wealth[~known])


def test_nothing_that_scatters_has_no_p_value():
    found = ppi_mean(np.ones(10), np.ones(10), np.ones(10))
    assert found.pvalue() == 0.0
    assert np.isnan(found.pvalue(null=1.0))


def test_cross_prediction_does_not_depend_on_the_units_of_the_features(trial):
    arguments = {"label": "label", "features": ["wealth", "z"], "treatment": "treated"}
    plain = cross_ppi_effect(trial, **arguments)
    other = cross_ppi_effect(trial.assign(wealth=1e-4 * trial.wealth, z=1e5 * trial.z + 3), **arguments)
    assert other.estimate == pytest.approx(plain.estimate, rel=1e-6)
    assert other.std_error == pytest.approx(plain.std_error, rel=1e-6)


def test_a_naive_effect_is_not_worth_fewer_units_than_it_has(trial):
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=200)
    about = {"target": {"name": "w", "unit": "i"}, "predictor": "m", "n_boot": 40}
    card = build_card(predicted, predicted + rng.normal(size=200), **about)
    arguments = {"outcome": "wealth", "treatment": "treated", "calibration": card}
    for assumption, worth in (("outcome", False), ("measurement", True), ("bracket", True)):
        effect = estimate_effect(trial, **arguments, assumption=assumption)
        assert ("surveyed units" in effect.summary()) is worth
        assert np.isnan(effect.n_effective) is not worth


def test_every_note_on_outcome_stability_says_that_predictions_are_off_in_scale(trial):
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=400)
    about = {"target": {"name": "w", "unit": "i"}, "predictor": "m", "n_boot": 40}
    card = build_card(predicted, 1.5 * predicted + 0.5 * rng.normal(size=400), **about)
    arguments = {"outcome": "wealth", "treatment": "treated", "calibration": card}
    for assumption, method in (("outcome", None), ("bracket", None), (None, None), (None, "none")):
        effect = estimate_effect(trial, **arguments, assumption=assumption, method=method)
        said = " ".join(note for note in effect.notes if note.kind == "assumption")
        assert "under outcome stability the effect would be that many times the naive one" in said


def test_clustered_labels_have_the_degrees_of_freedom_of_their_clusters(trial):
    clusters = np.arange(N) % 20
    few = trial.assign(cluster=clusters, label=trial.label.where(clusters < 6))
    found = ppi_effect(few, **COLUMNS, clusters="cluster")
    assert found.df == 5
    low, high = found.conf_int()
    assert (high - low) / 2 / found.std_error == pytest.approx(2.570582, abs=1e-6)
    assert found.conf_int(alternative="larger")[0] == pytest.approx(found.conf_int(0.9)[0])
    assert found.pvalue(found.conf_int()[0]) == pytest.approx(0.05)
    assert found.pvalue(found.conf_int(alternative="larger")[0], "larger") == pytest.approx(0.05)
    assert np.isinf(ppi_effect(few, **COLUMNS).df)
    resampled = predict_then_debias(
        few, least_squares("label", []), predicted={"label": "wealth"}, clusters="cluster", n_boot=50
    )
    low, high = resampled.conf_int()[0]
    assert (high - low) / 2 / resampled.std_errors[0] == pytest.approx(2.570582, abs=1e-6)


def test_masked_predictions_are_left_out_of_a_comparison(trial):
    rng = np.random.default_rng(1)
    predicted = rng.normal(size=400)
    about = {"target": {"name": "w", "unit": "i"}, "predictor": "m", "n_boot": 40}
    card = build_card(predicted, predicted + rng.normal(size=400), **about)
    cells = np.ma.masked_less(np.append(trial.wealth, np.full(100, -9999.0)), -100)
    found = transport_checks(cells, card)
    assert (found.n, found.share_outside) == (N, transport_checks(trial.wealth, card).share_outside)
    with pytest.raises(EffectError, match="different indexes"):
        transport_checks(trial.wealth, card, treated=trial.treated.sample(frac=1, random_state=0))
