"""``sustain distribution`` as a user types it: the digits of the Python call, and one line on bad input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sustain.causal import estimate_distribution
from sustain.cli import main
from sustain.debias import CalibrationCard, build_card

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sustain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process; gives its exit status and what it wrote to stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sustain", "distribution", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main()
        code: Any = done.value.code
        written = capsys.readouterr()
        return (1 if isinstance(code, str) else code or 0), written.out, written.err + str(code or "")

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Table of a trial, and a card."""
    folder = tmp_path_factory.mktemp("trial")
    rng = np.random.default_rng(0)
    y = rng.normal(size=2000)
    card = build_card(
        0.6 * y + 0.5 * rng.normal(size=2000),
        y,
        methods=("linear", "response"),
        n_boot=20,
        target={"name": "wealth", "unit": "index points"},
        predictor="m",
    )
    card.save(folder / "card.json")
    treated = rng.integers(0, 2, 600)
    truth = rng.normal(size=600) + 0.5 * treated
    trial = pd.DataFrame({"hat": 0.6 * truth + 0.5 * rng.normal(size=600), "treated": treated})
    trial.assign(district=np.arange(600) % 30).to_csv(folder / "trial.csv", index=False)
    return folder / "trial.csv", folder / "card.json"


def test_the_command_gives_the_digits_of_the_call(
    sustain: Run, files: tuple[Path, Path], tmp_path: Path
) -> None:
    trial, card = files
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    status, said, _ = sustain(
        trial, "--card", card, "--outcome", "hat", "--line", -0.5, "--line", 0, "--quantile", 0.5,
        "--vcov", "CRV1:district", "--out", out, "--plot", picture,
    )  # fmt: skip
    expected = estimate_distribution(
        pd.read_csv(trial),
        outcome="hat",
        treatment="treated",
        calibration=CalibrationCard.load(card),
        lines=(-0.5, 0.0),
        quantiles=(0.5,),
        vcov={"CRV1": "district"},
    )
    assert status == 0
    assert expected.summary() in said
    assert json.loads(out.read_text())["measures"] == expected.to_dict()["measures"]
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--line", 99), "--line: got 99"),
        (("--measure", "gini"), "--measure: 'gini'"),
        (("--line", 0, "--plot", "found.xyz"), "--plot"),
    ],
)
def test_bad_input_is_one_line(
    sustain: Run, files: tuple[Path, Path], options: tuple[object, ...], message: str
) -> None:
    trial, card = files
    status, _, error = sustain(trial, "--card", card, "--outcome", "hat", *options)
    assert status == 1
    assert message in error
    assert "Traceback" not in error
