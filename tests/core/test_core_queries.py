"""The reads whose cost decides follow an index, whatever the ledger holds."""

from collections.abc import Callable
from typing import Any

import pytest
from core_lab import T0, Bench
from sqlalchemy import Select, select
from sqlalchemy.dialects import sqlite

from batchscan.ledger import queries
from batchscan.ledger.schema import scan
from batchscan.models import ScanState, Stage

D = b"\x01" * 32
K = b"\x02" * 16

READS: dict[str, Callable[[], Select[Any]]] = {
    "due": lambda: queries.due(1, 1, ScanState.ADMITTED, until=T0, limit=500),
    "in line": lambda: queries.in_line(1, 1, most_files=9, until=T0, limit=500),
    "left": lambda: queries.left(1, 1, [ScanState.ADMITTED, ScanState.SCANNING]),
    "locations": lambda: queries.locations(1, D, after=K, limit=100),
    "claimed": lambda: select(scan.c.owner).where(*queries.claimed(1)).distinct(),
    "page": lambda: queries.waiting_page(1, 1, None, after=(D, K), limit=500, finished=False),
    "page of finished": lambda: queries.waiting_page(1, 1, None, after=(D, K), limit=500, finished=True),
    "page of digests": lambda: queries.waiting_page(1, 1, [D, D], after=None, limit=500, finished=True),
}


async def plan(shelf: Bench, statement: Select[Any]) -> list[str]:
    compiled = statement.compile(dialect=sqlite.dialect()).construct_expanded_state()
    values = tuple(compiled.parameters[name] for name in compiled.positiontup or [])
    return await steps_of(shelf, compiled.statement, values)


async def steps_of(shelf: Bench, text: str, values: tuple[Any, ...]) -> list[str]:
    rows = await shelf.ledger.read(
        lambda c: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
    )
    return [str(row[3]) for row in rows]


@pytest.mark.parametrize("name", READS)
async def test_reads_follow_their_indexes(shelf: Bench, name: str) -> None:
    steps = await plan(shelf, READS[name]())
    assert steps
    for step in steps:
        scans_a_table = step.startswith("SCAN") and not step.startswith(("SCAN anon", "SCAN CONSTANT"))
        assert not scans_a_table, steps
        assert not step.endswith("(scope=?)"), steps  # all of the scope
    if not name.startswith(("page", "claimed")):  # those sort no more than they look at
        assert not any("TEMP B-TREE" in step for step in steps), steps


async def test_what_is_known_of_files_is_found_by_their_location(shelf: Bench) -> None:
    steps = await steps_of(shelf, *queries.known(sqlite.dialect(), 1, [b"/a", b"/b"]))
    assert any("(location=?)" in step for step in steps)
    assert not any(step.startswith("SCAN") or "TEMP B-TREE" in step for step in steps), steps


async def test_due_and_claims_use_the_index_of_due_work(shelf: Bench) -> None:
    for name in ("due", "claimed"):
        assert any("scan_due" in step for step in await plan(shelf, READS[name]())), name


async def steps_taken(shelf: Bench, statement: Select[Any]) -> int:
    """How much work SQLite does for it, in hundreds of its instructions."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    def work(connection: Any) -> None:
        raw = connection.connection.dbapi_connection
        raw.set_progress_handler(count, 100)
        try:
            connection.execute(statement).all()
        finally:
            raw.set_progress_handler(None, 100)

    await shelf.ledger.read(work)
    return taken


async def fill(shelf: Bench, count: int, *, run: int = 1, state: str = "admitted", first: int = 0) -> None:
    numbers = range(first, first + count)
    digests = [number.to_bytes(32, "big") for number in numbers]

    def work(connection: Any) -> None:
        connection.exec_driver_sql(
            "INSERT INTO scan (scope, digest, state, attempt, polls, tries, next_at)"
            " VALUES (1, ?, ?, 0, 0, 0, ?)",
            [(digest, state, T0) for digest in digests],
        )
        connection.exec_driver_sql(
            "INSERT INTO artifact (digest, size, file_count, notes) VALUES (?, 1, 1, X'5b5d')",
            [(digest,) for digest in digests],
        )
        connection.exec_driver_sql(
            "INSERT INTO waiting (run, digest, key, path, candidate, given_up, changes)"
            " VALUES (?, ?, ?, '', ?, 0, 0)",
            [(run, digest, digest[16:], b'{"source":"s","path":"p"}') for digest in digests],
        )

    await shelf.ledger.write(work)


@pytest.mark.parametrize("name", ["due", "left", "claimed", "page", "page of finished"])
async def test_a_read_costs_the_same_in_a_ledger_ten_times_as_large(shelf: Bench, name: str) -> None:
    await fill(shelf, 1500)
    small = await steps_taken(shelf, READS[name]())
    await fill(shelf, 13500, first=1500)
    assert await steps_taken(shelf, READS[name]()) <= 1.2 * small + 2


async def test_due_lists_the_earliest_of_both_states_first(shelf: Bench) -> None:
    for number, (state, at) in enumerate(
        [("admitted", 3), ("submitting", 1), ("admitted", 2), ("scanning", 0)]
    ):
        await fill(shelf, 1, state=state, first=number)
        await shelf.change("UPDATE scan SET next_at = ? WHERE digest = ?", (at, number.to_bytes(32, "big")))
    found = await shelf.scans.backlog.due(1, Stage.SUBMIT, until=2.0, limit=10)
    assert [at for _, at in found] == [1.0, 2.0]
    assert [at for _, at in await shelf.scans.backlog.due(1, Stage.SUBMIT, until=9.0, limit=1)] == [1.0]
    assert await shelf.scans.backlog.due(2, Stage.SUBMIT, until=9.0, limit=10) == []
    await shelf.change("UPDATE waiting SET given_up = 1")
    assert await shelf.scans.backlog.due(1, Stage.SUBMIT, until=9.0, limit=10) == []
    assert not await shelf.scans.backlog.any_left(1, (Stage.SUBMIT, Stage.POLL))


async def test_nothing_stays_due_beyond_what_a_clock_set_back_explains(shelf: Bench) -> None:
    for number, state in enumerate(["admitted", "submitting", "scanning"]):
        await fill(shelf, 1, state=state, first=number)
    await shelf.change("UPDATE scan SET next_at = ? WHERE state != 'admitted'", (T0 + 3600,))
    assert await shelf.scans.backlog.pull_in(T0 + 300) == 2
    assert [row["next_at"] for row in await shelf.rows("SELECT next_at FROM scan ORDER BY digest")] == [
        T0,
        T0 + 300,
        T0 + 300,
    ]
