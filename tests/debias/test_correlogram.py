import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.distance import cdist
from scipy.stats import t as student

from sustain.debias import CalibrationCard, build_card
from sustain.debias.card import correlogram as module
from sustain.debias.card.correlogram import correlogram, spatial_errors
from sustain.debias.card.schema import Correlogram, CountryErrors
from sustain.debias.sample import as_sample
from sustain.errors import CalibrationError
from sustain.sphere import arc_km, on_sphere
from tests.debias.samples import real

ABOUT = {"target": {"name": "a", "unit": "u"}, "predictor": "m"}


def places(rng, n, degrees=3.0):
    """Longitudes and latitudes near Nairobi."""
    return 36 + degrees * rng.random(n), degrees * rng.random(n) - 1.5


def field(rng, lon, lat, reach_km):
    """A normal field with the correlation exp(-d / reach) on the sphere."""
    points = on_sphere(lat, lon)
    covariance = np.exp(-arc_km(cdist(points, points)) / reach_km)
    return np.linalg.cholesky(covariance + 1e-9 * np.eye(len(lon))) @ rng.normal(size=len(lon))


def test_distances_are_those_of_the_sphere():
    nairobi, kampala = on_sphere([-1.2921, 0.3476], [36.8219, 32.5825])
    assert arc_km(np.linalg.norm(nairobi - kampala)) == pytest.approx(505.5, abs=0.5)
    assert arc_km(np.linalg.norm(np.subtract(*on_sphere([0, 0], [0, 180])))) == pytest.approx(
        np.pi * 6371.0088
    )
    assert arc_km(np.linalg.norm(np.subtract(*on_sphere([90, 90], [0, 77])))) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("share", "reach_km"), [(0.7, 20.0), (0.3, 60.0), (0.0, 1.0)])
def test_a_known_correlation_is_found(share, reach_km):
    """Mean of a few fields: each is one draw, whose own correlogram wanders."""
    distances, found = np.array([5.0, 15.0, 40.0, 80.0]), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        lon, lat = places(rng, 1200)
        error = np.sqrt(share) * field(rng, lon, lat, reach_km) + np.sqrt(1 - share) * rng.normal(size=1200)
        found.append(correlogram(error, on_sphere(lat, lon))(distances))
    np.testing.assert_allclose(np.mean(found, axis=0), share * np.exp(-distances / reach_km), atol=0.05)


def test_noise_of_the_labels_is_left_out():
    rng = np.random.default_rng(3)
    lon, lat = places(rng, 1500)
    truth = rng.normal(size=1500)
    pred = 0.5 * truth + 0.3 * field(rng, lon, lat, 30.0)
    clean = spatial_errors(as_sample(pred, truth), lon, lat)
    labels = truth + 0.6 * rng.normal(size=1500)
    noisy = spatial_errors(as_sample(pred, labels, target_noise_var=0.36), lon, lat)
    blind = spatial_errors(as_sample(pred, truth + 0.6 * rng.normal(size=1500)), lon, lat)
    at = np.array([8.0, 20.0])
    for name in ("prediction_given_truth", "truth_given_prediction"):
        expected, found, diluted = (getattr(errors, name)(at) for errors in (clean, noisy, blind))
        np.testing.assert_allclose(found, expected, atol=0.08)
        assert (diluted < expected - 0.1).all()


def test_towns_that_err_more_do_not_make_correlations_above_one():
    """A dense town whose places all err by two, in a country of small independent errors."""
    rng = np.random.default_rng(5)
    lon, lat = places(rng, 900)
    town = np.arange(900) < 100
    lon[town], lat[town] = 37 + 0.02 * rng.random(100), 0.02 * rng.random(100)
    error = np.where(town, 2.0, 0.1 * rng.normal(size=900))
    found = correlogram(error, on_sphere(lat, lon))
    assert max(found.correlation) == pytest.approx(1)
    assert found.shared <= 1


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 9),
    scale=st.floats(0.01, 100),
    turn=st.floats(-170, 170),
    weight=st.floats(0.1, 10),
)
def test_scale_order_and_meridian_do_not_matter(seed, scale, turn, weight):
    rng = np.random.default_rng(seed)
    lon, lat = places(rng, 300)
    error = field(rng, lon, lat, 50.0)
    base = correlogram(error, on_sphere(lat, lon))
    mixed = rng.permutation(300)
    other = correlogram(scale * error[mixed], on_sphere(lat[mixed], lon[mixed] + turn), np.full(300, weight))
    np.testing.assert_allclose(other.correlation, base.correlation, atol=2e-3)
    np.testing.assert_allclose(other.distance_km, base.distance_km, rtol=2e-3)
    at = np.geomspace(1, 300, 9)
    np.testing.assert_allclose(other(at), base(at), atol=0.02)
    assert sum(other.pairs) == sum(base.pairs)
    assert (np.diff(base(at)) <= 0).all()
    assert 0 <= base.shared <= 1


def test_places_without_weight_do_not_count():
    rng = np.random.default_rng(1)
    lon, lat = places(rng, 600)
    error = field(rng, lon, lat, 50.0)
    kept = np.arange(600) < 400
    whole = correlogram(np.where(kept, error, 99.0), on_sphere(lat, lon), kept.astype(float))
    assert whole == correlogram(error[kept], on_sphere(lat[kept], lon[kept]))


def test_many_places_are_thinned_out(monkeypatch):
    rng = np.random.default_rng(1)
    lon, lat = places(rng, 2000)
    error = field(rng, lon, lat, 50.0)
    whole = correlogram(error, on_sphere(lat, lon))
    monkeypatch.setattr(module, "MOST_PLACES", 1000)
    thin = correlogram(error, on_sphere(lat, lon))
    assert sum(thin.pairs) < sum(whole.pairs) / 3
    at = np.array([10.0, 30.0, 100.0])
    np.testing.assert_allclose(thin(at), whole(at), atol=0.08)


def card_of(n=400, **changes):
    rng = np.random.default_rng(7)
    lon, lat = places(rng, n)
    truth = rng.normal(size=n)
    pred = 0.6 * truth + 0.3 * field(rng, lon, lat, 40.0)
    arguments = {"lon": lon, "lat": lat, "n_boot": 20, "methods": ["linear"], **ABOUT} | changes
    return build_card(pred, truth, **arguments), lon, lat


def test_a_card_keeps_it_and_no_place(tmp_path):
    card, lon, lat = card_of()
    again = CalibrationCard.load(card.save(tmp_path / "card.json"))
    assert again.spatial_errors == card.spatial_errors
    assert again.spatial_errors.prediction_given_truth.shared > 0.3
    assert min(again.spatial_errors.truth_given_prediction.pairs) >= 200
    text = (tmp_path / "card.json").read_text()
    assert not [value for value in (*lon, *lat) if f"{value:.7f}" in text]
    assert card_of(lon=None, lat=None)[0].spatial_errors is None


def test_too_few_or_too_near_places_have_none():
    assert card_of(n=25)[0].spatial_errors is None
    assert card_of(lon=np.full(400, 36.0), lat=np.full(400, 1.0))[0].spatial_errors is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lat": None}, "lon and lat go together"),
        ({"lon": np.full(400, 37e4)}, r"lon: values reach from 370000 .* in metres"),
        ({"lat": np.full(400, 100.0)}, r"lat: .* expected degrees within -90\.\.90"),
        ({"lon": np.full(400, np.nan)}, "lon: 400 of 400 values are NaN"),
        ({"lon": [1.0, 2.0]}, "lon: has 2 values"),
    ],
)
def test_bad_coordinates_are_refused(changes, message):
    with pytest.raises(CalibrationError, match=message):
        card_of(**changes)


@pytest.mark.parametrize(
    "part",
    [
        {"range_km": [1.0], "share": [0.5, 0.1]},
        {"range_km": [1.0, 2.0], "share": [0.7, 0.5]},
        {"range_km": [0.0], "share": [0.5]},
        {"range_km": [1.0], "share": [0.5], "pairs": [3]},
    ],
)
def test_what_is_no_correlation_function_is_refused(part):
    with pytest.raises(ValidationError):
        Correlogram(**{"distance_km": [], "correlation": [], "pairs": []} | part)


def countries_of(rng, n_countries, n_places, tau, within=0.4):
    """Columns of countries side by side, with errors of `within` that neighbours share by half, and `tau` of all."""
    parts = []
    for code in range(n_countries):
        lon, lat = places(rng, n_places)
        error = within * (field(rng, lon, lat, 20.0) + rng.normal(size=n_places)) / np.sqrt(2)
        truth = rng.normal(size=n_places)
        pred = 0.1 + 0.6 * truth + error + tau * rng.normal()
        parts.append((pred, truth, lon + 3 * (code % 5), lat + 3 * (code // 5), np.full(n_places, code)))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def found_of(pred, truth, lon, lat, country, **about):
    return spatial_errors(as_sample(pred, truth, **about), lon, lat, country).prediction_given_truth


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_the_spread_of_countries_is_found_beside_what_neighbours_share(tau):
    found = [found_of(*countries_of(np.random.default_rng(seed), 24, 60, tau)) for seed in range(20)]
    spread = np.array([item.countries.sd**2 for item in found])
    # Standard error of a variance of 24 means over 20 worlds; at zero, variances cannot fall below it.
    assert spread.mean() == pytest.approx(tau**2, abs=3 * tau**2 * np.sqrt(2 / 23 / 20) + 0.005)
    assert np.mean([item.countries.within_sd for item in found]) == pytest.approx(0.4, rel=0.03)
    assert np.mean([item(10.0) for item in found]) == pytest.approx(0.5 * np.exp(-10 / 20), abs=0.05)
    assert {item.countries.df for item in found} == {23}


def test_a_country_that_the_card_has_not_seen_is_held_as_often_as_said():
    held, n_worlds = {"with": 0, "without": 0}, 200
    for seed in range(n_worlds):
        pred, truth, lon, lat, country = countries_of(np.random.default_rng(seed), 13, 40, 0.25)
        seen = country > 0
        sample = as_sample(pred[seen], truth[seen], groups=country[seen])
        line, at = sample.prediction_on_truth, np.array([1.0, truth[~seen].mean()])
        error = pred[~seen].mean() - at @ [line.intercept, line.slope]
        distance = arc_km(cdist(*[on_sphere(lat[~seen], lon[~seen])] * 2))
        for name, column in (("with", country[seen]), ("without", None)):
            found = spatial_errors(sample, lon[seen], lat[seen], column).prediction_given_truth
            alike = found(distance)
            np.fill_diagonal(alike, 1)
            within, between = line.sigma**2, 0.0
            if found.countries is not None:
                within, between = found.countries.within_sd**2, found.countries.sd**2
            variance = within * alike.mean() + between + at @ line.cov @ at
            held[name] += abs(error) <= student.ppf(0.975, line.df) * np.sqrt(variance)
    assert 0.91 <= held["with"] / n_worlds <= 0.985, held
    assert held["without"] < held["with"] - 0.05 * n_worlds, held


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9), scale=st.floats(0.01, 100), offset=st.floats(-50, 50))
def test_units_order_and_names_of_countries_do_not_matter(seed, scale, offset):
    rng = np.random.default_rng(seed)
    pred, truth, lon, lat, country = countries_of(rng, 6, 40, 0.3)
    base = found_of(pred, truth, lon, lat, country)
    mixed = rng.permutation(pred.size)
    names = np.array(["f", "e", "a", "d", "c", "b"])[country[mixed]]
    other = found_of(
        scale * pred[mixed] + offset, scale * truth[mixed] - offset, lon[mixed], lat[mixed], names,
        sample_weight=np.full(pred.size, 3.0),
    )  # fmt: skip
    assert other.countries.sd == pytest.approx(scale * base.countries.sd, rel=0.01)
    assert other.countries.within_sd == pytest.approx(scale * base.countries.within_sd, rel=1e-3)
    np.testing.assert_allclose(other.correlation, base.correlation, atol=2e-3)


def test_the_spread_of_equal_places_is_by_hand():
    """Places too far apart to be alike: variance of the means, less the mean of s^2 / n."""
    rng = np.random.default_rng(4)
    country = np.repeat(np.arange(8), [20, 25, 30, 40, 60, 80, 100, 150])
    residual = 0.5 * rng.normal(size=country.size) + 0.4 * rng.normal(size=8)[country]
    alone = Correlogram(range_km=[], share=[], distance_km=[], correlation=[], pairs=[])
    n, weight = np.bincount(country), np.ones(country.size)
    mean = np.bincount(country, residual) / n
    total = ((residual - mean[country]) ** 2).sum() / (country.size - 8)
    found = module._variances_of_means(alone, np.zeros((country.size, 3)), weight, country, total, 0.0)
    np.testing.assert_allclose(found, total / n)
    lon, lat = rng.uniform(-170, 170, country.size), rng.uniform(-60, 60, country.size)
    by_country = module._errors(residual, on_sphere(lat, lon), weight, 0.0, country).countries
    assert by_country.within_sd == pytest.approx(np.sqrt(total), rel=1e-3)
    assert by_country.sd == pytest.approx(np.sqrt(mean.var(ddof=1) - (total / n).mean()), rel=0.05)


def test_a_mixed_model_of_real_places_finds_the_same_spread():
    """Peer: a random intercept of country by restricted maximum likelihood (statsmodels), places independent."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    rows = real("yeh_dhs_incountry.parquet")
    sample = as_sample(rows["p_resnet_18_ms"], rows["y_true"])
    found = spatial_errors(sample, rows["lon"], rows["lat"], rows["country"]).truth_given_prediction.countries
    line = sample.truth_on_prediction
    residual = sample.y_true - line.intercept - line.slope * sample.y_pred
    peer = MixedLM(residual, np.ones(residual.size), rows["country"]).fit(method="powell")
    assert found.n == 23
    assert found.within_sd == pytest.approx(peer.scale**0.5, rel=0.01)
    assert found.sd == pytest.approx(float(np.sqrt(peer.cov_re[0, 0])), rel=0.06)


def test_labels_error_is_no_countries_error():
    rng = np.random.default_rng(3)
    pred, truth, *about = countries_of(rng, 12, 80, 0.3)
    clean = found_of(pred, truth, *about).countries
    noisy = found_of(pred, truth + 0.6 * rng.normal(size=truth.size), *about, target_noise_var=0.36).countries
    assert noisy.within_sd == pytest.approx(clean.within_sd, rel=0.08)
    assert noisy.sd == pytest.approx(clean.sd, rel=0.12)


def test_which_column_is_one_of_countries():
    pred, truth, lon, lat, country = countries_of(np.random.default_rng(1), 7, 40, 0.3)
    whole, plain = found_of(pred, truth, lon, lat, country), found_of(pred, truth, lon, lat, None)
    assert whole.countries.n == 7
    assert plain.countries is None
    # Names of the extent, an iterator, or too few countries of 20 rows: as without.
    few = np.where(country < 4, country, 4 + np.arange(country.size) % 19)
    for other in (["a", "b"], iter("ab"), np.zeros(280), few):
        assert found_of(pred, truth, lon, lat, other) == plain
    # Rows of small countries are left out, and so are rows of no weight.
    small = np.where((country == 6) & (np.arange(280) % 40 >= 19), 7 + np.arange(280), country)
    rows = country < 6
    part = found_of(pred, truth, lon, lat, small)
    assert part.countries.n == 6
    assert part.pairs == found_of(*(column[rows] for column in (pred, truth, lon, lat, country))).pairs
    assert found_of(pred, truth, lon, lat, country, sample_weight=rows.astype(float)).countries.n == 6
    frame = pd.DataFrame({"x": pred, "y": truth, "c": country})
    with pytest.raises(CalibrationError, match="countries"):
        found_of(frame["x"], frame["y"], lon, lat, frame["c"][::-1])


def test_a_card_keeps_the_spread_of_countries_and_older_cards_are_read(tmp_path):
    pred, truth, lon, lat, country = countries_of(np.random.default_rng(1), 7, 40, 0.3)
    names = np.array(list("abcdefg"))[country]
    about = {"lon": lon, "lat": lat, "n_boot": 20, "methods": ["linear"], **ABOUT}
    card = build_card(pred, truth, countries=names, **about)
    again = CalibrationCard.load(card.save(tmp_path / "card.json"))
    assert again.sha256 == card.sha256
    assert again.spatial_errors.truth_given_prediction.countries == CountryErrors(
        **card.spatial_errors.truth_given_prediction.countries.model_dump()
    )
    older = build_card(pred, truth, countries=sorted(set(names)), **about)
    assert '"within_sd"' not in older.to_json()
    assert older.sample.countries == card.sample.countries
    assert CalibrationCard.from_json(older.to_json()).spatial_errors.truth_given_prediction.countries is None
