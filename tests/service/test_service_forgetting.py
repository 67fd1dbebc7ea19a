"""What the ledger forgets of runs that ended long ago, and what it must not."""

import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from cli_lab import skills
from service_lab import ServiceLab
from sqlalchemy import Connection, Table, func, insert, select

from batchscan.ledger import pruning
from batchscan.ledger.aftermaths import Plan, Step, owe, settle
from batchscan.ledger.queue import Queue, QueueState, Work
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.ledger.schedules import Standing, keep
from batchscan.ledger.schema import aftermath, chosen, purse, queue, run, verdict, waiting
from batchscan.ledger.store import Ledger, open_ledger
from batchscan.models import RunState
from batchscan.service.forgetting import Forgetting

DAY = 86_400.0
NOW = 1_800_000_000.0
WORK = Work(request=RunRequest(sources=("/srv/skills",), directory="/", endpoint="embedded"))


class Past:
    """A ledger with runs of long ago; each ended ``days`` before now."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.rows, self.runs = Queue(ledger), Runs(ledger)

    async def ended(
        self, name: str, days: float, state: QueueState = QueueState.COMPLETE, *, origin: str = "schedule a"
    ) -> RunRecord:
        at = NOW - days * DAY
        await self.rows.add(name, WORK, priority=0, origin=origin, now=at - 9, key=f"key of {name}")
        record = await self.runs.create(name, WORK.request, Path("/reports") / name, now=at - 5)
        done = RunState.COMPLETE if state is QueueState.COMPLETE else RunState.INCOMPLETE
        await self.runs.update(record, state=done, counts={}, finished_at=at)
        await self.rows.begin(name, now=at - 5)
        await self.rows.end(name, state, now=at)
        return record

    async def forget(self, days: float = 90) -> int:
        return await Forgetting(self.ledger, self.ledger, keep_s=days * DAY, clock=lambda: NOW).look()

    async def count(self, table: Table) -> int:
        statement = select(func.count()).select_from(table)
        return await self.ledger.read(lambda c: c.execute(statement).scalar_one())

    async def names(self) -> list[str]:
        queued = await self.ledger.read(lambda c: set(c.execute(select(queue.c.run_id)).scalars()))
        recorded = await self.ledger.read(lambda c: set(c.execute(select(run.c.run_id)).scalars()))
        return sorted(queued | recorded)


@pytest.fixture
async def past(tmp_path: Path) -> AsyncIterator[Past]:
    async with open_ledger(tmp_path / "ledger.sqlite3", "s") as ledger:
        yield Past(ledger)


async def test_what_ended_long_ago_is_forgotten_in_bounded_steps(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "ROWS", 3)
    old = [await past.ended(f"old-{number:03}", 91) for number in range(pruning.BATCH + 5)]
    for name in ("new-1", "new-2", "new-3"):
        await past.ended(name, 89)
    first, new = old[0], await past.runs.get("new-1")
    assert new is not None
    digests = [bytes([number]) * 32 for number in range(7)]
    inputs = [
        {"run": record.id, "digest": digest, "key": digest[:16], "path": "p", "candidate": b"{}"}
        for record in (first, new)
        for digest in digests
    ]
    choices = [{"run": first.id, "digest": digest, "waits": True, "held": False} for digest in digests]
    paid = [{"scope": 1, "name": name, "spent": 5} for name in (f"run {first.id}", f"run {new.id}", "day")]
    judged = {"scope": 1, "digest": digests[0], "engine_version": 1, "result": b"{}", "run": first.id}
    await past.ledger.write(lambda c: c.execute(insert(waiting), inputs))
    await past.ledger.write(lambda c: c.execute(insert(chosen), choices))
    await past.ledger.write(lambda c: c.execute(insert(purse), paid))
    await past.ledger.write(
        lambda c: c.execute(insert(verdict), {**judged, "scanned_at": 1, "expires_at": 2})
    )
    for name in ("old-000", "new-1"):
        await past.ledger.write(partial(owe, run_id=name, schedule="a", plan=Plan()))
        await past.ledger.write(partial(settle, run_id=name, steps=(Step("notice"),), now=NOW - 90 * DAY))

    assert await past.forget() == len(old)
    assert await past.names() == ["new-1", "new-2", "new-3"]
    left = {table.name: await past.count(table) for table in (waiting, chosen, purse, verdict, aftermath)}
    assert left == {"waiting": 7, "chosen": 0, "purse": 2, "verdict": 1, "aftermath": 1}
    spent = await past.ledger.read(lambda c: set(c.execute(select(purse.c.name)).scalars()))
    assert spent == {f"run {new.id}", "day"}, "what was paid in a day stays"
    assert await past.forget() == 0
    _, fresh = await past.rows.add("x", WORK, priority=0, origin="api", now=NOW, key="key of old-000")
    assert fresh, "the key went with its run"
    _, fresh = await past.rows.add("y", WORK, priority=0, origin="api", now=NOW, key="key of new-1")
    assert not fresh


async def test_the_last_runs_of_each_origin_stay_however_old(past: Past) -> None:
    for origin in ("schedule a", "api"):
        for name, days in (("c1", 400.0), ("c2", 390.0), ("c3", 380.0)):
            await past.ended(f"{origin} {name}", days, origin=origin)
        await past.ended(f"{origin} i1", 370, QueueState.INCOMPLETE, origin=origin)
        await past.ended(f"{origin} i2", 360, QueueState.INCOMPLETE, origin=origin)
    await past.ended("z", 1)
    await past.forget()
    kept = [name for name in await past.names() if name.startswith("api")]
    assert kept == ["api c2", "api c3", "api i2"]
    # a newer one of the schedule has come, and is its last
    assert [n for n in await past.names() if n.startswith("schedule")] == ["schedule a c3"]


async def test_what_is_not_over_or_still_needed_stays(past: Past) -> None:
    long_ago = NOW - 400 * DAY
    await past.rows.add("queued", WORK, priority=0, origin="api", now=long_ago)
    await past.rows.add("running", WORK, priority=0, origin="api", now=long_ago)
    await past.rows.begin("running", now=long_ago)
    await past.runs.create("of a command", WORK.request, Path("/reports/c"), now=long_ago)
    await past.rows.add("never began", WORK, priority=0, origin="api", now=long_ago)
    await past.rows.cancel("never began", now=long_ago)
    resumed = await past.ended("resumed", 400, QueueState.INCOMPLETE)
    await past.runs.update(resumed, state=RunState.RUNNING, counts={}, finished_at=None)
    again = await past.ended("ended anew", 400, QueueState.INCOMPLETE)
    await past.runs.update(again, state=RunState.COMPLETE, counts={}, finished_at=NOW - DAY)
    await past.ended("owed", 400)
    await past.ledger.write(lambda c: owe(c, "owed", "a", Plan()))
    await past.ended("named", 400)
    await past.ledger.write(lambda c: keep(c, "b", Standing(rule="", decided_until=0, last_run="named")))
    await past.ended("gone", 400)
    for origin in ("schedule a", "api"):
        for number in range(2):
            await past.ended(f"{origin} {number}", 300, origin=origin)
    newest = await past.ended("newest", 300, QueueState.INCOMPLETE, origin="api")
    await past.ended("sooner in the line", 200, QueueState.INCOMPLETE, origin="api")
    await past.ledger.write(lambda c: c.execute(run.delete().where(run.c.run_id == "sooner in the line")))
    assert await past.forget() == 2
    names = await past.names()
    assert {"gone", "never began"}.isdisjoint(names)
    assert {
        *("queued", "running", "of a command", "resumed", "ended anew", "owed", "named", "newest"),
    } <= set(names)
    record = await past.runs.create("next", WORK.request, Path("/reports/n"), now=NOW)
    assert record.id == newest.id + 1, "no verdict may name a run that has another's number"


async def test_the_service_forgets_by_itself(lab: ServiceLab) -> None:
    skills(lab.inputs, 1)
    settings = lab.settings(None, {"keep_runs_days": 2})
    body = {"sources": [str(lab.inputs)]}
    async with lab.serving(settings) as serving:
        runs = [await serving.order(body, headers={"Idempotency-Key": f"k{n}"}) for n in range(4)]
        for each in runs:
            await serving.ended(each["run_id"])
    ended = time.time() - 3 * DAY
    async with open_ledger(lab.state / "ledger.sqlite3", "s") as ledger:
        await ledger.write(lambda c: c.execute(queue.update().values(ended_at=ended + queue.c.id)))
        await ledger.write(lambda c: c.execute(run.update().values(finished_at=ended)))
    async with lab.serving(settings) as serving:
        while True:
            listed = (await serving.get("/runs")).json["runs"]
            if len(listed) == 2:
                break
        assert [each["run_id"] for each in listed] == sorted((r["run_id"] for r in runs[2:]), reverse=True)
        (await serving.get(f"/runs/{runs[0]['run_id']}")).problem(404, "not-found")
        known = await serving.post("/runs", body, headers={"Idempotency-Key": "k3"})
        assert known.json["run_id"] == runs[3]["run_id"]
        anew = await serving.post("/runs", body, headers={"Idempotency-Key": "k0"})
        assert anew.json["run_id"] != runs[0]["run_id"]
        await serving.ended(anew.json["run_id"])
        report = lab.report_of(runs[0]["run_id"])
        assert json.loads(report.read_text())["verdict"] == "benign", "the service deletes no report"


async def test_a_run_that_is_cancelled_in_the_line_leaves_nothing_that_waits(past: Past) -> None:
    long_ago = NOW - 91 * DAY
    for name in ("displaced", "killed", "goes on"):
        await past.rows.add(name, WORK, priority=0, origin="api", now=long_ago)
        await past.rows.begin(name, now=long_ago)
        record = await past.runs.create(name, WORK.request, Path("/reports") / name, now=long_ago)
        row = {"run": record.id, "digest": b"d" * 32, "key": b"k" * 16, "path": "p", "candidate": b"{}"}
        await past.ledger.write(partial(Connection.execute, statement=insert(waiting).values(row)))
    await past.rows.put_back("displaced")
    assert (await past.rows.cancel("displaced", now=long_ago)) is not None
    assert (await past.rows.cancel("killed", now=long_ago)) is not None
    assert await past.count(waiting) == 2, "the one that is under way ends by itself"
    await past.rows.take_back(now=long_ago)
    assert await past.count(waiting) == 1, "of the one that goes on"
    await past.ended("newest", 1, origin="api")
    assert await past.forget() == 2
    assert await past.names() == ["goes on", "newest"]
