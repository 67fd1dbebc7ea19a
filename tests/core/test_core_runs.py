"""The runs that a page looks back at."""

from pathlib import Path

from core_lab import T0, Bench
from msgspec.structs import replace

from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.models import RunState

REQUEST = RunRequest(sources=("in",), directory="/", endpoint="scripted")
OTHER = replace(REQUEST, sources=("elsewhere",))


async def ended(table: Bench, number: int, request: RunRequest, *, summary: str | None) -> RunRecord:
    runs = Runs(table.ledger)
    record = await runs.create(f"run-{number}", request, Path(f"/r/{number}.jsonl"), now=T0 + number)
    if summary is not None:
        await runs.update(
            record, state=RunState.COMPLETE, counts={}, finished_at=T0, summary=summary.encode()
        )
    return record


async def test_the_latest_ends_of_runs_over_the_same_inputs_are_told_oldest_first(table: Bench) -> None:
    requests = [REQUEST, REQUEST, OTHER, REQUEST, REQUEST, REQUEST]
    records = [
        await ended(table, number, request, summary=None if number == 3 else f"end {number}")
        for number, request in enumerate(requests)
    ]
    runs = Runs(table.ledger)

    async def told(last: RunRecord, *, looked_at: int = 100, most: int = 100) -> list[tuple[float, str]]:
        return await runs.ends_like(last, REQUEST.same_inputs, looked_at=looked_at, most=most)

    every = [(T0 + number, f"end {number}") for number in (0, 1, 4)]
    assert await told(records[4]) == every, "up to the run, and not those without an end or of other inputs"
    assert await told(records[4], most=2) == every[1:]
    assert await told(records[4], looked_at=2) == every[2:], "one of the two means other inputs"
