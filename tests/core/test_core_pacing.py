"""The cap: never more than N starts in any sliding second, and nearly N while there is work."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from core_lab import Bench
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from virtual_time import SlowLedger, VirtualLoop, run

from batchscan.ledger.schema import cap
from batchscan.ledger.slots import WIDEST
from batchscan.pacing import LATE_S, Pacer

Pause = Callable[[], float]


def nothing() -> float:
    return 0.0


def most_in_a_second(starts: Sequence[float]) -> int:
    """The largest number of starts in any half-open second."""
    most = first = 0
    ordered = sorted(starts)
    for last, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@dataclass
class Load:
    """What several processes do with one cap, in virtual time.

    Attributes:
        rate: the cap, starts a second.
        workers: concurrent callers, by process.
        for_s: how long they go on.
        pause: of a worker between two calls.
        commit: each half of a ledger write.
        oversleep: how late a sleep wakes.
        jumps: seconds from the beginning at which the clock is set, and by how much.
    """

    rate: float
    workers: Sequence[int]
    for_s: float
    pause: Pause = nothing
    commit: Pause = lambda: 0.001
    oversleep: Pause = nothing
    jumps: Sequence[tuple[float, float]] = ()
    starts: list[float] = field(default_factory=list)
    offset: float = 1.7e9

    def simulate(self, directory: Path) -> "Load":
        run(lambda loop: self._run(loop, directory))
        return self

    async def _run(self, loop: VirtualLoop, directory: Path) -> None:
        path = directory / f"{random.getrandbits(64)}.sqlite3"
        ledger = SlowLedger(path, self.commit)
        ends = loop.time() + self.for_s

        def set_clock(by: float) -> None:
            self.offset += by

        for at, by in self.jumps:
            loop.call_later(at, set_clock, by)

        async def sleep(delay_s: float) -> None:
            await asyncio.sleep(delay_s + self.oversleep())

        def clock() -> float:
            return loop.time() + self.offset

        async with asyncio.TaskGroup() as tasks:
            for workers in self.workers:
                pacer = Pacer(ledger, "Create", self.rate, clock=clock, sleep=sleep)
                for _ in range(workers):
                    tasks.create_task(self._work(loop, pacer, ends))
        ledger.connection.close()
        path.unlink()

    async def _work(self, loop: VirtualLoop, pacer: Pacer, ends: float) -> None:
        while loop.time() < ends:
            await pacer.start(lambda _: True, lambda _, held: held)
            if loop.time() < ends:
                self.starts.append(loop.time())
            await asyncio.sleep(self.pause())


@given(
    rate=st.sampled_from([1.0, 3.0, 20.0]),
    workers=st.lists(st.integers(1, 16), min_size=1, max_size=4),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.3, 1.0, 2.5]), min_size=1, max_size=5),
    commits=st.lists(st.floats(0.0, 0.05), min_size=1, max_size=5),
    lateness=st.lists(st.sampled_from([0.0, 0.001, 0.007, 0.009, 0.05, 1.5]), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_no_second_ever_has_more_starts_than_the_cap(
    tmp_path_factory: pytest.TempPathFactory,
    rate: float,
    workers: list[int],
    pauses: list[float],
    commits: list[float],
    lateness: list[float],
    seed: int,
) -> None:
    dice = random.Random(seed)
    load = Load(
        rate,
        workers,
        for_s=3.0,
        pause=lambda: dice.choice(pauses),
        commit=lambda: dice.choice(commits),
        oversleep=lambda: dice.choice(lateness),
    )
    assert most_in_a_second(load.simulate(tmp_path_factory.getbasetemp()).starts) <= rate


@pytest.mark.parametrize("workers", [[16], [16, 16, 16, 16]], ids=["one process", "four processes"])
@pytest.mark.parametrize("rate", [3.0, 20.0])
def test_the_cap_is_used_while_there_is_work(tmp_path: Path, rate: float, workers: list[int]) -> None:
    dice = random.Random(7)
    load = Load(rate, workers, for_s=60.0, oversleep=lambda: dice.uniform(0.0, LATE_S * 0.9))
    load.simulate(tmp_path)
    assert len(load.starts) >= 0.98 * rate * 60
    assert most_in_a_second(load.starts) <= rate


def test_many_processes_at_a_low_rate_keep_the_cap(tmp_path: Path) -> None:
    """Their slots lie minutes ahead: that is no sign of a wrong clock."""
    load = Load(0.2, [16] * 4, for_s=900.0).simulate(tmp_path)
    gaps = [later - sooner for sooner, later in zip(load.starts, load.starts[1:], strict=False)]
    assert min(gaps) >= 5.0 - LATE_S
    assert len(load.starts) >= 0.98 * 0.2 * 900


@pytest.mark.parametrize("at", [3.0, 3.01, 3.02, 3.03, 3.04])
def test_a_clock_set_back_stalls_nobody(tmp_path: Path, at: float) -> None:
    load = Load(20.0, [8, 8], for_s=30.0, jumps=[(at, -3600.0)]).simulate(tmp_path)
    gaps = [later - sooner for sooner, later in zip(load.starts, load.starts[1:], strict=False)]
    assert max(gaps) < 5.0
    assert len(load.starts) >= 0.9 * 20 * 30


def test_a_clock_set_forward_and_back_stalls_nobody(tmp_path: Path) -> None:
    load = Load(20.0, [8, 8], for_s=30.0, jumps=[(3.0, 3600.0), (6.0, -3600.0)]).simulate(tmp_path)
    assert len(load.starts) >= 0.9 * 20 * 30


def test_a_machine_that_always_wakes_late_gets_slower_and_does_not_stop(tmp_path: Path) -> None:
    load = Load(20.0, [4, 4], for_s=30.0, oversleep=lambda: 0.06).simulate(tmp_path)
    assert len(load.starts) >= 2 * 30  # a start takes seven slots: one, then two were missed, then four held
    assert most_in_a_second(load.starts) <= 20


class Times:
    """A clock and a sleep that oversleeps as told."""

    def __init__(self) -> None:
        self.now = 1.7e9
        self.late: list[float] = []
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.now += delay_s + (self.late.pop(0) if self.late else 0.0)


def paced(shelf: Bench, times: Times, rate: float = 20.0) -> Pacer:
    return Pacer(shelf.ledger, "Create", rate, clock=times.clock, sleep=times.sleep)


async def test_who_wakes_late_takes_another_slot_and_renews_its_claim(shelf: Bench) -> None:
    times, renewed = Times(), []

    def renew(_: Connection, held: str) -> str:
        renewed.append(held)
        return "renewed"

    pacer = paced(shelf, times)
    times.late = [LATE_S + 0.001, LATE_S - 0.001]
    assert await pacer.start(lambda _: "claim", renew) == "renewed"
    assert renewed == ["claim"]
    assert pacer.lost_slots == 1


async def test_a_claim_lost_meanwhile_starts_nothing(shelf: Bench) -> None:
    times = Times()
    times.late = [1.0]
    assert await paced(shelf, times).start(lambda _: "claim", lambda _, __: None) is None


def no_claim(_: Connection) -> str | None:
    return None


async def test_what_cannot_be_claimed_takes_no_slot(shelf: Bench) -> None:
    times = Times()
    assert await paced(shelf, times).start(no_claim, lambda _, held: held) is None
    assert await shelf.rows("SELECT * FROM cap") == []


async def test_a_claim_is_kept_while_its_slot_is_far_ahead(shelf: Bench) -> None:
    times, renewals = Times(), []

    def renew(_: Connection, held: str) -> str:
        renewals.append(times.now)
        return held

    pacer = paced(shelf, times)
    await pacer.refused(200.0)
    began = times.now
    assert await pacer.start(lambda _: "claim", renew) == "claim"
    assert times.now - began == pytest.approx(200.0, abs=1.0)
    gaps = [b - a for a, b in zip([began, *renewals], [*renewals, times.now], strict=True)]
    assert max(gaps) <= 31.0


async def test_a_claim_lost_while_its_slot_is_far_ahead_starts_nothing(shelf: Bench) -> None:
    times = Times()
    pacer = paced(shelf, times)
    await pacer.refused(200.0)
    assert await pacer.start(lambda _: "claim", lambda _, __: None) is None
    assert sum(times.slept) < 60.0


async def test_a_clock_set_back_after_the_booking_is_not_slept_through(shelf: Bench) -> None:
    times = Times()
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        if looks == 3:  # twice for the booking, then it is set
            times.now -= 3600.0
        return times.now

    pacer = Pacer(shelf.ledger, "Create", 20.0, clock=clock, sleep=times.sleep)
    assert await pacer.start(lambda _: "claim", lambda _, held: held) == "claim"
    assert looks > 3
    assert sum(times.slept) < 60.0


async def test_a_refusal_widens_the_gap_and_time_narrows_it(shelf: Bench) -> None:
    times = Times()
    pacer = paced(shelf, times)

    async def gap() -> float:
        (row,) = await shelf.rows("SELECT gap FROM cap")
        return float(row["gap"])

    async def start(count: int) -> None:
        for _ in range(count):
            assert await shelf.ledger.write(lambda c: _take(c, times))

    await start(1)
    usual = await gap()
    before = times.now
    await pacer.refused(1.0)
    assert await gap() == pytest.approx(1.5 * usual)
    assert await shelf.ledger.write(lambda c: _take(c, times)) >= before + 1.0
    await start(14)
    assert await gap() == pytest.approx(1.25 * usual, rel=0.02)
    await start(200)
    assert await gap() == pytest.approx(usual, rel=0.001)
    for _ in range(50):
        await pacer.refused(1.0)
    assert await gap() == pytest.approx(WIDEST * usual)


def _take(connection: Connection, times: Times) -> float:
    from batchscan.ledger.slots import take_slot

    return take_slot(connection, 1, "Create", now=times.now, lead_s=0.01, gap=1 / (20 * 0.99))


async def test_caps_of_scopes_and_actions_are_apart(shelf: Bench) -> None:
    times = Times()
    await paced(shelf, times).refused(500.0)
    other = Pacer(shelf.ledger, "Result", 20.0, clock=times.clock, sleep=times.sleep)
    began = times.now
    assert await other.start(lambda _: 1, lambda _, held: held) == 1
    assert times.now - began < 1.0
    assert cap.primary_key.columns.keys() == ["scope", "action"]


async def test_without_a_cap_nothing_waits(shelf: Bench) -> None:
    times = Times()
    pacer = Pacer(shelf.ledger, "Create", None, clock=times.clock, sleep=times.sleep)
    assert await pacer.start(lambda _: 1, lambda _, held: held) == 1
    await pacer.refused(5.0)
    assert times.slept == []
    assert await shelf.rows("SELECT * FROM cap") == []


async def test_a_real_second_has_no_more_starts_than_the_cap(shelf: Bench) -> None:
    loop = asyncio.get_running_loop()
    starts: list[float] = []
    pacers = [Pacer(shelf.ledger, "Create", 20.0) for _ in range(2)]

    async def work(pacer: Pacer) -> None:
        while len(starts) < 30:
            await pacer.start(lambda _: True, lambda _, held: held)
            starts.append(loop.time())

    await asyncio.gather(*(work(pacer) for pacer in pacers for _ in range(4)))
    assert most_in_a_second(starts) <= 20
