"""The machine that a benchmark ran on, in words; and where results go."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

__all__ = ["RESULTS", "cores", "describe", "peak_memory_gb"]

RESULTS = Path(__file__).resolve().parent / "results"


def describe() -> str:
    """One line: processor, cores that may be used, memory, Python and numpy."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            row.split(":", 1)[1].strip() for row in cpuinfo.read_text().splitlines() if "model name" in row
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{model}, {cores()} cores, {memory:.0f} GB; Python {platform.python_version()}, "
        f"numpy {version('numpy')}; load {os.getloadavg()[0]:.1f} at the start"
    )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_gb() -> float:
    """Peak memory of this process. Not from getrusage, whose figure is at least what the parent process had."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024 / 1e9
