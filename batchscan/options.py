"""Options of the command line: their names, their place-holders and their help."""

from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Where ledger and reports are kept.  [default: batchscan in the user's state directory]",
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings in TOML.  [default: batchscan.toml in the user's configuration directory]",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="embedded|intl|china|URL|NAME",
        help="Who judges; a NAME is one of the settings file. Nothing leaves the machine and nothing is"
        " billed with embedded."
        "  [default: embedded]",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="Whose credentials to use.  [default: default]"),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        metavar="NUMBER",
        help="Submissions a second at most; 0 is no cap.  [default: intl 20, china 3, embedded 0]",
    ),
]
FirstPoll = Annotated[
    str | None,
    typer.Option(
        "--first-poll",
        metavar="DURATION",
        help="From submission to the first poll, as 90s, 5m, 1.5h.  [default: 5m; embedded 250ms]",
    ),
]
PollInterval = Annotated[
    str | None,
    typer.Option(
        "--poll-interval",
        metavar="DURATION",
        help="Between polls of one skill.  [default: 1m; embedded 500ms]",
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="DURATION",
        help="From submission until an input is left pending.  [default: 100m; embedded 30m]",
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option("--max-age", metavar="DURATION", help="Scan again what was scanned longer ago, as 30d."),
]
Rehash = Annotated[bool, typer.Option("--rehash", help="Read every file, also those that look unchanged.")]
LimitBytes = Annotated[
    int | None,
    typer.Option(
        "--limit-bytes", metavar="NUMBER", help="Reject larger files, up to 7340032.  [default: 7000000]"
    ),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="End when all is submitted; the next run fetches the verdicts.")
]
FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on",
        metavar="malicious|suspicious",
        help="Exit with 1 when a verdict is this bad or worse.",
    ),
]
FailOnIncomplete = Annotated[
    bool,
    typer.Option(
        "--fail-on-incomplete",
        help="Exit with 3 also when a directory could not be read: it may hide inputs.",
    ),
]
BaselineReport = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="FILE|RUN",
        help="A report of before: content that it found as bad does not count for --fail-on.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary table.")]
ReportUrls = Annotated[
    bool,
    typer.Option(
        "--report-urls", help="Write the service's report links: whoever has one can read the report."
    ),
]
Notify = Annotated[
    str | None,
    typer.Option(
        "--notify",
        metavar="URL",
        help="Tell this address when something changed, or verdicts are missing. Rather set"
        " BATCHSCAN_NOTIFY_URL: others on this machine see flags.",
    ),
]
NotifyFormat = Annotated[
    str | None,
    typer.Option("--notify-format", metavar="json|slack", help="What is sent there.  [default: json]"),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="debug|info|warning|error",
        help="What is logged on stderr.  [default: warning]",
    ),
]
Manifest = Annotated[
    list[str] | None,
    typer.Option("--manifest", metavar="FILE", help="A list of paths: one a line, JSONL or CSV."),
]
Nul = Annotated[bool, typer.Option("-0", help="Lists are separated by NUL, as by find -print0.")]
Include = Annotated[
    list[str] | None, typer.Option("--include", metavar="GLOB", help="Only paths that match.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="GLOB", help="No paths that match; it wins over --include."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The report.  [default: in the state directory]"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the report that is there, once the new one is whole.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Say what would be submitted and billed, and send no file."),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        metavar="FILES",
        min=0,
        help="Files in ZIPs that this run may bill; exit with 8 when it needs more.",
    ),
]
DailyBudget = Annotated[
    int | None,
    typer.Option(
        "--daily-budget",
        metavar="FILES",
        help="Files that all runs together may bill in a day (UTC) at this endpoint and profile.",
    ),
]
SuppressionsFile = Annotated[
    Path | None,
    typer.Option(
        "--suppressions",
        metavar="FILE",
        help="Accepted findings in TOML, see docs/suppressions.md; they are shown and do not count.",
    ),
]
MetricsTextfile = Annotated[
    Path | None,
    typer.Option(
        "--metrics-textfile",
        metavar="FILE",
        help="Metrics of the run for node_exporter, written also when it fails; ends in .prom.",
    ),
]
