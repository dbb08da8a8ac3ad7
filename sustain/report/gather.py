"""Reads the artefacts of one source into typed findings; a part that the source does not have is ``None``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sustain.debias import CalibrationCard
from sustain.errors import FileFormatError
from sustain.files import read_json, sha256_of
from sustain.report.findings import Accuracy, Findings, Published, Survey, model_label
from sustain.stage import Artefacts
from sustain.tables import read_table
from sustain.trials.results import TrialResult, read_results

__all__ = ["gather", "read_trials"]


def gather(artefacts: Artefacts, mapped: str = "cnn") -> Findings:
    """Read what the stages wrote.

    Parameters
    ----------
    artefacts : Artefacts
        The source's files.
    mapped : str
        Name, in the metrics of the predictions, of the model that made the map.

    Raises
    ------
    FileNotFoundError
        When the calibration card or the effects are missing; every other part is optional.
    FileFormatError, CardError
        When a file is not what its name promises.
    """
    for path, stage in ((artefacts.card, "calibrate"), (artefacts.effects / "effects.json", "effects")):
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no such file, and the page needs it. Run the {stage} stage (dvc repro)."
            )
    return Findings(
        source=artefacts.source,
        mapped=mapped,
        card=CalibrationCard.load(artefacts.card),
        trials=read_trials(artefacts),
        survey=_survey(artefacts, mapped),
        curves=_table(artefacts.calibration / "curves.csv", ["x", "method", "h", "lo", "hi"]),
        training=_table(artefacts.model / "curves.csv", ["epoch", "train_loss", "val_loss"]),
        model=_json(artefacts.model / "model.json"),
        diagnosis=_json(artefacts.calibration / "diagnostics.json"),
        published=_published(artefacts),
        files=_hashes(artefacts),
    )


def read_trials(artefacts: Artefacts) -> tuple[TrialResult, ...]:
    """Read the effects and, where the source has one, put in the truth."""
    truths = _json(artefacts.truth / "truth.json") or {}
    known: Mapping[str, Mapping[str, Any]] = truths.get("trials", {})
    return tuple(
        trial.with_truth(known[trial.name]["effect"], str(known[trial.name].get("definition", "")))
        if trial.name in known
        else trial
        for trial in read_results(artefacts.effects)
    )


def _published(artefacts: Artefacts) -> Published:
    crossfit, survey = _beside(artefacts.calibration, "crossfit"), _beside(artefacts.maps, "survey")
    read_off = _beside(artefacts.effects, "map")
    agreement = ["model", "method", "rmse", "r2", "slope"]
    gaps = [f"{what}_gap{part}" for what in ("truth", "prediction") for part in ("", "_std_error")]
    tenths = ["model", "by", "method", "mean_true", "bias", "std_error"]
    return Published(
        models=_table(crossfit / "models.csv", ["folds", *agreement]),
        countries=_table(crossfit / "countries.csv", ["country", "method", "slope", "bias"]),
        scores=_table(artefacts.effects / "scores.csv", ["model", "method", "n_contrasts", "mae", "mae_sd"]),
        stability=_table(artefacts.effects / "stability.csv", ["contrast", "slope", *gaps]),
        agreement=_table(survey / "agreement.csv", ["level", "n", "bias", *agreement]),
        tenths=_table(survey / "tenths.csv", tenths),
        map_trials=read_results(read_off) if read_off.exists() else (),
    )


def _beside(folder: Path, part: str) -> Path:
    """Return the folder of a part that only some sources have."""
    return folder.with_name(f"{folder.name}-{part}")


def _survey(artefacts: Artefacts, mapped: str) -> Survey | None:
    table = _parquet(artefacts.predictions / "survey.parquet", ["y_true", "y_pred", "split"])
    if table is None:
        return None
    table = table.dropna(subset=["y_true", "y_pred"])
    return Survey(
        calibration=table[table["split"] == "calibration"],
        test=table[table["split"] == "test"],
        accuracy=_accuracy(artefacts.predictions / "metrics.json", mapped),
    )


def _accuracy(path: Path, mapped: str) -> tuple[Accuracy, ...]:
    """Read how models do at held-out sites, the map's model first."""
    held_out = (_json(path) or {}).get("test", {})
    models = {
        name: scores for name, scores in held_out.items() if isinstance(scores, dict) and "r2" in scores
    }
    names = sorted(models, key=lambda name: (name != mapped, name))
    return tuple(
        Accuracy(
            model=name,
            label=model_label(name),
            r2=float(models[name]["r2"]),
            rmse=float(models[name]["rmse"]),
            slope=float(models[name]["slope"]),
            n=int(models[name].get("n", held_out.get("n", 0))),
        )
        for name in names
    )


def _json(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    return _checked(read_table(path), path, columns) if path.exists() else None


def _parquet(path: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    return _checked(pd.read_parquet(path), path, columns) if path.exists() else None


def _checked(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> pd.DataFrame:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise FileFormatError(
            f"{path}: columns {missing} are missing; it has {list(table.columns)}. Run the stage that "
            "makes it again."
        )
    return table


def _hashes(artefacts: Artefacts) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of the files that the numbers on the page come from."""
    files = [
        artefacts.truth / "truth.json",
        artefacts.model / "model.json",
        artefacts.model / "weights.safetensors",
        artefacts.predictions / "survey.parquet",
        artefacts.card,
        artefacts.maps / "wealth.tif",
        artefacts.maps / "wealth_corrected.tif",
        artefacts.maps / "wealth_endline_corrected.tif",
        artefacts.maps / "cells.parquet",
        artefacts.effects / "effects.json",
        _beside(artefacts.calibration, "crossfit") / "models.csv",
        _beside(artefacts.maps, "survey") / "agreement.csv",
        _beside(artefacts.effects, "map") / "effects.json",
    ]
    return tuple(
        (file.relative_to(artefacts.root).as_posix(), sha256_of(file)) for file in files if file.exists()
    )
