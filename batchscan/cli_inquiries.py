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
    from batchscan import inquiries  # noqa: PLC0415 - keeps --help quick

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
    raise typer.Exit(inquiries.config_show(settings, as_json=json))


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
    from batchscan import inquiries  # noqa: PLC0415 - keeps --help quick

    settings = {"config": config, "endpoint": endpoint, "profile": profile, "state_dir": state_dir}
    raise typer.Exit(inquiries.config_check(settings))


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
    from batchscan import inquiries  # noqa: PLC0415 - keeps --help quick

    settings = {"endpoint": endpoint, "profile": profile, "state_dir": state_dir, "config": config}
    raise typer.Exit(inquiries.quota(settings | {"log_level": log_level}, as_json=json))


def doctor(
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Look for what could keep a scan from working, and say how to fix it.

    Spends nothing: the service is only asked for the quota. The exit code is 0 when nothing failed, 2
    when something on this machine is wrong, 4 when the service refuses or cannot be reached.
    """
    from batchscan import inquiries  # noqa: PLC0415 - keeps --help quick

    settings = {"endpoint": endpoint, "profile": profile, "state_dir": state_dir, "config": config}
    raise typer.Exit(inquiries.doctor(settings, as_json=json))
