"""The scheduler: wakes digests when they are due. What happens to them is the stages' business.

It keeps a heap of the nearest wake-ups and refills it from the ledger, so its memory does not grow
with the backlog, and a wake-up that is lost costs nothing: the ledger has it.
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec

from batchscan.models import Stage

_LOW = 256
_REFILL = 512
_HORIZON_S = 1.0
_IDLE_REFILL_S = 0.5
_REST = 10.0
"""After a look at the ledger, rest this many times as long as it took."""


class Wake(msgspec.Struct, frozen=True):
    """Wake the digest again for this stage, at this time (epoch seconds)."""

    stage: Stage
    at: float


Due = Callable[[Stage, float, int], Awaitable[list[tuple[bytes, float]]]]
Act = Callable[[Stage, bytes], Awaitable[Wake | None]]


class Scheduler:
    """Runs one action per due digest, a bounded number at a time for each stage.

    Args:
        due: lists digests due for a stage until a time, at most so many, earliest first.
        act: does one step for a digest; returns when to wake it next, or None when it is done with.
        concurrency: how many digests may be in a stage at a time.
        clock: epoch seconds; it may jump.
    """

    def __init__(
        self,
        due: Due,
        act: Act,
        concurrency: Mapping[Stage, int],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._due = due
        self._act = act
        self._limits = dict(concurrency)
        self._clock = clock
        self._heaps: dict[Stage, list[tuple[float, bytes]]] = {stage: [] for stage in concurrency}
        self._refill_at = dict.fromkeys(concurrency, 0.0)  # monotonic, as the next one
        self._rest_until = dict.fromkeys(concurrency, 0.0)
        self._running: dict[Stage, int] = dict.fromkeys(concurrency, 0)
        self._known: set[bytes] = set()
        self._changed = asyncio.Event()
        self._stopping = False

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing is about to."""
        return not self._known

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages that are still served."""
        return tuple(self._limits)

    def nudge(self) -> None:
        """Look at the ledger soon: it has new work."""
        self._refill_at = dict(self._rest_until)
        self._changed.set()

    def drop(self, stage: Stage) -> None:
        """Start nothing more of this stage; what runs ends by itself."""
        self._limits.pop(stage, None)
        for _, digest in self._heaps.get(stage, ()):
            self._known.discard(digest)
        self._heaps[stage] = []
        self._changed.set()

    def stop(self) -> None:
        """Start nothing more; ``run`` returns when what runs has ended."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Serve until ``stop``. An exception of an action ends it, loudly."""
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                self._changed.clear()
                for stage in self.stages:
                    await self._refill(stage)
                    self._launch(stage, tasks)
                await self._wait()

    async def _refill(self, stage: Stage) -> None:
        began = time.monotonic()
        if len(self._heaps[stage]) >= _LOW or began < self._refill_at[stage]:
            return
        self._refill_at[stage] = began + _IDLE_REFILL_S  # a nudge from here on counts
        found = await self._due(stage, self._clock() + _HORIZON_S, _REFILL)
        ended = time.monotonic()
        self._rest_until[stage] = ended + _REST * (ended - began)
        soonest = self._rest_until[stage]
        if len(found) == _REFILL:  # there is more
            self._refill_at[stage] = soonest
        else:
            self._refill_at[stage] = max(self._refill_at[stage], soonest)
        for digest, at in found:
            self._push(stage, digest, at)

    def _push(self, stage: Stage, digest: bytes, at: float) -> None:
        if digest not in self._known and stage in self._limits:
            self._known.add(digest)
            heapq.heappush(self._heaps[stage], (at, digest))

    def _launch(self, stage: Stage, tasks: asyncio.TaskGroup) -> None:
        now = self._clock()
        heap = self._heaps[stage]
        while heap and _is_due(heap[0][0], now) and self._running[stage] < self._limits.get(stage, 0):
            _, digest = heapq.heappop(heap)
            self._running[stage] += 1
            tasks.create_task(self._step(stage, digest))

    async def _step(self, stage: Stage, digest: bytes) -> None:
        try:
            wake = await self._act(stage, digest)
        finally:
            self._running[stage] -= 1
            self._known.discard(digest)
            self._changed.set()
        if wake is not None and wake.at <= self._clock() + _HORIZON_S:
            self._push(wake.stage, digest, wake.at)

    async def _wait(self) -> None:
        """Sleep until something changes, the next wake-up, or the next look at the ledger."""
        waits = [_HORIZON_S]
        now = time.monotonic()
        waits += [self._refill_at[stage] - now for stage in self.stages if len(self._heaps[stage]) < _LOW]
        now = self._clock()
        waits += [
            heap[0][0] - now
            for stage, heap in self._heaps.items()
            if heap and self._running[stage] < self._limits.get(stage, 0)
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(waits))):
                await self._changed.wait()


def _is_due(at: float, now: float) -> bool:
    """Whether a wake-up is due; one beyond the horizon shows that the clock was set back."""
    return at <= now or at > now + 2 * _HORIZON_S
