"""What the command `decide` does: find the report, have the decisions made, say what they add up to."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import structlog

from batchscan.commands import configured
from batchscan.decisions.document import Head
from batchscan.decisions.making import Wanted, make_decisions
from batchscan.decisions.policy_file import read_policy, show_policy
from batchscan.models import RunState
from batchscan.report.gaps import find_gaps
from batchscan.report.text import printable
from batchscan.reporting import locate
from batchscan.streams import data_on_stdout

_INCOMPLETE = 3
_UNFINISHED = frozenset({RunState.RUNNING, RunState.INTERRUPTED})

log = structlog.get_logger(__name__)


def decide(settings: dict[str, Any], name: str | None, wanted: Wanted) -> int:
    """Write the decisions on a report.

    Returns:
        0, or 3 when some inputs have no verdict that counts. Only then was the file written.

    Raises:
        BatchscanError: it could not be done; the file is as it was.
    """
    located = asyncio.run(locate(configured(settings), name))
    state = None if located.record is None else located.record.state
    head = make_decisions(located.file, state, wanted)
    with data_on_stdout():
        _show(head, wanted.output)
    if state in _UNFINISHED:
        log.warning("the run is not over: inputs that have no row yet have no decision", run=head.run_id)
    summary = None if located.record is None else located.record.summary
    rowless = find_gaps(summary, head.counts.inputs).rowless
    if rowless:
        log.warning("the report has fewer rows than its run had inputs", run=head.run_id, without_row=rowless)
    return _INCOMPLETE if head.counts.without_verdict or rowless or state in _UNFINISHED else 0


def show(path: Path | None) -> int:
    """Print a policy with all that it leaves to the defaults.

    Raises:
        UsageError: something is wrong with its file.
    """
    policy = read_policy(path)
    with data_on_stdout():
        sys.stdout.write(show_policy(policy))
    return 0


def _show(head: Head, output: Path) -> None:
    counts = head.counts
    lines = (
        f"run {printable(head.run_id)}: {counts.inputs:,} inputs",
        f"allow {counts.allow:,}, warn {counts.warn:,}, block {counts.block:,}",
        f"without a verdict {counts.without_verdict:,}, of these carried {counts.carried:,}",
        f"suppressed {counts.suppressed:,}",
        f"policy {head.policy_fingerprint}",
        f"decisions: {printable(str(output))}",
    )
    sys.stdout.writelines(line + "\n" for line in lines)
