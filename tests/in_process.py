"""Programs run in this process as if somebody had typed them: a new Python with torch takes ten seconds to start."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest import mock

__all__ = ["run_program", "sustain"]


def run_program(program: Callable[[], object], *arguments: object) -> CompletedProcess[str]:
    """Run `program` with `arguments` as its ``sys.argv``; an exception that it does not turn into an exit is raised."""
    out, err = io.StringIO(), io.StringIO()
    argv = list(map(str, arguments))
    status = 0
    with (
        mock.patch.object(sys, "argv", argv),
        warnings.catch_warnings(),  # what the program says of warnings, and how, ends with it
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            program()
        except SystemExit as done:  # as Python itself ends: a text is written and means failure
            if isinstance(done.code, str):
                err.write(done.code + "\n")
            status = done.code if isinstance(done.code, int) else int(done.code is not None)
    return CompletedProcess(argv, status, out.getvalue(), err.getvalue())


def sustain(*arguments: object) -> CompletedProcess[str]:
    """Run the command ``sustain``."""
    from sustain.cli import main

    return run_program(main, "sustain", *arguments)
