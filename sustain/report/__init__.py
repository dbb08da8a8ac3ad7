"""The report: one self-contained page a source, its numbers as files, and a summary for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sustain.report.terminal import summary

if TYPE_CHECKING:
    from sustain.config import Params
    from sustain.stage import Artefacts

__all__ = ["build_report", "summary"]


def build_report(artefacts: Artefacts, params: Params) -> None:
    """Write the page of a source and its numbers; see `sustain.report.page.build_report`."""
    # The summary alone must not wait for matplotlib and rasterio.
    from sustain.report.page import build_report as build

    build(artefacts, params)
