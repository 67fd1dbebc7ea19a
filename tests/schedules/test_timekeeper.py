"""The timekeeper with a real ledger: one transaction for the run and the step to the next due time."""

import asyncio
import itertools
import random
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from keeper import CRONS, WORK, assignments
from structlog.testing import capture_logs
from test_turn import due_times

from batchscan.errors import LedgerError
from batchscan.ledger.queue import Enqueued, Queue, QueuedRun, QueueState, enqueue
from batchscan.ledger.schedules import Standing, standings
from batchscan.ledger.store import Ledger, open_ledger
from batchscan.schedules import timekeeper
from batchscan.schedules.schedule import Schedule
from batchscan.schedules.timekeeper import Assignment, Timekeeper

T0 = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


class Hand:
    """A timekeeper whose clock is moved by hand."""

    def __init__(self, ledger: Ledger, assigned: dict[str, Assignment]) -> None:
        self.ledger = ledger
        self.queue = Queue(ledger)
        self.now = T0
        self.told: list[QueuedRun] = []
        self._numbers = itertools.count()
        self.keeper = self.of(assigned)

    def of(self, assigned: dict[str, Assignment]) -> Timekeeper:
        return Timekeeper(
            self.ledger,
            assigned,
            new_run_id=lambda: f"run-{next(self._numbers)}",
            on_enqueued=self.told.append,
            clock=lambda: self.now,
        )

    async def at(self, seconds: float) -> list[MutableMapping[str, Any]]:
        """Look at the clock so long after the beginning; return what was logged."""
        self.now = T0 + seconds
        with capture_logs() as logs:
            await self.keeper.look()
        return logs

    async def standing(self, name: str) -> Standing:
        return (await self.ledger.read(standings))[name]


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_ledger(tmp_path / "ledger.sqlite3", "test@embedded") as opened:
        yield opened


def only(cron: str = "* * * * *", **fields: object) -> dict[str, Assignment]:
    made = Schedule.model_validate({"cron": cron, "sources": ["/srv/skills"], **fields})
    return {"audit": Assignment(made, lambda _: WORK)}


async def test_a_due_run_is_in_the_queue_with_its_origin_priority_and_key(ledger: Ledger) -> None:
    hand = Hand(ledger, only(priority=33))
    await hand.at(0)
    assert hand.told == []
    logs = await hand.at(60)
    (run,) = hand.told
    assert (run.origin, run.priority, run.state, run.work) == ("schedule audit", 33, QueueState.QUEUED, WORK)
    assert [(line["event"], line["due"], line["run_id"]) for line in logs] == [
        ("schedule-due", "2026-11-24T12:01:00Z", run.run_id)
    ]
    standing = await hand.standing("audit")
    assert (standing.last_due, standing.last_run, standing.next_at) == (T0 + 60, run.run_id, T0 + 120)


async def test_a_run_that_waits_or_is_under_way_lets_its_next_time_be_skipped_visibly(ledger: Ledger) -> None:
    hand = Hand(ledger, only())
    await hand.at(0)
    await hand.at(60)
    run_id = hand.told[0].run_id
    logs = await hand.at(120)
    await hand.queue.begin(run_id, now=T0)
    logs += await hand.at(180)
    assert [(line["event"], line["log_level"], line["due"], line["skipped_in_all"]) for line in logs] == [
        ("schedule-skipped", "warning", "2026-11-24T12:02:00Z", 1),
        ("schedule-skipped", "warning", "2026-11-24T12:03:00Z", 2),
    ]
    assert len(hand.told) == 1
    await hand.queue.end(run_id, QueueState.INCOMPLETE, now=T0)
    await hand.at(240)
    standing = await hand.standing("audit")
    assert (len(hand.told), standing.skipped, standing.skipped_due) == (2, 2, T0 + 180)


async def test_nothing_is_enqueued_without_the_step_and_no_step_without_the_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand(ledger, only())
    await hand.at(0)

    def fail(*_: object, **__: object) -> None:
        raise LedgerError("as told")

    with monkeypatch.context() as broken:
        broken.setattr(timekeeper, "keep", fail)
        with pytest.raises(LedgerError):
            await hand.at(60)
        broken.undo()
        broken.setattr(timekeeper, "enqueue", fail)
        with pytest.raises(LedgerError):
            await hand.at(60)
    assert await hand.queue.next(10) == []
    assert (await hand.standing("audit")).next_at == T0 + 60
    await hand.at(61)
    assert [run.run_id for run in hand.told] == [run.run_id for run in await hand.queue.next(10)]
    assert len(hand.told) == 1


async def test_a_due_time_that_comes_again_after_the_clock_was_years_ahead_is_not_run_again(
    ledger: Ledger,
) -> None:
    hand = Hand(ledger, only("0 0 * * *"))
    await hand.at(0)
    day = 43_200.0
    await hand.at(day)
    await hand.queue.end(hand.told[0].run_id, QueueState.COMPLETE, now=T0)
    await hand.at(400 * 86_400.0)
    await hand.queue.end(hand.told[1].run_id, QueueState.COMPLETE, now=T0)
    logs = await hand.at(60)
    logs += await hand.at(day + 5)
    assert [line["event"] for line in logs] == ["clock-put-back", "schedule-was-run-already"]
    assert len(hand.told) == 2


async def test_a_key_that_a_caller_made_up_does_not_stop_a_schedule(ledger: Ledger) -> None:
    hand = Hand(ledger, only())
    await hand.at(0)
    theirs = Enqueued("theirs", WORK, 50, "api", "schedule audit @ 2026-11-24T12:01:00Z", b"x")
    await ledger.write(lambda c: enqueue(c, theirs, now=T0))
    await hand.at(60)
    assert [run.origin for run in hand.told] == ["schedule audit"]


async def test_without_anything_to_do_the_time_passes(ledger: Ledger) -> None:
    schedule = only()["audit"].schedule
    hand = Hand(ledger, {"audit": Assignment(schedule, lambda _: None)})
    await hand.at(0)
    logs = await hand.at(60)
    assert [line["event"] for line in logs] == ["schedule-had-nothing-to-do"]
    assert (hand.told, (await hand.standing("audit")).next_at) == ([], T0 + 120)


async def test_rows_of_removed_schedules_go_at_the_next_start(ledger: Ledger) -> None:
    hand = Hand(ledger, assignments())
    await hand.at(0)
    assert set(await ledger.read(standings)) == set(CRONS)
    task = asyncio.create_task(hand.of(only()).run())
    while set(await ledger.read(standings)) != {"audit"}:
        assert not task.done()
        await asyncio.sleep(0)
    task.cancel()


async def test_killed_at_any_moment_no_due_time_is_missed_or_doubled(tmp_path: Path) -> None:
    """An hour of schedules in a second, and ``kill -9`` in the middle of it, again and again."""
    path, start = tmp_path / "ledger.sqlite3", time.time()
    async with open_ledger(path, "test@embedded") as ledger:
        hand = Hand(ledger, assignments())
        await hand.at(start - T0)
    chance = random.Random(7)
    script = Path(__file__).parent / "keeper.py"
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script), str(path), str(start), "3600"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        await asyncio.sleep(chance.uniform(0.05, 0.3))  # how much gets done, not whether it is right
        process.kill()
        await process.wait()
    with closing(sqlite3.connect(path)) as found:
        keys = [key for (key,) in found.execute("SELECT idempotency_key FROM queue ORDER BY id")]
        rows = found.execute("SELECT name, decided_until, last_due, missed, skipped FROM schedule").fetchall()
    assert len(set(keys)) == len(keys)
    assert len(rows) == len(CRONS)
    for name, decided_until, last_due, missed, skipped in rows:
        runs = [
            datetime.fromisoformat(due).timestamp()
            for origin, _, due in (key.partition(" @ ") for key in keys)
            if origin == f"schedule {name}"
        ]
        due = due_times(assignments()[name].schedule, start, decided_until)
        assert runs == sorted(runs)
        assert set(runs) <= set(due)
        assert len(runs) + missed + skipped == len(due)
        assert last_due == max(runs, default=None)
    assert len(keys) > 2 * len(CRONS)
