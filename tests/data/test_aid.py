"""Trials of aid projects: the definition by hand on a few places, and the 28 trials of the real tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sustain.data.aid import PROJECTS_FILE, AidTrial, aid_trials, read_projects
from sustain.data.yeh2020 import read_survey
from sustain.debias import LinearCalibration, TweedieCalibration
from sustain.debias.judge.cross_fit import cross_fit
from sustain.errors import DataError, FileFormatError
from sustain.trials.contrasts import contrast_scores, contrast_table
from tests.yeh2020_files import write_published

SHARED = Path(__file__).parents[3] / "shared"
REAL = SHARED / "mirror" / "one_map_many_trials" / PROJECTS_FILE
needs_mirror = pytest.mark.skipif(not REAL.is_file(), reason="no published files in ../shared/mirror")
needs_tables = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="no tidy tables in ../shared/data: the reference figures need them"
)

PROJECTS = pd.DataFrame(
    {
        "lat": [0.0, 0.0, 5.0, 0.0],
        "lon": [0.0, 0.0, 5.0, 0.0],
        "year": [2005, 2000, 2005, 2005],
        "funder": ["WB", "WB", "WB", "CH"],
        "sector": [310, 310, 310, 220],
    }
)


def places(*rows: tuple[str, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["survey", "year", "lat", "lon"])


def treated(survey: pd.DataFrame, **options: object) -> dict[str, list[int]]:
    trials = aid_trials(survey, PROJECTS, min_arm=1, **options)
    return {trial.name: trial.rows[trial.treated == 1].tolist() for trial in trials}


@pytest.mark.parametrize(
    ("year", "counts"), [(2007, False), (2008, True), (2013, True), (2014, False), (2004, False)]
)
def test_projects_count_three_to_eight_years_before_the_survey(year: int, counts: bool) -> None:
    survey = places(("A", year, 0.05, 0.0), ("A", year, 2.0, 2.0))
    assert ("ch_220" in treated(survey)) is counts


def test_the_reach_is_a_distance_and_includes_its_end() -> None:
    survey = places(
        ("A", 2010, 0.1, 0.0),  # just at the end
        ("A", 2010, 0.08, 0.08),  # 0.113 away, though within 0.1 in both coordinates
        ("A", 2010, 0.06, 0.08),  # 0.1 away
        ("A", 2010, 3.0, 3.0),
    )
    assert treated(survey)["ch_220"] == [0, 2]
    assert treated(survey, degrees=0.12)["ch_220"] == [0, 1, 2]


def test_controls_are_the_rest_of_the_same_surveys() -> None:
    survey = places(
        ("A", 2010, 0.0, 0.0),
        ("A", 2010, 2.0, 2.0),
        ("B", 2010, 2.0, 2.1),
        ("C", 2010, 5.0, 5.0),
        ("C", 2010, 6.0, 6.0),
    )
    (china, bank) = aid_trials(survey, PROJECTS, min_arm=1)
    assert china.name == "ch_220"
    assert china.rows.tolist() == [0, 1]
    assert bank.rows.tolist() == [0, 1, 3, 4]  # survey B has no treated place
    assert (bank.n_treated, bank.n_control) == (2, 2)
    assert bank.title == "World Bank, agriculture, forestry and fishing"


def test_small_arms_are_left_out() -> None:
    survey = places(
        *[("A", 2010, 0.0, 0.001 * k) for k in range(5)], *[("A", 2010, 9.0, 0.1 * k) for k in range(4)]
    )
    assert {trial.name for trial in aid_trials(survey, PROJECTS, min_arm=4)} == {"ch_220", "wb_310"}
    assert aid_trials(survey, PROJECTS, min_arm=5) == []


def test_rows_are_positions_whatever_the_index() -> None:
    survey = places(("A", 2010, 2.0, 2.0), ("A", 2010, 0.0, 0.0))
    moved = survey.set_index(pd.Index([90, 7]))
    assert treated(moved) == treated(survey) == {"ch_220": [1], "wb_310": [1]}


@pytest.mark.parametrize("options", [{"degrees": 0}, {"years": (8, 3)}, {"min_arm": 0}])
def test_senseless_arguments_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match="degrees must be positive"):
        aid_trials(places(("A", 2010, 0, 0)), PROJECTS, **options)


def test_a_survey_without_its_columns_is_refused() -> None:
    with pytest.raises(DataError, match="survey"):
        aid_trials(pd.DataFrame({"lat": [1.0]}), PROJECTS)


def test_the_published_format_is_read(tmp_path: Path) -> None:
    raw = write_published(tmp_path)
    published = pd.read_csv(raw / "aid_projects" / PROJECTS_FILE)
    projects = read_projects(raw / "aid_projects" / PROJECTS_FILE)
    assert len(projects) == len(published)
    assert list(projects) == ["lat", "lon", "year", "funder", "sector"]
    assert (projects["year"] == published["start_date"].str[:4].astype(int)).all()
    trials = aid_trials(read_survey(raw / "yeh2020"), projects, min_arm=20)
    assert [trial.name for trial in trials] == ["ch_310", "wb_310"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("start_date", "soon"), ("latitude", None), ("funder", None), ("ad_sector_codes", "x")],
)
def test_a_row_without_use_is_named(tmp_path: Path, column: str, value: object) -> None:
    path = write_published(tmp_path) / "aid_projects" / PROJECTS_FILE
    table = pd.read_csv(path, dtype=object)
    table.loc[2, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(FileFormatError, match=r"1 row.*the first is row 3"):
        read_projects(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="acquire"):
        read_projects(tmp_path / PROJECTS_FILE)
    (tmp_path / PROJECTS_FILE).write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="lacks column"):
        read_projects(tmp_path / PROJECTS_FILE)


# ---- the real tables


@pytest.fixture(scope="module")
def reference() -> tuple[pd.DataFrame, list[AidTrial]]:
    """The run and the folds that the reference figures were made with."""
    table = pd.read_parquet(SHARED / "data" / "yeh_dhs_incountry.parquet")
    table["survey"] = table["country"] + table["year"].astype(str)
    return table, aid_trials(table, read_projects(REAL))


def mae_in_sd(reference: tuple[pd.DataFrame, list[AidTrial]], estimate: np.ndarray) -> float:
    table, trials = reference
    scored = contrast_scores(
        contrast_table(trials, {"estimate": estimate}, table["y_true"], table["cell1"]),
        table["y_true"].std(ddof=0),
    )
    return float(scored["mae_sd"].iloc[0])


@needs_mirror
@needs_tables
def test_there_are_28_trials(reference: tuple[pd.DataFrame, list[AidTrial]]) -> None:
    _, trials = reference
    assert len(trials) == 28
    assert min(min(trial.n_treated, trial.n_control) for trial in trials) >= 30


@needs_mirror
@needs_tables
@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        (None, 0.081),
        (LinearCalibration(), 0.512),
        pytest.param(
            TweedieCalibration(score="scott", recalibrate=False, monotone=False),
            0.380,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["naive", "linear", "tweedie-scott"],
)
def test_contrasts_err_as_an_independent_calculation_found(
    reference: tuple[pd.DataFrame, list[AidTrial]], calibration: object, expected: float
) -> None:
    table, _ = reference
    x = table["p_resnet_18_ms"].to_numpy()
    estimate = x if calibration is None else cross_fit(calibration, x, table["y_true"], table["fold"])
    assert mae_in_sd(reference, estimate) == pytest.approx(expected, abs=6e-4)


@needs_mirror
def test_the_published_run_tells_the_same_story() -> None:
    """The CSV's column is another run of the same model, so its figures are near and not the same."""
    table = read_survey(SHARED / "mirror" / "africa_poverty")
    trials = aid_trials(table, read_projects(REAL))
    x, truth = table["y_pred_resnet_18_ms"].to_numpy(), table["y_true"].to_numpy()
    estimates = {"none": x, "linear": cross_fit(LinearCalibration(), x, truth, table["country"])}
    scores = contrast_scores(contrast_table(trials, estimates, truth, table["adm2"]), truth.std())
    found = scores.set_index("method")["mae_sd"]
    assert len(trials) == 28
    assert found["none"] == pytest.approx(0.0783, abs=1e-3)
    assert found["linear"] == pytest.approx(0.516, abs=2e-3)
