"""What every published folder has: it is written whole or not at all, with the card and the model's description."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sustain.files import atomic_directory, atomic_path, require_replaceable

__all__ = ["copy_into", "published_folder"]


@contextmanager
def published_folder(out: str | Path, card: str | Path, model_json: str | Path | None) -> Iterator[Path]:
    """Yield a folder that holds ``card.json`` and, if given, ``model.json``; it becomes `out` when it is whole.

    Raises
    ------
    DataError
        When `out` is a folder of something else.
    """
    require_replaceable(out, "card.json")
    with atomic_directory(out) as folder:
        copy_into(Path(card), folder / "card.json")
        if model_json is not None:
            copy_into(Path(model_json), folder / "model.json")
        yield folder


def copy_into(source: Path, target: Path) -> None:
    """Copy a file; the copy appears whole or not at all."""
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
