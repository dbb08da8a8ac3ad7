import subprocess
import sys
from pathlib import Path

import pytest

from sustain.config import load_params
from sustain.errors import ConfigError
from sustain.stage import Artefacts, required

SCRIPT = """
import warnings
from sustain.errors import DataError, SupportWarning
from sustain.stage import run_stage

def main(params, artefacts):
    if params.seed == 1:
        raise DataError("labels.csv: column 'lat' is missing")
    if params.seed == 2:
        raise RuntimeError("a bug")
    if params.seed == 3:
        warnings.warn("3 of 9 units lie outside", SupportWarning)
        warnings.warn("another library's", UserWarning)
    print(params.source, artefacts.card)

if __name__ == "__main__":
    run_stage(main)
"""


def run(tmp_path: Path, seed: int, *arguments: str) -> subprocess.CompletedProcess:
    (tmp_path / "stage.py").write_text(SCRIPT)
    (tmp_path / "params.yaml").write_text(f"source: a\nseed: {seed}\nprofiles: {{a: {{}}, b: {{}}}}\n")
    return subprocess.run(
        [sys.executable, "stage.py", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )


def test_a_stage_gets_its_profile_and_its_places(tmp_path):
    assert run(tmp_path, 0, "--source", "b").stdout.strip() == "b calibration/b/card.json"


def test_an_expected_error_is_one_line_without_traceback(tmp_path):
    done = run(tmp_path, 1)
    assert done.returncode == 1
    assert done.stderr == "error: labels.csv: column 'lat' is missing\n"


def test_a_bug_keeps_its_traceback(tmp_path):
    done = run(tmp_path, 2)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_warning_of_ours_is_one_line_and_others_are_left_alone(tmp_path):
    lines = run(tmp_path, 3).stderr.splitlines()
    assert lines[0] == "warning: 3 of 9 units lie outside"
    assert "UserWarning: another library's" in lines[1]


def test_a_missing_section_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("source: a\nseed: 0\nprofiles: {a: {}}\n")
    params = load_params(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match="'a' has no section 'train'"):
        required(params.train, "train", params)


def test_artefacts_of_two_sources_never_share_a_place():
    places = [
        {
            str(getattr(Artefacts(source), name))
            for name, value in vars(Artefacts).items()
            if isinstance(value, property)
        }
        for source in ("a", "b")
    ]
    assert len(places[0]) > 9
    assert not places[0] & places[1]
