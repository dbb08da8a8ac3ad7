"""What every method of a trial warns of is said once, with the trial's name; caveats keep their kind."""

import warnings

import numpy as np
import pandas as pd

from sustain.debias import build_card
from sustain.errors import MissingDataWarning
from sustain.trials import Trial, estimate_trials

METHODS = ["none", "response", "linear", "tweedie"]


def estimated(n_treated=500, missing=3):
    """One trial with rows that are missing, by every method, and what was warned of."""
    rng = np.random.default_rng(2)
    truth = rng.normal(size=600)
    about = {"target": {"name": "wealth", "unit": "index"}, "predictor": "model", "n_boot": 20}
    card = build_card(0.6 * truth + 0.3 * rng.normal(size=600), truth, **about)
    treated = (np.arange(1000) < n_treated).astype(int)
    wealth = 0.6 * (rng.normal(size=1000) + 0.5 * treated) + 0.3 * rng.normal(size=1000)
    wealth[1000 - missing :] = np.nan
    units = pd.DataFrame({"wealth_raw": wealth, "treated": treated})
    trial = Trial(name="t", title="Lots drawn", question="?", table="", why="so", assumption="measurement")
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        (found,) = estimate_trials([trial], {"t": units}, card, methods=METHODS, correction="response")
    return found, [item for item in given if issubclass(item.category, MissingDataWarning)]


def test_a_warning_of_four_methods_is_given_once_with_the_trials_title():
    found, given = estimated()
    assert len(found.estimates) == 4
    (only,) = given
    assert str(only.message).startswith("“Lots drawn”: 3 of 1000 rows are left out")


def test_few_treated_units_are_a_grave_note_of_the_reported_estimate():
    found, _ = estimated(n_treated=3, missing=0)
    assert [note.kind for note in found.headline.notes if note.grave and note.kind == "few_units"] == [
        "few_units"
    ]
    many, _ = estimated(missing=0)
    assert not any(note.kind == "few_units" for note in many.headline.notes)
