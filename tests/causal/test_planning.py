"""Planning: tied predictions are not told apart from their like; cards by path; numbers of any kind."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from sustain.causal import (
    classifier_auc,
    effective_sample_size,
    minimum_detectable_effect,
    power,
    transport_checks,
)
from sustain.debias import build_card
from sustain.errors import EffectError, TransportWarning, WeakCalibrationWarning

ABOUT = {"target": {"name": "w", "unit": "u"}, "predictor": "m", "methods": ("linear",), "n_boot": 20}

KINDS = {
    "zeros in 90%": lambda v: np.where(v < 0.9, 0.0, v),
    "zeros in 60%": lambda v: np.where(v < 0.2, 0.0, v),
    "capped": lambda v: np.minimum(v, 0.3),
    "whole numbers": np.round,
    "two values": lambda v: (v > 0) * 1.0,
    "a rare value": lambda v: (v > 1.2) * 1.0,
    "all different": lambda v: v,
}


def predictions(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.6 * rng.normal(size=n) + 0.4 * rng.normal(size=n)


def card_of(f: np.ndarray):
    with warnings.catch_warnings():
        # Slopes of such predictions are weak, which is not what is tested.
        warnings.simplefilter("ignore", WeakCalibrationWarning)
        return build_card(f, f + np.random.default_rng(0).normal(size=f.size), **ABOUT)


class TestTies:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("at_hand", [False, True])
    def test_the_same_population_is_not_told_apart(self, kind, at_hand):
        known = KINDS[kind](predictions(0, 2000))
        card = card_of(known)
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # numpy's, of divisions by zero
            warnings.filterwarnings("error", "Trial and calibration predictions", TransportWarning)
            # Of whole numbers, the largest lie outside a support without extremes.
            warnings.filterwarnings("ignore", ".*outside the card's support", TransportWarning)
            for seed in range(1, 6):
                trial = KINDS[kind](predictions(seed, 800))
                report = transport_checks(trial, card, y_pred_calibration=known if at_hand else None)
                found.append(report.auc)
        assert np.mean(found) == pytest.approx(0.5, abs=0.035)

    @pytest.mark.parametrize("at_hand", [False, True])
    def test_another_share_of_zeros_is_seen(self, at_hand):
        """60% zeros against 20%: the best classifier's area is that of the shares, 0.5 + 0.4 / 2 or more."""
        known = KINDS["zeros in 60%"](predictions(0, 2000))
        trial = np.where(np.random.default_rng(1).uniform(size=800) < 0.5, known[known > 0][:800].mean(), 0.0)
        trial[:640] = np.random.default_rng(2).choice(known[known > 0], 640)
        with pytest.warns(TransportWarning, match="told apart"):
            report = transport_checks(trial, card_of(known), y_pred_calibration=known if at_hand else None)
        assert report.auc > 0.7

    def test_nothing_to_compare_with(self):
        card = card_of(predictions(0, 500))
        report = transport_checks(predictions(1, 100), card, y_pred_calibration=np.ones(50))
        assert math.isnan(report.auc)
        assert "classifier AUC         unknown" in report.summary()
        for nothing in ([], [np.nan, np.nan]):
            with pytest.raises(EffectError, match="y_pred_calibration: 0 usable"):
                transport_checks(predictions(1, 100), card, y_pred_calibration=nothing)
        with pytest.raises(EffectError, match="y_pred: 0 usable"):
            transport_checks([], card)

    def test_covariates_are_matched_by_name(self):
        rng = np.random.default_rng(0)
        first = pd.DataFrame({"a": rng.normal(size=300), "b": 5 + rng.normal(size=300)})
        second = pd.DataFrame({"b": 5 + rng.normal(size=300), "a": rng.normal(size=300)})
        model = LogisticRegression()
        assert classifier_auc(first, second, model=model) == pytest.approx(0.5, abs=0.07)
        with pytest.raises(EffectError, match="no column 'b'"):
            classifier_auc(first, second.rename(columns={"b": "c"}))
        with pytest.raises(EffectError, match="expected numbers"):
            classifier_auc(first, second.assign(a="x"))


class TestPower:
    def test_a_path_is_a_card(self, tmp_path):
        card = card_of(predictions(0, 500))
        path = tmp_path / "card.json"
        card.save(path)
        for given in (path, str(path)):
            assert power(500, 500, 1.0, calibration=given, n_labelled=100) == power(
                500, 500, 1.0, calibration=card, n_labelled=100
            )
            assert minimum_detectable_effect(500, 500, 1.0, calibration=given) == minimum_detectable_effect(
                500, 500, 1.0, calibration=card
            )
            f = predictions(1, 200)
            assert transport_checks(f, given) == transport_checks(f, card)

    def test_numbers_of_numpy(self):
        plain = minimum_detectable_effect(100, 100, 1.0)
        assert minimum_detectable_effect(np.int64(100), np.float32(100), np.float64(1)) == pytest.approx(
            plain
        )

    def test_what_is_no_number(self):
        card = card_of(predictions(0, 500))
        for arguments, match in (
            (("a", 100, 1.0), "n_treated: got 'a'"),
            ((100, None, 1.0), "n_control: got None"),
            ((100, 100, math.nan), "sd: got nan"),
        ):
            with pytest.raises(EffectError, match=match):
                power(*arguments, calibration=card)
            with pytest.raises(EffectError, match=match):
                minimum_detectable_effect(*arguments)
        with pytest.raises(EffectError, match="n_labelled: got nan"):
            power(100, 100, 1.0, calibration=card, n_labelled=math.nan)
        with pytest.raises(EffectError, match="calibration: got None"):
            power(100, 100, 1.0, calibration=None)
        with pytest.raises(EffectError, match="correlation: got nan"):
            effective_sample_size(10, 100, math.nan)
