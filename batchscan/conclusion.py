"""The end of a run: its state, its exit code, and what its summary says."""

import msgspec

from batchscan.errors import BudgetReachedError
from batchscan.gate import Gate
from batchscan.ledger.runs import RunRecord
from batchscan.ledger.scans import Scans
from batchscan.models import Outcome, Problem, RunState
from batchscan.pipeline import Ending
from batchscan.record import Recorder
from batchscan.report.spending import BudgetUse, Flip, Rescan
from batchscan.report.summary import UNREAD, Summary
from batchscan.stats import Stats
from batchscan.suppressions import warn_of


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is ended and judged.

    Attributes:
        wait: poll for verdicts; else the run ends when all is submitted.
        gate: which findings fail the run.
        budget: files that the run may bill; None: no limit, or the one it has on record.
    """

    wait: bool = True
    gate: Gate = Gate()
    budget: int | None = None


def state_after(ending: Ending) -> RunState:
    """Tell where the run stands now."""
    if ending.drained:
        return RunState.INTERRUPTED
    return RunState.INCOMPLETE if ending.pending else RunState.COMPLETE


async def summarize(
    record: RunRecord,
    recorder: Recorder,
    ending: Ending,
    terms: Terms,
    scans: Scans,
    stats: Stats,
    elapsed_s: float,
) -> Summary:
    """Make the summary of a run that has ended.

    Raises:
        LedgerError: the ledger failed.
    """
    tally = recorder.tally
    budget = await _budget(scans, ending)
    _warn_of_suppressions(terms.gate, state_after(ending))
    return Summary(
        run_id=record.run_id,
        state=state_after(ending),
        exit_code=_exit_code(recorder, ending, terms, stats),
        report=str(record.report),
        endpoint=recorder.endpoint,
        engine_versions=sorted(tally.engine_versions),
        counts=dict(tally.outcomes),
        verdicts=dict(tally.verdicts),
        billed_files=recorder.billed_files,
        requests=dict(stats.requests),
        throttled=stats.throttled,
        retries=stats.retries,
        elapsed_s=round(elapsed_s, 3),
        error=_error(ending, budget),
        inputs=tally.inputs,
        skipped=dict(stats.skipped),
        worst=tally.worst,
        new_engine_versions=tuple(stats.new_engines),
        budget=budget,
        rescan=await _rescan(record, scans),
        gate=recorder.gate.use(),
    )


def _warn_of_suppressions(gate: Gate, state: RunState) -> None:
    if gate.suppressions is None:
        return
    audit = gate.suppressions.audit()
    if state is not RunState.COMPLETE:
        audit = msgspec.structs.replace(audit, unused=())  # what they are about may have no row yet
    warn_of(audit)


def _exit_code(recorder: Recorder, ending: Ending, terms: Terms, stats: Stats) -> int:
    """The run's own part of the exit code; a signal's is the command line's business."""
    tally = recorder.tally
    if ending.stopped is not None:
        return ending.stopped.exit_code
    if ending.unaffordable is not None:
        return BudgetReachedError.exit_code
    if ending.drained or any(tally.outcomes[o] for o in (Outcome.REJECTED, Outcome.FAILED, Outcome.PENDING)):
        return 3
    if terms.gate.incomplete and stats.skipped[UNREAD]:
        return 3
    return 1 if recorder.gate.reached() else 0


def _error(ending: Ending, budget: BudgetUse | None) -> Problem | None:
    if ending.stopped is not None:
        found = ending.stopped.problem
        message = f"{found.message.rstrip('.')}. {ending.stopped.advice}".strip()
        return Problem(found.code, message, found.request_id)
    if budget is not None and ending.unaffordable is not None:
        return Problem(
            "budget",
            f"{budget.unaffordable_inputs} skills with {budget.unaffordable_files} files were not sent: the"
            f" budget has {budget.left} files left. Resume the run with a --budget for the rest.",
        )
    return None


async def _budget(scans: Scans, ending: Ending) -> BudgetUse | None:
    spending = None if scans.budget is None else await scans.budget.spending()
    if spending is None:
        return None
    missed = ending.unaffordable
    return BudgetUse(
        allowance=spending.allowance,
        spent=spending.spent,
        reserved=spending.reserved,
        left=spending.left,
        unaffordable_inputs=0 if missed is None else missed.digests,
        unaffordable_files=0 if missed is None else missed.files,
    )


async def _rescan(record: RunRecord, scans: Scans) -> Rescan | None:
    if scans.choice is None:
        return None
    changes = await scans.choice.changes()
    return Rescan(
        selection=str(record.request.rescan),
        judged=sum(change.count for change in changes),
        flipped=sum(change.count for change in changes if change.before is not change.after),
        verdicts=tuple(Flip(before=c.before, after=c.after, count=c.count) for c in changes),
        held=await scans.choice.held(),
    )
