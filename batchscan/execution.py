"""Execution of one run: opens its report, builds its pipeline, and turns its end into a summary."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog

from batchscan.admit import Admitter
from batchscan.api.client import ScanClient
from batchscan.api.reactions import CREATE, RESULT
from batchscan.conclusion import Terms, state_after, summarize
from batchscan.config import Config
from batchscan.discover import Filters, ManifestSource, Source, discover, resolve_sources
from batchscan.errors import BatchscanError, CutShortError, LedgerError, NothingMatchedError, ServiceError
from batchscan.ledger.admission import Admission
from batchscan.ledger.budget import Budget
from batchscan.ledger.chosen import Choice
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.ledger.scans import Scans
from batchscan.ledger.store import Ledger
from batchscan.ledger.waiting import WaitingInputs
from batchscan.lines import Lines
from batchscan.models import Candidate, RunState
from batchscan.outage import Outage
from batchscan.pacing import Pacer
from batchscan.pipeline import Ending, Pipeline, Policy
from batchscan.quota import ask_quota, files_left
from batchscan.record import Recorder
from batchscan.report.jsonl import Mode, ReportWriter, open_report
from batchscan.report.summary import Summary, encode_summary
from batchscan.rescan import chosen_inputs, note_choice
from batchscan.spool import Spool, spool_path
from batchscan.stages import Stages, Timing
from batchscan.stats import Stats
from batchscan.walk import Fence

log = structlog.get_logger(__name__)

OWNERS_DIRECTORY = "owners"
_QUESTION_S = 5.0


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is not in the ledger yet; ``report`` is absolute."""

    run_id: str
    request: RunRequest
    sources: list[Source]
    report: Path
    spool: Spool | None


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """What runs at one endpoint share: an open state directory and a client.

    Attributes:
        endpoint: its name, as rows tell it.
        owner: under whose name claims are held.
    """

    config: Config
    ledger: Ledger
    client: ScanClient
    endpoint: str
    owner: str


class Execution:
    """Executes runs with one set of counters, one at a time.

    Args:
        station: where.
        stats: the counters.
        lines: where runs at the same endpoint wait for their turn; None where there is only one.
        priority: how urgent its runs are among those.
    """

    def __init__(self, station: Station, stats: Stats, lines: Lines | None = None, priority: int = 0) -> None:
        self._config = station.config
        self._ledger = station.ledger
        self._client = station.client
        self._endpoint = station.endpoint
        self._owner = station.owner
        self._stats = stats
        self._lines = lines
        self._priority = priority
        self._runs = Runs(station.ledger)
        self._pipeline: Pipeline | None = None
        self._draining = False

    def drain(self) -> None:
        """Begin nothing more; what is under way ends, and the run can be resumed."""
        self._draining = True
        if self._pipeline is not None:
            self._pipeline.drain()

    async def note_quota(self) -> None:
        """Ask what is left of the account's quota and let the metrics know; bills nothing."""
        try:
            async with asyncio.timeout(_QUESTION_S):
                info = await ask_quota(self._client)
        except (ServiceError, TimeoutError) as error:
            log.warning("the quota is not known", reason=str(error) or "no answer in time")
        else:
            self._stats.meter.quota_left = files_left(info)

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
            record = await self._runs.create(
                draft.run_id, draft.request, draft.report, now=time.time(), together_with=note_choice
            )
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
        self._stats.resume(record.counts)
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
        recorder = Recorder(writer, waiting, record, self._endpoint, self._stats, terms.gate)
        try:
            if resumed:
                await recorder.resume()
            scans = await self._scans(record, terms)
            ending = await self._carry_out(record, sources, terms, scans, recorder, resumed=resumed)
            state = state_after(ending)
            nothing = state is RunState.COMPLETE and recorder.tally.inputs == 0
            if state is not RunState.INTERRUPTED and not nothing:
                await recorder.finish()
            elapsed_s = time.monotonic() - began
            summary = await summarize(record, recorder, ending, terms, scans, self._stats, elapsed_s)
            await self._note(record, state, None if nothing else summary)
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
        return summary

    async def _scans(self, record: RunRecord, terms: Terms) -> Scans:
        """The digests of the run, with what may be spent on them.

        A run that ended by itself begins its allowance anew; one that was interrupted goes on with what is
        left, and so does one whose sample was looked at.
        """
        ended = record.state is RunState.INCOMPLETE
        choice = None if record.request.rescan is None else Choice(self._ledger, record.id)
        budget = Budget(
            self._ledger,
            record.id,
            allowance=terms.budget,
            daily=self._config.daily_budget,
            again=choice is not None,
        )
        sampled = choice is not None and ended and await choice.release() > 0
        await budget.open(anew=ended and not sampled)
        if record.state is not RunState.RUNNING:
            await self._runs.update(record, state=RunState.RUNNING, counts=record.counts, finished_at=None)
        return Scans(self._ledger, budget, choice)

    async def _carry_out(
        self,
        record: RunRecord,
        sources: list[Source],
        terms: Terms,
        scans: Scans,
        recorder: Recorder,
        *,
        resumed: bool,
    ) -> Ending:
        again = scans.choice is not None
        chooses = scans.budget is not None and scans.budget.chooses
        admitter = Admitter(
            Admission(self._ledger, record.id, chooses=chooses, again=again),
            limit_bytes=self._config.limit_bytes,
            rehash=self._config.rehash,
            roots=_roots(record.request),
        )
        self._pipeline = Pipeline(
            run=record.id,
            candidates=self._candidates(record.request, sources, scans.choice),
            admitter=admitter,
            scans=scans,
            waiting=WaitingInputs(self._ledger, record.id),
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
            with (
                structlog.contextvars.bound_contextvars(run_id=record.run_id),
                self._stats.meter.following(self._stats),
            ):
                return await self._pipeline.run()
        finally:
            admitter.close()

    def _candidates(
        self, request: RunRequest, sources: list[Source], choice: Choice | None
    ) -> AsyncGenerator[list[Candidate], None]:
        if choice is not None:
            fence = Fence(_roots(request))
            return chosen_inputs(choice, f"rescan {request.rescan}", fence)
        filters = Filters(include=request.include, exclude=request.exclude, roots=_roots(request))
        return discover(sources, filters, self._stats)

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
            create=self._pacer(CREATE, config.create_rate),
            result=self._pacer(RESULT, config.poll_rate),
            timing=timing,
            outage=Outage(config.unreachable_s),
            stats=self._stats,
            owner=self._owner,
            run=run,
            limit_bytes=config.limit_bytes,
            keep_report_url=config.report_urls,
        )

    def _pacer(self, action: str, rate: float | None) -> Pacer:
        line = None if self._lines is None or rate is None else self._lines.at(action, rate, self._priority)
        waited = partial(self._stats.meter.waited, action)
        return Pacer(self._ledger, action, rate, smoother=line, waited=waited)

    async def _note(self, record: RunRecord, state: RunState, summary: Summary | None = None) -> None:
        done = state in (RunState.COMPLETE, RunState.INCOMPLETE)
        await self._runs.update(
            record,
            state=state,
            counts=dict(self._stats.requests),
            finished_at=time.time() if done else None,
            summary=None if summary is None else encode_summary(summary),
        )


def named_sources(request: RunRequest, stdin: Path | None) -> list[Source]:
    """Check what a request names; blocks.

    Args:
        request: inputs.
        stdin: the file that standard input was spooled to.

    Raises:
        UsageError: a source cannot be used.
    """
    return resolve_sources(
        request.sources, request.manifests, nul=request.nul, stdin_spool=stdin, roots=_roots(request)
    )


def _roots(request: RunRequest) -> frozenset[bytes] | None:
    """The real directories that nothing may lead out of."""
    return None if request.roots is None else frozenset(map(os.fsencode, request.roots))


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


def _nothing(record: RunRecord, stats: Stats) -> str:
    if record.request.rescan is not None:
        return f"nothing to submit again: {record.request.rescan} matches nothing with a known path"
    named = ", ".join((*record.request.sources, *record.request.manifests))
    skipped = "".join(f"; {count} skipped: {reason}" for reason, count in sorted(stats.skipped.items()))
    return f"nothing to scan in {named}: no *.zip file matched{skipped}"
