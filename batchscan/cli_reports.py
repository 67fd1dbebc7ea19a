"""The commands that read reports: `report`."""

from pathlib import Path
from typing import Annotated

import typer

from batchscan.options import ConfigFile, StateDir, SuppressionsFile


def report(
    run: Annotated[str | None, typer.Argument(metavar="RUN|FILE", hidden=True)] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="What to write: csv, defectdojo, junit, markdown, ocsf, parquet or sarif."
            " Repeat it for several.",
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to; once for each format, or a directory for all.  [default: stdout]",
        ),
    ] = None,
    suppressions: SuppressionsFile = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Write a report in formats that people and other programs read.

    RUN|FILE is the id of a run or a report; by default the latest run is taken. Nothing is asked of the
    service. A file that is there is replaced.
    """
    from batchscan import reporting  # noqa: PLC0415 - keeps --help quick

    settings = {"config": config, "state_dir": state_dir}
    raise typer.Exit(reporting.report(settings, run, tuple(formats or ()), tuple(output or ()), suppressions))
