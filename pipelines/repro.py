"""`dvc repro` that leaves `dvc.lock` as it found it, heals it after a kill, and keeps to what a user needs to know.

The committed `dvc.lock` records the bytes of one machine. Sums of floats differ between kinds of CPU, so that on
another machine training and all that follows give other bytes, and git would show the lock as changed. So this
machine's own lock lies in `.dvc/tmp/locks`, takes the place of the recorded one while the pipeline runs, and gives it
back at the end. `dvc repro` itself records.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo

from sustain.config import load_params
from sustain.errors import DataError, SustainError
from sustain.files import atomic_path, only_run

OWN = Path(".dvc/tmp/locks")


def main() -> None:
    """Run one pipeline, and say which of its stages gave other bytes than the recorded ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", type=Path, nargs="?", default=Path("dvc.yaml"), help="dvc.yaml to run")
    pipeline: Path = parser.parse_args().pipeline
    try:
        load_params(pipeline.with_name("params.yaml"))  # its errors name the line or the key
        with own_lock(pipeline.with_name("dvc.lock")) as others:
            run(pipeline)
    except (SustainError, DvcException) as error:
        sys.exit(f"error: {error}")
    if others:
        print(
            f"Other bytes than {pipeline.with_name('dvc.lock')} records: {', '.join(others)}. Another kind of CPU, or "
            "a change of yours, does that. The record stays as it is; `dvc repro` would replace it."
        )


def run(pipeline: Path) -> None:
    """Run what has changed, without DVC's advice on git and remotes."""
    logging.getLogger("dvc").setLevel(logging.INFO)
    logging.getLogger("dvc.repo.scm_context").setLevel(logging.WARNING)
    with Repo() as repo:
        if not repo.reproduce(targets=[str(pipeline)]):
            print(f"{pipeline}: up to date.")


@contextmanager
def own_lock(lock: Path) -> Iterator[list[str]]:
    """Put this machine's lock in place of the recorded one, and the recorded one back at the end.

    Yields
    ------
    list of str
        Filled at the end: stages whose outputs are not the recorded ones.
    """
    name = "-".join(lock.parts)
    own, recorded = OWN / name, OWN / f"{name}.recorded"
    others: list[str] = []
    with only_run(
        OWN, DataError(f"{lock}: another run of this pipeline is under way. Wait for it, or stop it.")
    ):
        if recorded.exists():  # killed in the middle: what is in place is this machine's, if it is whole
            if stages_of(lock):
                _copy(lock, own)
            elif lock.exists():
                print(f"{lock}: was cut short when the last run was killed; the lock before it is used.")
        elif lock.exists():
            _copy(lock, recorded)
        if stages_of(own):
            _copy(own, lock)
        elif recorded.exists():
            _copy(recorded, lock)
        try:
            yield others
        finally:
            if lock.exists():
                _copy(lock, own)
            if recorded.exists():
                others += differing(stages_of(recorded), stages_of(own))
                _copy(recorded, lock)
                recorded.unlink()


def stages_of(lock: Path) -> dict[str, Any]:
    """Stages of a lock; none where it is missing, empty or damaged."""
    try:
        content = yaml.safe_load(lock.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    stages = content.get("stages") if isinstance(content, dict) else None
    return stages if isinstance(stages, dict) else {}


def differing(recorded: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Stages whose outputs are not the recorded ones, in the lock's order."""
    return [name for name, stage in own.items() if stage.get("outs") != recorded.get(name, {}).get("outs")]


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as partial:
        partial.write_bytes(source.read_bytes())


if __name__ == "__main__":
    main()
