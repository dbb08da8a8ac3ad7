from sustain.debias.card.schema import Correlogram, CountryErrors, SpatialErrors
from sustain.report.sections.calibration import _neighbours


def errors(countries):
    """Errors that half of a place shares with its neighbours."""
    one = Correlogram(
        range_km=[20.0],
        share=[0.5],
        distance_km=[1.0, 5.0, 20.0, 80.0],
        correlation=[0.5, 0.4, 0.2, 0.0],
        pairs=[200, 300, 400, 500],
        countries=countries,
    )
    return SpatialErrors(prediction_given_truth=one, truth_given_prediction=one)


def test_the_caption_tells_of_whole_countries_where_the_card_does():
    without = _neighbours(errors(None)).caption
    known = _neighbours(errors(CountryErrors(n=9, sd=0.17, within_sd=0.4))).caption
    assert "country" not in without
    assert known.startswith(without)
    assert "mean errors of 9 countries differ by 0.17" in known
