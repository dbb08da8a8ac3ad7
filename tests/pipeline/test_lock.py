"""`make repro` leaves `dvc.lock` as it found it, whatever ends the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "pipelines/repro.py"
PLAN = """stages:
  one:
    cmd: {cmd}
    deps: [in]
    outs: [out]
"""
PARAMS = "source: a\nprofiles: {a: {}}\n"
WORK = "sh -c 'echo ran >> times; cat in > out'"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of one stage, run once and recorded."""
    git(tmp_path, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(PLAN.format(cmd=WORK))
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / ".gitignore").write_text("/times\n/out\n.partial-*\n")
    (tmp_path / "in").write_text("1")
    assert repro(tmp_path).returncode == 0
    shutil.copy(tmp_path / ".dvc/tmp/locks/dvc.lock", tmp_path / "dvc.lock")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "a")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def repro(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=folder, capture_output=True, text=True, check=False
    )


def times(folder: Path) -> int:
    return (folder / "times").read_text().count("ran")


def test_a_run_with_other_bytes_leaves_git_clean_says_so_and_is_not_repeated(project: Path) -> None:
    (project / "in").write_text("another machine's")
    git(project, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "-am", "b")
    done = repro(project)
    assert done.returncode == 0, done.stderr
    assert "Other bytes than dvc.lock records: one." in done.stdout
    assert done.stdout.count("Running stage") == 1
    assert "git" not in done.stdout
    assert "push" not in done.stdout
    assert (project / "out").read_text() == "another machine's"
    assert git(project, "status", "--porcelain") == ""
    ran = times(project)
    assert "up to date" in repro(project).stdout
    assert times(project) == ran
    assert git(project, "status", "--porcelain") == ""


def test_the_recorded_bytes_are_no_news(project: Path) -> None:
    assert "Other bytes" not in repro(project).stdout


def test_a_lock_that_a_kill_emptied_is_healed(project: Path) -> None:
    (project / "in").write_text("2")
    hang = PLAN.format(cmd="sh -c 'echo ran >> times; cat in > out; kill -9 $(cat pid)'")
    (project / "dvc.yaml").write_text(hang)
    recorded = (project / "dvc.lock").read_bytes()
    with subprocess.Popen([sys.executable, str(SCRIPT)], cwd=project, stdout=subprocess.DEVNULL) as process:
        (project / "pid").write_text(str(process.pid))
        assert process.wait(timeout=60) == -signal.SIGKILL
    (project / "dvc.lock").write_bytes(b"")  # what DVC's own write can leave
    (project / "dvc.yaml").write_text(PLAN.format(cmd=WORK))
    done = repro(project)
    assert done.returncode == 0, done.stderr
    assert "cut short" in done.stdout
    assert (project / "dvc.lock").read_bytes() == recorded
    assert (project / "out").read_text() == "2"


def test_a_failing_stage_ends_in_one_message_and_leaves_the_lock(project: Path) -> None:
    recorded = (project / "dvc.lock").read_bytes()
    (project / "dvc.yaml").write_text(PLAN.format(cmd="sh -c 'exit 3'"))
    done = repro(project)
    assert done.returncode == 1
    assert "error: failed to reproduce 'one'" in done.stderr
    assert "Traceback" not in done.stderr
    assert (project / "dvc.lock").read_bytes() == recorded


def test_a_stage_finds_its_interpreter_without_an_activated_environment() -> None:
    bare = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": ""}
    launcher = ["sh", "pipelines/python", "-c", "import sustain; print('found')"]
    there = (ROOT / ".venv/bin/python").exists()
    done = subprocess.run(launcher, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert done.stdout == ("found\n" if there else "")
    nowhere = subprocess.run(
        ["sh", str(ROOT / "pipelines/python"), "-c", ""],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert nowhere.returncode == 1
    assert "make env" in nowhere.stderr
