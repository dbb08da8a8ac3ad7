import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.distance import cdist

from sustain.debias import CalibrationCard, build_card
from sustain.debias.card import correlogram as module
from sustain.debias.card.correlogram import correlogram, spatial_errors
from sustain.debias.card.schema import Correlogram
from sustain.debias.sample import as_sample
from sustain.errors import CalibrationError
from sustain.sphere import arc_km, on_sphere

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
