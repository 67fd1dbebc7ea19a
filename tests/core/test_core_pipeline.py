"""A run from candidates to rows: one row for each input, whatever happens on the way."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from core_lab import (
    CREATE,
    RESULT,
    T0,
    Bench,
    Service,
    batches,
    bench,
    by_path,
    candidate,
    eventually,
    refuse,
    rows_of,
    sha,
    state,
    write_skills,
    zipped,
)

from batchscan.errors import LedgerError, ReportError
from batchscan.ledger.runs import KEPT_S, RunRecord
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Freshness
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Candidate, Problem
from batchscan.pipeline import CoverageError, Ending, Pipeline, Policy
from batchscan.record import Recorder
from batchscan.settlement import READMISSIONS
from batchscan.stages import Timing


async def scan(table: Bench, run: RunRecord, *lists: list[Candidate], **options: Any) -> Ending:
    async with table.pipeline(run, batches(*lists), **options) as (pipeline, _):
        return await pipeline.run()


def inputs(root: Path) -> list[Candidate]:
    return [candidate(path, root) for path in sorted(root.iterdir())]


def outcomes(run: RunRecord) -> dict[str, str]:
    return {path: row["outcome"] for path, row in by_path(run.report).items()}


async def test_every_input_has_one_row(table: Bench, tmp_path: Path, cloud: Service) -> None:
    root = tmp_path / "in"
    write_skills(root, 3)
    (root / "copy.zip").write_bytes(zipped("skill 0"))
    (root / "junk.zip").write_bytes(b"junk")
    broken = Candidate(source="m", path="line", line=1, problem=Problem("bad-manifest-line", "no"))
    run = await table.new_run()
    ending = await scan(table, run, [*inputs(root), broken])
    assert ending == Ending(drained=False, stopped=None, pending=0)
    assert table.stats.found == 6
    assert outcomes(run) == {
        "skill-0000.zip": "scanned",
        "skill-0001.zip": "scanned",
        "skill-0002.zip": "scanned",
        "copy.zip": "scanned",
        "junk.zip": "rejected",
        "line": "rejected",
    }
    assert len(cloud.received) == len(set(cloud.received)) == 3
    assert by_path(run.report)["skill-0000.zip"]["duplicate_of"] == "copy.zip"
    again = await table.new_run("run-2")
    await scan(table, again, [*inputs(root), broken])
    assert sorted(outcomes(again).values()) == ["rejected"] * 2 + ["reused"] * 4
    assert cloud.calls[CREATE] == 3


async def test_a_sweep_and_the_settler_write_no_row_twice(
    table: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    write_skills(root, 40)
    run = await table.new_run()
    async with table.pipeline(run, batches(inputs(root))) as (pipeline, recorder):
        settled = recorder.settled

        async def slowly(page: Any) -> None:
            await asyncio.sleep(0)
            await settled(page)
            await asyncio.sleep(0)

        monkeypatch.setattr(recorder, "settled", slowly)
        done = asyncio.Event()

        async def sweep() -> None:
            while not done.is_set():
                await pipeline._sweep()

        sweeping = asyncio.create_task(sweep())
        try:
            await pipeline.run()
        finally:
            done.set()
            await sweeping
    assert set(outcomes(run).values()) == {"scanned"}
    assert len(outcomes(run)) == 40


async def test_what_another_process_finished_is_swept_up(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    write_skills(root, 2)
    run, other = await table.new_run(), await table.new_run("other")
    await scan(table, run, inputs(root), policy=Policy(wait=False))
    assert set(outcomes(run).values()) == {"pending"}
    await scan(table, other, inputs(root))
    assert set(outcomes(other).values()) == {"scanned"}
    calls = dict(cloud.calls)
    await scan(table, run, resumed=True)
    assert set(outcomes(run).values()) == {"reused"}
    assert cloud.calls == calls


@pytest.mark.parametrize("at", ["submitting", "polling"])
async def test_a_drained_run_is_resumed(table: Bench, tmp_path: Path, cloud: Service, at: str) -> None:
    root = tmp_path / "in"
    write_skills(root, 30)
    (root / "junk.zip").write_bytes(b"junk")
    run = await table.new_run()
    action = CREATE if at == "submitting" else RESULT
    async with table.pipeline(run, batches(inputs(root)), policy=Policy(submits=2, polls=2)) as (pipeline, _):
        running = asyncio.create_task(pipeline.run())
        await eventually(lambda: cloud.calls[action] >= 5)
        pipeline.drain()
        ending = await running
    assert ending.drained
    before = rows_of(run.report)
    assert 0 < len(before) < 31
    assert not any(row["outcome"] == "pending" for row in before)
    assert (await table.rows("SELECT count(*) AS n FROM scan WHERE state = 'submitting'")) == [{"n": 0}]
    ending = await scan(table, run, inputs(root), resumed=True)
    assert ending == Ending(drained=False, stopped=None, pending=0)
    assert rows_of(run.report)[: len(before)] == before
    assert len(outcomes(run)) == 31
    assert len(cloud.received) == len(set(cloud.received)) == 30
    assert (table.stats.waiting, table.stats.found) == (0, 31)


async def test_a_drain_that_comes_when_all_is_done_changes_nothing(
    table: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    write_skills(root, 2)
    run = await table.new_run()
    async with table.pipeline(run, batches(inputs(root))) as (pipeline, recorder):
        settled = recorder.forget

        async def last(page: Any) -> None:
            await settled(page)
            pipeline.drain()

        monkeypatch.setattr(recorder, "forget", last)  # the moment after a row is safe
        ending = await pipeline.run()
    assert ending.drained == (len(rows_of(run.report)) < 2)


async def test_resuming_writes_only_what_is_missing_and_drops_pending_rows(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    write_skills(root, 3)
    (root / "junk.zip").write_bytes(b"junk")
    run = await table.new_run()
    cloud.always[RESULT] = state("SCANNING")
    brief = Timing(first_poll_s=0.01, poll_interval_s=0.01, deadline_s=0.05)
    ending = await scan(table, run, inputs(root), timing=brief)
    assert ending == Ending(drained=False, stopped=None, pending=3)
    rows = by_path(run.report)
    assert {rows[f"skill-000{n}.zip"]["error"]["code"] for n in range(3)} == {"no-verdict-yet"}
    (junk,) = [line for line in run.report.read_bytes().splitlines() if b"junk" in line]
    del cloud.always[RESULT]
    write_skills(root, 1, prefix="late")
    ending = await scan(table, run, inputs(root), resumed=True)
    assert ending.pending == 0
    assert junk in run.report.read_bytes().splitlines()
    assert sorted(outcomes(run).values()) == ["rejected"] + ["scanned"] * 4
    assert cloud.calls[CREATE] == 4


async def test_a_given_up_digest_does_not_hold_up_the_rest(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    stuck, *_ = write_skills(root, 3)
    usual = cloud.usual

    async def slow(request: Any, fields: dict[str, Any]) -> Any:
        if fields["ContentHash"].endswith(sha(stuck.read_bytes()).hex()):
            return await state("SCANNING")(request, fields)
        return await usual(RESULT, request, fields)

    cloud.always[RESULT] = slow
    run = await table.new_run()
    brief = Timing(first_poll_s=0.01, poll_interval_s=0.01, deadline_s=0.2)
    ending = await scan(table, run, inputs(root), timing=brief)
    assert ending.pending == 1
    assert outcomes(run)[stuck.name] == "pending"
    assert sorted(outcomes(run).values()) == ["pending", "scanned", "scanned"]


@pytest.mark.parametrize("code", ["LimitExceeded", "AuthFailure.SecretIdNotFound"])
async def test_a_refused_run_gives_every_input_its_row(
    table: Bench, tmp_path: Path, cloud: Service, code: str
) -> None:
    root = tmp_path / "in"
    accepted = write_skills(root, 2, prefix="accepted")
    run = await table.new_run()
    first = await table.new_run("first")
    await scan(table, first, inputs(root), policy=Policy(wait=False))
    write_skills(root, 20)
    cloud.pay = {"OrderStatus": 1, "TotalQuota": 9, "UsedCount": 9}
    cloud.always[CREATE] = refuse(code)
    ending = await scan(table, run, inputs(root))
    assert ending.stopped is not None
    found = outcomes(run)
    assert len(found) == 22
    quota = code == "LimitExceeded"
    assert ending.pending in ((20,) if quota else (20, 21, 22))
    if quota:  # what was accepted is still polled
        assert {found[path.name] for path in accepted} == {"scanned"}
    codes = {row["error"]["code"] for row in rows_of(run.report) if row["outcome"] == "pending"}
    assert codes == {"quota" if quota else code}


async def test_digests_refused_while_the_run_stops_get_their_rows(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    write_skills(root, 10)
    cloud.always[CREATE] = refuse("UnknownParameter")
    run = await table.new_run()
    ending = await scan(table, run, inputs(root), policy=Policy(submits=1))
    assert ending.stopped is not None
    assert sorted(outcomes(run).values()) == ["failed"] * 3 + ["pending"] * 7


async def test_no_wait_ends_when_all_is_submitted(table: Bench, tmp_path: Path, cloud: Service) -> None:
    root = tmp_path / "in"
    write_skills(root, 5)
    run = await table.new_run()
    ending = await scan(table, run, inputs(root), policy=Policy(wait=False))
    assert ending == Ending(drained=False, stopped=None, pending=5)
    assert (cloud.calls[CREATE], cloud.calls[RESULT]) == (5, 0)


def tasks() -> "set[asyncio.Task[Any]]":
    """All but those of the service."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" not in repr(task)}


def raising(*_: Any, **__: Any) -> Any:
    raise LedgerError("told so")


@pytest.mark.parametrize("part", ["discovery", "admission", "scheduler", "settler", "stage", "sweep"])
async def test_a_part_that_dies_ends_the_run_loudly_and_leaves_nothing_running(
    table: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    root = tmp_path / "in"
    write_skills(root, 5)
    open_ = False

    async def endless() -> AsyncGenerator[list[Candidate], None]:
        nonlocal open_
        open_ = True
        try:
            yield inputs(root)
            if part == "discovery":
                raise LedgerError("told so")
            await asyncio.Event().wait()
        finally:
            open_ = False

    before = tasks()
    async with table.pipeline(await table.new_run(), endless()) as (pipeline, recorder):
        target, name = {
            "discovery": (pipeline, "nothing"),
            "admission": (pipeline._admitter, "admit"),
            "scheduler": (pipeline._scheduler, "_due"),
            "settler": (recorder, "settled"),
            "stage": (pipeline._stages, "submit"),
            "sweep": (pipeline._backlog, "owners"),
        }[part]
        monkeypatch.setattr(target, name, raising, raising=False)
        with pytest.raises(LedgerError, match="told so"):
            await pipeline.run()
    assert not open_
    assert tasks() == before


@pytest.mark.parametrize("part", ["discovery", "settler"])
async def test_a_report_that_cannot_be_written_ends_the_run_once_what_was_sent_is_answered(
    table: Bench, tmp_path: Path, cloud: Service, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    root = tmp_path / "in"
    write_skills(root, 3)
    full, answering = asyncio.Event(), asyncio.Event()

    async def late(request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        await answering.wait()
        return await cloud.usual(CREATE, request, fields)

    def unwritten(*_: Any, **__: Any) -> Any:
        full.set()
        raise ReportError("the disk is full")

    async def endless() -> AsyncGenerator[list[Candidate], None]:
        yield inputs(root)
        await eventually(lambda: cloud.calls[CREATE] == 3)
        if part == "discovery":
            unwritten()
        await asyncio.Event().wait()

    # with one that is answered at once, for the settler to have something to write
    cloud.script[CREATE] = [late, late] if part == "settler" else [late, late, late]
    run = await table.new_run()
    before = tasks()
    async with table.pipeline(run, endless()) as (pipeline, recorder):
        if part == "settler":
            monkeypatch.setattr(recorder, "settled", unwritten)
        running = asyncio.create_task(pipeline.run())
        await full.wait()
        await eventually(lambda: cloud.calls[CREATE] == 3)
        await asyncio.wait({running}, timeout=0.1)
        answering.set()
        with pytest.raises(ReportError, match="the disk is full"):
            await running
    assert tasks() == before
    states = [row["state"] for row in await table.rows("SELECT state FROM scan")]
    assert sorted(states) == (["done", "scanning", "scanning"] if part == "settler" else ["scanning"] * 3)


async def test_an_abort_leaves_nothing_running_and_can_be_resumed(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    write_skills(root, 20)
    run = await table.new_run()
    before = tasks()
    async with table.pipeline(run, batches(inputs(root))) as (pipeline, _):
        running = asyncio.create_task(pipeline.run())
        await eventually(lambda: cloud.calls[RESULT] >= 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert tasks() == before
    await table.change("UPDATE scan SET next_at = 0 WHERE state = 'submitting'")
    await scan(table, run, inputs(root), resumed=True)
    assert set(outcomes(run).values()) == {"scanned"}
    assert len(outcomes(run)) == 20
    assert set(cloud.tasks.values()) == {1}


async def test_rows_that_do_not_match_the_inputs_end_the_run_as_a_defect(
    table: Bench, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    write_skills(root, 3)
    twice = inputs(root)[0]
    with pytest.raises(CoverageError, match="3 rows for 4 inputs") as caught:
        await scan(table, await table.new_run(), [*inputs(root), twice])
    assert caught.value.exit_code == 70


async def test_old_waits_are_purged_when_a_run_is_made(table: Bench, tmp_path: Path, cloud: Service) -> None:
    from batchscan.ledger.runs import Runs
    from batchscan.models import RunState

    root = tmp_path / "in"
    write_skills(root, 2)
    cloud.always[CREATE] = refuse("AuthFailure")
    old, recent, open_ = [await table.new_run(name) for name in ("old", "recent", "open")]
    for run in (old, recent, open_):
        await scan(table, run, inputs(root))
    runs = Runs(table.ledger)
    await runs.update(old, state=RunState.INCOMPLETE, counts={}, finished_at=T0)
    await runs.update(recent, state=RunState.INCOMPLETE, counts={}, finished_at=T0 + 1)
    await runs.create("new", old.request, tmp_path / "new", now=T0 + KEPT_S + 1)
    counts = [await WaitingInputs(table.ledger, run.id).count() for run in (old, recent, open_)]
    assert counts == [0, 2, 2]
    del cloud.always[CREATE]
    await scan(table, old, inputs(root), resumed=True)  # all the same
    assert outcomes(old) == {"skill-0000.zip": "scanned", "skill-0001.zip": "scanned"}


class Order:
    """Records what happens to one run, in the order of its happening."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, recorder: Recorder) -> None:
        self.events: list[str] = []
        scans, waiting, report = pipeline._stages._scans, recorder._waiting, recorder._report
        for owner, name in (
            (scans, "accepted"),
            (scans, "judged"),
            (report, "write"),
            (report, "sync"),
            (waiting, "forget"),
        ):
            monkeypatch.setattr(owner, name, self._recorded(name, getattr(owner, name)))

    def _recorded(self, name: str, original: Any) -> Any:
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            result = await original(*args, **kwargs)
            self.events.append(name)  # when it has happened
            return result

        return recorded


async def test_a_verdict_is_committed_before_its_row_and_the_row_is_safe_before_its_wait_ends(
    table: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    write_skills(root, 1)
    async with table.pipeline(await table.new_run(), batches(inputs(root))) as (pipeline, recorder):
        order = Order(monkeypatch, pipeline, recorder)
        await pipeline.run()
    events = [event for event in order.events if event != "sync" or order.events.index("forget") > 0]
    first = [events.index(name) for name in ("accepted", "judged")]
    wrote = len(events) - 1 - events[::-1].index("write")
    between = events[wrote : events.index("forget", wrote) + 1]
    assert first == sorted(first)
    assert first[-1] < wrote
    assert between == ["write", "sync", "forget"]


async def test_a_run_killed_between_row_and_ledger_writes_the_row_once(
    table: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    write_skills(root, 3)
    run = await table.new_run()
    async with table.pipeline(run, batches(inputs(root))) as (pipeline, recorder):
        monkeypatch.setattr(recorder._waiting, "forget", raising)
        with pytest.raises(LedgerError):
            await pipeline.run()
    written = len(rows_of(run.report))
    assert written > 0
    await scan(table, run, inputs(root), resumed=True)
    assert len(outcomes(run)) == 3


# what happens to files between hashing and sending


async def admitted(table: Bench, run: RunRecord, root: Path) -> None:
    admitter = table.admitter(run)
    found = await admitter.admit(inputs(root), Freshness(T0))
    admitter.close()
    assert all(decision.waits for decision in found.decisions)


async def resumed(table: Bench, run: RunRecord, root: Path) -> Ending:
    return await scan(table, run, inputs(root), resumed=True)


async def test_a_file_swapped_before_it_is_sent_is_admitted_anew(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    swapped, kept = write_skills(root, 2)
    before, other = sha(swapped.read_bytes()), zipped("swapped")
    run = await table.new_run()
    await admitted(table, run, root)
    swapped.write_bytes(other)
    await resumed(table, run, root)
    assert outcomes(run) == {swapped.name: "scanned", kept.name: "scanned"}
    assert by_path(run.report)[swapped.name]["sha256"] == sha(other).hex()
    assert sorted(cloud.received) == sorted([sha(other), sha(kept.read_bytes())])
    assert before not in cloud.received
    assert await table.rows("SELECT * FROM waiting") == []


async def test_of_duplicates_only_the_swapped_one_is_admitted_anew(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    same = zipped("same")
    for number in range(12):
        (root / f"{number:02}.zip").write_bytes(same)
    run = await table.new_run()
    await admitted(table, run, root)
    for number in range(11):
        (root / f"{number:02}.zip").write_bytes(zipped("swapped"))
    await resumed(table, run, root)
    assert set(outcomes(run).values()) == {"scanned"}
    assert by_path(run.report)["11.zip"]["sha256"] == sha(same).hex()
    assert set(cloud.received) <= {sha(same), sha(zipped("swapped"))}
    assert set(cloud.tasks.values()) == {1}


async def test_many_stale_copies_elsewhere_hide_no_file(table: Bench, tmp_path: Path, cloud: Service) -> None:
    root, yesterday = tmp_path / "in", tmp_path / "a-yesterday"
    for place in (root, yesterday):
        place.mkdir()
    same = zipped("same")
    old = await table.new_run("old")
    for number in range(20):
        (yesterday / f"{number:02}.zip").write_bytes(same)
    await admitted(table, old, yesterday)
    for path in yesterday.iterdir():
        path.unlink()
    (root / "today.zip").write_bytes(same)
    run = await table.new_run()
    await scan(table, run, inputs(root))
    assert outcomes(run) == {"today.zip": "scanned"}
    assert cloud.received == [sha(same)]


async def test_a_file_deleted_before_it_is_sent_is_one_failed_row(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    root = tmp_path / "in"
    deleted, kept = write_skills(root, 2)
    run = await table.new_run()
    await admitted(table, run, root)
    deleted.unlink()
    await resumed(table, run, root)
    assert outcomes(run) == {deleted.name: "failed", kept.name: "scanned"}
    assert by_path(run.report)[deleted.name]["error"]["code"] == "missing"
    assert cloud.received == [sha(kept.read_bytes())]


@pytest.mark.parametrize(
    ("content", "outcome"), [(b"junk", "rejected"), (zipped("known"), "scanned")], ids=["junk", "known"]
)
async def test_a_file_swapped_for_something_decided_has_its_row_at_once(
    table: Bench, tmp_path: Path, cloud: Service, content: bytes, outcome: str
) -> None:
    root, other = tmp_path / "in", tmp_path / "other"
    (swapped,) = write_skills(root, 1)
    other.mkdir()
    (other / "known.zip").write_bytes(zipped("known"))
    await scan(table, await table.new_run("earlier"), inputs(other))
    run = await table.new_run()
    await admitted(table, run, root)
    swapped.write_bytes(content)
    await resumed(table, run, root)
    assert outcomes(run) == {swapped.name: "reused" if outcome == "scanned" else outcome}
    assert cloud.received == [sha(zipped("known"))]
    assert await table.rows("SELECT * FROM waiting") == []


async def test_a_file_that_keeps_changing_is_failed_in_the_end(
    table: Bench, tmp_path: Path, cloud: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    (path,) = write_skills(root, 1)
    locations, changes = Scans.locations, 0

    async def changing(self: Scans, run: int, digest: bytes) -> AsyncGenerator[bytes, None]:
        nonlocal changes
        changes += 1
        path.write_bytes(zipped(f"change {changes}"))  # just before it is read to be sent
        async for location in locations(self, run, digest):
            yield location

    monkeypatch.setattr(Scans, "locations", changing)
    run = await table.new_run()
    await scan(table, run, inputs(root))
    assert outcomes(run) == {path.name: "failed"}
    assert by_path(run.report)[path.name]["error"]["code"] == "changing"
    assert changes == READMISSIONS + 1
    assert not cloud.received


async def test_a_file_that_is_as_before_whenever_it_is_looked_at_again_is_failed_in_the_end(
    table: Bench, tmp_path: Path, cloud: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "in"
    (path,) = write_skills(root, 1)
    loads = 0

    def other_bytes_just_then(*_: Any) -> None:
        nonlocal loads
        loads += 1

    monkeypatch.setattr("batchscan.loading._load", other_bytes_just_then)
    run = await table.new_run()
    await scan(table, run, inputs(root))
    assert outcomes(run) == {path.name: "failed"}
    assert loads == READMISSIONS + 1
    assert not cloud.received


# what grows with the number of files


async def test_structures_in_memory_stay_small_with_a_large_backlog(
    table: Bench,
) -> None:
    count, run = 50_000, await table.new_run()
    digests = [number.to_bytes(32, "big") for number in range(count)]

    def fill(connection: Any) -> None:
        connection.exec_driver_sql(
            "INSERT INTO scan (scope, digest, state, attempt, polls, tries, next_at)"
            " VALUES (1, ?, 'admitted', 0, 0, 0, 0)",
            [(digest,) for digest in digests],
        )
        connection.exec_driver_sql(
            "INSERT INTO artifact (digest, size, file_count, notes) VALUES (?, 1, 1, X'5b5d')",
            [(digest,) for digest in digests],
        )
        connection.exec_driver_sql(
            "INSERT INTO waiting (run, digest, key, path, candidate, given_up, changes)"
            " VALUES (?, ?, ?, '', ?, 0, 0)",
            [(run.id, digest, digest[16:], b'{"source":"s","path":"p"}') for digest in digests],
        )

    await table.ledger.write(fill)
    largest = 0
    async with table.pipeline(run, batches(), resumed=True) as (pipeline, _):
        release = asyncio.Event()
        steps = 0

        async def hold(digest: bytes) -> Any:
            nonlocal largest, steps
            steps += 1
            scheduler = pipeline._scheduler
            size = len(scheduler._known) + sum(map(len, scheduler._heaps.values()))
            largest = max(largest, size + pipeline._settlement._finished.qsize())
            if steps > 600:
                await release.wait()
            await table.change("UPDATE scan SET next_at = 9e9 WHERE digest = ?", (digest,))
            return None

        pipeline._stages.submit = hold  # type: ignore[method-assign]  # a step that costs nothing
        running = asyncio.create_task(pipeline.run())
        await eventually(lambda: steps > 600)
        pipeline.drain()
        release.set()
        assert (await running).drained
    assert steps < 1000
    assert largest < 2000
    assert rows_of(run.report) == []


async def test_two_processes_share_the_work(tmp_path: Path, cloud: Service) -> None:
    root = tmp_path / "in"
    write_skills(root, 40)
    async with bench(tmp_path, cloud.endpoint) as one, bench(tmp_path, cloud.endpoint) as two:
        runs = [await one.new_run("one"), await two.new_run("two")]
        await asyncio.gather(scan(one, runs[0], inputs(root)), scan(two, runs[1], inputs(root)))
    for run in runs:
        assert len(outcomes(run)) == 40
        assert set(outcomes(run).values()) <= {"scanned", "reused"}
    assert len(cloud.received) == len(set(cloud.received)) == 40
