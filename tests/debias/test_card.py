"""The calibration card: what it promises, that it cannot be edited unseen, and that it gives nothing away."""

import json
import re
import warnings

import numpy as np
import pytest

from sustain.debias import (
    CalibrationCard,
    LinearCalibration,
    ResponseCalibration,
    TweedieCalibration,
    build_card,
)
from sustain.debias.card.assemble import _private_generator
from sustain.debias.card.card import SCHEMA_VERSION
from sustain.debias.card.draws import Decomposition, Draws, compress, expand
from sustain.debias.card.prediction_noise import NoiseProfile
from sustain.debias.sample import as_sample
from sustain.debias.table import Nodes
from sustain.errors import CalibrationError, CardError, CardWarning, SupportWarning, WeakCalibrationWarning
from tests.debias.samples import pairs

ABOUT = {
    "target": {"name": "wealth", "unit": "index"},
    "predictor": {"id": "resnet-0123", "sha256": "a" * 64},
    "seed": 7,
}


def _sample(n=600):
    x, y = pairs(n)
    return x, y, np.arange(n) // 10, np.where(np.arange(n) % 3 == 0, "urban", "rural")


@pytest.fixture(scope="module")
def card():
    x, y, groups, strata = _sample()
    return build_card(
        x,
        y,
        groups=groups,
        strata=strata,
        years=[2016, 2014, 2016],
        countries=["XB", "XA"],
        licence="CC-BY-4.0",
        citation="Us, 2026",
        **ABOUT,
    )


def test_describes_its_sample(card):
    assert (card.target.name, card.target.unit) == ("wealth", "index")
    assert (card.predictor.id, card.predictor.sha256) == ("resnet-0123", "a" * 64)
    assert (card.sample.n, card.sample.n_groups) == (600, 60)
    assert (card.sample.years, card.sample.countries) == ([2014, 2016], ["XA", "XB"])
    assert card.methods == ("none", "linear", "tweedie")
    assert {item.name: item.n for item in card.strata} == {"rural": 400, "urban": 200}
    assert set(card.diagnostics["verdicts"]) >= {"shrinkage", "level and scale", "linearity"}
    assert (card.licence, card.citation) == ("CC-BY-4.0", "Us, 2026")


def test_agrees_with_the_calibrations(card):
    x, y, groups, strata = _sample()
    linear, tweedie = (
        LinearCalibration().fit(x, y, groups=groups),
        TweedieCalibration().fit(x, y, groups=groups),
    )
    assert (card.slope, card.intercept) == pytest.approx((linear.slope_, linear.intercept_), rel=1e-11)
    np.testing.assert_allclose(card.slope_cov, linear.cov_, rtol=1e-6)
    assert (card.r2, card.residual_sd) == pytest.approx((linear.r2_, linear.sigma_), rel=1e-6)
    assert card.support == pytest.approx(linear.support_, rel=1e-6)
    assert card.prediction_on_truth.vcov == "CRV1"
    inside = LinearCalibration().fit(
        x[strata == "urban"], y[strata == "urban"], groups=groups[strata == "urban"]
    )
    assert card.strata[1].prediction_on_truth.slope == pytest.approx(inside.slope_, rel=1e-11)
    wide = np.linspace(-10, 10, 999)
    for method, calibration in (("linear", linear), ("tweedie", tweedie)):
        np.testing.assert_allclose(
            card.transform(wide, method, check_support=False),
            calibration.transform(wide, check_support=False),
            atol=1e-5,
        )
        np.testing.assert_allclose(card.derivative(wide, method), calibration.derivative(wide), atol=1e-5)
    np.testing.assert_array_equal(card.transform(wide, "none"), wide)
    np.testing.assert_array_equal(card.derivative(wide, "none"), np.ones_like(wide))


def test_save_and_load_are_identity_and_bytes_are_stable(card, tmp_path):
    path = card.save(tmp_path / "card.json")
    loaded = CalibrationCard.load(path)
    assert loaded == card
    assert loaded.sha256 == card.sha256
    assert loaded.to_json() == path.read_text()
    x = np.linspace(*card.support, 50)
    for method in card.methods:
        np.testing.assert_array_equal(loaded.transform(x, method), card.transform(x, method))
        np.testing.assert_array_equal(loaded.draws(method)(x), card.draws(method)(x))
    sample = _sample()
    again = build_card(*sample[:2], groups=sample[2], strata=sample[3], **ABOUT)
    once_more = build_card(*sample[:2], groups=sample[2], strata=sample[3], **ABOUT)
    assert again.to_json() == once_more.to_json()
    other = build_card(*sample[:2], groups=sample[2], strata=sample[3], **{**ABOUT, "seed": 8})
    assert other.sha256 != again.sha256


@pytest.mark.parametrize("n", [60, 10_000])
def test_stays_small(n):
    x, y = pairs(n)
    card = build_card(x, y, strata=np.arange(n) % 3, n_boot=200, **ABOUT)
    assert len(card.to_json()) < 300_000


def _edited(card, change):
    content = json.loads(card.to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["prediction_on_truth"].update(slope=0.9),
        lambda c: c["corrections"][1]["h"].__setitem__(3, 0.0),
        lambda c: c.update(licence="public domain"),
        lambda c: c.update(content_sha256="0" * 64),
        lambda c: c.pop("content_sha256"),
        lambda c: c["strata"].pop(),
    ],
)
def test_an_edited_card_is_refused(card, change):
    with pytest.raises(CardError, match="changed after the card was written"):
        CalibrationCard.from_json(_edited(card, change), name="card.json")


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, "1", None])
def test_another_version_is_refused(card, version):
    with pytest.raises(CardError, match=re.escape(f"schema version {version!r}")):
        CalibrationCard.from_json(_edited(card, lambda c: c.update(schema_version=version)))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "not a cal"), ("[]", "no schema_version"), ('{"a": 1}', "no schema_version")],
)
def test_other_files_are_refused(text, message, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(CardError, match=f"other.json: .*{message}"):
        CalibrationCard.load(path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda c: c.pop("target"), "target"),
        (lambda c: c.update(label="x"), "label"),
        (lambda c: c["corrections"].clear(), "corrections"),
        (lambda c: c.update(r2="high"), "r2"),
        (lambda c: c["corrections"][0]["h"].pop(), "384 values for 385 nodes"),
    ],
)
def test_a_card_of_another_shape_is_refused(card, change, place):
    with pytest.raises(CardError, match=place):
        CalibrationCard.from_json(_edited(card, change))


def test_unknown_method_names_those_it_has(card):
    with pytest.raises(CardError, match=r"'response' is not in this card .* none, linear, tweedie"):
        card.transform(1.0, "response")


def test_support_warning(card):
    with pytest.warns(SupportWarning, match=r"100\.0% of 3"):
        card.transform(np.full(3, 50.0), "tweedie")


def test_draws_spread_as_the_slope_does(card):
    """Bootstrap standard deviation of 1/b against the delta method's."""
    factors = np.diff(card.draws("linear")(np.array([0.0, 1.0])), axis=1)[:, 0]
    delta = np.sqrt(card.slope_cov[1, 1]) / card.slope**2
    assert factors.std() == pytest.approx(delta, rel=0.2)
    assert factors.mean() == pytest.approx(1 / card.slope, rel=0.01)


def test_draws_are_of_whole_groups():
    """Copies of rows in one group carry no information: the draws must be as wide as without the copies."""
    x, y = pairs(200)
    once = build_card(x, y, groups=np.arange(200), **ABOUT)
    copies = build_card(np.repeat(x, 5), np.repeat(y, 5), groups=np.repeat(np.arange(200), 5), **ABOUT)
    at = np.linspace(*once.support, 9)
    for method in ("linear", "tweedie"):
        ratio = copies.draws(method)(at).std(axis=0) / once.draws(method)(at).std(axis=0)
        assert 0.6 < np.median(ratio) < 1.6


def test_draws_of_all_methods_share_resamples(card):
    """For nearly normal data Tweedie is nearly linear, and so are its draws, one by one."""
    x, y = pairs(800, skewed=False)
    normal = build_card(x, y, **ABOUT)
    at = np.array(normal.support)
    slopes = [np.diff(normal.draws(method)(at), axis=1)[:, 0] for method in ("linear", "tweedie")]
    assert np.corrcoef(*slopes)[0, 1] > 0.9


def test_weighted_sum_is_the_sum(card):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=500) * 2, rng.normal(size=500)
    for method in card.methods:
        draws = card.draws(method)
        np.testing.assert_allclose(draws.weighted_sum(x, weight), draws(x) @ weight, atol=1e-9)
        np.testing.assert_allclose(draws.variance(x), draws(x).var(axis=0, ddof=1), atol=1e-12)


def test_standard_error_is_noise_and_calibration(card):
    x = np.array([-1.0, 0.0, 1.0, np.nan, 8.0])
    noise = NoiseProfile(np.array(card.noise.truth), np.array(card.noise.sd))
    straight = card.derivative(x) * noise(card.transform(x, check_support=False))
    expected = np.sqrt(straight**2 + card.draws()(x).var(axis=0, ddof=1))
    np.testing.assert_allclose(card.standard_error(x), expected, rtol=1e-3)
    np.testing.assert_allclose(card.standard_error(np.array([0.3]), "none"), noise(0.3), rtol=1e-3)
    assert noise.sd.mean() == pytest.approx(card.residual_sd, rel=0.1)
    assert card.standard_error(x.astype("f4")).dtype == np.float32
    assert np.isnan(card.standard_error(x, "tweedie")[3])


def test_compression_keeps_draws():
    grid = Nodes(0.0, 1.0, 129)
    rng = np.random.default_rng(0)
    draws = grid.x + rng.normal(size=(100, 1)) * np.sin(3 * grid.x) + rng.normal(size=(100, 1)) * 0.1
    (parts,) = compress([Decomposition.of(draws, grid.x)], 10_000)
    assert parts.scores.shape == (100, 2)
    miss = np.abs(expand(parts, grid.x) - draws).max()
    assert miss == pytest.approx(parts.max_error)
    assert miss < 0.05 * draws.std(axis=0).max()


def test_stored_draws_give_the_variance_of_effects():
    """Also those of several strata: shifts and random contrasts have the variance they have under the refits."""
    x, y, _, strata = _sample(900)
    fitted = TweedieCalibration().fit(x, y, strata=strata)
    grid, rng = fitted.nodes(), np.random.default_rng(0)
    counts = rng.multinomial(900, np.full(900, 1 / 900), size=200).astype(float)
    refits = [fitted.bootstrap(counts, grid)]
    for name, stratum in fitted.strata_.items():
        refits.append(stratum.own.bootstrap(counts[:, fitted._sample.groups_of(name)], grid))
    found = [Decomposition.of(curves, curves.mean(axis=0)) for curves in refits]
    for curves, parts in zip(refits, compress(found, 60_000), strict=True):
        full, kept = Draws(grid, curves), Draws(grid, expand(parts, curves.mean(axis=0)))
        for tau in (0.1, 0.5):
            effects = [
                draws.weighted_sum(x + tau, np.ones(900)) - draws.weighted_sum(x, np.ones(900))
                for draws in (full, kept)
            ]
            assert np.var(effects[1]) == pytest.approx(np.var(effects[0]), rel=0.02)
        for _ in range(10):
            weight = rng.choice([-1.0, 1.0], 900)
            sums = [np.var(draws.weighted_sum(x, weight)) for draws in (full, kept)]
            assert sums[1] == pytest.approx(sums[0], rel=0.04)


def test_draws_that_do_not_fit_are_announced():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(200, 97)).cumsum(axis=1)
    found = [Decomposition.of(draws, np.zeros(97))] * 3
    with pytest.warns(
        CardWarning, match=r"draws of 3 curves do not fit into the 9000 .* leaves out up to \d+%"
    ):
        kept = compress(found, 9000)
    assert sum(item.size(parts.scores.shape[1]) for item, parts in zip(found, kept, strict=True)) <= 9000
    assert all(parts.max_error > 0 for parts in kept)


def test_draws_that_are_all_alike_are_stored():
    (parts,) = compress([Decomposition.of(np.tile(np.arange(97.0), (30, 1)), np.arange(97.0))], 1000)
    np.testing.assert_array_equal(expand(parts, np.arange(97.0)), np.tile(np.arange(97.0), (30, 1)))


@pytest.mark.filterwarnings("ignore::sustain.errors.CardWarning")
def test_stays_small_with_many_strata():
    x, y = pairs(1500)
    card = build_card(x, y, strata=np.arange(1500) % 5, n_boot=200, **ABOUT)
    assert len(card.to_json()) < 300_000
    own = card.transform(x, "tweedie", check_support=False, stratum="3")
    fitted = TweedieCalibration().fit(x, y, strata=np.arange(1500) % 5)
    np.testing.assert_allclose(own, fitted.transform(x, strata="3", check_support=False), atol=1e-4)


def test_stated_error_of_the_stored_draws_is_small(card):
    stored = card.corrections[1].draws
    spread = np.sqrt(card.draws("tweedie").variance(np.linspace(*card.support, 50)))
    assert stored.kind == "components"
    assert stored.max_error < spread.max()


def test_gives_no_label_away(card):
    """No number in the card is a label or a prediction of the sample (to five digits)."""
    x, y, *_ = _sample()
    numbers = {float(f"{float(text):.5g}") for text in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", card.to_json())}

    # Five-digit numbers meet by chance; the card has thousands. Shuffled signs tell how many chance gives.
    def met(values):
        return sum(float(f"{value:.5g}") in numbers for value in values)

    assert met(y) <= met(-y) + met(y + 0.12345) + 10
    assert met(x) <= met(-x) + met(x + 0.12345) + 10
    assert not any(word in card.to_json() for word in ("lat", "lon", "y_true", "y_pred"))


def _solve_for_labels(card, x, counts):
    """Labels that the stored lines imply, if these were the resamples: means of the truth, one a draw."""
    draws = card.corrections[0].draws
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = (shares @ x - np.array(draws.intercept)) / np.array(draws.slope)
    return np.linalg.lstsq(shares, means, rcond=None)[0]


def test_predictions_and_seed_do_not_give_labels_away():
    """The attack that the lines of the draws invite, with the resamples known, and with only the seed known."""
    n, n_boot, seed = 60, 400, 7
    x, y = pairs(n)
    card = build_card(x, y, methods=("linear",), n_boot=n_boot, **ABOUT | {"seed": seed})

    def resamples(rng):
        return np.stack([rng.multinomial(n, np.full(n, 1 / n)) for _ in range(n_boot)])

    # The insider, who has the labels already, finds them: the attack as such works.
    insider = _solve_for_labels(card, x, resamples(_private_generator(as_sample(x, y), seed)))
    assert np.abs(insider - y).max() < 0.05 * y.std()
    outsider = _solve_for_labels(card, x, resamples(np.random.default_rng(seed)))
    guess = np.polyval(np.polyfit(x, y, 1), x)
    assert np.abs(outsider - y).mean() > np.abs(guess - y).mean()


def test_draws_are_few_or_many_by_request():
    x, y = pairs(100)
    with pytest.raises(CalibrationError, match="n_boot: 5"):
        build_card(x, y, n_boot=5, **ABOUT)
    card = LinearCalibration().fit(x, y).to_card(n_boot=33, **ABOUT)
    assert len(card.draws("linear")) == len(card.draws("none")) == 33


@pytest.mark.parametrize(
    ("methods", "message"), [((), "at least one"), (("linear", "linear"), "once"), (("x",), "'x'")]
)
def test_bad_methods(methods, message):
    with pytest.raises(CalibrationError, match=message):
        build_card(*pairs(100), methods=methods, **ABOUT)


def test_options_of_a_calibration_object_are_kept():
    x, y = pairs(300)
    card = build_card(x, y, methods=["linear", TweedieCalibration("kde", bandwidth=0.4)], n_boot=20, **ABOUT)
    assert card.corrections[1].options["bandwidth"] == 0.4
    own = TweedieCalibration("kde", bandwidth=0.4).fit(x, y)
    np.testing.assert_allclose(card.transform(x, "tweedie"), own.transform(x), atol=1e-9)


def test_published_estimator_fits_in_a_card():
    x, y = pairs(300)
    card = build_card(
        x,
        y,
        methods=["linear", TweedieCalibration("scott", recalibrate=False, monotone=False)],
        n_boot=20,
        **ABOUT,
    )
    own = TweedieCalibration("scott", recalibrate=False, monotone=False).fit(x, y)
    off = np.abs(card.transform(x, "tweedie", check_support=False) - own.exact(x)).max()
    assert off <= 1.3 * card.corrections[1].max_error
    assert len(card.to_json()) < 300_000


def test_draws_object_is_straight_beyond_its_ends():
    draws = Draws(Nodes(0.0, 1.0, 3), np.array([[0.0, 1.0, 3.0], [0.0, 2.0, 3.0]]))
    np.testing.assert_allclose(draws(np.array([2.0, -1.0])), [[7.0, -2.0], [5.0, -4.0]])


def test_a_changed_copy_has_a_hash_of_its_own(card, tmp_path):
    assert card.transform(0.3) == card.model_copy().transform(0.3)
    copied = card.model_copy(update={"licence": "CC0-1.0"})
    assert copied.sha256 != card.sha256
    assert CalibrationCard.load(copied.save(tmp_path / "card.json")) == copied


def test_the_stored_draws_do_not_hang_on_rounding():
    """Splines of few knots leave most directions without variance: what rounding makes of these may not matter."""
    rng = np.random.default_rng(0)
    basis = np.vander(np.linspace(-1, 1, 257), 5)
    draws = rng.normal(size=(100, 5)) @ basis.T
    h = draws.mean(axis=0)
    found = Decomposition.of(draws, h).parts
    for seed in range(5):
        rounding = 1 + 4e-16 * np.random.default_rng(seed).choice([-1, 0, 1], draws.shape)
        again = Decomposition.of(draws * rounding, h).parts
        np.testing.assert_array_equal(again.scores, found.scores)
        np.testing.assert_array_equal(again.curves, found.curves)
        assert again.scale == found.scale


def _numbers_of(card):
    """All that a card's response says, as numbers of about one size."""
    model = card.response_model
    triangle = np.tril_indices(len(model.knots))
    return np.concatenate(
        [
            model.pooled.values,
            model.pooled.quantiles,
            50 * model.pooled.cov[triangle],
            100 * model.kernel.density.ravel(),
            model.knots,
            [model.truth.start, model.truth.stop, model.centre, model.scale, model.kernel.residual.stop],
        ]
    )


def test_a_response_does_not_give_labels_away():
    """Whoever knows predictions and this code looks for labels that give the same response, by least squares."""
    n = 50
    rng = np.random.default_rng(0)
    y = rng.normal(size=n)
    x = 0.7 * y + 0.4 * rng.normal(size=n)

    def response_of(labels):
        return _numbers_of(ResponseCalibration().fit(x, labels).to_card(n_boot=20, **ABOUT))

    stored = response_of(y)
    guess = np.polyval(np.polyfit(x, y, 1), x)  # what the line of a card tells
    found, step = guess.copy(), 0.08  # of the order of the kernel's cells
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            left = stored - response_of(found)
            slopes = np.stack(
                [
                    (response_of(found + step * e) - response_of(found - step * e)) / (2 * step)
                    for e in np.eye(n)
                ],
                1,
            )
            system = slopes.T @ slopes
            found = found + np.linalg.solve(system + 0.01 * np.trace(system) / n * np.eye(n), slopes.T @ left)
    assert np.median(np.abs(found - y)) > 0.8 * np.median(np.abs(guess - y))


def test_a_response_of_few_rows_is_left_out():
    x, y = pairs(40)
    with pytest.warns(WeakCalibrationWarning, match="no response: y_pred: 40 pairs"):
        card = build_card(x, y, n_boot=20, **ABOUT)
    assert card.response is None
    with pytest.raises(CalibrationError, match="at least 50"):
        ResponseCalibration().fit(x, y)
