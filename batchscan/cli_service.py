"""The command that serves: `serve`."""

from typing import Annotated

import typer

from batchscan.options import ConfigFile, EndpointOption, LogLevel, Profile, StateDir


def serve(
    config: ConfigFile = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="NUMBER", min=0, max=65535, help="0 takes a free one.  [default: 8440]"
        ),
    ] = None,
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
    log_level: LogLevel = None,
) -> None:
    """Serve: carry out runs that are asked for over HTTP, several at a time, under one cap.

    The first line on stdout is its URL. It shares ledger, cap and budget with every other command on the
    state directory. The rest is set in [service] of the settings file; docs/service.md has it all.

    SIGTERM or SIGINT stop it within ten seconds, with exit code 0. What was under way goes on when it is
    started again, also after a kill.
    """
    from batchscan import serving  # noqa: PLC0415 - keeps --help quick

    settings = {
        "config": config,
        "endpoint": endpoint,
        "profile": profile,
        "state_dir": state_dir,
        "log_level": log_level,
    }
    raise typer.Exit(serving.serve(settings, {"host": host, "port": port}))
