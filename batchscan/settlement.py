"""Settlement: inputs that wait get their row once their digest is finished, changed, or given up on.

From reading that an input waits until its row is written and its wait is over, nobody else may settle
it: one lock, held for a page at a time, keeps the paths that lead here apart.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from batchscan.admit import Admitter
from batchscan.ledger.standing import Freshness, Waiting, candidate_key
from batchscan.ledger.waiting import Place, WaitingInputs
from batchscan.models import Candidate, FileStat, Problem
from batchscan.record import Recorder
from batchscan.walk import look

QUEUED = 1000
PAGE = 500
READMISSIONS = 3
CHANGING = Problem("changing", "the file changed each time it was to be sent; scan it again later")


class Settlement:
    """Settles the inputs of one run.

    Args:
        waiting: the inputs.
        recorder: writes their rows.
        admitter: admits those anew whose file has changed.
        fresh: which verdicts may be reused now.
    """

    def __init__(
        self,
        waiting: WaitingInputs,
        recorder: Recorder,
        admitter: Admitter,
        fresh: Callable[[], Freshness],
    ) -> None:
        self._waiting = waiting
        self._recorder = recorder
        self._admitter = admitter
        self._fresh = fresh
        self._finished: asyncio.Queue[bytes] = asyncio.Queue(QUEUED)
        self._turn = asyncio.Lock()

    async def finished(self, digest: bytes) -> None:
        """Hand over a digest that is done or failed."""
        await self._finished.put(digest)

    async def run(self) -> None:
        """Settle what is handed over, until cancelled."""
        while True:
            digests = {await self._finished.get()}
            taken = 1
            while not self._finished.empty() and taken < PAGE:
                digests.add(self._finished.get_nowait())
                taken += 1
            await self._each(sorted(digests), self._recorder.settled, finished=True)
            for _ in range(taken):
                self._finished.task_done()

    async def drained(self) -> None:
        """Wait until all that was handed over is settled."""
        await self._finished.join()

    async def sweep(self, go_on: Callable[[], bool]) -> None:
        """Settle what nobody handed over: digests that other processes finished.

        Args:
            go_on: asked before each page.
        """
        await self._each(None, self._recorder.settled, finished=True, go_on=go_on)

    async def readmit(self, digest: bytes) -> None:
        """Admit the inputs of a digest anew: no file holds its bytes any more."""
        await self._each([digest], self._readmit)

    async def leave(self, why: Callable[[Waiting], Problem | None]) -> int:
        """Give every input that still waits its pending row; return how many.

        Args:
            why: tells the reason; None says how the digest stands.
        """
        count = 0

        async def leave(page: list[Waiting]) -> None:
            nonlocal count
            await self._recorder.pending([(waited, why(waited)) for waited in page])
            count += len(page)

        await self._each(None, leave)
        return count

    async def _each(
        self,
        digests: list[bytes] | None,
        act: Callable[[list[Waiting]], Awaitable[None]],
        *,
        finished: bool = False,
        go_on: Callable[[], bool] = lambda: True,
    ) -> None:
        """Act on all waiting inputs of the digests, or on all there are, page by page."""
        place: Place | None = None
        while go_on():
            async with self._turn:
                page, place = await self._waiting.page(digests, after=place, limit=PAGE, finished=finished)
                if page:
                    await act(page)
            if place is None:
                return

    async def _readmit(self, page: list[Waiting]) -> None:
        before = {waited.key: waited for waited in page}
        steady = [waited for waited in page if waited.changes < READMISSIONS]
        looked = await asyncio.to_thread(_look_again, [waited.candidate for waited in steady])
        admitted = await self._admitter.admit(looked, self._fresh(), instead_of=steady)
        decided = [decision for decision in admitted.decisions if not decision.waits]
        await self._recorder.admitted(decided, ())
        lost = [(before[candidate_key(c)], rejection.problem) for c, rejection in admitted.rejections]
        lost += [(waited, CHANGING) for waited in page if waited.changes >= READMISSIONS]
        await self._recorder.lost(lost)
        await self._recorder.forget(
            [before[candidate_key(d.item.candidate)] for d in decided] + [waited for waited, _ in lost]
        )


def _look_again(candidates: list[Candidate]) -> list[Candidate]:
    return [_seen(candidate, look(partial(os.stat, candidate.location or b""))) for candidate in candidates]


def _seen(candidate: Candidate, seen: FileStat | Problem) -> Candidate:
    if isinstance(seen, Problem):
        return msgspec.structs.replace(candidate, stat=None, problem=seen)
    return msgspec.structs.replace(candidate, stat=seen, problem=None)
