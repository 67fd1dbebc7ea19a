"""What `decide` does: a report and a policy become one file of decisions, whole or not at all."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import structlog

from batchscan.commands import configured
from batchscan.decisions.deciding import Decider
from batchscan.decisions.document import Counts, Decision, DecisionsWriter, Head, SuppressionCounts
from batchscan.decisions.grace import Memory, remembered
from batchscan.decisions.policy import Policy
from batchscan.decisions.policy_file import read_policy, show_policy
from batchscan.decisions.ruling import NO_VERDICT
from batchscan.errors import NothingMatchedError, ReportError, UsageError
from batchscan.models import Row, RunState
from batchscan.report.lines import read_rows
from batchscan.report.replaced import refuse_overwriting, replaced
from batchscan.report.rows import rfc3339
from batchscan.report.text import printable
from batchscan.reporting import Located, locate
from batchscan.streams import data_on_stdout
from batchscan.suppressions import Audit, Suppressions, warn_of

_INCOMPLETE = 3
_UNFINISHED = frozenset({RunState.RUNNING, RunState.INTERRUPTED})

log = structlog.get_logger(__name__)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one `decide`: what is written, and what it is decided by."""

    output: Path | None
    policy: Path | None = None
    previous: Path | None = None
    suppressions: Path | None = None


def decide(settings: dict[str, Any], name: str | None, wanted: Wanted) -> int:
    """Write the decisions on a report.

    Returns:
        0, or 3 when some inputs have no verdict that counts. Only then was the file written.

    Raises:
        BatchscanError: it could not be done; the file is as it was.
    """
    if wanted.output is None:
        raise UsageError("name the file of decisions with --output")
    config = configured(settings)
    policy = read_policy(wanted.policy)
    for danger in policy.dangers():
        log.warning(danger)
    located = asyncio.run(locate(config, name))
    try:
        head = _write(located, policy, wanted, wanted.output)
    except ReportError as error:  # its code says that the file was written
        raise UsageError(str(error)) from error
    with data_on_stdout():
        _show(head, wanted.output)
    unfinished = located.record is not None and located.record.state in _UNFINISHED
    if unfinished:
        log.warning("the run is not over: inputs that have no row yet have no decision", run=head.run_id)
    return _INCOMPLETE if head.counts.without_verdict or unfinished else 0


def show(path: Path | None) -> int:
    """Print a policy with all that it leaves to the defaults.

    Raises:
        UsageError: something is wrong with its file.
    """
    policy = read_policy(path)
    with data_on_stdout():
        sys.stdout.write(show_policy(policy))
    return 0


def _write(located: Located, policy: Policy, wanted: Wanted, output: Path) -> Head:
    report = located.file
    refuse_overwriting(output, report)
    now = datetime.now(UTC)
    suppressions = Suppressions.load(wanted.suppressions, now.date(), report)
    run_id, rows = _rows(report)
    head = Head(
        run_id=run_id,
        run_state=None if located.record is None else located.record.state,
        report=report.name,
        made_at=str(rfc3339(int(now.timestamp()))),
        policy_fingerprint=policy.fingerprint(),
        counts=Counts(),
    )
    with _memory(wanted, output, report, policy, now) as memory, replaced(output) as file:
        decider = Decider(policy, suppressions.match, memory, now)
        writer = DecisionsWriter(file, head)
        for row in rows:
            decision = decider.decide(row)
            writer.add(decision)
            _count(head.counts, decision)
        audit = suppressions.audit()
        if wanted.suppressions is not None:
            head = msgspec.structs.replace(head, suppressions=_audited(audit, len(suppressions)))
        writer.finish(head)
    warn_of(audit)
    return head


def _rows(report: Path) -> tuple[str, Iterator[Row]]:
    """Give the rows, and the one run that they are of."""
    rows = read_rows(report)
    first = next(rows, None)
    if first is None:
        raise NothingMatchedError(f"{report}: has no rows; there is nothing to decide on")
    return first.run_id, _of_one_run(report, first.run_id, chain((first,), rows))


def _of_one_run(report: Path, run_id: str, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if row.run_id != run_id:
            raise UsageError(
                f"{report}: has rows of more than one run, {run_id} and {row.run_id}; decide on one"
            )
        yield row


def _memory(
    wanted: Wanted, output: Path, report: Path, policy: Policy, now: datetime
) -> AbstractContextManager[Memory]:
    previous = wanted.previous
    if previous is None:
        if policy.grace_days:
            log.warning("the policy's grace has no effect without --previous")
        return nullcontext(Memory())
    if not policy.grace_days:
        log.warning("--previous has no effect: the policy gives no grace", previous=str(previous))
        return nullcontext(Memory())
    if previous.absolute() == output.absolute() and not os.path.lexists(previous):
        log.warning("there are no previous decisions yet", previous=str(previous))
        return nullcontext(Memory())
    return remembered(previous, report, timedelta(days=policy.grace_days), now)


def _count(counts: Counts, decision: Decision) -> None:
    counts.inputs += 1
    action = decision.decision.value
    setattr(counts, action, getattr(counts, action) + 1)
    counts.without_verdict += decision.carried is not None or decision.reason.code in NO_VERDICT
    counts.suppressed += decision.suppression is not None
    counts.carried += decision.carried is not None


def _audited(audit: Audit, entries: int) -> SuppressionCounts:
    return SuppressionCounts(
        entries=entries,
        unused=len(audit.unused),
        expired=len(audit.expired),
        expiring=len(audit.expiring),
    )


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
