"""Metrics against scikit-learn and by hand; intervals against theory; counts against the specification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from torchmetrics.functional import cohen_kappa
from torchmetrics.functional.classification import binary_f1_score

from sustain.data.catalogue.registry import load_tasks
from sustain.data.sustainbench.metrics import METRICS, evaluate, outcome_of, outcome_of_masks
from sustain.data.sustainbench.tasks import READERS, metrics_of
from sustain.errors import DataError
from tests.sustainbench_files import SHARED

SPECIFICATION = SHARED / "reference" / "sustainbench_registry.yaml"


def one(name, truth, prediction, groups=None, score=None, **options):
    groups = np.arange(len(truth)).astype(str) if groups is None else groups
    return evaluate([name], outcome_of(truth, prediction, groups, score), **{"n_draws": 1} | options)[0]


def test_every_metric_of_every_task_has_its_function():
    for name in READERS:
        assert {metric.partition("_by_")[0] for metric in metrics_of(name)} <= set(METRICS)


def test_regression_by_hand():
    truth, prediction = np.array([1.0, 2.0, 3.0, 4.0]), np.array([12.0, 14.0, 16.0, 18.0])
    assert one("pearson_r2", truth, prediction).estimate == pytest.approx(
        1
    )  # neither bias nor scale lowers it
    assert one("r2", truth, prediction).estimate == pytest.approx(1 - (121 + 144 + 169 + 196) / 5)
    assert one("rmse", truth, prediction).estimate == pytest.approx(np.sqrt(630 / 4))
    assert one("mae", truth, prediction).estimate == pytest.approx(12.5)


def test_classification_by_hand():
    truth, prediction = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2]
    assert (
        one("accuracy", truth, prediction).estimate
        == one("oa", truth, prediction).estimate
        == pytest.approx(4 / 6)
    )
    assert one("macro_f1", truth, prediction).estimate == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    truth, prediction = [1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]
    assert one("precision", truth, prediction).estimate == pytest.approx(2 / 3)
    assert one("recall", truth, prediction).estimate == pytest.approx(2 / 3)
    assert one("cohen_kappa", truth, prediction).estimate == pytest.approx(1 / 3)
    assert one("auc", truth, prediction, score=[0.9, 0.8, 0.3, 0.5, 0.2, 0.1]).estimate == pytest.approx(
        8 / 9
    )


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_they_agree_with_other_implementations(seed):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    assert one("dice", truth, prediction).estimate == pytest.approx(
        float(binary_f1_score(torch.tensor(prediction), torch.tensor(truth))), abs=1e-6
    )
    kappa = cohen_kappa(torch.tensor(prediction), torch.tensor(truth), task="binary")
    assert one("cohen_kappa", truth, prediction).estimate == pytest.approx(float(kappa), abs=1e-5)
    values = rng.normal(size=50)
    for name, reference in (
        ("r2", sk.r2_score),
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
    ):
        assert one(name, values, truth).estimate == pytest.approx(reference(values, truth))
    assert one("accuracy", truth, prediction).estimate == pytest.approx(sk.accuracy_score(truth, prediction))
    assert one("pearson_r2", truth, values).estimate == pytest.approx(stats.pearsonr(truth, values)[0] ** 2)


def test_masks_are_judged_by_their_pooled_pixels():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (5, 8, 9)), rng.integers(0, 3, (5, 8, 9))
    truth[rng.random(truth.shape) < 0.2] = 255
    groups = ["a", "a", "b", "c", "c"]
    outcome = outcome_of_masks(zip(truth, prediction, strict=True), groups, ignore_index=255)
    kept = truth != 255
    for name, expected in (
        ("accuracy", sk.accuracy_score(truth[kept], prediction[kept])),
        ("macro_f1", sk.f1_score(truth[kept], prediction[kept], average="macro")),
        ("cohen_kappa", sk.cohen_kappa_score(truth[kept], prediction[kept])),
    ):
        result = evaluate([name], outcome, n_draws=5)[0]
        assert result.estimate == pytest.approx(expected)
        assert result.n == kept.sum()
        assert result.n_groups == 3


def test_masks_that_do_not_fit_are_refused():
    mask = np.zeros((3, 3), int)
    with pytest.raises(DataError, match=r"pair 1: prediction has shape \(2, 3\)"):
        outcome_of_masks([(mask, mask), (mask, mask[:2])], ["a", "b"])
    with pytest.raises(DataError, match=r"1 prediction\(s\) for 2 mask\(s\)"):
        outcome_of_masks([(mask, mask)], ["a", "b"])
    with pytest.raises(DataError, match="no pixel counts"):
        outcome_of_masks([(mask, mask)], ["a"], ignore_index=0)


def test_a_difference_between_countries_raises_the_pooled_r2_alone():
    rng = np.random.default_rng(1)
    country = np.repeat(np.arange(12), 50)
    truth = 5.0 * country + rng.normal(size=600)
    prediction = 5.0 * country + rng.normal(size=600)
    pooled, within = evaluate(
        ["pearson_r2", "pearson_r2_by_country"],
        outcome_of(truth, prediction, country.astype(str)),
        n_draws=50,
    )
    assert pooled.estimate > 0.95
    assert within.estimate < 0.1
    assert within.low <= within.estimate <= within.high


def test_the_interval_covers_as_often_as_it_says_when_errors_are_shared_by_groups():
    rng = np.random.default_rng(2)
    covered_by_group, covered_by_sample = [], []
    group = np.repeat(np.arange(30), 20)
    for seed in range(60):
        error = rng.normal(size=30)[group] + 0.3 * rng.normal(size=600)
        truth = np.zeros(600)
        expected = np.sqrt(1 + 0.09)
        for groups, covered in ((group, covered_by_group), (np.arange(600), covered_by_sample)):
            result = one("rmse", truth, error, groups.astype(str), n_draws=100, seed=seed)
            covered.append(result.low <= expected <= result.high)
    assert np.mean(covered_by_group) > 0.8
    assert np.mean(covered_by_sample) < 0.6


def test_few_groups_and_one_group_are_said():
    truth = np.arange(40.0)
    assert (
        one("rmse", truth, truth + 1, np.repeat(["a", "b"], 20)).note
        == "2 groups only: the interval is rough"
    )
    single = one("rmse", truth, truth + np.random.default_rng(0).normal(size=40), ["a"] * 40, n_draws=50)
    assert "samples were resampled" in single.note
    assert single.low < single.estimate < single.high
    many = one("rmse", truth, truth + 1)
    assert many.note == ""


def test_the_seed_fixes_the_interval():
    truth = np.random.default_rng(0).normal(size=60)
    a, b, c = (one("mae", truth, truth**2, n_draws=40, seed=seed) for seed in (1, 1, 2))
    assert a == b != c


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([1.0, 2.0], [1.0], "equally long"),
        ([], [], "not empty"),
        ([1.0, np.nan], [1.0, 1.0], r"truth has 1 NaN"),
        ([1.0, 2.0], [np.inf, 1.0], r"prediction has 1 NaN or infinite"),
        ([[1.0]], [[1.0]], "one-dimensional"),
    ],
)
def test_what_cannot_be_judged_is_named(truth, prediction, message):
    with pytest.raises(DataError, match=message):
        outcome_of(truth, prediction, ["a"] * len(truth))


def test_an_unknown_metric_and_a_missing_score_are_named():
    outcome = outcome_of([0, 1], [0, 1], ["a", "b"])
    with pytest.raises(DataError, match="no metric f2; there are pearson_r2"):
        evaluate(["f2"], outcome)
    with pytest.raises(DataError, match="auc needs the score of class 1"):
        evaluate(["auc"], outcome)
    with pytest.raises(DataError, match="level must be between 0 and 1"):
        evaluate(["f1"], outcome, level=95)


# --- the specification


@pytest.mark.skipif(not SPECIFICATION.is_file(), reason="no specification in ../shared/reference")
def test_counts_of_the_registry_are_those_of_the_specification():
    published = yaml.safe_load(SPECIFICATION.read_text())["tasks"]
    other_names = {
        "country": "official",
        "random": "official",
        "geographic": "official",
        "region": "official",
    }
    compared = 0
    tasks = load_tasks()
    for name, task in published.items():
        for scheme, split in task["splits"].items():
            if not isinstance(split, dict) or not isinstance(split.get("train"), int):
                continue
            counts = {part: split[part] for part in ("train", "val", "test") if part in split}
            if name.startswith("sdg2-croptype-") and "kenya" not in name:
                ours = tasks["sdg2-croptype-africa"].split("official", name)
            elif name == "sdg2-cropyield":
                ours = tasks[name].split("official", f"{name}-{scheme}")
            else:
                ours = tasks[name].split(other_names.get(scheme, scheme).removesuffix("_test"))
            assert ours.counts == counts, (name, scheme)
            compared += 1
    assert (
        compared == 6 + 2 + 4 + 3 + 1 + 1
    )  # DHS, Ghana and South Sudan, Kenya, yield, fields, few-shot regions
