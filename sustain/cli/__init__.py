"""The command line: the same functions that stages and notebooks call.

Heavy imports stay inside the commands, so that ``sustain --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sustain import __version__
from sustain.cli import data, debias
from sustain.cli.bench import bench
from sustain.cli.distribution import distribution
from sustain.cli.effect import effect
from sustain.cli.extras import advice
from sustain.cli.maps import areas, map_, serve
from sustain.cli.models import predict, train
from sustain.cli.notices import options_of
from sustain.cli.output import table
from sustain.cli.planning import placebo, power
from sustain.cli.publish import publish
from sustain.errors import SustainError
from sustain.spelling import on_command_line, spelled
from sustain.stage import Artefacts, warnings_as_lines

__all__ = ["app", "main"]

app = typer.Typer(
    help="Satellite wealth maps whose errors are known, and causal effects that hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(debias.app, name="debias")
app.command()(effect)
app.command()(distribution)
app.command()(table)
app.command()(power)
app.command()(placebo)
app.command(name="map")(map_)
app.command()(areas)
app.command()(publish)
app.command()(serve)
app.command()(train)
app.command()(predict)
app.command()(bench)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options of every command."""
    if show:
        typer.echo(f"sustain {__version__}")
        raise typer.Exit


@app.command()
def summary(
    params: Annotated[Path, typer.Option(help="Parameter file.")] = Path("params.yaml"),
    source: Annotated[
        str | None, typer.Option(help="Profile other than the one that the file names.")
    ] = None,
) -> None:
    """Show the effects table of a finished pipeline, and where its page is."""
    from rich.console import Console

    from sustain.config import load_params
    from sustain.report import summary as summarise

    Console().print(summarise(Artefacts(load_params(params, source).source)))


def main() -> None:
    """Run the command line: an expected error is one message and status 1, a warning of ours is one line."""
    with warnings_as_lines(), on_command_line(options_of(typer.main.get_command(app), sys.argv[1:])):
        try:
            app()
        except SustainError as error:
            # Notes say where: in which block of a map.
            sys.exit("\n".join([f"error: {spelled(str(error))}", *getattr(error, "__notes__", [])]))
        except ModuleNotFoundError as error:
            if (what := advice(error)) is None:
                raise
            sys.exit(f"error: {what}")
        except OSError as error:
            named = (
                f"{error.filename}: {error.strerror}. Check the path."
                if error.errno and error.filename
                else error
            )
            sys.exit(f"error: {named}")
