"""The commands that read reports: `report`."""

from pathlib import Path
from typing import Annotated

import typer

from batchscan.options import BaselineReport, ConfigFile, FailOn, StateDir, SuppressionsFile


def report(
    run: Annotated[str | None, typer.Argument(metavar="RUN|FILE", hidden=True)] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="What to write: csv, defectdojo, html, junit, markdown, ocsf, parquet or sarif."
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
    fail_on: FailOn = None,
    fail_on_incomplete: Annotated[
        bool,
        typer.Option(
            "--fail-on-incomplete", help="Exit with 3 when an input has no verdict, or the run has not ended."
        ),
    ] = False,
    baseline: BaselineReport = None,
    suppressions: SuppressionsFile = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Write a report in formats that people and other programs read.

    RUN|FILE is the id of a run or a report; by default the latest run is taken. Nothing is asked of the
    service. A file that is there is replaced.

    The exit code is 0 whatever the report says, unless --fail-on or --fail-on-incomplete is given; with one
    of them, a --format is not needed.
    """
    from batchscan import gate_options, reporting  # noqa: PLC0415 - keeps --help quick

    gate = gate_options.GateOptions(
        fail_on=fail_on, incomplete=fail_on_incomplete, baseline=baseline, suppressions=suppressions
    )
    settings = {"config": config, "state_dir": state_dir}
    raise typer.Exit(reporting.report(settings, run, tuple(formats or ()), tuple(output or ()), gate))
