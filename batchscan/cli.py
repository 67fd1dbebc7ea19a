"""The command line: parse, settle the settings, run, exit. The only place that exits.

Data goes to stdout, everything else to stderr. What a command needs is imported by the command, so that
``--help`` is quick.
"""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer

from batchscan import __version__
from batchscan.errors import BatchscanError

INTERNAL_ERROR = 70
_INTERRUPTED = 130

app = typer.Typer(
    name="batchscan",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Scan AI-agent skill ZIPs in bulk: one JSONL row per input, nothing lost, nothing paid twice.",
)

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="Where the ledger is kept.  [default: the user's state directory]"),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="embedded|intl|china|URL",
        help="Who judges. Nothing leaves the machine unless another than embedded is named."
        "  [default: embedded]",
    ),
]
Profile = Annotated[
    str | None, typer.Option("--profile", help="Profile of the credentials.  [default: default]")
]
Rate = Annotated[
    float | None,
    typer.Option("--rate", help="Submissions a second at most; 0 is no cap.  [default: the endpoint's cap]"),
]
FirstPoll = Annotated[
    str | None,
    typer.Option("--first-poll", metavar="DURATION", help="From submission to the first poll (5m, 90s)."),
]
PollInterval = Annotated[
    str | None, typer.Option("--poll-interval", metavar="DURATION", help="Between polls of one skill.")
]
Deadline = Annotated[
    str | None,
    typer.Option("--deadline", metavar="DURATION", help="From submission until a row is left pending."),
]
MaxAge = Annotated[
    str | None,
    typer.Option("--max-age", metavar="DURATION", help="Scan again what was scanned longer ago (30d)."),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="End when all is submitted; the next run fetches the verdicts.")
]
FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on",
        metavar="malicious|suspicious",
        help="End with 1 when a verdict is this bad or worse.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary table.")]
ReportUrls = Annotated[
    bool,
    typer.Option("--report-urls", help="Write the service's report links, which open without a password."),
]
LogLevel = Annotated[
    str | None,
    typer.Option("--log-level", metavar="debug|info|warning|error", help="Of the log on stderr."),
]


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
            metavar="SOURCE...",
            help="Directories (searched for *.zip), skill ZIPs, or - for a list of paths on standard input.",
            show_default=False,
        ),
    ] = None,
    manifest: Annotated[
        list[str] | None,
        typer.Option("--manifest", metavar="FILE", help="A list of paths: plain, JSONL or CSV."),
    ] = None,
    nul: Annotated[bool, typer.Option("-0", help="Lists are separated by NUL (find -print0).")] = False,
    include: Annotated[
        list[str] | None, typer.Option("--include", metavar="GLOB", help="Only paths that match.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="GLOB", help="No paths that match; wins.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The report.  [default: in the state directory]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the report that is there, once the new one is whole.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be submitted, and submit nothing.")
    ] = False,
    endpoint: EndpointOption = None,
    profile: Profile = None,
    state_dir: StateDir = None,
    rate: Rate = None,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    deadline: Deadline = None,
    max_age: MaxAge = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every file, also those that look unchanged.")
    ] = False,
    limit_bytes: Annotated[
        int | None,
        typer.Option(help="Reject larger files, up to 7340032.  [default: 7000000]", show_default=False),
    ] = None,
    no_wait: NoWait = False,
    fail_on: FailOn = None,
    report_urls: ReportUrls = False,
    json: Json = False,
    quiet: Quiet = False,
    log_level: LogLevel = None,
) -> None:
    """Scan skill ZIPs and write one row per input.

    A report that is there already is gone on with when its run is unfinished and the sources are the
    same; else it is refused, unless --overwrite is given.
    """
    from batchscan import commands  # noqa: PLC0415 - see the module

    settings = {
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
            commands.Ends(output=output, overwrite=overwrite, wait=not no_wait, fail_on=fail_on),
            commands.Show(json=json, quiet=quiet),
            dry_run=dry_run,
        )
    )


@app.command()
def resume(
    run: Annotated[
        str | None,
        typer.Argument(help="Run id.  [default: the latest unfinished]", show_default=False),
    ] = None,
    state_dir: StateDir = None,
    rate: Rate = None,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    deadline: Deadline = None,
    no_wait: NoWait = False,
    fail_on: FailOn = None,
    report_urls: ReportUrls = False,
    json: Json = False,
    quiet: Quiet = False,
    log_level: LogLevel = None,
) -> None:
    """Go on with a run that was interrupted, or that left rows pending."""
    from batchscan import commands  # noqa: PLC0415 - see the module

    settings = {
        "state_dir": state_dir,
        "rate": rate,
        "first_poll_s": first_poll,
        "poll_interval_s": poll_interval,
        "deadline_s": deadline,
        "report_urls": report_urls or None,
        "log_level": log_level,
    }
    ends = commands.Ends(wait=not no_wait, fail_on=fail_on)
    raise typer.Exit(commands.resume(settings, run, ends, commands.Show(json=json, quiet=quiet)))


@app.command()
def status(
    run: Annotated[
        str | None, typer.Argument(help="A run's id.  [default: the latest runs]", show_default=False)
    ] = None,
    state_dir: StateDir = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many runs to list.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per run.")] = False,
) -> None:
    """Show runs, how far they came, and what is in the ledger."""
    from batchscan import commands  # noqa: PLC0415 - see the module

    raise typer.Exit(commands.status({"state_dir": state_dir}, run, limit=limit, as_json=json))


@app.command()
def engine(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8099,
    site: Annotated[
        str, typer.Option("--site", metavar="embedded|intl|china", help="Whose caps and fields to have.")
    ] = "embedded",
    drill: Annotated[
        str | None,
        typer.Option("--drill", metavar="FAULTS", help="Faults to inject, as in docs/drills.md."),
    ] = None,
    engine_version: Annotated[
        int | None,
        typer.Option("--engine-version", min=1, help="Pretend to be this engine.", show_default=False),
    ] = None,
    quota: Annotated[
        int | None,
        typer.Option("--quota", min=0, help="Files that may be billed.", show_default=False),
    ] = None,
    state_dir: StateDir = None,
    detector: Annotated[
        str | None, typer.Option("--detector", metavar="skilltotal|deep", help="Who judges.")
    ] = None,
    log_level: LogLevel = None,
) -> None:
    """Run the embedded endpoint by itself, on loopback, until it is stopped.

    The first line on stdout is its URL. It takes the key of TENCENTCLOUD_SECRET_ID and
    TENCENTCLOUD_SECRET_KEY, and makes one and prints it where there is none.
    """
    from batchscan import commands, connect  # noqa: PLC0415 - see the module

    settings = {"state_dir": state_dir, "detector": detector, "log_level": log_level}
    raise typer.Exit(
        commands.engine(
            settings,
            connect.Standalone(
                port=port, site=site, drill=drill, engine_version=engine_version, total_quota=quota
            ),
        )
    )


def main() -> NoReturn:
    """Run the program and exit with its code; no error leaves as a traceback of its own."""
    sys.exit(_guarded())


def _guarded() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BatchscanError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        return _closed_pipe()
    except Exception:  # noqa: BLE001 - the last resort: what is not foreseen has a code of its own
        return _internal_error()


def _internal_error() -> int:
    import traceback  # noqa: PLC0415 - see the module

    from batchscan.logs import scrub  # noqa: PLC0415 - see the module

    return _fail("internal error, please report it\n" + scrub(traceback.format_exc()), INTERNAL_ERROR)


def _fail(message: str, code: int) -> int:
    from batchscan.report.text import printable_lines  # noqa: PLC0415 - see the module

    typer.echo(f"batchscan: {printable_lines(message)}", err=True)
    return code


def _closed_pipe() -> int:
    """Whoever read our output has gone; that is no failure of the scan, and no message helps."""
    import os  # noqa: PLC0415 - see the module

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
