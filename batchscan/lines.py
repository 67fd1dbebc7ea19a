"""Lines: where the runs of one process wait for their turn at the cap, the most urgent one first.

The cap itself is the ledger's. A line only bounds how many slots this process has booked ahead, to a quarter
of a second's worth: the next one then goes to whoever is most urgent, and not to whoever asked first.
"""

import asyncio
import itertools
import math
from contextlib import AbstractAsyncContextManager
from heapq import heappop, heappush
from types import TracebackType

AHEAD_S = 0.25
_LEAST = 2
"""So that one slot is being booked while another is waited for."""


class Line:
    """Lets a bounded number in at a time; of those who wait, the highest priority, then the first."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(not turn.done() for _, _, turn in self._waiting)

    async def enter(self, priority: int) -> None:
        """Wait for a place."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (-priority, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # was let in as it was cancelled
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the next one."""
        while self._waiting:
            _, _, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Lines:
    """The lines of one endpoint, one for each action."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def at(self, action: str, rate: float, priority: int) -> AbstractAsyncContextManager[None]:
        """Find the line of an action, to stand in with this priority.

        Args:
            action: whose cap it is.
            rate: starts a second, as the first run to ask has it.
            priority: the higher, the sooner.
        """
        places = max(_LEAST, math.ceil(rate * AHEAD_S))
        return _Stand(self._lines.setdefault(action, Line(places)), priority)


class _Stand(AbstractAsyncContextManager[None]):
    """A line and a priority; any number of calls may stand in it at a time."""

    def __init__(self, line: Line, priority: int) -> None:
        self._line = line
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._line.enter(self._priority)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._line.leave()
