"""Judges the scans of the store: as many at a time as the detector says, one ZIP each in memory.

Whatever goes wrong in a detector ends as FAILED: a scan never stays SCANNING because of it, and "could
not tell" is never benign.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog

from batchscan.embedded.detection import Detection, DetectionError, Detector
from batchscan.embedded.drill import DrillDice, Kind
from batchscan.embedded.errors import StoreError
from batchscan.embedded.store import Store, Work

LOOK_EVERY_S = 5.0
PURGE_EVERY_S = 3600.0
_LEASE_MARGIN_S = 60.0
_MESSAGE_CHARS = 500
_LEVELS = frozenset({"malicious", "suspicious", "benign"})
_MAX_SCORE = 100
_MAX_FILES = 2**32
_log = structlog.get_logger("batchscan.embedded")


class Judge:
    """The workers' common part. ``ring`` it after a Create."""

    def __init__(self, store: Store, detector: Detector, dice: DrillDice, timeout_s: float) -> None:
        self._store = store
        self._detector = detector
        self._dice = dice
        self._timeout_s = timeout_s
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """There is work."""
        self._bell.set()

    async def work(self) -> None:
        """One worker, until cancelled."""
        while True:
            try:
                await self._step()
            except StoreError:
                # The scan is still in the store; another look may find the disk well again.
                _log.exception("judge.store_failed")
                await asyncio.sleep(1.0)

    async def _step(self) -> None:
        self._bell.clear()  # before looking: what arrives from here on rings again
        work = await self._store.claim(self._timeout_s + _LEASE_MARGIN_S)
        if work is None:
            try:
                # Not only the bell: another engine on the same file may die and leave scans.
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._bell.wait()
            except TimeoutError:
                return
            return
        self._bell.set()  # there may be more: wake the next worker
        try:
            detection = await self._detect(work)
            encoded = msgspec.json.encode(detection)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not we were cancelled, something inside the detector was (a broken pool's future).
            await self._store.fail(work, "The scan was interrupted; submit the file again.")
            return
        except DetectionError as error:
            await self._store.fail(work, f"The scan failed: {error}; submit the file again."[:_MESSAGE_CHARS])
            return
        except Exception:  # noqa: BLE001 - a foreign library's fault must not end the worker nor hide the scan
            _log.exception("judge.detector_broke", scan=work.scan_id)
            await self._store.fail(work, "The scan failed unexpectedly; submit the file again.")
            return
        await self._store.succeed(work, encoded, detection.skill_name, detection.file_count)

    async def _detect(self, work: Work) -> Detection:
        for fault in self._dice.judgement(work.attempt):
            if fault.kind is Kind.DELAY:
                await asyncio.sleep(fault.number)
            elif fault.kind is Kind.FAILED:
                raise DetectionError("a drill asked for it")
        if work.content is None:
            raise DetectionError("the stored file is missing")
        try:
            async with asyncio.timeout(self._timeout_s):
                detection = await self._detector.detect(work.content)
        except TimeoutError as error:
            raise DetectionError(f"no judgement within {self._timeout_s:g} s") from error
        if (
            detection.risk_level not in _LEVELS
            or not 0 <= detection.score <= _MAX_SCORE
            or not 0 <= detection.file_count <= _MAX_FILES
        ):
            raise DetectionError("the judgement makes no sense")
        return detection


@asynccontextmanager
async def judging(judge: Judge, store: Store, workers: int) -> AsyncIterator[None]:
    """Run the workers. At the end they are cancelled: what they had is still in the store.

    Raises:
        Exception: what ended a worker, should one have ended by itself.
    """
    tasks = [asyncio.create_task(judge.work(), name=f"judge-{number}") for number in range(workers)]
    tasks.append(asyncio.create_task(_purge(store), name="purge"))
    for task in tasks:
        task.add_done_callback(_report_death)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _purge(store: Store) -> None:
    while True:
        await asyncio.sleep(PURGE_EVERY_S)
        try:
            await store.purge()
        except StoreError:
            _log.exception("store.purge_failed")


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.critical("judge.worker_died", worker=task.get_name(), error=type(error).__name__)
