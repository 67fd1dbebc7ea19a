"""The commands that look and change nothing: `config show`, `config check`, `quota`, `doctor`."""

from typing import Annotated

import typer

from batchscan.options import (
    ConfigFile,
    Deadline,
    EndpointOption,
    FirstPoll,
    LimitBytes,
    LogLevel,
    MaxAge,
    PollInterval,
    Profile,
    Rate,
    Rehash,
    ReportUrls,
    StateDir,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

config_app = typer.Typer(no_args_is_help=True, help="Show or check the settings.")


@config_app.command("show")
def config_show(
    config: ConfigFile = None,
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
    rate: Rate = None,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    deadline: Deadline = None,
    max_age: MaxAge = None,
    rehash: Rehash = False,
    limit_bytes: LimitBytes = None,
    report_urls: ReportUrls = False,
    log_level: LogLevel = None,
    json: AsJson = False,
) -> None:
    """Show every setting, its value and where it comes from.

    Flags go before BATCHSCAN_ variables, these before the settings file, and that before the defaults.
    """
    from batchscan import checks  # noqa: PLC0415 - keeps --help quick

    settings = {
        "config": config,
        "endpoint": endpoint,
        "profile": profile,
        "state_dir": state_dir,
        "rate": rate,
        "first_poll_s": first_poll,
        "poll_interval_s": poll_interval,
        "deadline_s": deadline,
        "max_age_s": max_age,
        "rehash": rehash or None,
        "limit_bytes": limit_bytes,
        "report_urls": report_urls or None,
        "log_level": log_level,
    }
    raise typer.Exit(checks.config_show(settings, as_json=json))


@config_app.command("check")
def config_check(
    config: ConfigFile = None,
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
) -> None:
    """Say all that is wrong with settings file and environment.

    The exit code is 2 where something is.
    """
    from batchscan import checks  # noqa: PLC0415 - keeps --help quick

    settings = {"config": config, "endpoint": endpoint, "profile": profile, "state_dir": state_dir}
    raise typer.Exit(checks.config_check(settings))


def quota(
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    json: AsJson = False,
    log_level: LogLevel = None,
) -> None:
    """Show what is left of the account's order, and whether the pending files fit.

    Asks the service one question, which bills nothing. The exit code is 4 where it refuses or cannot be
    reached.
    """
    from batchscan import checks  # noqa: PLC0415 - keeps --help quick

    raise typer.Exit(checks.quota(_asked(endpoint, profile, state_dir, config, log_level), as_json=json))


def _asked(
    endpoint: str | None,
    profile: str | None,
    state_dir: str | None,
    config: str | None,
    log_level: str | None,
) -> dict[str, str | None]:
    return {
        "endpoint": endpoint,
        "profile": profile,
        "state_dir": state_dir,
        "config": config,
        "log_level": log_level,
    }
