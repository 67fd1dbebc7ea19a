"""The scheduler: wakes what is due, a bounded number at a time, whatever the clock does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from core_lab import Clock, eventually
from hypothesis import given
from hypothesis import strategies as st

from batchscan.backoff import Backoff
from batchscan.models import Stage
from batchscan.scheduler import Scheduler, Wake

A, B = b"a", b"b"


@dataclass
class Backlog:
    """What the ledger says is due, and what was done about it."""

    due: dict[Stage, dict[bytes, float]] = field(default_factory=lambda: {stage: {} for stage in Stage})
    looks: int = 0
    woken: list[tuple[Stage, bytes]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    act: Callable[[Stage, bytes], Awaitable[Wake | None]] | None = None

    async def list(self, stage: Stage, until: float, limit: int) -> list[tuple[bytes, float]]:
        self.looks += 1
        found = sorted(self.due[stage].items(), key=lambda pair: pair[1])
        return [pair for pair in found if pair[1] <= until][:limit]

    async def step(self, stage: Stage, digest: bytes) -> Wake | None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.woken.append((stage, digest))
        try:
            await self.gate.wait()
            self.due[stage].pop(digest, None)
            return None if self.act is None else await self.act(stage, digest)
        finally:
            self.running -= 1


@asynccontextmanager
async def scheduling(
    backlog: Backlog, clock: Clock, *, submits: int = 4, polls: int = 4
) -> AsyncIterator[Scheduler]:
    limits = {Stage.SUBMIT: submits, Stage.POLL: polls}
    scheduler = Scheduler(backlog.list, backlog.step, limits, clock=clock)
    running = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        scheduler.stop()
        backlog.gate.set()
        await running


async def test_what_is_due_is_woken_and_what_is_not_waits() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.gate.set()
    backlog.due[Stage.SUBMIT] = {A: clock.now, B: clock.now + 0.9}
    async with scheduling(backlog, clock) as scheduler:
        await eventually(lambda: len(backlog.woken) == 1)
        assert backlog.woken == [(Stage.SUBMIT, A)]
        clock.now += 0.9
        scheduler.nudge()
        await eventually(lambda: scheduler.idle)
    assert backlog.woken == [(Stage.SUBMIT, A), (Stage.SUBMIT, B)]


async def test_no_more_run_at_a_time_than_allowed() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.due[Stage.SUBMIT] = {bytes([n]): clock.now for n in range(50)}
    async with scheduling(backlog, clock, submits=3) as scheduler:
        await eventually(lambda: backlog.running == 3)
        backlog.gate.set()
        await eventually(lambda: scheduler.idle and not backlog.due[Stage.SUBMIT])
    assert backlog.most == 3
    assert len(backlog.woken) == 50


async def test_a_digest_is_in_one_step_at_a_time() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.due = {stage: {A: clock.now} for stage in Stage}
    async with scheduling(backlog, clock) as scheduler:
        await eventually(lambda: backlog.running == 1)
        looks = backlog.looks
        scheduler.nudge()
        await eventually(lambda: backlog.looks > looks + 1)
        assert backlog.running == 1


async def test_a_step_says_when_to_wake_it_next() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.gate.set()
    backlog.due[Stage.SUBMIT] = {A: clock.now}

    async def act(stage: Stage, _: bytes) -> Wake | None:
        return Wake(Stage.POLL, clock.now) if stage is Stage.SUBMIT else None

    backlog.act = act
    async with scheduling(backlog, clock):
        await eventually(lambda: len(backlog.woken) == 2)
    assert backlog.woken == [(Stage.SUBMIT, A), (Stage.POLL, A)]


async def test_a_dropped_stage_starts_nothing_more() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.due[Stage.SUBMIT] = {bytes([n]): clock.now for n in range(9)}
    async with scheduling(backlog, clock, submits=1) as scheduler:
        await eventually(lambda: backlog.running == 1)
        scheduler.drop(Stage.SUBMIT)
        backlog.gate.set()
        await eventually(lambda: scheduler.idle)
        assert scheduler.stages == (Stage.POLL,)
    assert len(backlog.woken) == 1


async def test_an_error_of_a_step_ends_it_loudly() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.due[Stage.SUBMIT] = {A: clock.now}
    backlog.gate.set()

    async def act(_: Stage, __: bytes) -> Wake | None:
        raise ZeroDivisionError

    backlog.act = act
    scheduler = Scheduler(backlog.list, backlog.step, {Stage.SUBMIT: 1}, clock=clock)
    with pytest.raises(ExceptionGroup) as caught:
        await scheduler.run()
    assert caught.group_contains(ZeroDivisionError)


async def test_a_clock_set_back_by_an_hour_holds_nothing_up() -> None:
    backlog, clock = Backlog(), Clock()
    backlog.gate.set()
    backlog.due[Stage.SUBMIT] = {A: clock.now + 0.9}
    async with scheduling(backlog, clock) as scheduler:
        await eventually(lambda: not scheduler.idle)
        clock.now -= 3600
        await eventually(lambda: len(backlog.woken) == 1)  # in the heap it would be an hour away
        looks = backlog.looks
        await eventually(lambda: backlog.looks > looks)  # and the ledger is looked at as before


async def test_a_slow_ledger_is_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    backlog, clock = Backlog(), Clock()
    now = 0.0
    looked: list[float] = []

    async def slow(stage: Stage, until: float, limit: int) -> list[tuple[bytes, float]]:
        nonlocal now
        looked.append(now)
        now += 2.0
        return await backlog.list(stage, until, limit)

    monkeypatch.setattr("batchscan.scheduler.time.monotonic", lambda: now)
    scheduler = Scheduler(slow, backlog.step, {Stage.SUBMIT: 1}, clock=clock)
    for _ in range(100):
        scheduler.nudge()
        await scheduler._refill(Stage.SUBMIT)
        now += 1.0
    assert len(looked) < 10


@given(
    failures=st.integers(-5, 10**6),
    asked_s=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    first_s=st.floats(0.001, 100),
    most_s=st.floats(0.001, 1000),
)
def test_a_delay_is_within_its_bounds(
    failures: int, asked_s: float, jitter: float, first_s: float, most_s: float
) -> None:
    delay_s = Backoff(first_s, most_s).delay_s(failures, asked_s=asked_s, jitter=jitter)
    assert asked_s <= delay_s <= max(asked_s, most_s)
    assert delay_s >= min(first_s, most_s) / 2


def test_delays_double_up_to_the_most() -> None:
    backoff = Backoff(1.0, 60.0)
    assert [backoff.delay_s(n, jitter=1.0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.delay_s(3, jitter=0.0) == 2.0
    assert backoff.delay_s(1, asked_s=9.0, jitter=1.0) == 9.0
