"""From a report to its file of decisions, whole or not at all. Blocks; the service calls it off the loop."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import msgspec
import structlog

from batchscan.decisions.deciding import Decider
from batchscan.decisions.document import Counts, Decision, DecisionsWriter, Head, SuppressionCounts
from batchscan.decisions.grace import Memory, remembered
from batchscan.decisions.policy import Policy
from batchscan.decisions.policy_file import read_policy
from batchscan.decisions.ruling import NO_VERDICT
from batchscan.errors import NothingMatchedError, ReportError, UsageError
from batchscan.models import Row, RunState
from batchscan.report.lines import read_rows
from batchscan.report.replaced import refuse_overwriting, replaced
from batchscan.report.rows import rfc3339
from batchscan.suppressions import Audit, Suppressions, warn_of

log = structlog.get_logger(__name__)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The files: what is written, and what it is decided by.

    Attributes:
        output: the file of decisions, replaced when the new one is whole.
        policy: None is the default one.
        previous: decisions of before, for the grace; may be ``output``.
        suppressions: accepted findings.
    """

    output: Path
    policy: Path | None = None
    previous: Path | None = None
    suppressions: Path | None = None


def make_decisions(report: Path, state: RunState | None, wanted: Wanted) -> Head:
    """Write the decisions on a report, and log what the operator has to see to.

    Args:
        report: of one run.
        state: where the run stands, None where that is not known.
        wanted: the files.

    Returns:
        The head of the file, with its counts.

    Raises:
        UsageError: a file is wrong, cut off, or cannot be read or written; the output is as it was.
        NothingMatchedError: the report has no rows; likewise.
    """
    try:
        return _make(report, state, wanted)
    except ReportError as error:  # whose exit code says that something was written
        raise UsageError(str(error)) from error


def _make(report: Path, state: RunState | None, wanted: Wanted) -> Head:
    refuse_overwriting(wanted.output, report)
    for read in (wanted.policy, wanted.suppressions):
        if read is not None:
            refuse_overwriting(wanted.output, read, "read for the decisions")
    policy = read_policy(wanted.policy)
    for danger in policy.dangers():
        log.warning(danger)
    now = datetime.now(UTC)
    suppressions = Suppressions.load(wanted.suppressions, now.date(), report)
    run_id, rows = _rows(report)
    head = Head(
        run_id=run_id,
        run_state=state,
        report=report.name,
        made_at=str(rfc3339(int(now.timestamp()))),
        policy_fingerprint=policy.fingerprint(),
        counts=Counts(),
    )
    with _memory(wanted, report, policy, now) as memory, replaced(wanted.output) as file:
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


def _memory(wanted: Wanted, report: Path, policy: Policy, now: datetime) -> AbstractContextManager[Memory]:
    previous = wanted.previous
    if previous is None:
        if policy.grace_days:
            log.warning("the policy's grace has no effect without previous decisions")
    elif not policy.grace_days:
        log.warning("previous decisions have no effect: the policy gives no grace", previous=str(previous))
    elif previous.absolute() == wanted.output.absolute() and not os.path.lexists(previous):
        log.warning("there are no previous decisions yet", previous=str(previous))
    else:
        return remembered(previous, report, timedelta(days=policy.grace_days), now)
    return nullcontext(Memory())


def _count(counts: Counts, decision: Decision) -> None:
    counts.inputs += 1
    action = decision.decision.value
    setattr(counts, action, getattr(counts, action) + 1)
    counts.without_verdict += decision.carried is not None or decision.reason.code in NO_VERDICT
    counts.suppressed += decision.suppression is not None
    counts.carried += decision.carried is not None


def _audited(audit: Audit, entries: int) -> SuppressionCounts:
    return SuppressionCounts(entries=entries, **audit.counts())
