"""Families of contrasts: differences by hand, and the two stabilities told apart where one of them holds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.debias import build_card
from sustain.errors import EffectError
from sustain.trials.contrasts import contrast_scores, contrast_table, stability_gaps
from sustain.trials.family import as_trials, contrast_results, explain_gaps, explain_scores
from sustain.trials.results import effects_table
from sustain.trials.trial import estimate_trials

N = 4000


@dataclass
class Arms:
    """The plainest contrast."""

    name: str
    title: str
    rows: np.ndarray
    treated: np.ndarray


def world(visible: bool, seed: int = 0) -> tuple[list[Arms], np.ndarray, np.ndarray, np.ndarray]:
    """Twelve contrasts; `visible`: treated places differ in what the image shows, else in truth alone.

    The prediction is the mean of the truth given what the image shows (Berkson). A visible contrast moves what is
    seen, an invisible one the truth, of which the prediction takes a part.
    """
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 200, N)
    seen = rng.normal(size=N)
    contrasts = []
    if visible:
        truth = seen + rng.normal(scale=0.7, size=N)
        for k in range(12):
            probability = 1 / (1 + np.exp(-(seen - 1 + k / 10)))
            contrasts.append(_arms(k, rng.random(N) < probability))
        return contrasts, seen, truth, clusters
    truth = seen
    prediction = 0.6 * truth + rng.normal(scale=0.4, size=N)
    for k in range(12):
        probability = 1 / (1 + np.exp(-(truth - 1 + k / 10)))
        contrasts.append(_arms(k, rng.random(N) < probability))
    return contrasts, prediction, truth, clusters


def _arms(k: int, treated: np.ndarray) -> Arms:
    return Arms(f"c{k:02d}", f"Contrast {k}", np.arange(N), treated.astype(np.int64))


def test_a_contrast_is_a_difference_in_means() -> None:
    contrasts, prediction, truth, clusters = world(visible=True)
    few = Arms("few", "Few", np.arange(100, 200), np.repeat([1, 0], 50))
    table = contrast_table([few, contrasts[0]], {"none": prediction}, truth, clusters)
    row = table.iloc[0]
    assert (row["contrast"], row["n_treated"], row["n_control"]) == ("few", 50, 50)
    assert row["estimate"] == pytest.approx(prediction[100:150].mean() - prediction[150:200].mean())
    assert row["truth"] == pytest.approx(truth[100:150].mean() - truth[150:200].mean())
    assert row["error"] == pytest.approx(row["estimate"] - row["truth"])
    assert row["conf_low"] < row["estimate"] < row["conf_high"]
    assert row["share_var_calibration"] == 0


def test_the_truth_has_no_error_and_one_slope() -> None:
    contrasts, _, truth, clusters = world(visible=True)
    table = contrast_table(contrasts, {"self": truth, "half": truth / 2}, truth, clusters)
    scores = contrast_scores(table, sd=2.0).set_index("method")
    assert scores.loc["self", "mae"] == pytest.approx(0, abs=1e-12)
    assert scores.loc["self", "slope"] == pytest.approx(1)
    assert scores.loc["half", "slope"] == pytest.approx(0.5)
    assert scores.loc["half", "mae_sd"] == pytest.approx(table["truth"].abs().mean() / 4)
    assert scores.loc["half", "n_contrasts"] == 12


@pytest.mark.parametrize("visible", [True, False])
def test_the_gap_that_should_be_zero_is(visible: bool) -> None:
    gaps = stability_gaps(*world(visible))
    stable, other = ("truth_gap", "prediction_gap") if visible else ("prediction_gap", "truth_gap")
    assert (gaps[stable].abs() < 4 * gaps[f"{stable}_std_error"]).all()
    assert (gaps[other] > 4 * gaps[f"{other}_std_error"]).all()
    said = explain_gaps(gaps)
    assert ("outcome stability is the better description" in said) is visible
    assert ("a correction is due" in said) is not visible
    assert f"{gaps[other].median():.2f}" in said


def test_gaps_are_compared_in_the_unit_of_the_truth() -> None:
    """A prediction gap of 0.2 that is stretched by 1 / 0.4 is worse than a truth gap of 0.3."""
    gaps = pd.DataFrame({"truth_gap": [0.3, -0.3], "prediction_gap": [0.2, 0.2], "slope": [0.4, 0.4]})
    assert "which a correction makes 0.50. So outcome stability is the better" in explain_gaps(gaps)
    assert "a correction is due" in explain_gaps(gaps.assign(slope=0.9))


@pytest.mark.parametrize("visible", [True, False])
def test_the_correction_helps_where_its_assumption_holds(visible: bool) -> None:
    contrasts, prediction, truth, clusters = world(visible)
    slope, intercept = np.polyfit(truth, prediction, 1)
    estimates = {"none": prediction, "linear": (prediction - intercept) / slope}
    scores = contrast_scores(contrast_table(contrasts, estimates, truth, clusters), truth.std())
    best = scores.set_index("method")["mae_sd"]
    assert bool(best["none"] < best["linear"]) is visible


def test_a_card_adds_its_own_uncertainty() -> None:
    contrasts, prediction, truth, clusters = world(visible=False)
    card = build_card(
        prediction[:150], truth[:150], target={"name": "w", "unit": "u"}, predictor="p", n_boot=50, seed=1
    )
    estimates = {
        "none": prediction,
        "linear": card.transform(prediction, method="linear", check_support=False),
    }
    whole = contrast_table(contrasts[:2], estimates, truth, clusters, card=card, y_pred=prediction)
    assert whole["method"].tolist() == ["none", "response", "linear"] * 2
    with_card = whole[whole["method"] != "response"].reset_index(drop=True)
    without = contrast_table(contrasts[:2], estimates, truth, clusters)
    corrected = with_card["method"] == "linear"
    assert (with_card["std_error"][corrected] > without["std_error"][corrected]).all()
    assert with_card["share_var_calibration"][corrected].between(0.05, 1).all()
    pd.testing.assert_frame_equal(with_card[~corrected], without[~corrected])
    np.testing.assert_array_equal(with_card["estimate"], without["estimate"])


def test_a_card_reads_contrasts_back_through_its_curve() -> None:
    contrasts, prediction, truth, clusters = world(visible=False)
    card = build_card(prediction, truth, target={"name": "w", "unit": "u"}, predictor="p", n_boot=20)
    table = contrast_table(contrasts, {"none": prediction}, truth, clusters, card=card, y_pred=prediction)
    found = table[table["method"] == "response"].set_index("contrast")
    for contrast in contrasts[:2]:
        places = pd.DataFrame(
            {"x": prediction[contrast.rows], "t": contrast.treated, "c": clusters[contrast.rows]}
        )
        effect = estimate_effect(
            *(places, "x ~ t"),
            calibration=card,
            method="response",
            estimator="difference",
            assumption="measurement",
            vcov={"CRV1": "c"},
        )
        row = found.loc[contrast.name]
        assert row["estimate"] == pytest.approx(effect.estimate)
        assert (row["conf_low"], row["conf_high"]) == pytest.approx(effect.conf_int())
        assert row["error"] == pytest.approx(effect.estimate - row["truth"])
    assert contrast_scores(table, 1.0)["method"].tolist() == ["none", "response"]
    with pytest.raises(EffectError, match="y_pred: expected the predictions of the card's model"):
        contrast_table(contrasts, {"none": prediction}, truth, clusters, card=card)


def test_results_have_the_form_of_trials() -> None:
    contrasts, prediction, truth, clusters = world(visible=True)
    table = contrast_table(contrasts, {"none": prediction, "linear": 2 * prediction}, truth, clusters)
    results = contrast_results(contrasts, table, question="Richer?", why="Seen.")
    assert [result.name for result in results] == [contrast.name for contrast in contrasts]
    flat = effects_table(results)
    assert len(flat) == 24
    assert flat.loc[flat["reported"], "method"].unique().tolist() == ["none"]
    np.testing.assert_allclose(flat["error"], table["error"])
    card = build_card(prediction, truth, target={"name": "w", "unit": "u"}, predictor="p", n_boot=20)
    trials = as_trials(contrasts[:1], question="Richer?", why="Seen.", vcov={"CRV1": "cluster"})
    units = pd.DataFrame({"wealth_raw": prediction, "treated": contrasts[0].treated, "cluster": clusters})
    (other,) = estimate_trials(trials, {"c00": units}, card, methods=["none"], correction="linear")
    unlike = {"vcov", "truth", "truth_definition", "estimates"}
    assert other.model_dump(exclude=unlike) == results[0].model_dump(exclude=unlike)
    for field in ("estimate", "std_error", "conf_low", "conf_high"):
        assert getattr(other.naive, field) == pytest.approx(getattr(results[0].naive, field))


def test_scores_are_put_into_words() -> None:
    scores = pd.DataFrame({"method": ["none", "linear"], "mae_sd": [0.0783, 0.5208]})
    assert explain_scores(scores, {}) == (
        "Mean absolute errors in standard deviations of the truth: the map as it is 0.078, linear 0.521."
    )
    assert "the map as it is 0.078 (0.081), linear 0.521. In brackets" in explain_scores(
        scores, {"none": 0.081}
    )


class TestColumns:
    """Clusters, truths and predictions are read as everywhere: labels by one rule, rows of one order, none missing."""

    n = 200
    cluster = np.arange(n) // 10

    @pytest.fixture
    def table(self):
        rng = np.random.default_rng(3)
        truth = rng.normal(size=self.n) + rng.normal(size=20)[self.cluster]
        predicted = 0.6 * truth + 0.3 * rng.normal(size=self.n)

        def make(clusters, y_true=truth, y_pred=predicted):
            contrast = Arms("a", "A", np.arange(100), np.arange(100) % 2)
            return contrast_table([contrast], {"none": y_pred}, y_true, clusters)

        return make

    def test_a_type_changes_no_cluster(self, table):
        right = table(self.cluster)["std_error"].item()
        mixed = [code if code % 2 else float(code) for code in self.cluster]
        for clusters in (self.cluster.astype(float), pd.array(self.cluster, dtype="Int64"), mixed):
            assert table(clusters)["std_error"].item() == right

    @pytest.mark.parametrize(
        "clusters",
        [
            np.where(cluster < 5, np.nan, cluster),
            pd.array(np.where(cluster < 5, np.nan, cluster), dtype="Int64"),
            np.ma.array(cluster, mask=cluster < 5),
            [None, *cluster[1:]],
            cluster[:150],
        ],
        ids=["NaN", "NA", "masked", "None", "too few"],
    )
    def test_missing_clusters_are_refused(self, table, clusters):
        with pytest.raises(EffectError, match="clusters: "):
            table(clusters)

    def test_another_order_of_rows_is_refused(self, table):
        truth = pd.Series(np.arange(self.n, dtype=float))
        with pytest.raises(EffectError, match="different indexes"):
            table(pd.Series(self.cluster).sample(frac=1, random_state=1), y_true=truth)
        with pytest.raises(EffectError, match="different indexes"):
            stability_gaps([], truth.sample(frac=1, random_state=1), truth, self.cluster)
