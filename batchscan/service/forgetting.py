"""Forgetting: lets go of runs that ended long ago, a few at a time, so that the ledger has a bound."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from batchscan.errors import LedgerError
from batchscan.ledger.pruning import Old, ended_before, forget, kept
from batchscan.ledger.store import Ledger

_log = structlog.get_logger(__name__)

_LOOK_S: Final = 3600.0
_BREATH_S: Final = 0.05
"""Between two transactions: whoever else writes goes first."""


class Forgetting:
    """Lets go of what the queue has kept for long enough.

    Args:
        ledger: holds the queue.
        reader: the same once more, for look-ups.
        keep_s: seconds since its end that a run is kept.
        clock: epoch seconds.
    """

    def __init__(
        self, ledger: Ledger, reader: Ledger, *, keep_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._keep_s = keep_s
        self._clock = clock

    async def run(self) -> None:
        """Look every hour, until cancelled. A ledger that fails for a while is tried again."""
        while True:
            try:
                forgotten = await self.look()
                if forgotten:
                    _log.info("runs-forgotten", runs=forgotten, kept_days=self._keep_s / 86400)
            except LedgerError as error:
                _log.error("runs-not-forgotten", reason=str(error))
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> int:
        """Forget what ended longer ago than is kept.

        Returns:
            How many runs were found for it.

        Raises:
            LedgerError: the ledger failed; what was forgotten before is.
        """
        at = self._clock() - self._keep_s
        keep = await self._reader.read(kept)
        forgotten = after = 0
        while old := await self._reader.read(partial(ended_before, at=at, after=after, keep=keep)):
            await self._forget(old, at)
            forgotten += len(old)
            after = old[-1][0]
        return forgotten

    async def _forget(self, old: Sequence[Old], at: float) -> None:
        done = False
        while not done:
            done = await self._ledger.write(partial(forget, old=old, at=at))
            await asyncio.sleep(_BREATH_S)
