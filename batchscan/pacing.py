"""The cap: never more than ``rate`` starts in any sliding second, across all processes of a ledger.

The shared slot in the ledger decides; aiolimiter in front of it only keeps one process from booking
far ahead. A leaky bucket alone would not do: it lets a burst and then a whole rate into one second.
Slots are a hundredth further apart than the cap asks for, so ``rate + 1`` starts span 1.01 seconds, and
a start may be up to ``LATE_S`` late without breaking the cap. One that wakes later takes another slot,
then two in a row, then four: a start anywhere between the first and the last of its own slots breaks no
cap either, so a busy machine gets slower and does not stop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

from aiolimiter import AsyncLimiter
from sqlalchemy import Connection

from batchscan.ledger.slots import SET_BACK_S, take_slot, widen_gap
from batchscan.ledger.store import Ledger

T = TypeVar("T")

MARGIN = 0.99
LATE_S = 0.008
EARLY_S = 0.001
_MOST_SLOTS = 64
_RENEW_S = 30.0
"""A claim is renewed this often while its slot is far ahead."""

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
        smoother: held from before a slot is booked until it has come; None: this pacer's own.
        clock: epoch seconds, shared by all processes of the ledger.
        sleep: waits for seconds.
        waited: told how many seconds each start under a cap took to have its turn.
    """

    def __init__(
        self,
        ledger: Ledger,
        action: str,
        rate: float | None,
        *,
        smoother: AbstractAsyncContextManager[None] | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        waited: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._action = action
        self._gap = 0.0 if rate is None else 1.0 / (rate * MARGIN)
        self._smoother = smoother
        if smoother is None and rate is not None:
            self._smoother = AsyncLimiter(2, 2 / (rate * _AHEAD))
        self._clock = clock
        self._sleep = sleep
        self._waited = waited
        self._commit_s = _LEAD_S
        self.lost_slots = 0

    async def start(
        self, step: Callable[[Connection], T | None], renew: Callable[[Connection, T], T | None]
    ) -> T | None:
        """Commit ``step`` together with a slot, and return when the call may start.

        Args:
            step: claims what the call is for; commits nothing and returns None when it is not to be had.
            renew: checks and extends the claim: while the wait is long, and when another slot is taken
                because this one was missed.

        Raises:
            LedgerError: the ledger failed.
        """
        if self._smoother is None:
            return await self._ledger.write(step)
        began = time.monotonic()
        async with self._smoother:
            held = await self._paced(step, renew)
        if held is not None:
            self._waited(time.monotonic() - began)
        return held

    async def _paced(
        self, step: Callable[[Connection], T | None], renew: Callable[[Connection, T], T | None]
    ) -> T | None:
        count = 1
        held, slot, ahead_s = await self._book(step, count)
        while held is not None:
            held = await self._await_slot(held, slot, ahead_s, renew)
            if held is None or -EARLY_S <= self._clock() - slot <= (count - 1) * self._gap + LATE_S:
                return held
            self.lost_slots += count
            count = min(2 * count, _MOST_SLOTS)
            held, slot, ahead_s = await self._book(partial(_renewed, renew, held), count)
        return None

    async def refused(self, delay_s: float) -> None:
        """Make all processes wait ``delay_s`` and go slower for a while: the service saw too much."""
        if self._smoother is None:
            return

        def work(connection: Connection) -> None:
            scope, now = self._ledger.scope, self._clock()
            widen_gap(connection, scope, self._action, now=now, delay_s=delay_s, gap=self._gap)

        await self._ledger.write(work)

    async def _await_slot(
        self, held: T, slot: float, ahead_s: float, renew: Callable[[Connection, T], T | None]
    ) -> T | None:
        """Sleep until the slot; give up earlier when the claim is lost, or when the clock was set back."""
        while (left_s := slot - self._clock()) > _RENEW_S and left_s <= ahead_s:
            await self._sleep(_RENEW_S)
            renewed = await self._ledger.write(partial(_renewed, renew, held))
            if renewed is None:
                return None
            held = renewed
        if left_s <= ahead_s:
            await self._sleep(max(0.0, left_s))
        return held

    async def _book(
        self, step: Callable[[Connection], T | None], count: int
    ) -> tuple[T | None, float, float]:
        """Commit a step with slots; return what it gave, the first slot, and how far ahead that can be."""
        began = self._clock()

        def work(connection: Connection) -> tuple[T | None, float, float]:
            result = step(connection)
            if result is None:
                return None, 0.0, 0.0
            now, lead_s = self._clock(), max(_LEAD_S, 2 * self._commit_s)
            scope = self._ledger.scope
            slot = take_slot(
                connection, scope, self._action, now=now, lead_s=lead_s, gap=self._gap, count=count
            )
            return result, slot, slot - now + SET_BACK_S

        booked = await self._ledger.write(work)
        took = min(max(self._clock() - began, 0.0), 2.0)
        self._commit_s += (took - self._commit_s) * 0.2
        return booked


def _renewed(renew: Callable[[Connection, T], T | None], held: T, connection: Connection) -> T | None:
    return renew(connection, held)
