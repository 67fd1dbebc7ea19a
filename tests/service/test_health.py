"""What the probes answer: alive while the tasks beat, ready while the ledger takes writes."""

import json
import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from batchscan.ledger.store import open_ledger
from batchscan.service.health import Changes, Health, Pulse, ledger_problem, readiness


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_task_that_misses_its_beat_makes_the_process_dead() -> None:
    clock = Clock()
    pulse = Pulse(clock=clock)
    assert pulse.health().status == 200
    pulse.beat("queue", within_s=30)
    pulse.beat("schedules", within_s=60)
    clock.now += 30
    assert pulse.health().ok
    clock.now += 1
    assert pulse.health().checks == {"loop": True, "queue": False, "schedules": True}
    assert pulse.health().status == 503
    pulse.end("queue")
    assert pulse.health().ok


@pytest.mark.parametrize(
    ("ledger", "config", "draining", "failed"),
    [
        (None, None, False, set()),
        ("/secret/path: the disk is full", None, False, {"ledger"}),
        (None, "rate: 'x' is not a number", False, {"config"}),
        (None, None, True, {"accepting"}),
        ("a", "b", True, {"ledger", "config", "accepting"}),
    ],
)
def test_ready_takes_all_checks_and_tells_no_reason(
    ledger: str | None, config: str | None, draining: bool, failed: set[str]
) -> None:
    health = readiness(ledger=ledger, config=config, draining=draining)
    assert health.status == (503 if failed else 200)
    told = json.loads(health.body())
    assert told["status"] == ("failed" if failed else "ok")
    assert {name for name, state in told["checks"].items() if state == "failed"} == failed
    assert b"secret" not in health.body()


async def test_a_ledger_is_ready_as_long_as_it_takes_a_write(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    async with open_ledger(path, "default@embedded") as ledger:
        wal = path.with_name(f"{path.name}-wal")
        before = wal.stat().st_size
        assert await ledger_problem(ledger) is None
        assert wal.stat().st_size > before  # it went to the disk
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        problem = await ledger_problem(ledger, patience_s=0.05)
        assert problem is not None
        assert "no write was committed within 0.05 s" in problem
        holder.execute("ROLLBACK")
        holder.close()
        assert await ledger_problem(ledger, patience_s=20) is None


async def test_a_ledger_that_refuses_writes_says_why(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "ledger.sqlite3", "default@embedded") as ledger:
        await ledger.read(lambda c: c.exec_driver_sql("PRAGMA query_only=1"))
        problem = await ledger_problem(ledger)
        assert problem is not None
        assert "it cannot be written; check its owner and the mount" in problem


def test_a_change_is_logged_once() -> None:
    changes = Changes()
    with capture_logs() as logged:
        for holds in (True, False, False, True, True):
            changes.note(Health({"ledger": holds}), {"ledger": "the disk is full"})
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [
        ("a check failed", "warning"),
        ("a check holds again", "info"),
    ]
    assert logged[0]["reason"] == "the disk is full"
