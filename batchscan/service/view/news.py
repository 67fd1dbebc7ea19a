"""What a run found that the one before it had not: compared once, beside the pages that show it.

Two reports of a million rows are read for it, so no page waits: the first who asks begins it, one at a time,
and a few results are kept. Where nothing was found out, it is tried again some minutes later: faults pass.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import structlog

from batchscan.config import Config
from batchscan.errors import BatchscanError
from batchscan.formats.page_changes import ChangesShown, show_changes
from batchscan.ledger.runs import RunRecord
from batchscan.lookback import changes_of

log = structlog.get_logger(__name__)

_KEPT: Final = 16
_WAITING: Final = 4
_AGAIN_S: Final = 300.0


class _Result(msgspec.Struct, frozen=True):
    """What was found out, if it could be, and when it was last tried."""

    changes: ChangesShown | None
    at: float


class News:
    """Knows what the latest runs found.

    Args:
        config: of the service.
        clock: seconds that only go on.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._found: OrderedDict[str, _Result] = OrderedDict()
        self._wanted: OrderedDict[str, RunRecord] = OrderedDict()
        self._asked = asyncio.Event()

    def is_known(self, run_id: str) -> bool:
        """Whether it was found out, or tried to; if not, it may be asked for."""
        return run_id in self._found

    def of(self, record: RunRecord) -> ChangesShown | None:
        """Tell what is known of a run that has ended; None until it is found out, or where it cannot be."""
        run_id = record.run_id
        result = self._found.get(run_id)
        if result is not None:
            self._found.move_to_end(run_id)
            if result.changes is not None or self._clock() - result.at < _AGAIN_S:
                return result.changes
        if run_id not in self._wanted and len(self._wanted) < _WAITING:
            self._wanted[run_id] = record
            self._asked.set()
        return None

    async def run(self) -> None:
        """Find out what is asked for, until this is cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._wanted:
                record = next(iter(self._wanted.values()))
                changes = await self._look(record)
                self._found[record.run_id] = _Result(changes, self._clock())
                del self._wanted[record.run_id]
                if len(self._found) > _KEPT:
                    self._found.popitem(last=False)

    async def _look(self, record: RunRecord) -> ChangesShown | None:
        try:
            return await _aside(lambda: self._compare(record))
        except BatchscanError as error:
            log.warning("what a run found anew is not known", run_id=record.run_id, reason=str(error))
            return None
        except Exception:
            # it is only shown; what cannot be found out ends no run
            log.exception("what a run found anew is not known: please report it", run_id=record.run_id)
            return None

    def _compare(self, record: RunRecord) -> ChangesShown | None:
        changes = changes_of(self._config, record)
        return None if changes is None else show_changes(changes)  # all of them would be kept for a few lines


async def _aside(work: Callable[[], ChangesShown | None]) -> ChangesShown | None:
    """Do it in a thread of its own, which the service's end does not wait for: nothing is written."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[ChangesShown | None] = loop.create_future()

    def settle(found: ChangesShown | None, error: Exception | None) -> None:
        if not done.done():
            if error is None:
                done.set_result(found)
            else:
                done.set_exception(error)

    def run() -> None:
        found, failure = None, None
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=run, name="news", daemon=True).start()
    return await done
