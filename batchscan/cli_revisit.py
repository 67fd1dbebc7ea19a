"""The commands that go back to what was judged before: `rescan` and `explain`."""

from typing import Annotated

import typer

from batchscan.options import (
    BaselineReport,
    Budget,
    ConfigFile,
    DailyBudget,
    Deadline,
    DryRun,
    EndpointOption,
    FailOn,
    FailOnIncomplete,
    FirstPoll,
    Json,
    LogLevel,
    MetricsTextfile,
    Notify,
    NotifyFormat,
    NoWait,
    Output,
    Overwrite,
    PollInterval,
    Profile,
    Quiet,
    Rate,
    ReportUrls,
    StateDir,
    SuppressionsFile,
)


def rescan(
    engine_before: Annotated[
        int | None,
        typer.Option("--engine-before", metavar="VERSION", help="What an engine with a lower number judged."),
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="What the service does not keep a verdict of any more.")
    ] = False,
    failed: Annotated[bool, typer.Option("--failed", help="What was given up without a verdict.")] = False,
    verdict: Annotated[
        str | None,
        typer.Option("--verdict", metavar="malicious|suspicious|benign", help="What has this verdict."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that was judged or given up.")] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="NUMBER",
            min=1,
            help="Submit so many first, chosen by chance, and say how many verdicts changed.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Go on after the sample; else `batchscan resume` does.")
    ] = False,
    output: Output = None,
    overwrite: Overwrite = False,
    report_urls: ReportUrls = False,
    dry_run: DryRun = False,
    config: ConfigFile = None,
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
    rate: Rate = None,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    deadline: Deadline = None,
    budget: Budget = None,
    daily_budget: DailyBudget = None,
    no_wait: NoWait = False,
    fail_on: FailOn = None,
    fail_on_incomplete: FailOnIncomplete = False,
    baseline: BaselineReport = None,
    suppressions: SuppressionsFile = None,
    json: Json = False,
    quiet: Quiet = False,
    metrics_textfile: MetricsTextfile = None,
    notify: Notify = None,
    notify_format: NotifyFormat = None,
    log_level: LogLevel = None,
) -> None:
    """Submit again what was judged before, and compare the verdicts.

    Exactly one of --engine-before, --expired, --failed, --verdict and --all says what. The files are
    looked for where they were seen last, and the report has one row for each. Of this endpoint and profile
    only; the verdicts of before are kept (see `batchscan explain`).

    With --sample, the run ends after the sample with exit code 3, and the rest is left pending.
    """
    from batchscan import commands, gate_options, revisit  # noqa: PLC0415 - keeps --help quick

    settings = {
        "config": config,
        "endpoint": endpoint,
        "profile": profile,
        "state_dir": state_dir,
        "rate": rate,
        "first_poll_s": first_poll,
        "poll_interval_s": poll_interval,
        "deadline_s": deadline,
        "daily_budget": daily_budget,
        "report_urls": report_urls or None,
        "notify_url": notify,
        "notify_format": notify_format,
        "log_level": log_level,
    }
    wanted = revisit.Wanted(
        engine_before=engine_before,
        expired=expired,
        failed=failed,
        verdict=verdict,
        everything=everything,
        sample=sample,
        go_on=yes,
    )
    gate = gate_options.GateOptions(
        fail_on=fail_on, incomplete=fail_on_incomplete, baseline=baseline, suppressions=suppressions
    )
    ends = commands.Ends(
        output=output,
        overwrite=overwrite,
        wait=not no_wait,
        gate=gate,
        budget=budget,
        metrics_textfile=metrics_textfile,
    )
    show = commands.Show(json=json, quiet=quiet)
    raise typer.Exit(revisit.rescan(settings, wanted, ends, show, dry_run=dry_run))


def explain(
    name: Annotated[str, typer.Argument(metavar="PATH|SHA256", show_default=False)],
    config: ConfigFile = None,
    state_dir: StateDir = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per content.")] = False,
) -> None:
    """Show everything that is known of one file: where it is, how it stands, every verdict it ever had.

    PATH is absolute, from here, or as a report shows it. Of a SHA-256, the first 8 digits or more do.
    """
    from batchscan import revisit  # noqa: PLC0415 - keeps --help quick

    raise typer.Exit(revisit.explain({"config": config, "state_dir": state_dir}, name, as_json=json))
