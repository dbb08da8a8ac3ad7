"""The stages of the published predictions and maps, on made-up files of the exact published format."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import yaml

from sustain.config import Params, load_params
from sustain.data.catalogue.manifest import Manifest
from sustain.data.fetch.published import fetch
from sustain.debias import CalibrationCard
from sustain.stage import Artefacts
from tests.yeh2020_files import write_published

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pipelines" / "yeh2020"
STAGES = ("predict", "calibrate", "crossfit", "map", "correct", "compare", "effects", "trials")
SHARED_STAGES = ("publish", "report")


def run(script: Path, params: Params, artefacts: Artefacts) -> None:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(params, artefacts)


def small_params() -> Params:
    content = load_params(FOLDER / "params.yaml").model_dump(mode="json")
    content["calibrate"]["n_boot"] = 20
    content["effects"]["aid"]["min_arm"] = 15
    return Params.model_validate(content)


def run_all(root: Path) -> Artefacts:
    artefacts, params = Artefacts("yeh2020", root), small_params()
    _mirror_and_fetch(root / "mirror", artefacts.raw)
    for stage in STAGES:
        run(FOLDER / f"{stage}.py", params, artefacts)
    for stage in SHARED_STAGES:
        run(ROOT / "pipelines" / f"{stage}.py", params, artefacts)
    return artefacts


def _mirror_and_fetch(mirror: Path, raw: Path) -> None:
    write_published(mirror)
    for name in ("yeh2020", "aid_projects"):
        files = [
            {
                "path": path.relative_to(mirror / name).as_posix(),
                "url": None,
                "size": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted((mirror / name).rglob("*.*"))
            if path.is_file()
        ]
        fetch(
            Manifest.model_validate({"name": name, "title": name, "licence": None, "files": files}),
            raw / name,
            mirror,
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Artefacts:
    return run_all(tmp_path_factory.mktemp("yeh2020"))


def test_the_plan_names_every_script_and_its_files() -> None:
    plan = yaml.safe_load((FOLDER / "dvc.yaml").read_text())["stages"]
    assert set(plan) == {"acquire", *STAGES, *SHARED_STAGES}
    for stage in plan.values():
        script = re.search(r"python (\S+\.py)", stage["cmd"])[1]
        assert stage["wdir"] == "../.."
        assert (ROOT / script).is_file()
        assert script in stage["deps"]
        for dependency in stage["deps"]:
            made = re.match(r"(data|predictions|calibration|maps|effects|publish)/", dependency)
            assert made or (ROOT / dependency).exists()


def test_the_card_never_saw_the_maps_country(finished: Artefacts) -> None:
    card = CalibrationCard.load(finished.card)
    assert "nigeria" not in card.sample.countries
    assert card.sample.n_groups == 4
    assert card.predictor.id == "yeh2020-resnet_18_ms"
    assert card.slope == pytest.approx(0.7, abs=0.03)
    assert card.citation.startswith("Yeh")


def test_the_published_map_is_corrected_with_its_own_card(finished: Artefacts) -> None:
    card = CalibrationCard.load(finished.card)
    with rasterio.open(finished.maps / "wealth_corrected.tif") as raster:
        wealth, raw = raster.read([1, 2])
        assert raster.tags()["SUSTAIN_CARD_SHA256"] == card.sha256
        assert raster.units[0] == "index points"
    with rasterio.open(finished.raw / "yeh2020/data/predictions/nigeria_2012_2014_ms_vals.tif") as raster:
        np.testing.assert_array_equal(raw, raster.read(1))
    seen = np.isfinite(raw)
    assert np.isnan(wealth[~seen]).all()
    np.testing.assert_allclose(wealth[seen], (raw[seen] - card.intercept) / card.slope, rtol=2e-3, atol=2e-3)
    for model in ("resnet_18_msnl_concat", "resnet_18_nl"):
        with rasterio.open(finished.maps / f"wealth_{model}_corrected.tif") as raster:
            assert raster.tags()["SUSTAIN_PREDICTOR"] == f"yeh2020-{model}"


def test_the_tables_have_every_model_fold_and_country(finished: Artefacts) -> None:
    folder = finished.calibration.with_name("yeh2020-crossfit")
    models = pd.read_csv(folder / "models.csv")
    assert set(models["folds"]) == {"spatial", "country"}
    assert models.groupby("folds")["model"].nunique().tolist() == [4, 4]
    linear = models[(models["method"] == "linear") & (models["folds"] == "spatial")]
    np.testing.assert_allclose(linear["slope"], 1, atol=0.1)
    countries = pd.read_csv(folder / "countries.csv")
    assert set(countries["country"]) == {"ghana", "kenya", "malawi", "nigeria", "zambia"}


def test_the_map_is_compared_with_the_survey_of_its_country(finished: Artefacts) -> None:
    folder = finished.maps.with_name("yeh2020-survey")
    agreement = pd.read_csv(folder / "agreement.csv").set_index(["model", "level", "method"])
    assert agreement.loc[("resnet_18_ms", "place", "none"), "n"] == 240
    assert agreement.loc[("resnet_18_ms", "area", "none"), "n"] == 4
    naive, linear = (agreement.loc[("resnet_18_ms", "place", m), "slope"] for m in ("none", "linear"))
    assert naive < linear
    tenths = pd.read_csv(folder / "tenths.csv")
    assert tenths.groupby(["model", "by", "method"]).size().eq(10).all()


def test_effects_hold_both_contrasts_beside_the_survey(finished: Artefacts) -> None:
    trials = json.loads((finished.effects / "effects.json").read_text())["trials"]
    assert [trial["name"] for trial in trials] == ["ch_310", "wb_310"]
    for trial in trials:
        assert trial["reported"] == "none"
        assert "stability is the better description" in trial["why"] or "correction is due" in trial["why"]
        assert [e["method"] for e in trial["estimates"]] == [
            "none",
            "response",
            "linear",
            "tweedie",
            "tweedie_scott",
        ]
        truth, linear = trial["truth"], trial["estimates"][2]["estimate"]
        # Here truth moves the prediction and nothing else does: the linear correction is right.
        assert linear == pytest.approx(truth, abs=0.2)
    local = json.loads((finished.effects.with_name("yeh2020-map") / "effects.json").read_text())["trials"]
    assert local
    assert {"none", "response", "linear", "tweedie"} == {e["method"] for e in local[0]["estimates"]}


def test_nothing_published_holds_a_label_or_a_survey_place(finished: Artefacts) -> None:
    survey = pd.read_parquet(finished.predictions / "survey.parquet")
    secret = {repr(value) for column in ("lat", "lon", "y_true") for value in survey[column].tolist()}
    shown = [
        path for folder in (finished.publish, finished.report, finished.effects) for path in folder.iterdir()
    ]
    shown += [
        finished.card,
        finished.calibration / "curves.csv",
        *finished.maps.with_name("yeh2020-survey").iterdir(),
    ]
    for path in shown:
        if path.suffix not in {".csv", ".json", ".html", ".md"}:
            continue
        text = path.read_text()
        assert not secret & set(re.findall(r"-?\d+\.\d+", text)), path
        assert not set(survey["id"]) & set(re.findall(r"\b[A-Z]{2}\d{4}-\d{4}\b", text)), path
    published = pd.read_parquet(finished.publish / "cells.parquet")
    assert not {"y_true", "label", "id"} & set(published)


@pytest.mark.slow
def test_the_same_files_give_the_same_bytes(finished: Artefacts, tmp_path: Path) -> None:
    again = run_all(tmp_path)
    made = [path for path in finished.root.rglob("*") if path.is_file()]
    assert len(made) > 40
    for path in made:
        assert (again.root / path.relative_to(finished.root)).read_bytes() == path.read_bytes(), path.name
