"""Tells of a run once it has ended: compares it with the one before, and sends a notice if there is reason.

It comes last and changes nothing: what goes wrong here is a warning, and a signal ends it. A report that the
run replaces is kept open from the beginning, because it is what the run is compared with.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import structlog

from batchscan import logs
from batchscan.compare import changes_between, side_of
from batchscan.config import Config
from batchscan.errors import BatchscanError, UsageError
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.ledger.store import Ledger
from batchscan.notice import LISTED, Difference, Trouble, compared, failure, notice_of, uncompared
from batchscan.notify import Patience, Receiver, deliver, find_receiver
from batchscan.previous import previous_run
from batchscan.report.summary import Summary
from batchscan.session import open_state
from batchscan.signals import drain_then_abort

COMPARE_LIMIT_S: Final = 600.0
_INTERNAL_ERROR = 70

T = TypeVar("T")
Ended = Callable[[Summary], None]

log = structlog.get_logger(__name__)


@contextmanager
def telling(config: Config, report: Path | None) -> Iterator[Ended]:
    """Tell of the run that is made inside the block, where somebody is to be told.

    Args:
        config: of the run.
        report: where it will be, absolute, so that one that is there can be compared with.

    Yields:
        What takes the summary. Where none is handed over because the block raised, that is told.

    Raises:
        UsageError: whoever is to be told cannot be.
    """
    receiver = find_receiver(config, os.environ)
    if receiver is None:
        yield lambda _: None
        return
    ended: list[Summary] = []
    with _kept_open(report) as kept:
        try:
            yield ended.append
        except UsageError:  # whoever wrote the command reads it
            raise
        except Exception as error:
            asyncio.run(_unless_stopped(_told_failure(receiver, config, error)))
            raise
        if ended:
            asyncio.run(_unless_stopped(_told(receiver, config, ended[-1], kept)))


async def tell(
    receiver: Receiver,
    ledger: Ledger,
    summary: Summary,
    *,
    kept: Mapping[Path, Path] | None = None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> bool | None:
    """Tell of a run that has ended, if there is reason. Raises nothing but a cancellation.

    Args:
        receiver: who.
        ledger: that knows the run.
        summary: of the run.
        kept: where reports can still be read whose files were replaced.
        patience: how long delivering may take.

    Returns:
        Whether a notice was delivered; None where there was no reason for one.
    """
    difference = await _difference(Runs(ledger), summary, kept or {})
    notice = notice_of(summary, difference, datetime.now(UTC))
    return None if notice is None else await deliver(receiver, notice, patience)


async def _difference(runs: Runs, summary: Summary, kept: Mapping[Path, Path]) -> Difference:
    if summary.rescan is not None:
        return uncompared(summary)
    try:
        record = await runs.get(summary.run_id)
        before = None if record is None else await previous_run(runs, record, kept)
        if record is None or before is None:
            return uncompared(summary)
        async with asyncio.timeout(COMPARE_LIMIT_S):
            return await beside(lambda: _compared(before, record, kept))
    except (BatchscanError, OSError) as error:  # TimeoutError is an OSError
        reason = str(error) or f"it took more than {COMPARE_LIMIT_S:g} s"
        log.warning("the run could not be compared with the one before; all findings are told", reason=reason)
        return uncompared(summary)


def _compared(before: RunRecord, record: RunRecord, kept: Mapping[Path, Path]) -> Difference:
    sides = (
        side_of(before.run_id, kept.get(before.report, before.report), before),
        side_of(record.run_id, record.report, record),
    )
    return compared(changes_between(*sides, worst=LISTED), before.run_id)


async def _told(receiver: Receiver, config: Config, summary: Summary, kept: Mapping[Path, Path]) -> None:
    try:
        async with open_state(config) as ledger:
            await tell(receiver, ledger, summary, kept=kept)
    except BatchscanError as error:
        log.warning("the notice was not made", reason=str(error))


async def _told_failure(receiver: Receiver, config: Config, error: Exception) -> None:
    trouble = Trouble(type(error).__name__, "internal error, see the log")
    code = _INTERNAL_ERROR
    if isinstance(error, BatchscanError):
        trouble, code = Trouble(type(error).__name__, logs.scrub(str(error))), error.exit_code
    await deliver(receiver, failure(trouble, code, config.endpoint, datetime.now(UTC)))


async def _unless_stopped(work: Coroutine[None, None, None]) -> None:
    """Do it until it is done or a signal comes; that ends it, and not the command another way."""
    task = asyncio.ensure_future(work)

    def stop() -> None:
        task.cancel()

    with drain_then_abort(stop, stop), suppress(asyncio.CancelledError):
        await task


@contextmanager
def _kept_open(report: Path | None) -> Iterator[Mapping[Path, Path]]:
    """Keep a report readable that is replaced meanwhile."""
    descriptor = None
    if report is not None:
        with suppress(OSError):
            descriptor = os.open(report, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield {} if report is None or descriptor is None else {report: Path(f"/proc/self/fd/{descriptor}")}
    finally:
        if descriptor is not None:
            os.close(descriptor)


async def beside(work: Callable[[], T]) -> T:
    """Do blocking work in a thread that nobody waits for when the program ends."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)

    threading.Thread(target=run, name="compare", daemon=True).start()
    return await asyncio.wrap_future(done)
