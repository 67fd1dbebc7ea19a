"""Time that passes only when nothing is left to do at its moment: hours of pacing in a blink."""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from batchscan.ledger import schema
from batchscan.ledger.store import Ledger

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nothing is ready. Holds no sockets and no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]  # asyncio's heap of timers
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]  # asyncio's count of them
        if not self._ready and timers:  # type: ignore[attr-defined]  # asyncio's queue of callbacks
            self._now = max(self._now, timers[0]._when) + 1e-7  # as on a real clock, time always passes
        super()._run_once()  # type: ignore[misc]  # asyncio's step


class SlowLedger(Ledger):
    """Real statements on a real file, each commit taking as long as it is told to, in the loop's time."""

    def __init__(self, path: Path, delays: Callable[[], float]) -> None:
        engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self.connection = engine.connect()
        self.connection.exec_driver_sql("PRAGMA synchronous=OFF")
        schema.metadata.create_all(self.connection, tables=schema.PERSISTENT)
        self.path = path
        self.scope = 1
        self._delays = delays
        self._turn = asyncio.Lock()

    async def write(self, work: Callable[[Connection], T]) -> T:
        async with self._turn:
            await asyncio.sleep(self._delays())
            result = work(self.connection)
            await asyncio.sleep(self._delays())
            return result


def run(main: Callable[[VirtualLoop], Awaitable[T]]) -> T:
    """Run to the end in virtual time."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_awaited(main(loop)))
    finally:
        loop.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work
