"""Pictures that commands write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_picture"]


def save_picture(plot: Callable[[Axes], Any], path: Path, size: tuple[float, float]) -> None:
    """Draw on axes of a size in inches, and write them; raises `DataError` when the suffix is no kind of picture."""
    from matplotlib.figure import Figure

    from sustain.errors import DataError
    from sustain.files import atomic_path

    figure = Figure(figsize=size, layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise DataError(f"--plot: {path} is no kind of picture, expected one of {', '.join(sorted(known))}.")
    plot(figure.add_subplot())
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=150)
