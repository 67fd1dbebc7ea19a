"""An allowance of bytes: how much may be in memory at a time, given out in the order of asking."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Allowance:
    """Holds callers back while too many bytes are out.

    Args:
        limit: bytes that may be out at a time. One caller alone may have more, or it would never start.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._out = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def out(self) -> int:
        """Bytes that are out."""
        return self._out

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait for one's turn and for room, and hold ``size`` bytes until the block ends."""
        if self._waiting or not self._fits(size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (size, turn)
            self._waiting.append(entry)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # was let in as it was cancelled
                    self._give_back(size)
                else:
                    self._waiting.remove(entry)
                    self._let_in()
                raise
        else:
            self._out += size
        try:
            yield
        finally:
            self._give_back(size)

    def _fits(self, size: int) -> bool:
        return self._out == 0 or self._out + size <= self._limit

    def _give_back(self, size: int) -> None:
        self._out -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._out += size
                turn.set_result(None)
