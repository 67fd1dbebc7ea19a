"""Execution of one run: opens its report, builds its pipeline, and turns its end into a summary."""

import asyncio
import os
import time
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import msgspec

from batchscan.admit import Admitter
from batchscan.api.client import ScanClient
from batchscan.api.reactions import CREATE, RESULT
from batchscan.config import Config
from batchscan.discover import Filters, ManifestSource, Source, discover, resolve_sources
from batchscan.errors import BatchscanError, CutShortError, LedgerError, NothingMatchedError
from batchscan.ledger.admission import Admission
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.ledger.scans import Scans
from batchscan.ledger.store import Ledger
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Outcome, Problem, RiskLevel, RunState
from batchscan.outage import Outage
from batchscan.pacing import Pacer
from batchscan.pipeline import Ending, Pipeline, Policy
from batchscan.record import Recorder
from batchscan.report.jsonl import Mode, ReportWriter, open_report
from batchscan.report.summary import Summary
from batchscan.spool import Spool, spool_path
from batchscan.stages import Stages, Timing
from batchscan.stats import Stats

OWNERS_DIRECTORY = "owners"
_FAILS_ON = {
    RiskLevel.MALICIOUS: (RiskLevel.MALICIOUS,),
    RiskLevel.SUSPICIOUS: (RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS),
}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is ended and judged.

    Attributes:
        wait: poll for verdicts; else the run ends when all is submitted.
        fail_on: the mildest verdict that fails the run; None lets every verdict pass.
    """

    wait: bool = True
    fail_on: RiskLevel | None = None


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is not in the ledger yet; ``report`` is absolute."""

    run_id: str
    request: RunRequest
    sources: list[Source]
    report: Path
    spool: Spool | None


class Execution:
    """Executes runs with one ledger, one client and one set of counters."""

    def __init__(
        self, config: Config, ledger: Ledger, client: ScanClient, endpoint: str, owner: str, stats: Stats
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._client = client
        self._endpoint = endpoint
        self._owner = owner
        self._stats = stats
        self._runs = Runs(ledger)
        self._pipeline: Pipeline | None = None
        self._draining = False

    def drain(self) -> None:
        """Begin nothing more; what is under way ends, and the run can be resumed."""
        self._draining = True
        if self._pipeline is not None:
            self._pipeline.drain()

    async def begin(self, draft: Draft, terms: Terms) -> Summary:
        """Make a new run. An unusable report is found before it is recorded.

        Raises:
            BatchscanError: it could not be finished; what was recorded stays recorded.
        """
        sources = draft.sources
        mode = Mode.REPLACE if draft.request.replace else Mode.NEW
        async with self._opened(draft.report, mode, draft.run_id) as writer:
            if draft.spool is not None:
                await asyncio.to_thread(draft.spool.keep, self._config.state_dir, draft.run_id)
                kept = spool_path(self._config.state_dir, draft.run_id)
                sources = [_moved(source, kept) for source in sources]
            record = await self._runs.create(draft.run_id, draft.request, draft.report, now=time.time())
            return await self._finish(record, sources, writer, terms, resumed=False)

    async def go_on(self, record: RunRecord, terms: Terms) -> Summary:
        """Go on with a run; the working directory must be the run's.

        Raises:
            BatchscanError: it could not be finished; what was recorded stays recorded.
        """
        stdin = None
        if record.request.stdin_sha256 is not None:
            stdin = spool_path(self._config.state_dir, record.run_id)
        sources = await asyncio.to_thread(named_sources, record.request, stdin)
        mode = Mode.REPLACE if record.request.replace else Mode.RESUME
        self._stats.requests.update(record.counts)
        async with self._opened(record.report, mode, record.run_id) as writer:
            return await self._finish(record, sources, writer, terms, resumed=True)

    def _opened(self, report: Path, mode: Mode, run_id: str) -> AbstractAsyncContextManager[ReportWriter]:
        private = report.is_relative_to(self._config.state_dir)
        return open_report(report, mode=mode, run_id=run_id, private=private)

    async def _finish(
        self, record: RunRecord, sources: list[Source], writer: ReportWriter, terms: Terms, *, resumed: bool
    ) -> Summary:
        began = time.monotonic()
        waiting = WaitingInputs(self._ledger, record.id)
        recorder = Recorder(writer, waiting, record, self._endpoint, self._stats)
        try:
            if resumed:
                await recorder.resume()
            ending = await self._carry_out(record, sources, terms, waiting, recorder, resumed=resumed)
            state = _state(ending)
            nothing = state is RunState.COMPLETE and recorder.tally.inputs == 0
            if state is not RunState.INTERRUPTED and not nothing:
                await recorder.finish()
            await self._note(record, state)
        except BatchscanError as error:
            with suppress(LedgerError):
                await self._note(record, RunState.INTERRUPTED)
            if isinstance(error, LedgerError):
                raise CutShortError(f"run {record.run_id} was cut short: {error}") from error
            raise
        if state is RunState.COMPLETE and record.request.stdin_sha256 is not None:
            await asyncio.to_thread(spool_path(self._config.state_dir, record.run_id).unlink, missing_ok=True)
        if nothing:
            await asyncio.to_thread(_remove_empty, record)
            raise NothingMatchedError(_nothing(record, self._stats))
        return self._summary(record, recorder, ending, terms, time.monotonic() - began)

    async def _carry_out(
        self,
        record: RunRecord,
        sources: list[Source],
        terms: Terms,
        waiting: WaitingInputs,
        recorder: Recorder,
        *,
        resumed: bool,
    ) -> Ending:
        filters = Filters(include=record.request.include, exclude=record.request.exclude)
        scans = Scans(self._ledger)
        admitter = Admitter(
            Admission(self._ledger, record.id),
            limit_bytes=self._config.limit_bytes,
            rehash=self._config.rehash,
        )
        self._pipeline = Pipeline(
            run=record.id,
            candidates=discover(sources, filters, self._stats),
            admitter=admitter,
            scans=scans,
            waiting=waiting,
            stages=self._stages(scans, record.id),
            recorder=recorder,
            stats=self._stats,
            owners=self._config.state_dir / OWNERS_DIRECTORY,
            policy=Policy(wait=terms.wait, max_age_s=self._config.max_age_s),
            resumed=resumed,
        )
        if self._draining:
            self._pipeline.drain()
        try:
            return await self._pipeline.run()
        finally:
            admitter.close()

    def _stages(self, scans: Scans, run: int) -> Stages:
        config, preset = self._config, self._config.preset
        timing = Timing(
            first_poll_s=_given(config.first_poll_s, preset.first_poll_s),
            poll_interval_s=_given(config.poll_interval_s, preset.poll_interval_s),
            poll_growth=preset.poll_growth if config.poll_interval_s is None else 0.0,
            deadline_s=_given(config.deadline_s, preset.deadline_s),
        )
        return Stages(
            scans=scans,
            client=self._client,
            create=Pacer(self._ledger, CREATE, config.create_rate),
            result=Pacer(self._ledger, RESULT, config.poll_rate),
            timing=timing,
            outage=Outage(config.unreachable_s),
            stats=self._stats,
            owner=self._owner,
            run=run,
            limit_bytes=config.limit_bytes,
            keep_report_url=config.report_urls,
        )

    async def _note(self, record: RunRecord, state: RunState) -> None:
        done = state in (RunState.COMPLETE, RunState.INCOMPLETE)
        await self._runs.update(
            record,
            state=state,
            counts=dict(self._stats.requests),
            finished_at=time.time() if done else None,
        )

    def _summary(
        self, record: RunRecord, recorder: Recorder, ending: Ending, terms: Terms, elapsed_s: float
    ) -> Summary:
        tally, stats = recorder.tally, self._stats
        error = None
        if ending.stopped is not None:
            found = ending.stopped.problem
            message = f"{found.message.rstrip('.')}. {ending.stopped.advice}".strip()
            error = Problem(found.code, message, found.request_id)
        return Summary(
            run_id=record.run_id,
            state=_state(ending),
            exit_code=_exit_code(recorder, ending, terms),
            report=str(record.report),
            endpoint=self._endpoint,
            engine_versions=sorted(tally.engine_versions),
            counts=dict(tally.outcomes),
            verdicts=dict(tally.verdicts),
            billed_files=recorder.billed_files,
            requests=dict(stats.requests),
            throttled=stats.throttled,
            retries=stats.retries,
            elapsed_s=round(elapsed_s, 3),
            error=error,
            inputs=tally.inputs,
            skipped=dict(stats.skipped),
            worst=tally.worst,
        )


def named_sources(request: RunRequest, stdin: Path | None) -> list[Source]:
    """Check what a request names; blocks.

    Args:
        request: inputs.
        stdin: the file that standard input was spooled to.

    Raises:
        UsageError: a source cannot be used.
    """
    return resolve_sources(request.sources, request.manifests, nul=request.nul, stdin_spool=stdin)


def _moved(source: Source, stdin: Path) -> Source:
    """Point to where standard input is kept now."""
    if isinstance(source, ManifestSource) and source.path == "-":
        return msgspec.structs.replace(source, content=stdin)
    return source


def _remove_empty(record: RunRecord) -> None:
    """Remove the report that has no row; one that it was to replace stays."""
    report = Path(os.path.realpath(record.report))
    if record.request.replace:
        report = Path(f"{report}.{record.run_id}.partial")  # as report.jsonl names it
    report.unlink(missing_ok=True)


def _given(value: float | None, preset: float) -> float:
    return preset if value is None else value


def _state(ending: Ending) -> RunState:
    if ending.drained:
        return RunState.INTERRUPTED
    return RunState.INCOMPLETE if ending.pending else RunState.COMPLETE


def _exit_code(recorder: Recorder, ending: Ending, terms: Terms) -> int:
    """The run's own part of the exit code; a signal's is the command line's business."""
    tally = recorder.tally
    if ending.stopped is not None:
        return ending.stopped.exit_code
    if ending.drained or any(tally.outcomes[o] for o in (Outcome.REJECTED, Outcome.FAILED, Outcome.PENDING)):
        return 3
    if terms.fail_on is not None and any(tally.verdicts[v] for v in _FAILS_ON[terms.fail_on]):
        return 1
    return 0


def _nothing(record: RunRecord, stats: Stats) -> str:
    named = ", ".join((*record.request.sources, *record.request.manifests))
    skipped = "".join(f"; {count} skipped: {reason}" for reason, count in sorted(stats.skipped.items()))
    return f"nothing to scan in {named}: no *.zip file matched{skipped}"
