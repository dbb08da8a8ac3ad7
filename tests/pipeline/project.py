"""A throw-away copy of the project with a tiny world, as somebody gets who unpacks an archive without git."""

from __future__ import annotations

import hashlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from copy import copy
from functools import partial
from pathlib import Path

import yaml

from tests.in_process import run_program

ROOT = Path(__file__).resolve().parents[2]
TRACKED = ("dvc.yaml", "params.yaml", "pipelines", "data_manifests", "sustain", ".dvc/config", ".dvcignore")
STAGES = (
    "acquire",
    "tiles",
    "train",
    "predict",
    "calibrate",
    "map",
    "correct",
    "effects",
    "publish",
    "report",
)
OUTPUTS = ("data", "models", "predictions", "calibration", "maps", "effects", "publish", "reports")

TINY = {
    "acquire": {"scene_px": 1024, "n_sites": 600},
    "tiles": {"block_km": 3.0},
    "train": {"epochs": 8, "batch_size": 32, "threads": 1},
    "calibrate": {"n_boot": 25},
}


class Project:
    """One copy of the project in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        for name in TRACKED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)  # with bytecode, which dvc does not see
            else:
                shutil.copy(source, target)
        self.set(TINY)
        self.dvc("config", "--local", "core.no_scm", "true")

    def copy(self, folder: Path) -> Project:
        """Copy this project whole, DVC's cache included."""
        shutil.copytree(self.folder, folder)
        return self._at(folder)

    def links(self, folder: Path) -> Project:
        """Copy this project as links, without DVC's folders: replace its files instead of writing into them."""
        ignored = shutil.ignore_patterns("cache", "tmp")
        shutil.copytree(self.folder, folder, copy_function=os.link, ignore=ignored)
        return self._at(folder)

    def _at(self, folder: Path) -> Project:
        other = copy(self)
        other.folder = folder
        return other

    @property
    def environment(self) -> dict[str, str]:
        """The caller's environment, with this interpreter's programs and the copy's own package first."""
        binaries = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "PATH": binaries + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",  # other tests run beside this one
        }

    def set(self, changes: dict[str, dict]) -> None:
        """Change parameters of the active profile, section by section."""
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for section, values in changes.items():
            params["profiles"][params["source"]][section].update(values)
        file.write_text(yaml.safe_dump(params))

    def dvc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run DVC to its end."""
        return subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def repro(self) -> None:
        """Run the whole pipeline; notes how long each stage took."""
        with subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=self.folder,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said, started = [], {}
            for line in process.stdout or ():
                said.append(line)
                if line.startswith("Running stage '"):
                    started[line.split("'")[1]] = time.monotonic()
        assert process.returncode == 0, "".join(said)[-4000:]
        ends = [*list(started.values())[1:], time.monotonic()]
        self.seconds = {stage: end - started[stage] for stage, end in zip(started, ends, strict=True)}

    def stage(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run one stage's script alone, in this process."""
        script = self.folder / "pipelines" / f"{name}.py"
        with chdir(self.folder):
            return run_program(partial(runpy.run_path, str(script), run_name="__main__"), script)

    def kill_in(self, stage: str, seconds: float) -> None:
        """Run a stage that never ran, and SIGKILL everything in the midst of its work.

        The kill comes late in the `seconds` that the stage takes undisturbed, so that the stage is at work and not
        still importing. A stage that ends before it can be killed, be it that only DVC's notes on it are missing, is
        forgotten and run once more with a shorter delay.
        """
        delay_s = 0.85 * seconds
        lock, runs = self.folder / "dvc.lock", self.folder / ".dvc/cache/runs"
        if not lock.exists():
            lock.write_text("schema: '2.0'\nstages: {}\n")
        locked, known = lock.read_text(), set(runs.rglob("*"))
        while delay_s > 0.01:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", "--single-item", stage],
                cwd=self.folder,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            with process:
                said = []
                for line in process.stdout or ():
                    said.append(line)
                    if line.startswith(f"Running stage '{stage}'"):
                        break
                else:
                    raise AssertionError(f"{stage} was not run: {''.join(said)}")
                try:
                    process.communicate(timeout=delay_s)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    assert process.returncode == 0, f"{stage} failed"
            if lock.read_text() == locked and set(runs.rglob("*")) == known:
                return
            lock.write_text(locked)
            shutil.rmtree(runs, ignore_errors=True)  # a stage whose outputs persist has none
            known = set()
            delay_s *= 0.75
        raise AssertionError(f"{stage} always ended before it could be killed")

    def digests(self) -> dict[str, str]:
        """Sha256 of every file that the pipeline made."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for output in OUTPUTS
            for path in sorted((self.folder / output).rglob("*"))
            if path.is_file()
        }


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Names of the stages that a ``dvc repro`` ran."""
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")]
