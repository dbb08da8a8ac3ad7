"""What every pipeline stage shares: parameters, the places of the artefacts, one clear message on failure."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from sustain.config import Params, load_params
from sustain.errors import ConfigError, SustainError, SustainWarning
from sustain.spelling import spelled

__all__ = ["Artefacts", "required", "run_stage", "warnings_as_lines"]

Section = TypeVar("Section")


@dataclass(frozen=True)
class Artefacts:
    """Where each stage of one source reads and writes, relative to the project's folder."""

    source: str
    root: Path = Path()

    @property
    def raw(self) -> Path:
        """Raw data, exactly as published."""
        return self.root / "data/raw" / self.source

    @property
    def truth(self) -> Path:
        """Truth of the synthetic world; only the report reads it."""
        return self.root / "data/truth" / self.source

    @property
    def tiles(self) -> Path:
        """Packed tiles and their index."""
        return self.root / "data/tiles" / self.source

    @property
    def model(self) -> Path:
        """Weights, `model.json` and training curves."""
        return self.root / "models" / self.source

    @property
    def predictions(self) -> Path:
        """Predictions beside labels at the survey sites, and their metrics."""
        return self.root / "predictions" / self.source

    @property
    def calibration(self) -> Path:
        """Calibration card and diagnostics."""
        return self.root / "calibration" / self.source

    @property
    def card(self) -> Path:
        """The calibration card."""
        return self.calibration / "card.json"

    @property
    def raw_maps(self) -> Path:
        """Maps before correction: rasters, or a table of survey tiles."""
        return self.root / "maps" / f"{self.source}-raw"

    @property
    def maps(self) -> Path:
        """Corrected maps, and the raw ones beside them."""
        return self.root / "maps" / self.source

    @property
    def effects(self) -> Path:
        """Treatment effects."""
        return self.root / "effects" / self.source

    @property
    def publish(self) -> Path:
        """The published folder."""
        return self.root / "publish" / self.source

    @property
    def work(self) -> Path:
        """Unfinished work of stages, outside their outputs: DVC empties those before a rerun."""
        return self.root / "work" / self.source

    @property
    def report(self) -> Path:
        """The page and its numbers."""
        return self.root / "reports" / self.source


def required(section: Section | None, name: str, params: Params) -> Section:
    """Return a stage's parameters, or say that the profile lacks them."""
    if section is None:
        raise ConfigError(
            f"profile {params.source!r} has no section {name!r}, which this stage needs. Add it."
        )
    return section


def run_stage(main: Callable[[Params, Artefacts], None]) -> None:
    """Run a stage script: parse ``--params`` and ``--source``, call `main`, turn errors into one message.

    A `SustainError` or a missing file ends the process with status 1 and the message on standard error; any other
    exception is a bug and keeps its traceback. A `SustainWarning` is one line on standard error.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="parameter file")
    parser.add_argument("--source", help="profile to use instead of the one that the file names")
    arguments = parser.parse_args()
    try:
        with warnings_as_lines():
            params = load_params(arguments.params, arguments.source)
            main(params, Artefacts(params.source))
    except (SustainError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show each `SustainWarning` as one line on standard error, once; other warnings, and filters, stay as they are."""
    plain, shown = warnings.showwarning, set[str]()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, SustainWarning):
            text = spelled(str(message))
            if text not in shown:
                print(
                    f"warning: {text}", file=sys.stderr
                )  # where in the code it arose says nothing to a user
            shown.add(text)
        else:
            plain(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
