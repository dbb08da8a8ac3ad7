"""A throw-away copy of the project with a tiny world, as somebody gets who unpacks an archive without git."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

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
        for name in TRACKED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.set(TINY)
        self.dvc("config", "--local", "core.no_scm", "true")

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

    def stage(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run one stage's script alone."""
        return subprocess.run(
            [sys.executable, f"pipelines/{name}.py"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def kill_in_a_new_stage(self, delays_s: dict[str, float]) -> str | None:
        """Start ``dvc repro`` and SIGKILL everything in the first stage of `delays_s` that runs, after its delay.

        Returns the stage, or None when the run ended without reaching one of them.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=self.folder,
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with process:
            for line in process.stdout or ():
                stage = line.strip().removeprefix("Running stage '").removesuffix("':")
                if line.startswith("Running stage") and stage in delays_s:
                    time.sleep(delays_s[stage])
                    assert process.poll() is None, f"{stage} ended too soon to be killed"
                    os.killpg(process.pid, signal.SIGKILL)
                    return stage
        return None

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
