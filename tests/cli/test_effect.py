"""``sustain effect`` as a user types it: every design gives the digits of the Python call, bad input gives one line."""

from __future__ import annotations

import json
import re
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from pyproj import Transformer
from rasterio.transform import from_origin

from sustain.causal import estimate_effect, table
from sustain.cli import main
from sustain.debias import CalibrationCard, build_card
from sustain.errors import SustainWarning
from sustain.maps.correct import correct_raster
from sustain.maps.read import sample_points
from tests.maps.fakes import write_raster

ABOUT = {"target": {"name": "wealth", "unit": "index points"}, "predictor": {"id": "m", "sha256": "a" * 64}}
PYTHON = re.compile(r"\b[a-z_]+=['{(\[]")
DIGITS = (
    "estimate",
    "std_error",
    "conf_low",
    "conf_high",
    "share_calibration",
    "df",
    "estimator",
    "vcov",
    "n",
)


@pytest.fixture
def sustain(monkeypatch, capsys):
    """Run the command in this process; gives its exit status and what it wrote to stdout and stderr."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["sustain", "effect", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main()
        code = done.value.code
        written = capsys.readouterr()
        error = written.err + (code if isinstance(code, str) else "")
        return (1 if isinstance(code, str) else code or 0), written.out, error

    return run


def make_calibration(n: int = 900, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    place, country = np.arange(n) % 2, np.arange(n) // 3 % 30
    truth = rng.normal(size=n) + 0.8 * place + 0.4 * rng.normal(size=30)[country]
    y_pred = 0.2 + (0.6 + 0.1 * rng.normal(size=30)[country]) * truth + 0.4 * rng.normal(size=n)
    names = {"place": np.where(place, "urban", "rural"), "country": country, "village": np.arange(n) + 10_000}
    return pd.DataFrame({"y_pred": y_pred, "y_true": truth} | names)


def make_trial(n: int = 480, seed: int = 1) -> pd.DataFrame:
    """A panel of villages in two waves, half of them treated in the second; each row also a unit by itself."""
    rng = np.random.default_rng(seed)
    village, wave = np.arange(n) // 2, np.arange(n) % 2
    x, offer = rng.normal(size=(2, n // 2))[:, village]
    given = (offer + 0.5 * x + rng.normal(size=n // 2)[village] > 0).astype(int)
    wealth = 0.3 * given * wave + 0.4 * x + 0.2 * wave + rng.normal(size=n // 2)[village] + rng.normal(size=n)
    return pd.DataFrame(
        {
            "wealth_raw": 0.6 * wealth,
            "treated": given * wave,
            "given": given,
            "offer": offer,
            "x": x + 0.1 * rng.normal(size=n),
            "z": rng.normal(size=n),
            "village": village,
            "year": 2010 + 5 * wave,
            "adm2": village % 40,
            "kind": rng.choice(["a", "b", "c"], n),
            "place": rng.choice(["urban", "rural"], n),
            "w": rng.uniform(0.5, 2, n),
            "lat": rng.uniform(0, 8, n),
            "lon": rng.uniform(0, 8, n),
        }
    ).assign(
        y=lambda frame: frame["lat"],
        e=lambda frame: frame["lon"],
        one=1,
        decides=lambda frame: 2 * frame["given"] + 0.01 * frame["x"],
        spike=lambda frame: (frame.index == 3).astype(int),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("effect")
    sample = make_calibration()
    sample.to_csv(path / "calibration.csv", index=False)
    make_trial().to_csv(path / "trial.csv", index=False)
    build_card(
        sample["y_pred"],
        sample["y_true"],
        groups=sample["country"].to_numpy(),
        strata=sample["place"].to_numpy(),
        levels={"country": sample["country"].to_numpy()},
        methods=("linear", "tweedie", "response"),
        n_boot=40,
        **ABOUT,
    ).save(path / "card.json")
    return path


# What is typed after the table and the card, and the keywords that it stands for.
ROLES = "--outcome wealth_raw --treatment given", {"outcome": "wealth_raw", "treatment": "given"}
DESIGNS = {
    "difference": ("", {}),
    "difference, weighted": ("--weights w", {"weights": "w"}),
    "ols": (
        "--estimator ols --covariates x --covariates kind",
        {"estimator": "ols", "covariates": ["x", "kind"]},
    ),
    "ols, absorbed": (
        "--estimator ols --covariate x --fixed-effects adm2 --fixed-effects kind^place --vcov CRV1:adm2",
        {
            "estimator": "ols",
            "covariates": "x",
            "fixed_effects": ["adm2", "kind^place"],
            "vcov": {"CRV1": "adm2"},
        },
    ),
    "ols, two kinds of clusters": (
        "--estimator ols --covariate x --vcov CRV1:adm2,village",
        {"estimator": "ols", "covariates": "x", "vcov": {"CRV1": ["adm2", "village"]}},
    ),
    "ipw": ("--estimator ipw --covariate x", {"estimator": "ipw", "covariates": ["x"]}),
    "aipw": (
        "--estimator aipw --covariate x --n-folds 3 --seed 7",
        {"estimator": "aipw", "covariates": ["x"], "n_folds": 3, "seed": 7},
    ),
    "aipw, clustered": (
        "--estimator aipw --covariate x --vcov CRV1:adm2",
        {"estimator": "aipw", "covariates": ["x"], "vcov": {"CRV1": "adm2"}},
    ),
    "iv": (
        "--estimator iv --instrument offer --covariate x --vcov CRV1:village",
        {"estimator": "iv", "instrument": "offer", "covariates": ["x"], "vcov": {"CRV1": "village"}},
    ),
    "did": (
        "--treatment treated --estimator did --unit village --time year",
        {"treatment": "treated", "estimator": "did", "unit": "village", "time": "year"},
    ),
    "did, CR2": (
        "--treatment treated --estimator did --unit village --time year --vcov CR2:adm2",
        {
            "treatment": "treated",
            "estimator": "did",
            "unit": "village",
            "time": "year",
            "vcov": {"CR2": "adm2"},
        },
    ),
    "conley": ("--vcov conley:80", {"vcov": {"conley": {"lat": "lat", "lon": "lon", "cutoff_km": 80}}}),
    "conley, other columns": (
        "--vcov conley:80,lat=y,lon=e,kernel=uniform",
        {"vcov": {"conley": {"lat": "y", "lon": "e", "cutoff_km": 80, "kernel": "uniform"}}},
    ),
    "blocks": (
        "--vcov block:150,n_boot=60 --seed 3",
        {"vcov": {"block": {"lat": "lat", "lon": "lon", "block_km": 150, "n_boot": 60}}, "seed": 3},
    ),
    "tweedie": ("--method tweedie --level 0.9", {"method": "tweedie", "level": 0.9}),
    "response": ("--method response --assumption bracket", {"method": "response", "assumption": "bracket"}),
    "level": (
        "--method level --card-level 'within country'",
        {"method": "level", "card_level": "within country"},
    ),
    "strata": ("--strata place", {"strata": "place"}),
    "not corrected": ("--assumption outcome", {"assumption": "outcome"}),
    "none": ("--method none", {"method": "none"}),
    "transport": ("--transport groups", {"transport": "groups"}),
    "transport, a number": ("--transport 0.1", {"transport": 0.1}),
}
FORMULAS = {
    "ols": ("wealth_raw ~ given + np.log(w) + C(kind)", "--vcov CR2:adm2", {"vcov": {"CR2": "adm2"}}),
    "fixed effects": (
        "wealth_raw ~ treated + x | village + year",
        "--vcov CRV1:adm2",
        {"vcov": {"CRV1": "adm2"}},
    ),
    "did": ("wealth_raw ~ treated | village + year", "--estimator did", {"estimator": "did"}),
    "products": ("wealth_raw ~ given * x | adm2", "--vcov CRV1:village", {"vcov": {"CRV1": "village"}}),
    "iv": ("wealth_raw ~ x | adm2 | given ~ offer", "--vcov CRV1:adm2", {"vcov": {"CRV1": "adm2"}}),
    "aipw": ("wealth_raw ~ given + x + z", "--estimator aipw", {"estimator": "aipw"}),
    "named treatment": ("wealth_raw ~ x + given", "--treatment given", {"treatment": "given"}),
}


def words(line: str) -> list[str]:
    import shlex

    return shlex.split(line)


def expected(folder, formula=None, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SustainWarning)
        data = pd.read_csv(folder / "trial.csv")
        return estimate_effect(data, formula, calibration=folder / "card.json", **keywords)


def the_same(written, result) -> None:
    """To the last digit that JSON keeps, which is all of them."""
    for name in DIGITS:
        assert written[name] == result.to_dict()[name], name
    assert written["products"] == result.to_dict()["products"]
    assert [note["kind"] for note in written["notes"]] == [note.kind for note in result.notes]
    # The same words, with options where Python has arguments.
    assert not [note["text"] for note in written["notes"] if PYTHON.search(note["text"])]


@pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
class TestEveryDesign:
    @pytest.mark.parametrize(("line", "keywords"), DESIGNS.values(), ids=DESIGNS)
    def test_by_columns(self, sustain, folder, tmp_path, line, keywords):
        out = tmp_path / "effect.json"
        base = (folder / "trial.csv", "--card", folder / "card.json", "-o", out)
        code, text, error = sustain(*base, *words(ROLES[0]), *words(line))
        assert code == 0, error
        result = expected(folder, **(ROLES[1] | keywords))
        the_same(json.loads(out.read_text()), result)
        numbers = "\n\n".join(
            result.summary().split("\n\n")[:2]
        )  # before the caveats, which name options here
        assert text.startswith(numbers)

    @pytest.mark.parametrize(("formula", "line", "keywords"), FORMULAS.values(), ids=FORMULAS)
    def test_by_formula(self, sustain, folder, tmp_path, formula, line, keywords):
        out = tmp_path / "effect.json"
        base = (folder / "trial.csv", "--card", folder / "card.json", "-o", out)
        code, _, error = sustain(*base, "--formula", formula, *words(line))
        assert code == 0, error
        the_same(json.loads(out.read_text()), expected(folder, formula, **keywords))

    def test_shared_units(self, sustain, folder, tmp_path):
        sample, trial = make_calibration(), make_trial()
        trial["village"] = sample["village"].to_numpy()[: len(trial)]
        trial.to_csv(tmp_path / "trial.csv", index=False)
        out = tmp_path / "effect.json"
        code, _, error = sustain(
            *(tmp_path / "trial.csv", "--card", folder / "card.json", "-o", out, *words(ROLES[0])),
            *("--overlap", f"village:{folder / 'calibration.csv'},y_pred=y_pred"),
        )
        assert code == 0, error
        result = estimate_effect(
            pd.read_csv(tmp_path / "trial.csv"),
            calibration=folder / "card.json",
            overlap={"id": "village", "rows": pd.read_csv(folder / "calibration.csv")},
            **ROLES[1],
        )
        the_same(json.loads(out.read_text()), result)

    def test_without_a_card(self, sustain, folder):
        code, text, _ = sustain(folder / "trial.csv", "--formula", "wealth_raw ~ given")
        assert code == 0
        assert "uncorrected: The outcome is taken as it is." in text
        assert "Transport" not in text


@pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
class TestWhatIsSaid:
    def test_other_intervals_profile_and_sensitivity(self, sustain, folder, tmp_path):
        out, picture = tmp_path / "effect.json", tmp_path / "effect.png"
        base = (folder / "trial.csv", "--card", folder / "card.json", *words(ROLES[0]), "-o", out)
        base += ("--method", "linear")
        more = ("--interval", "fieller", "--sensitivity", "--conley-profile", "20,80", "--plot", picture)
        code, text, error = sustain(*base, *more)
        assert code == 0, error
        result = expected(folder, **ROLES[1], method="linear")
        written = json.loads(out.read_text())
        assert (written["interval"]["conf_low"], written["interval"]["conf_high"]) == result.conf_int(
            method="fieller"
        )
        profile = result.conley_profile(make_trial(), "lat", "lon", [20, 80])
        assert [row["std_error"] for row in written["conley_profile"]] == pytest.approx(
            profile["std_error"].tolist(), rel=1e-12
        )
        assert written["sensitivity"]["breakdown"] == result.naive.estimate
        assert result.sensitivity(CalibrationCard.load(folder / "card.json")).summary() in text
        assert picture.read_bytes().startswith(b"\x89PNG")
        code, text, _ = sustain(*base, "--interval", "bootstrap")
        low, high = result.conf_int(method="bootstrap")
        assert f"95% interval, bootstrap: {low:.4g} to {high:.4g}" in text

    def test_a_table_that_does_not_say_its_model(self, sustain, folder):
        _, text, _ = sustain(folder / "trial.csv", "--card", folder / "card.json", *words(ROLES[0]))
        assert "taken on trust" in text

    def test_a_table_that_says_its_model(self, sustain, folder, tmp_path):
        data = make_trial()
        data.attrs["predictor_sha256"] = "a" * 64
        data.to_parquet(tmp_path / "trial.parquet")
        base = (tmp_path / "trial.parquet", "--card", folder / "card.json", *words(ROLES[0]))
        code, text, _ = sustain(*base)
        assert code == 0
        assert "taken on trust" not in text
        data.attrs["predictor_sha256"] = "b" * 64
        data.to_parquet(tmp_path / "trial.parquet")
        code, _, error = sustain(*base)
        assert code == 1
        assert "published with this map" in error

    def test_few_units_are_not_compared_but_estimated(self, sustain, folder, tmp_path):
        make_trial().groupby("given").head(6).to_csv(tmp_path / "few.csv", index=False)
        code, text, _ = sustain(tmp_path / "few.csv", "--card", folder / "card.json", *words(ROLES[0]))
        assert code == 0
        assert "Transport: not compared" in text

    def test_warnings_are_lines(self, sustain, folder, tmp_path):
        make_trial().assign(wealth_raw=lambda frame: frame["wealth_raw"].mask(frame.index < 9)).to_csv(
            tmp_path / "holes.csv", index=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            base = (tmp_path / "holes.csv", "--card", folder / "card.json", *words(ROLES[0]))
            code, text, error = sustain(*base)
        assert code == 0
        # Once: where the effect stands.
        assert (
            "missing: 9 of 480 rows are left out for missing values (wealth_raw 9; rows 0, 1, 2, 3, 4, ...)"
            in " ".join(text.split())
        )
        assert error == ""


BAD = {
    "no table": ("absent.csv", "", "no such table"),
    "no places": (
        "calibration.csv",
        "--map before.tif",
        "say which columns these are (--lon, --lat), or give --polygons",
    ),
    "not a table": ("card.json", "", "not a table by its name"),
    "no outcome": ("trial.csv", "--treatment given", "name both columns, or pass a formula"),
    "no column": ("trial.csv", "--formula 'wealth ~ given'", "no column 'wealth' in data; it has wealth_raw"),
    "formula": ("trial.csv", "--formula 'wealth_raw given'", "is not outcome ~ terms"),
    "formula and covariates": (
        "trial.csv",
        "--formula 'wealth_raw ~ given' --covariates x",
        "pass none of them",
    ),
    "treatment": (
        "trial.csv",
        "--outcome wealth_raw --treatment year",
        "must hold 0 and 1 only, but holds 2010, 2015",
    ),
    "one arm": ("trial.csv", "--outcome wealth_raw --treatment one", "each arm needs at least 2"),
    "one unit's weight": ("trial.csv", "ROLES --weights spike", "each arm needs at least 2"),
    "separation": ("trial.csv", "ROLES --estimator ipw --covariates decides", "exactly who is treated"),
    "one cluster": ("trial.csv", "ROLES --vcov CRV1:one", "holds a single cluster"),
    "one cluster an arm": ("trial.csv", "ROLES --vcov CR2:given", "difference between two clusters"),
    "one place": ("trial.csv", "ROLES --vcov conley:50,lat=one,lon=one", "all units stand at one place"),
    "text": ("trial.csv", "--outcome kind --treatment given", "--outcome: column 'kind': expected numbers"),
    "vcov": ("trial.csv", "ROLES --vcov HC9", "--vcov: got 'HC9', expected HC1, CRV1:COLUMN"),
    "vcov, column": ("trial.csv", "ROLES --vcov CRV1:adm9", "no column 'adm9'"),
    "vcov, option": ("trial.csv", "ROLES --vcov conley:9,kern=uniform", "expected lat, lon and cutoff_km"),
    "vcov, word": (
        "trial.csv",
        "ROLES --vcov conley:far",
        "--vcov: got 'conley:far', expected HC1, CRV1:COLUMN",
    ),
    "vcov, resamples": (
        "trial.csv",
        "ROLES --vcov block:50,n_boot=few",
        "n_boot: got 'few', expected 50 resamples",
    ),
    "vcov, text": (
        "trial.csv",
        "ROLES --vcov conley:50,lat=kind",
        "column 'kind'",
    ),
    "profile": ("trial.csv", "ROLES --conley-profile 20,far", "--conley-profile: got '20,far'"),
    "profile, zero": (
        "trial.csv",
        "ROLES --conley-profile 0",
        "cutoff: got 0.0, expected a distance above 0",
    ),
    "did": ("trial.csv", "ROLES --estimator did --unit village", "--estimator did needs both"),
    "never treated": (
        "trial.csv",
        "ROLES --estimator did --unit village --time year",
        "it never changes within a unit",
    ),
    "iv": ("trial.csv", "ROLES --estimator iv", "--estimator iv needs an instrument"),
    "absorbed": ("trial.csv", "ROLES --fixed-effects adm2", "are absorbed by --estimator ols or iv"),
    "weights": ("trial.csv", "ROLES --weights people.tif", "no column 'people.tif'"),
    "method": ("trial.csv", "ROLES --method cubic", "cubic"),
    "level": ("trial.csv", "ROLES --method level", "--method level needs --card-level LEVEL"),
    "transport": ("trial.csv", "ROLES --transport far", "far"),
    "transport, as it was": ("trial.csv", "ROLES --transport leave_one_out", "is no longer offered"),
    "change": (
        "trial.csv",
        "--outcome wealth_raw --treatment treated --estimator did --unit village --time year --method linear",
        "method: got 'linear', but the effect is a change of 'village' over 'year'",
    ),
    "change, bracket": (
        "trial.csv",
        "--formula 'wealth_raw ~ treated | village + year' --assumption bracket",
        "assumption: got 'bracket', but the effect is a change of 'village' over 'year'",
    ),
    "overlap": ("trial.csv", "ROLES --overlap village", "--overlap: got 'village', expected COLUMN:TABLE"),
    "confidence": ("trial.csv", "ROLES --level 95", "expected a confidence level between 0 and 1"),
    "sensitivity": (
        "trial.csv",
        "ROLES --method tweedie --sensitivity",
        "needs an effect with a linear correction",
    ),
    "no map": ("trial.csv", "ROLES --buffer-m 500", "--buffer-m says how to read a map, and there is none"),
    "picture": ("trial.csv", "ROLES --plot effect.xyz", "effect.xyz is no kind of picture"),
    "output": ("trial.csv", "ROLES -o trial.csv/effect.json", "trial.csv"),
    "output, kind": (
        "trial.csv",
        "ROLES -o effect.docx",
        "is no kind of result, expected a name that ends in .json",
    ),
}


@pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
@pytest.mark.parametrize(("file", "line", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(sustain, folder, monkeypatch, file, line, message):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    code, _, error = sustain(file, "--card", "card.json", *words(line.replace("ROLES", ROLES[0])))
    assert code == 1
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error.strip()
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("card", ["absent.json", ".", "trial.csv"])
def test_a_card_that_is_none(sustain, folder, monkeypatch, card):
    monkeypatch.chdir(folder)
    code, _, error = sustain("trial.csv", "--card", card, *words(ROLES[0]))
    assert code == 1
    assert error.startswith("error: ")
    assert card in error


CELL, SIZE = 960, 24


@pytest.fixture(scope="module")
def panel(folder):
    """Maps of two years, one of another model, and 120 villages in both years, half of them treated in the second."""
    card = CalibrationCard.load(folder / "card.json")
    rng = np.random.default_rng(5)
    before = rng.normal(size=(1, SIZE, SIZE))
    rasters = {"before": before, "after": before + 0.1 + 0.3 * rng.normal(size=before.shape), "other": before}
    for name, values in rasters.items():
        tags = {"SUSTAIN_TARGET": "wealth", "SUSTAIN_PREDICTOR": "m" if name != "other" else "rival"}
        raw = folder / f"{name}_raw.tif"
        write_raster(raw, values, ("wealth",), units=["index points"], tags=tags)
        if name != "other":
            correct_raster(raw, folder / f"{name}.tif", card)
    rows, cols = rng.integers(1, SIZE - 1, (2, 120))
    to_lonlat = Transformer.from_crs(3857, 4326, always_xy=True)
    lon, lat = to_lonlat.transform(-9600 + (cols + 0.5) * CELL, 9600 - (rows + 0.5) * CELL)
    units = pd.DataFrame({"village": np.arange(120), "lon": lon, "lat": lat, "arm": np.arange(120) % 2})
    waves = [units.assign(year=year, treated=units["arm"] * (year == 2015)) for year in (2010, 2015)]
    table = pd.concat(waves).sample(frac=1, random_state=0).reset_index(drop=True)
    table.to_csv(folder / "panel.csv", index=False)
    return table


MAPS = "--map 2010=before.tif --map 2015=after.tif"
DID = "--estimator did --unit village --time year"


@pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
class TestMapsOfSeveralPeriods:
    def test_each_row_is_read_from_the_map_of_its_period(self, sustain, folder, panel, monkeypatch):
        monkeypatch.chdir(folder)
        base = ("panel.csv", "--card", "card.json", "-o", "effect.json")
        code, text, error = sustain(*base, *words(MAPS), *words(DID))
        assert code == 0, error
        read = panel.assign(wealth_raw=np.nan)
        for year, name in ((2010, "before.tif"), (2015, "after.tif")):
            rows = panel["year"] == year
            values = sample_points(name, panel.loc[rows, "lon"], panel.loc[rows, "lat"])
            read.loc[rows, "wealth_raw"] = values["wealth_raw"]
        columns = {"outcome": "wealth_raw", "treatment": "treated", "unit": "village", "time": "year"}
        result = estimate_effect(read, estimator="did", calibration="card.json", **columns)
        the_same(json.loads((folder / "effect.json").read_text()), result)
        (folder / "effect.json").unlink()
        assert "map of its own (2010 before.tif, 2015 after.tif)" in text
        # The difference of the means of changes, by hand.
        wide = read.pivot_table("wealth_raw", "village", "year")
        change = (wide[2015] - wide[2010]).groupby(panel.groupby("village")["arm"].first()).mean()
        assert result.naive.estimate == pytest.approx(change[1] - change[0], rel=1e-9)
        formula = ("--formula", "wealth_raw ~ treated | village + year", "--vcov", "CRV1:village")
        code, text, error = sustain(*base[:3], *words(MAPS), "--map-period", "year", *formula)
        assert code == 0, error
        assert f"{result.estimate:.4g}" in text

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (f"--map before.tif {DID}", "one map for 2 periods in column 'year'"),
            (f"--map 2010=before.tif {DID}", "none for year 2015; there are maps for 2010"),
            (f"--map 2010=before.tif --map after.tif {DID}", "got 'after.tif' among several maps"),
            (f"--map 2010=before.tif --map 2010=after.tif {DID}", "got '2010=after.tif' among several"),
            (MAPS, "--time or --map-period, got None"),
            (f"{MAPS} --map-period wave", "got 'wave'; the table has village, lon"),
            (f"--map 2010=before.tif --map 2015=other_raw.tif {DID}", "they differ in their predictor"),
            (f"--map 2010=before.tif --map 2015=absent.tif {DID}", "no such raster"),
            ("--map card.json", "cannot open this file as a raster"),
            (
                "--map before.tif --polygons absent.gpkg --key village",
                "absent.gpkg: no such file of polygons",
            ),
            ("--map before.tif --polygons calibration.csv --key village", "a table without geometry"),
            ("--map before.tif --cell-weights before.tif", "nothing to weigh"),
            ("--map before.tif --formula 'wealth ~ treated'", "Pass --outcome wealth_raw"),
        ],
    )
    def test_what_is_refused(self, sustain, folder, panel, monkeypatch, line, message):
        monkeypatch.chdir(folder)
        code, _, error = sustain("panel.csv", "--card", "card.json", *words(line))
        assert code == 1
        assert error.startswith("error: ")
        assert message in error
        assert "\n" not in error.strip()


@pytest.mark.filterwarnings("ignore::sustain.errors.SustainWarning")
class TestFiles:
    @pytest.mark.parametrize("suffix", ["tex", "md", "html", "csv", "xlsx"])
    def test_the_kind_is_the_names(self, sustain, folder, tmp_path, suffix):
        out = tmp_path / f"effect.{suffix}"
        base = (folder / "trial.csv", "--card", folder / "card.json", *words(ROLES[0]), "--method", "linear")
        written = []
        for _ in range(2):
            assert sustain(*base, "-o", out)[0] == 0
            written.append(out.read_bytes())
        assert written[0] == written[1]
        result = expected(folder, **ROLES[1], method="linear")
        if suffix in ("csv", "xlsx"):
            found = pd.read_csv(out) if suffix == "csv" else pd.read_excel(out)
            pd.testing.assert_frame_equal(found, result.tidy())
        else:
            kinds = {"tex": "latex", "md": "markdown", "html": "html"}
            assert out.read_text() == table(result, format=kinds[suffix])

    def test_side_by_side(self, sustain, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        base = (folder / "trial.csv", "--card", folder / "card.json", *words(ROLES[0]))
        for name, more in (("a", ()), ("b", ("--assumption", "bracket"))):
            assert sustain(*base, *more, "-o", f"{name}.json")[0] == 0
        monkeypatch.setattr(
            sys, "argv", ["sustain", "table", "a.json", "b.json", "--name", "A", "--name", "B", "-o", "t.tex"]
        )
        with pytest.raises(SystemExit) as done:
            main()
        assert done.value.code in (None, 0)
        expected_table = table(
            [expected(folder, **ROLES[1]), expected(folder, **ROLES[1], assumption="bracket")],
            names=["A", "B"],
        )
        assert capsys.readouterr().out == str(expected_table)
        assert (tmp_path / "t.tex").read_text() == expected_table.to_latex()

    def test_at_most_a_screen_unless_details_are_asked_for(self, sustain, folder):
        base = (
            folder / "trial.csv",
            "--card",
            folder / "card.json",
            "--assumption",
            "bracket",
            "--strata",
            "place",
        )
        base += ("--formula", "wealth_raw ~ given * x + given * z | adm2")
        _, short, _ = sustain(*base)
        lines = short.rstrip().split("\n")
        assert len(lines) <= 40
        assert max(map(len, lines)) <= 100
        assert lines[-1] == "(in full: --details)"
        _, full, _ = sustain(*base, "--details")
        assert "Both ends are reported" in " ".join(full.split())
        assert len(full) > len(short)


def test_a_band_that_is_corrected_already_is_not_corrected_again(folder, tmp_path, sustain):
    """The band `wealth` of a corrected map, cut out with its tags, is no raw map."""
    path = tmp_path / "cut.tif"
    tags = {
        "SUSTAIN_METHOD": "linear",
        "SUSTAIN_CARD_SHA256": CalibrationCard.load(folder / "card.json").sha256,
    }
    values = np.random.default_rng(0).normal(size=(9, 9))
    layout = {"crs": "EPSG:4326", "transform": from_origin(0, 9, 1, 1)}
    write_raster(path, [values], ("wealth",), tags=tags, **layout)
    make_trial().drop(columns="wealth_raw").to_csv(tmp_path / "trial.csv", index=False)
    typed = (tmp_path / "trial.csv", "--map", path, "--treatment", "given", "--outcome", "wealth_raw")
    code, _, said = sustain(*typed, "--card", folder / "card.json", "--assumption", "measurement")
    assert code != 0
    assert "corrected already (by linear)" in f"{code}{said}"
    assert sustain(*typed)[0] in (0, None)
