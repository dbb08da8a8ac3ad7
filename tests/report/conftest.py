"""Reports built once and read by many tests."""

import pytest

from sustain.config import SurveyPredictionsParams
from sustain.report import build_report

from . import fabricate


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """Places of a synthetic source with every artefact, and its report."""
    places = fabricate.artefacts(tmp_path_factory.mktemp("synthetic"))
    build_report(places, fabricate.params())
    return places


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Places of a real source: no model of its own, many contrasts with survey truth, one map."""
    places = fabricate.artefacts(
        tmp_path_factory.mktemp("real"),
        source="yeh2020",
        trials=fabricate.contrasts(),
        truth=None,
        model=False,
        endline=False,
    )
    fabricate.published(places)
    predict = SurveyPredictionsParams(model="resnet_18_ms")
    build_report(places, fabricate.params("yeh2020", predict=predict))
    return places
