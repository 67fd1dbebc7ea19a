"""The command line: parse, settle the settings, run, exit. The only place that exits.

Data goes to stdout, everything else to stderr. What a command needs is imported by the command, so that
``--help`` is quick.
"""

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, NoReturn, cast

import typer

from batchscan import __version__, outlet
from batchscan.cli_compare import compare
from batchscan.cli_decisions import decide
from batchscan.cli_inquiries import config_app, doctor, quota
from batchscan.cli_reports import report
from batchscan.cli_revisit import explain, rescan
from batchscan.cli_schedule import schedule_app
from batchscan.cli_service import serve
from batchscan.errors import BatchscanError
from batchscan.options import (
    BaselineReport,
    Budget,
    ConfigFile,
    DailyBudget,
    Deadline,
    DryRun,
    EndpointOption,
    Exclude,
    FailOn,
    FailOnIncomplete,
    FirstPoll,
    Include,
    Json,
    LimitBytes,
    LogLevel,
    Manifest,
    MaxAge,
    MetricsTextfile,
    Notify,
    NotifyFormat,
    NoWait,
    Nul,
    Output,
    Overwrite,
    PollInterval,
    Profile,
    Quiet,
    Rate,
    Rehash,
    ReportUrls,
    StateDir,
    SuppressionsFile,
)
from batchscan.streams import fill_standard_streams, flush_or_silence, silence_stdout

INTERNAL_ERROR = 70
_INTERRUPTED = 130

# ``ClickException``: typer has a click of its own, of which only this grandchild has a public name.
_WrongUsage: Final = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])

app = typer.Typer(
    name="batchscan",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Scan AI-agent skill ZIPs in bulk: one JSONL row per input, nothing lost, nothing paid twice.",
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"batchscan {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def scan(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            hidden=True,  # told in the text: its own entry would show a Python type
        ),
    ] = None,
    manifest: Manifest = None,
    nul: Nul = False,
    include: Include = None,
    exclude: Exclude = None,
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
    max_age: MaxAge = None,
    rehash: Rehash = False,
    limit_bytes: LimitBytes = None,
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
    """Scan skill ZIPs and write one row per input.

    A SOURCE is a directory, searched for *.zip at any depth, a skill ZIP, or - for a list of paths on
    standard input.

    Where --output has a report already, its run is gone on with if it is unfinished and the sources are
    the same. Any other file there is refused, unless --overwrite is given.

    Every setting can also be given in the environment, as BATCHSCAN_RATE=10, and in the settings file;
    `batchscan config show` tells where each comes from. Keys are read from TENCENTCLOUD_SECRET_ID and
    TENCENTCLOUD_SECRET_KEY or the files of the vendor's own tools.

    \b
    Exit codes:
      0    complete: every input has a verdict
      1    complete, and --fail-on was reached
      2    wrong usage or configuration
      3    incomplete: some inputs have no verdict
      4    the service refused the run or cannot be reached
      5    there was nothing to scan
      8    the budget is reached: what does not fit was not sent
      70   internal error
      130  stopped by SIGINT, or 143 by SIGTERM; `batchscan resume` goes on
    """  # noqa: D301 - a true backspace: it keeps the lines of its paragraph apart
    from batchscan import commands, gate_options  # noqa: PLC0415 - see the module

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
        "max_age_s": max_age,
        "rehash": rehash or None,
        "limit_bytes": limit_bytes,
        "report_urls": report_urls or None,
        "notify_url": notify,
        "notify_format": notify_format,
        "log_level": log_level,
    }
    raise typer.Exit(
        commands.scan(
            settings,
            commands.Inputs(
                sources=tuple(sources or ()),
                manifests=tuple(manifest or ()),
                nul=nul,
                include=tuple(include or ()),
                exclude=tuple(exclude or ()),
            ),
            commands.Ends(
                output=output,
                overwrite=overwrite,
                wait=not no_wait,
                gate=gate_options.GateOptions(
                    fail_on=fail_on,
                    incomplete=fail_on_incomplete,
                    baseline=baseline,
                    suppressions=suppressions,
                ),
                budget=budget,
                metrics_textfile=metrics_textfile,
            ),
            commands.Show(json=json, quiet=quiet),
            dry_run=dry_run,
        )
    )


@app.command()
def resume(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", hidden=True),
    ] = None,
    report_urls: ReportUrls = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    rate: Rate = None,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    deadline: Deadline = None,
    budget: Budget = None,
    daily_budget: DailyBudget = None,
    max_age: MaxAge = None,
    rehash: Rehash = False,
    limit_bytes: LimitBytes = None,
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
    """Go on with a run that was interrupted or left rows pending.

    RUN is its id, by default that of the latest unfinished run. It goes on with the sources and the
    settings that it was started with; one that is given here goes before.
    """
    from batchscan import commands, gate_options  # noqa: PLC0415 - see the module

    settings = {
        "config": config,
        "state_dir": state_dir,
        "rate": rate,
        "first_poll_s": first_poll,
        "poll_interval_s": poll_interval,
        "deadline_s": deadline,
        "daily_budget": daily_budget,
        "max_age_s": max_age,
        "rehash": rehash or None,
        "limit_bytes": limit_bytes,
        "report_urls": report_urls or None,
        "notify_url": notify,
        "notify_format": notify_format,
        "log_level": log_level,
    }
    gate = gate_options.GateOptions(
        fail_on=fail_on, incomplete=fail_on_incomplete, baseline=baseline, suppressions=suppressions
    )
    ends = commands.Ends(wait=not no_wait, gate=gate, budget=budget, metrics_textfile=metrics_textfile)
    raise typer.Exit(commands.resume(settings, run, ends, commands.Show(json=json, quiet=quiet)))


@app.command()
def status(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", hidden=True),
    ] = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="NUMBER", min=1, max=1000, help="How many runs to list.")
    ] = 10,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check the ledger instead, page by page and row by row; write nothing."
        ),
    ] = False,
    expiring: Annotated[
        float | None,
        typer.Option(
            "--expiring",
            metavar="DAYS",
            min=0,
            help="List instead the files whose verdicts expire within so many days.",
        ),
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(
            "--backup",
            metavar="FILE",
            help="Copy the ledger instead, also while runs go on, into a new file, and check the copy.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Show runs and how far they came, and how many verdicts expire within a week.

    RUN is the id of one; by default the latest are shown. One that was killed is shown as running until
    it is resumed.

    With --verify, exit with 2 when the ledger is damaged or does not add up.
    """
    from batchscan import commands  # noqa: PLC0415 - see the module

    if backup is not None:
        raise typer.Exit(commands.backup({"config": config, "state_dir": state_dir}, backup, as_json=json))
    if verify:
        raise typer.Exit(commands.verify({"config": config, "state_dir": state_dir}, as_json=json))
    if expiring is not None:
        raise typer.Exit(
            commands.expiring({"config": config, "state_dir": state_dir}, expiring, as_json=json)
        )
    raise typer.Exit(
        commands.status({"config": config, "state_dir": state_dir}, run, limit=limit, as_json=json)
    )


@app.command()
def engine(
    port: Annotated[
        int, typer.Option("--port", metavar="NUMBER", min=0, max=65535, help="0 takes a free one.")
    ] = 8099,
    site: Annotated[
        str, typer.Option("--site", metavar="embedded|intl|china", help="Whose caps and fields to have.")
    ] = "embedded",
    drill: Annotated[
        str | None,
        typer.Option(
            "--drill",
            metavar="FAULTS",
            help="Faults to inject, as Create:InternalError@0.2,seed=7; docs/drills.md has them all.",
        ),
    ] = None,
    engine_version: Annotated[
        int | None,
        typer.Option(
            "--engine-version", metavar="NUMBER", min=1, help="Pretend to be this engine.", show_default=False
        ),
    ] = None,
    quota: Annotated[
        int | None,
        typer.Option(
            "--quota",
            metavar="NUMBER",
            min=0,
            help="Files that may be billed.  [default: no limit]",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    detector: Annotated[
        str | None,
        typer.Option("--detector", metavar="skilltotal|deep", help="Who judges.  [default: skilltotal]"),
    ] = None,
    log_level: LogLevel = None,
) -> None:
    """Run the embedded endpoint by itself.

    It listens on loopback until it is stopped. The first line on stdout is its URL. It takes the key of
    TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, and makes one and prints it where there is none.
    """
    from batchscan import commands, connect  # noqa: PLC0415 - see the module

    settings = {"config": config, "state_dir": state_dir, "detector": detector, "log_level": log_level}
    raise typer.Exit(
        commands.engine(
            settings,
            connect.Standalone(
                port=port, site=site, drill=drill, engine_version=engine_version, total_quota=quota
            ),
        )
    )


app.add_typer(config_app, name="config")
app.add_typer(schedule_app, name="schedule")
app.command()(quota)
app.command()(doctor)
app.command()(rescan)
app.command()(explain)
app.command()(report)
app.command()(compare)
app.command()(decide)
app.command()(serve)


def main() -> NoReturn:
    """Run the program and exit with its code; no error leaves as a traceback of its own."""
    # Until a command is loaded there is nothing to put in order. Some imports swallow a KeyboardInterrupt,
    # others end in its traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fill_standard_streams()
    code = _guarded()
    outlet.settle()
    flush_or_silence()
    sys.exit(code)


def _guarded() -> int:
    try:
        code = app(prog_name="batchscan", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except _WrongUsage as error:
        error.show()
        return error.exit_code
    except BatchscanError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        silence_stdout()
        return 0  # whoever read our output has had enough
    except Exception:  # noqa: BLE001 - the last resort: what is not foreseen has a code of its own
        return _internal_error()


def _internal_error() -> int:
    import traceback  # noqa: PLC0415 - see the module

    from batchscan.logs import scrub  # noqa: PLC0415 - see the module

    return _fail("internal error, please report it\n" + scrub(traceback.format_exc()), INTERNAL_ERROR)


def _fail(message: str, code: int) -> int:
    from batchscan.report.text import printable_lines  # noqa: PLC0415 - see the module

    # stderr may be gone as well; then the code alone has to say it
    with suppress(OSError):
        typer.echo(f"batchscan: {printable_lines(message)}", file=outlet.current(sys.stderr))
    return code
