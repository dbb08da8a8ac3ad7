"""Units and their columns belong together, and a unit without a cluster is not in one cluster with all others."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sustain.causal import (
    assumption_tests,
    cross_ppi_effect,
    estimate_effect,
    least_squares,
    ppi_effect,
    ppi_mean,
    ppi_ols,
    predict_then_debias,
    transport_checks,
)
from sustain.debias import build_card
from sustain.errors import EffectError, MissingDataWarning

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


def spelt(labels, kind):
    """The same whole numbers as a join, a file or a mixture of both leaves them."""
    mixed = labels.astype(object)
    mixed[::2] = mixed[::2].astype(float)
    return {
        "float": labels.astype(float),
        "text": labels.astype(int).astype(str),
        "Int64": labels.astype("Int64"),
        "category": labels.astype("category"),
        "mixed": mixed,
    }[kind]


KINDS = ["float", "text", "Int64", "category", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vcov", ["HC1", {"CRV1": "cluster"}])
def test_shared_units_are_known_however_their_ids_are_spelt(kind, vcov):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    wealth, ids = 0.6 * truth + 0.3 * rng.normal(size=400), pd.Series(np.arange(1000, 1400))
    rows = pd.DataFrame({"y_pred": wealth, "y_true": truth, "id": ids, "cluster": ids // 8})
    data = pd.DataFrame({"wealth": wealth, "treated": np.arange(400) % 2, "id": ids, "cluster": ids // 8})
    card = build_card(wealth, truth, target={"name": "w", "unit": "u"}, predictor="m", n_boot=20)
    found = []
    for table in (rows, rows.assign(id=spelt(ids, kind), cluster=spelt(ids // 8, kind))):
        overlap = {"id": "id", "rows": table}
        effect = estimate_effect(
            data, "wealth ~ treated", calibration=card, assumption="measurement", overlap=overlap, vcov=vcov
        )
        note = next(note for note in effect.notes if note.kind == "overlap")
        assert note.startswith("400 of 400 units are in the calibration sample")
        found.append(effect.std_error)
    assert found[0] == found[1]
    alone = estimate_effect(
        data, "wealth ~ treated", calibration=card, assumption="measurement", vcov=vcov
    ).std_error
    assert found[0] != alone


def test_ids_that_nobody_shares_are_said(trial):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    rows = pd.DataFrame({"y_pred": 0.6 * truth + 0.3 * rng.normal(size=400), "y_true": truth, "id": "a"})
    card = build_card(rows.y_pred, truth, target={"name": "w", "unit": "u"}, predictor="m", n_boot=20)
    effect = estimate_effect(
        trial.assign(id=np.arange(N)),
        "wealth ~ treated",
        calibration=card,
        assumption="measurement",
        overlap={"id": "id", "rows": rows},
    )
    assert "None of the 300 units is in the calibration sample by 'id'" in str(effect.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_one_rule_for_labels_of_clusters_effects_and_panels(trial, kind):
    plain = trial.assign(cluster=trial.cluster.astype(int), wave=np.arange(N) % 2, village=np.arange(N) // 2)
    named = plain.assign(**{name: spelt(plain[name], kind) for name in ("cluster", "wave", "village")})
    for formula, options in (
        ("wealth ~ treated + z", {"vcov": {"CRV1": "cluster"}}),
        ("wealth ~ treated + z", {"vcov": {"CR2": "cluster"}}),
        ("wealth ~ treated + z", {"vcov": {"CRV1": ["cluster", "wave"]}}),
        ("wealth ~ treated + z | cluster", {}),
        ("wealth ~ treated + z | cluster^wave", {}),
        ("wealth ~ treated | village + wave", {"estimator": "did"}),
    ):
        ours, theirs = (estimate_effect(frame, formula, **options) for frame in (named, plain))
        assert ours.estimate == pytest.approx(theirs.estimate, rel=1e-10)
        assert ours.std_error == pytest.approx(theirs.std_error, rel=1e-10)


@pytest.mark.parametrize("urban", ["bool", "int64", "float64", "boolean", "category", "str", "object"])
@pytest.mark.parametrize("built", ["bool", "int64", "str", "old"])
def test_a_cards_strata_meet_a_trials(built, urban):
    rng = np.random.default_rng(3)
    town = rng.integers(0, 2, 800)
    truth = rng.normal(size=800)
    wealth = np.where(town == 1, 0.8, 0.5) * truth + 0.3 * rng.normal(size=800)
    about = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ("linear",), "n_boot": 20}
    # Cards once wrote True and False.
    strata = np.where(town == 1, "True", "False") if built == "old" else town.astype(built)
    card = build_card(wealth, truth, strata=strata, **about)
    data = pd.DataFrame({"wealth": wealth, "treated": rng.integers(0, 2, 800)})
    data["urban"] = (
        pd.Series(town).astype("bool" if urban in ("boolean", "object") else "int64").astype(urban)
    )
    effect = estimate_effect(
        data, "wealth ~ treated", calibration=card, strata="urban", assumption="measurement"
    )
    corrected = data["wealth"].copy()
    for name in card.strata:
        rows = town == (name.name in ("1", "True"))
        corrected[rows] = card.transform(data["wealth"][rows], stratum=name.name)
    means = corrected.groupby(data["treated"]).mean()
    assert effect.estimate == pytest.approx(means[1] - means[0], rel=1e-9)


def test_a_profile_finds_its_rows_again_or_says_so(trial):
    rng = np.random.default_rng(1)
    data = trial.assign(lat=rng.uniform(-5, 5, N), lon=rng.uniform(30, 40, N))
    data.loc[::7, "wealth"] = np.nan
    with pytest.warns(MissingDataWarning):
        effect = estimate_effect(
            data, "wealth ~ treated", vcov={"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 150}}
        )
    same = [effect.conley_profile(frame, "lat", "lon", [150]) for frame in (data, data.sort_values("z"))]
    for profile in same:
        assert profile["std_error"].item() == pytest.approx(effect.std_error, rel=1e-9)
    for other in (data.sort_values("z").reset_index(drop=True), data.iloc[:-1], data.assign(wealth=0.0)):
        with pytest.raises(EffectError, match="data: not the rows that this result was estimated from"):
            effect.conley_profile(other, "lat", "lon", [150])
    repeated = data.set_axis(np.zeros(N, dtype=int))
    with pytest.warns(MissingDataWarning):
        effect = estimate_effect(repeated, "wealth ~ treated")
    effect.conley_profile(repeated, "lat", "lon", [150])
    with pytest.raises(EffectError, match="in another order"):
        effect.conley_profile(repeated.sort_values("z"), "lat", "lon", [150])


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
        lambda: assumption_tests(trial, **COLUMNS, calibration=card, clusters="cluster"),
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
        with pytest.raises(EffectError, match=r"cluster.*(units have no|values are missing)"):
            call()


def test_clusters_of_another_length_are_said(trial):
    known = trial.label.notna()
    with pytest.raises(EffectError, match="y and clusters are pandas objects with different indexes"):
        ppi_mean(
            trial.label[known],
            trial.wealth[known],
            trial.wealth[~known],
            clusters=trial.cluster[known][:-1],
            clusters_unlabelled=trial.cluster[~known],
        )


@pytest.mark.parametrize("column", ["label", "wealth", "treated"])
def test_text_where_numbers_belong_is_said(trial, column):
    with pytest.raises(EffectError, match=f"{column}'?: expected numbers, got"):
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
    # Two arms with five degrees of freedom each, or a little less, as Welch adds them up.
    assert 4 < found.df < 10
    low, high = found.conf_int()
    assert (high - low) / 2 / found.std_error == pytest.approx(stats.t.ppf(0.975, found.df), rel=1e-9)
    assert found.conf_int(alternative="larger")[0] == pytest.approx(found.conf_int(0.9)[0])
    assert found.pvalue(found.conf_int()[0]) == pytest.approx(0.05)
    assert found.pvalue(found.conf_int(alternative="larger")[0], "larger") == pytest.approx(0.05)
    assert ppi_effect(few, **COLUMNS).df > 25
    resampled = predict_then_debias(
        few, least_squares("label", []), predicted={"label": "wealth"}, clusters="cluster", n_boot=50
    )
    low, high = resampled.conf_int()[0]
    # Six clusters, five degrees of freedom or a little less: 2.5706 and a little more.
    assert (high - low) / 2 / resampled.std_errors[0] == pytest.approx(2.5706, rel=0.01)


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
