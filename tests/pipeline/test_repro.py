"""The whole path on a tiny world: what a user of ``dvc repro`` relies on."""

from __future__ import annotations

import pytest

from .project import STAGES, Project, ran

pytestmark = pytest.mark.slow


def test_a_second_run_does_nothing(finished):
    again = finished.dvc("repro")
    assert again.returncode == 0
    assert ran(again) == []
    assert "up to date" in again.stdout


def test_every_artefact_is_there_and_no_leftover(finished):
    made = finished.digests()
    for name in (
        "data/raw/synthetic/dhs_final_labels.csv",
        "data/tiles/synthetic/index.parquet",
        "models/synthetic/weights.safetensors",
        "models/synthetic/model.json",
        "predictions/synthetic/survey.parquet",
        "calibration/synthetic/card.json",
        "maps/synthetic/wealth.tif",
        "maps/synthetic/wealth_corrected.tif",
        "effects/synthetic/effects.json",
        "publish/synthetic/collection.json",
        "publish/synthetic/item.json",
        "reports/synthetic/index.html",
    ):
        assert name in made
    assert not [name for name in made if ".partial-" in name]
    assert not (finished.folder / "lightning_logs").exists()


def test_dvc_knows_metrics_and_plots(finished, tmp_path):
    shown = finished.dvc("metrics", "show")
    assert shown.returncode == 0
    assert "nightlights" in shown.stdout
    plotted = finished.dvc("plots", "show", "--out", str(tmp_path))
    assert plotted.returncode == 0, plotted.stderr
    page = (tmp_path / "index.html").read_text()
    assert "val_loss" in page


def test_a_calibration_parameter_reruns_calibrate_and_what_follows_only(finished, tmp_path):
    project = finished.copy(tmp_path / "copy")
    project.set({"calibrate": {"n_boot": 30}})
    done = project.dvc("repro")
    assert done.returncode == 0, done.stderr
    assert sorted(ran(done)) == ["calibrate", "correct", "effects", "publish", "report"]


def test_killed_in_every_stage_the_rerun_ends_with_the_same_bytes(finished, tmp_path):
    project = Project(tmp_path / "killed")
    for stage in STAGES:
        project.kill_in(stage, finished.seconds[stage])
        rerun = project.dvc("repro", "--single-item", stage)
        assert ran(rerun) == [stage], rerun.stdout + rerun.stderr
    assert ran(project.dvc("repro")) == []
    assert project.digests() == finished.digests()
