"""The commands about schedules: `schedule list`."""

from typing import Annotated

import typer

from batchscan.options import ConfigFile, StateDir

schedule_app = typer.Typer(no_args_is_help=True, help="Show the schedules of the settings file.")


@schedule_app.callback()
def _schedule() -> None:
    pass  # so that `list` is a command of its own


@schedule_app.command("list")
def schedule_list(
    config: ConfigFile = None,
    state_dir: StateDir = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show each schedule in words, the next three times in its zone and in UTC, and its last run.

    Needs no running service. `batchscan serve` runs them.
    """
    from batchscan import schedule_list as listing  # noqa: PLC0415 - keeps --help quick

    raise typer.Exit(listing.schedule_list({"config": config, "state_dir": state_dir}, as_json=json))
