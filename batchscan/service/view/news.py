"""What a run found that the one before it had not: compared once, beside the pages that show it.

Two reports of a million rows are read for it, so no page waits: the first who asks begins it, one at a time,
and a few results are kept.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from batchscan.config import Config
from batchscan.errors import BatchscanError
from batchscan.formats.page_changes import ChangesShown, show_changes
from batchscan.ledger.runs import RunRecord
from batchscan.lookback import changes_of

log = structlog.get_logger(__name__)

_KEPT: Final = 16
_WAITING: Final = 4


class News:
    """Knows what the latest runs found.

    Args:
        config: of the service.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: OrderedDict[str, ChangesShown | None] = OrderedDict()
        self._wanted: OrderedDict[str, RunRecord] = OrderedDict()
        self._asked = asyncio.Event()

    def is_known(self, run_id: str) -> bool:
        """Whether it was found out, or tried to; if not, it may be asked for."""
        return run_id in self._found

    def of(self, record: RunRecord) -> ChangesShown | None:
        """Tell what is known of a run that has ended; None until it is found out, or where it cannot be."""
        run_id = record.run_id
        if run_id in self._found:
            self._found.move_to_end(run_id)
            return self._found[run_id]
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
                self._found[record.run_id] = await self._look(record)
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
