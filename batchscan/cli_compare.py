"""The command that says what changed: `compare`."""

from pathlib import Path
from typing import Annotated

import typer

from batchscan.errors import UsageError
from batchscan.options import ConfigFile, StateDir


def compare(
    before: Annotated[str | None, typer.Argument(metavar="A", hidden=True)] = None,
    after: Annotated[str | None, typer.Argument(metavar="B", hidden=True)] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="table|json|markdown", help="What to write.  [default: table]"),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="As --format json: one object with all items.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to; replaced as a whole.  [default: stdout]"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="NUMBER",
            min=0,
            max=1000,
            help="How many items a table or a comment shows.  [default: 50, markdown 20]",
        ),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="new-malicious|new-suspicious",
            help="Exit with 1 when a finding this bad or worse was not there before; with 3 when that"
            " cannot be told.",
        ),
    ] = None,
    fail_on_incomplete: Annotated[
        bool, typer.Option("--fail-on-incomplete", help="Exit with 3 when anything is unknown.")
    ] = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Say what changed between two reports: A is the older one, B the newer one.

    A and B are ids of runs or reports. Without B, A is compared with the complete run before it over the
    same inputs; without both, the latest run is. Nothing is asked of the service.

    The exit code is 0 whatever has changed, unless --fail-on or --fail-on-incomplete is given.
    """
    from batchscan import comparing  # noqa: PLC0415 - keeps --help quick

    if json and form not in {None, "json"}:
        raise UsageError(f"--json and --format {form}: give one of them")
    wanted = comparing.Wanted(
        format="json" if json else form or "table",
        output=output,
        limit=limit,
        fail_on=fail_on,
        fail_on_incomplete=fail_on_incomplete,
    )
    raise typer.Exit(
        comparing.compare_reports({"config": config, "state_dir": state_dir}, before, after, wanted)
    )
