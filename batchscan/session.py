"""A session: an open state directory at one endpoint, and the choice of which run to make.

A report that is there decides: an unfinished run over the same inputs is gone on with, anything else
is refused unless it may be overwritten.
"""

import asyncio
import gc
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from batchscan.conclusion import Terms
from batchscan.config import Config
from batchscan.connect import Access, connect, scope_name
from batchscan.errors import LedgerError, ReportError, UsageError
from batchscan.execution import OWNERS_DIRECTORY, Draft, Execution, Station, named_sources
from batchscan.ledger.owners import own
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.ledger.store import Ledger, open_ledger
from batchscan.models import RunState
from batchscan.report.summary import Summary
from batchscan.spool import Spool
from batchscan.stats import Stats

LEDGER_FILE = "ledger.sqlite3"
_REPORTS_DIRECTORY = "reports"
_COLLECT_EVERY = 10_000
"""Objects made and not freed until the collector looks; Python's own is 700."""


def prepare_state_dir(path: Path) -> None:
    """Make the state directory, private to its owner.

    Raises:
        LedgerError: it cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise LedgerError(f"state directory {path}: it is a file; choose another --state-dir") from error
    except OSError as error:
        raise LedgerError(f"state directory {path}: {error.strerror}; choose another --state-dir") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise LedgerError(f"state directory {path}: cannot be written; choose another --state-dir")


@asynccontextmanager
async def open_state(config: Config) -> AsyncIterator[Ledger]:
    """Open the ledger of the state directory, making both where there are none.

    Raises:
        UsageError: the endpoint cannot be used.
        LedgerError: the state directory or the ledger cannot be used.
    """
    scope = scope_name(config)
    await asyncio.to_thread(prepare_state_dir, config.state_dir)
    async with open_ledger(config.state_dir / LEDGER_FILE, scope) as ledger:
        yield ledger


@asynccontextmanager
async def open_session(config: Config, access: Access | None, stats: Stats) -> AsyncIterator["Session"]:
    """Open the state directory and connect to the endpoint.

    Raises:
        UsageError: a setting cannot be used.
        LedgerError: the state directory or the ledger cannot be used.
    """
    async with open_station(config, access, stats) as station:
        yield Session(station, Execution(station, stats))


@asynccontextmanager
async def open_station(config: Config, access: Access | None, stats: Stats) -> AsyncIterator[Station]:
    """Open what sessions at one endpoint can share; ``stats`` counts the calls of those without a count.

    Raises:
        UsageError: a setting cannot be used.
        LedgerError: the state directory or the ledger cannot be used.
    """
    _collect_rarely()
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(open_state(config))
        owner = stack.enter_context(own(config.state_dir / OWNERS_DIRECTORY))
        client, target = await stack.enter_async_context(connect(config, access, stats))
        yield Station(config=config, ledger=ledger, client=client, endpoint=target.name, owner=owner)


def _collect_rarely() -> None:
    """Let the garbage collector look less often, and at nothing that was there before the work began.

    Records come by the million and are in no cycles: to look through them all the time is a sixth of what
    a quiet night costs.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 10, 10)


class Session:
    """Makes runs. One at a time."""

    def __init__(self, station: Station, execution: Execution) -> None:
        self._config = station.config
        self._runs = Runs(station.ledger)
        self._execution = execution

    def drain(self) -> None:
        """Begin nothing more; what is under way ends, and the run can be resumed."""
        self._execution.drain()

    async def scan(
        self,
        request: RunRequest,
        terms: Terms,
        *,
        spool: Spool | None,
        output: Path | None,
        overwrite: bool,
        run_id: str | None = None,
    ) -> Summary:
        """Scan the request's inputs, or go on with an unfinished run over the same ones.

        Args:
            request: inputs and who judges them.
            terms: how the run is ended and judged.
            spool: standard input, where the request names it.
            output: the report, an absolute path; None makes one under the state directory.
            overwrite: replace a report that is there.
            run_id: what a new run is called, where that has been said already.

        Raises:
            BatchscanError: the run could not be made or finished; what was recorded stays recorded.
        """
        if spool is not None:
            request = msgspec.structs.replace(request, stdin_sha256=spool.sha256)
        before = None if output is None else await self._runs.latest_for_report(output)
        if before is not None and _goes_on(before, request):
            return await self._execution.go_on(before, terms)
        if output is not None and await asyncio.to_thread(os.path.lexists, output):
            if not overwrite and not await asyncio.to_thread(_is_empty, output):
                raise UsageError(_refusal(output, before))
            request = msgspec.structs.replace(request, replace=True)
        sources = await asyncio.to_thread(named_sources, request, None if spool is None else spool.file)
        run_id = run_id or new_run_id()
        report = output
        if report is None:
            report = await asyncio.to_thread(report_place, self._config.state_dir, run_id)
        draft = Draft(run_id=run_id, request=request, sources=sources, report=report, spool=spool)
        return await self._execution.begin(draft, terms)

    async def resume(self, record: RunRecord, terms: Terms) -> Summary:
        """Go on with a run that is not complete; the working directory must be the run's."""
        return await self._execution.go_on(record, terms)

    async def go_on(self, run_id: str, terms: Terms) -> Summary:
        """Go on with a run of this session that has just ended without all verdicts.

        Raises:
            BatchscanError: it could not be finished; what was recorded stays recorded.
        """
        record = await self._runs.get(run_id)
        if record is None:
            raise UsageError(f"run {run_id} is not in the ledger any more")
        return await self._execution.go_on(record, terms)

    async def note_quota(self) -> None:
        """Ask what is left of the account's quota and let the metrics know; bills nothing."""
        await self._execution.note_quota()


def report_place(state_dir: Path, run_id: str) -> Path:
    """Where the report of a run goes that names none, in a directory that is made where there is none.

    Raises:
        ReportError: it cannot be made.
    """
    directory = state_dir / _REPORTS_DIRECTORY
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ReportError(f"{directory}: cannot be made ({error.strerror}); name an --output") from error
    return directory / f"{run_id}.jsonl"


def new_run_id() -> str:
    """Make a run id: sorts by time, unique."""
    now = datetime.now(UTC)
    fraction = now.microsecond * 65_536 // 1_000_000  # so that runs of one second have an order, too
    return f"{now:%Y%m%dT%H%M%SZ}-{fraction:04x}{secrets.token_hex(2)}"


def _goes_on(record: RunRecord, request: RunRequest) -> bool:
    return record.state is not RunState.COMPLETE and record.request.same_inputs(request)


def _is_empty(path: Path) -> bool:
    """Whether nothing would be lost with the file: a run was killed as it began, or it was touched."""
    return path.is_file() and path.stat().st_size == 0


def _refusal(target: Path, before: RunRecord | None) -> str:
    choose = "choose another --output, or --overwrite it"
    if before is None:
        return f"{target} exists and is no report of this ledger; {choose}"
    if before.state is RunState.COMPLETE:
        return f"{target} is the finished report of run {before.run_id}; {choose}"
    return (
        f"{target} is the unfinished report of run {before.run_id} over other inputs;"
        f" finish it with `batchscan resume {before.run_id}`, {choose}"
    )
