"""The command that makes what a marketplace enforces: `decide`."""

from pathlib import Path
from typing import Annotated

import typer

from batchscan.errors import UsageError
from batchscan.options import ConfigFile, StateDir, SuppressionsFile


def decide(
    run: Annotated[str | None, typer.Argument(metavar="RUN|FILE", hidden=True)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The file of decisions; replaced as a whole."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="What is allowed, warned of and blocked, in TOML, see docs/enforcement.md."
            "  [default: malicious and what is not known is blocked, suspicious warned of]",
        ),
    ] = None,
    previous: Annotated[
        Path | None,
        typer.Option(
            "--previous",
            metavar="FILE",
            help="Decisions of before, for the policy's grace; may be the --output itself.",
        ),
    ] = None,
    suppressions: SuppressionsFile = None,
    show_policy: Annotated[
        bool, typer.Option("--show-policy", help="Print the policy with its defaults, and decide nothing.")
    ] = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Decide by a policy what a marketplace does with each skill: allow, warn or block.

    RUN|FILE is the id of a run or a report; by default the latest run is taken. Nothing is asked of the
    service.

    Exit with 0 or 3 when the file was written, with 3 when some inputs have no verdict that counts. After
    any other code the file is as it was.
    """
    from batchscan import enforcement  # noqa: PLC0415 - keeps --help quick
    from batchscan.decisions.making import Wanted  # noqa: PLC0415 - as above

    if show_policy:
        raise typer.Exit(enforcement.show(policy))
    if output is None:
        raise UsageError("name the file of decisions with --output")
    settings = {"config": config, "state_dir": state_dir}
    wanted = Wanted(output=output, policy=policy, previous=previous, suppressions=suppressions)
    raise typer.Exit(enforcement.decide(settings, run, wanted))
