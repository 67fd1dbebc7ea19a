"""Events: what happens to runs, told to whoever listens, in order, and kept for a while for who comes back.

A listener that is too slow loses events of progress first; when even the others do not fit, it is cut off and
told so by its end. It comes back with the number of the last event that it saw and is sent the rest, or told
that the rest is not known any more.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

KEPT: Final = 2000
"""Events that are kept for listeners that come back."""

QUEUED: Final = 200
"""Events that wait for one listener."""

STATE: Final = "run.state"
PROGRESS: Final = "run.progress"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened.

    Attributes:
        number: higher than that of every earlier one, also of an earlier process.
        kind: ``run.state``, ``run.progress``, or another room's.
        run_id: which run it is about, None when it is about none.
        at: epoch seconds.
        data: what JSON can hold.
        last: nothing more will happen to the run.
    """

    number: int
    kind: str
    run_id: str | None
    at: float
    data: dict[str, Any]
    last: bool = False


class Subscription:
    """What one listener is yet to hear: an async iterator that ends when the broker closes, or cuts it off.

    Attributes:
        missed: events that had been dropped from what is kept when it began to listen.
        cut_off: it was too slow.
    """

    def __init__(self, run_id: str | None, *, missed: bool) -> None:
        self.run_id = run_id
        self.missed = missed
        self.cut_off = False
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next one."""
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    def offer(self, event: Event) -> None:
        """Take an event, if it is of interest and if there is room."""
        if self._ended or (self.run_id is not None and event.run_id != self.run_id):
            return
        if len(self._events) >= QUEUED:
            if event.kind == PROGRESS:
                return
            self._events = deque(waiting for waiting in self._events if waiting.kind != PROGRESS)
            if len(self._events) >= QUEUED:
                self.cut_off = True
                self.end()
                return
        self._events.append(event)
        self._changed.set()

    @property
    def waiting(self) -> int:
        """How many events it is yet to hear."""
        return len(self._events)

    def skip(self, number: int) -> None:
        """Leave out what it has learnt otherwise: events up to this number."""
        self._events = deque(event for event in self._events if event.number > number)

    def end(self) -> None:
        """Let it end once it has heard what waits for it."""
        self._ended = True
        self._changed.set()


class EventBroker:
    """Hands events from whoever publishes to whoever listens; on one event loop."""

    def __init__(self) -> None:
        # goes on after those of an earlier process, so that a listener's number is never met again
        self._number = int(time.time() * 1000)
        self._first = self._number
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._listening: set[Subscription] = set()
        self._closed = False

    @property
    def number(self) -> int:
        """That of the latest event."""
        return self._number

    @property
    def listening(self) -> int:
        """How many listen."""
        return len(self._listening)

    def publish(self, kind: str, run_id: str | None, data: dict[str, Any], *, last: bool = False) -> Event:
        """Tell all who listen; returns at once."""
        self._number += 1
        event = Event(number=self._number, kind=kind, run_id=run_id, at=time.time(), data=data, last=last)
        if kind != PROGRESS:
            self._kept.append(event)
        for subscription in tuple(self._listening):
            subscription.offer(event)
        return event

    @contextmanager
    def subscribe(self, run_id: str | None = None, *, after: int | None = None) -> Iterator[Subscription]:
        """Listen while the block runs.

        Args:
            run_id: to one run only.
            after: begin after the event of this number, as far as it is known.
        """
        missed = after is not None and not self._knows(after)
        subscription = Subscription(run_id, missed=missed)
        if after is not None and not missed:
            for event in self._kept:
                if event.number > after:
                    subscription.offer(event)
        if self._closed:
            subscription.end()
        self._listening.add(subscription)
        try:
            yield subscription
        finally:
            self._listening.discard(subscription)

    def close(self) -> None:
        """End all listening: each has heard what was published before."""
        self._closed = True
        for subscription in self._listening:
            subscription.end()

    def _knows(self, number: int) -> bool:
        """Whether all that came after the event is still kept."""
        if not self._first <= number <= self._number:
            return False
        return len(self._kept) < KEPT or number >= self._kept[0].number - 1
