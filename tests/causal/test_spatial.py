"""Dependence in space: against somebody else's Conley, a bootstrap's clusters, and simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_effect
from sustain.causal.vcov.block_bootstrap import block_bootstrap, spatial_blocks
from sustain.causal.vcov.conley import kernel_covariance
from sustain.errors import EffectError


def make_places(seed: int, n: int = 300, range_km: float = 150.0, size: float = 1.0) -> pd.DataFrame:
    """Places on a square of 900 km, treatment and error both in patches of about `range_km`."""
    rng = np.random.default_rng(seed)
    lat, lon = rng.uniform(4, 12, n), rng.uniform(3, 11, n)
    kilometres = np.hypot(*(np.subtract.outer(c, c) * 111 for c in (lat, lon)))
    root = np.linalg.cholesky(np.exp(-kilometres / range_km) + 1e-9 * np.eye(n))
    treated = (root @ rng.normal(size=n) > 0).astype(int)
    wealth = size * (root @ rng.normal(size=n)) + 0.5 * rng.normal(size=n)
    return pd.DataFrame({"lat": lat, "lon": lon, "treated": treated, "wealth": wealth})


def effect_of(data: pd.DataFrame, **arguments):
    return estimate_effect(data, outcome="wealth", treatment="treated", **arguments)


PLACE = {"lat": "lat", "lon": "lon"}


class TestConley:
    def test_equals_spreg(self):
        spreg = pytest.importorskip("spreg")
        libpysal = pytest.importorskip("libpysal")
        i = np.arange(60)
        lon, lat, x = 7.3 * i % 10, 3.1 * i % 10, np.sin(i)
        y = 1 + 2 * x + np.cos(0.5 * i) + 0.3 * np.sin(lat) + 0.02 * lon
        points = np.column_stack([lon, lat])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kernel = libpysal.weights.Kernel(
                points, bandwidth=3.0, fixed=True, function="triangular", diagonal=True, k=59
            )
            theirs = spreg.OLS(y[:, None], x[:, None], gwk=kernel, robust="hac")
        design = np.column_stack([np.ones(60), x])
        inverse = np.linalg.inv(design.T @ design)
        psi = (design @ inverse) * (y - design @ (inverse @ design.T @ y))[:, None]
        np.testing.assert_allclose(kernel_covariance(psi, points, 3.0), theirs.vm, rtol=1e-10)
        np.testing.assert_allclose(np.sqrt(np.diag(theirs.vm)), [0.09277873, 0.10950058], atol=5e-9)

    def test_profile_holds_the_estimate_itself(self):
        data = make_places(0)
        result = effect_of(data, vcov={"conley": PLACE | {"cutoff_km": 200}})
        profile = result.conley_profile(data, "lat", "lon", (50, 200, 400))
        assert profile["cutoff_km"].tolist() == [50, 200, 400]
        assert profile["std_error"][1] == pytest.approx(result.std_error, rel=1e-9)
        assert (
            profile["std_error"][1] > profile["std_error"][0]
        )  # errors and treatment go together in patches
        assert (profile["conf_low"][1], profile["conf_high"][1]) == pytest.approx(result.conf_int(), rel=1e-9)

    def test_profile_of_rows_that_were_used(self):
        data = make_places(0)
        data.loc[::7, "wealth"] = np.nan
        with pytest.warns(UserWarning, match="left out"):
            result = effect_of(data, vcov={"conley": PLACE | {"cutoff_km": 100}})
        profile = result.conley_profile(data, "lat", "lon", [100])
        assert profile["std_error"][0] == pytest.approx(result.std_error, rel=1e-9)
        with pytest.raises(EffectError, match="not the rows"):
            result.conley_profile(data.iloc[:50], "lat", "lon")
        with pytest.raises(EffectError, match="no column 'latitude'"):
            result.conley_profile(data, "latitude", "lon")

    def test_duplicated_places_are_said(self):
        data = make_places(0).round({"lat": 0, "lon": 0})
        result = effect_of(data, vcov={"conley": PLACE | {"cutoff_km": 200}})
        assert "duplicate_places" in [note.kind for note in result.notes]
        assert "fully dependent" in " ".join(result.summary().split())

    def test_wide_cutoff_is_said(self):
        """The mean weight of two units is what is missing from the variance of independent errors."""
        rng = np.random.default_rng(0)
        data = make_places(0)
        wide = {"conley": PLACE | {"cutoff_km": 600}}
        notes = [note for note in effect_of(data, vcov=wide).notes if note.kind == "wide_cutoff"]
        share = float(notes[0].split("a weight of ")[1].split(" ")[0])
        ratios = []
        for _ in range(100):
            again = data.assign(wealth=rng.normal(size=300), treated=rng.permutation(300) % 2)
            ratios.append((effect_of(again, vcov=wide).std_error / effect_of(again).std_error) ** 2)
        assert share > 0.1
        assert np.mean(ratios) == pytest.approx(1 - share, abs=0.06)
        near = effect_of(data, vcov={"conley": PLACE | {"cutoff_km": 150}})
        assert "wide_cutoff" not in [note.kind for note in near.notes]

    def test_missing_place(self):
        data = make_places(0)
        data.loc[3, "lat"] = np.nan
        result = effect_of(data)
        with pytest.raises(EffectError, match="1 of the units have no place"):
            result.conley_profile(data, "lat", "lon")


class TestBlocks:
    def test_blocks_are_of_the_size_asked_for(self):
        rng = np.random.default_rng(0)
        lat, lon = rng.uniform(-60, 70, 4000), rng.uniform(-180, 180, 4000)
        blocks = spatial_blocks(lat, lon, 300.0, 1)
        table = pd.DataFrame({"block": blocks, "lat": lat, "lon": lon}).groupby("block")
        height = (table["lat"].max() - table["lat"].min()) * 111.2
        assert height.max() <= 301
        first = table["lon"].transform("first").to_numpy()
        east = ((lon - first + 180) % 360 - 180) * 111.2 * np.cos(np.radians(table["lat"].transform("mean")))
        assert east.groupby(blocks).apply(np.ptp).max() <= 400
        assert blocks.max() + 1 == len(np.unique(blocks))

    @pytest.mark.parametrize("middle", [0.0, 180.0, -90.0])
    def test_no_longitude_cuts_a_block(self, middle):
        """A region of 100 km has as many blocks wherever it lies, round Greenwich and the date line included."""
        rng = np.random.default_rng(0)
        lat, east = rng.uniform(5, 6, 500), rng.uniform(-0.5, 0.5, 500)
        wrapped = (east + middle + 180) % 360 - 180
        numbers = [
            [spatial_blocks(lat, lon, 60.0, seed).max() + 1 for seed in range(60)]
            for lon in (wrapped, wrapped % 360, east + 10)
        ]
        assert numbers[0] == numbers[1]
        assert np.mean(numbers[0]) == pytest.approx(np.mean(numbers[2]), abs=0.4)

    def test_bootstrap_of_a_mean_is_the_cluster_variance(self):
        rng = np.random.default_rng(0)
        blocks, y = np.repeat(np.arange(40), 10), rng.normal(size=40).repeat(10) + rng.normal(size=400)
        covariance, failed = block_bootstrap(
            blocks,
            lambda counts: np.array([np.average(y, weights=counts), np.average(2 * y, weights=counts)]),
            4000,
            1,
        )
        sums = np.bincount(blocks, y - y.mean()) / 400
        assert failed == 0
        assert covariance[0, 0] == pytest.approx(sums @ sums * 40 / 39, rel=0.08)
        assert covariance[0, 1] == pytest.approx(2 * covariance[0, 0], rel=1e-12)

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"estimator": "ols", "covariates": ["x"]},
            {"estimator": "ipw", "covariates": ["x"]},
            {"estimator": "aipw", "covariates": ["x"]},
            {"estimator": "iv", "instrument": "offer"},
        ],
        ids=lambda arguments: arguments.get("estimator", "difference"),
    )
    def test_is_near_the_clustered_variance_of_its_blocks(self, arguments):
        data = make_places(0, 600)
        rng = np.random.default_rng(1)
        data = data.assign(x=rng.normal(size=600), offer=data["treated"] + rng.normal(size=600))
        data["block"] = spatial_blocks(data["lat"].to_numpy(), data["lon"].to_numpy(), 120.0, 0)
        vcov = {"block": PLACE | {"block_km": 120, "n_boot": 200}}
        resampled = effect_of(data, vcov=vcov, **arguments)
        clustered = effect_of(data, vcov={"CRV1": "block"}, **arguments)
        assert (
            abs(resampled.estimate - clustered.estimate) < 0.6 * clustered.std_error
        )  # folds of AIPW differ
        assert resampled.std_error == pytest.approx(clustered.std_error, rel=0.3)
        assert resampled.df == clustered.df
        assert resampled.to_dict() == effect_of(data, vcov=vcov, **arguments).to_dict()

    def test_covers_where_independence_does_not(self):
        """No effect, treatment and errors in patches of 100 km: nominal 95%, 100 replications."""
        covered = {"HC1": 0, "block": 0, "conley": 0}
        for seed in range(100):
            data = make_places(seed, 200, range_km=100.0)
            for name, vcov in (
                ("HC1", "HC1"),
                ("block", {"block": PLACE | {"block_km": 250, "n_boot": 60}}),
                ("conley", {"conley": PLACE | {"cutoff_km": 300}}),
            ):
                low, high = effect_of(data, vcov=vcov).conf_int()
                covered[name] += low <= 0 <= high
        assert covered["HC1"] <= 85
        assert covered["block"] >= 86
        assert covered["conley"] >= 84

    def test_bad_input(self):
        data = make_places(0)
        with pytest.raises(EffectError, match="all units lie in one block"):
            effect_of(data, vcov={"block": PLACE | {"block_km": 9000}})
        with pytest.raises(EffectError, match="50 resamples or more"):
            effect_of(data, vcov={"block": PLACE | {"block_km": 100, "n_boot": 5}})
        for kilometres in (0, -5, np.inf, True, "100"):
            with pytest.raises(EffectError, match=r"block's block_km: got .* expected kilometres above 0"):
                effect_of(data, vcov={"block": PLACE | {"block_km": kilometres}})
        with pytest.raises(EffectError, match="expected lat, lon and block_km"):
            effect_of(data, vcov={"block": PLACE})
        few = effect_of(data, vcov={"block": PLACE | {"block_km": 500, "n_boot": 60}})
        assert "few_clusters" in [note.kind for note in few.notes]

    def test_numbers_of_numpy_are_numbers(self):
        data = make_places(0)
        for kind in (np.int64, np.float32, np.float64):
            one, other = (
                effect_of(data, vcov={"conley": PLACE | {"cutoff_km": value}}) for value in (150, kind(150))
            )
            assert (one.std_error, one.vcov) == (other.std_error, other.vcov)
        one, other = (
            effect_of(data, vcov={"block": PLACE | {"block_km": 200, "n_boot": value}})
            for value in (60, np.int64(60))
        )
        assert (one.std_error, one.vcov) == (other.std_error, other.vcov)

    def test_resamples_without_an_arm_are_said(self):
        data = make_places(0)
        near = (data["lat"] < 5) & (data["lon"] < 4.5)
        result = effect_of(
            data.assign(treated=near.astype(int)), vcov={"block": PLACE | {"block_km": 300, "n_boot": 60}}
        )
        assert "drawn again" in " ".join(result.notes)
