"""The cap: never more than ``rate`` starts in any sliding second, across all processes of a ledger.

The shared slot in the ledger decides; aiolimiter in front of it only keeps one process from booking
far ahead. A leaky bucket alone would not do: it lets a burst and then a whole rate into one second.
Slots are a hundredth further apart than the cap asks for, so ``rate + 1`` starts span 1.01 seconds, and
a start may be up to ``LATE_S`` late without breaking the cap. One that wakes later takes another slot.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from aiolimiter import AsyncLimiter
from sqlalchemy import Connection

from batchscan.ledger.slots import take_slot, widen_gap
from batchscan.ledger.store import Ledger

T = TypeVar("T")

MARGIN = 0.99
LATE_S = 0.008
_LEAD_S = 0.01
"""Slots are booked this far ahead at least, and twice what a commit takes, to be awake in time."""

_AHEAD = 1.25
"""How much faster than the cap one process may book slots."""


class Pacer:
    """Starts calls of one action within its cap.

    Args:
        ledger: holds the shared slot.
        action: names the slot.
        rate: starts a second; None is no cap.
        clock: epoch seconds, shared by all processes of the ledger.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        action: str,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._action = action
        self._gap = 0.0 if rate is None else 1.0 / (rate * MARGIN)
        self._smoother = None if rate is None else AsyncLimiter(2, 2 / (rate * _AHEAD))
        self._clock = clock
        self._sleep = sleep
        self._commit_s = _LEAD_S
        self.lost_slots = 0

    async def start(
        self, step: Callable[[Connection], T | None], renew: Callable[[Connection, T], T | None]
    ) -> T | None:
        """Commit ``step`` together with a slot, and return when the call may start.

        Args:
            step: claims what the call is for; commits nothing and returns None when it is not to be had.
            renew: checks and extends the claim when the slot was missed and another is taken.

        Raises:
            LedgerError: the ledger failed.
        """
        if self._smoother is None:
            return await self._ledger.write(step)
        await self._smoother.acquire()
        result, slot = await self._book(step)
        while result is not None:
            await self._sleep(max(0.0, slot - self._clock()))
            if self._clock() - slot <= LATE_S:
                return result
            self.lost_slots += 1
            held = result
            result, slot = await self._book(partial(_renewed, renew, held))
        return None

    async def refused(self, delay_s: float) -> None:
        """Make all processes wait ``delay_s`` and go slower for a while: the service saw too much."""
        if self._smoother is not None:
            resume_at = self._clock() + delay_s
            await self._ledger.write(
                lambda c: widen_gap(c, self._ledger.scope, self._action, resume_at=resume_at, gap=self._gap)
            )

    async def _book(self, step: Callable[[Connection], T | None]) -> tuple[T | None, float]:
        began = self._clock()

        def work(connection: Connection) -> tuple[T | None, float]:
            result = step(connection)
            if result is None:
                return None, 0.0
            soon = self._clock() + max(_LEAD_S, 2 * self._commit_s)
            return result, take_slot(connection, self._ledger.scope, self._action, soon=soon, gap=self._gap)

        booked = await self._ledger.write(work)
        took = min(max(self._clock() - began, 0.0), 2.0)
        self._commit_s += (took - self._commit_s) * 0.2
        return booked


def _renewed(renew: Callable[[Connection, T], T | None], held: T, connection: Connection) -> T | None:
    return renew(connection, held)
