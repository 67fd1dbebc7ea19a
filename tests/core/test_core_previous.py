"""The run that came before, for what compares: which one that is, and that its report is still its own."""

import msgspec
import pytest
from core_lab import T0, Bench

from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.models import Candidate, Outcome, Problem, RunState
from batchscan.previous import previous_run
from batchscan.report.rows import build_row, encode_row

NIGHT = RunRequest(sources=("in",), directory="/", endpoint="scripted")
LISTED = RunRequest(sources=("-",), directory="/", endpoint="scripted", stdin_sha256="aa")


class Nights:
    """Runs one after the other, each with a report of one row."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.runs = Runs(bench.ledger)

    async def make(
        self,
        name: str,
        request: RunRequest = NIGHT,
        state: RunState = RunState.COMPLETE,
        report: str | None = None,
    ) -> RunRecord:
        file = self.bench.directory / f"{report or name}.jsonl"
        record = await self.runs.create(name, request, file, now=T0)
        await self.runs.update(record, state=state, counts={}, finished_at=T0)
        row = build_row(
            run_id=name,
            endpoint="scripted",
            candidate=Candidate(source="in", path="a.zip"),
            outcome=Outcome.FAILED,
            size=None,
            digest=None,
            problem=Problem("x", "y"),
        )
        file.write_bytes(encode_row(row))
        return record

    async def before(self, record: RunRecord) -> str | None:
        found = await previous_run(self.runs, record)
        return None if found is None else found.run_id


@pytest.fixture
def nights(shelf: Bench) -> Nights:
    return Nights(shelf)


async def test_the_newest_complete_run_over_the_same_inputs(nights: Nights) -> None:
    await nights.make("one")
    two = await nights.make("two")
    await nights.make("elsewhere", msgspec.structs.replace(NIGHT, sources=("other",)))
    await nights.make("filtered", msgspec.structs.replace(NIGHT, exclude=("*.zip",)))
    await nights.make("pending", state=RunState.INCOMPLETE)
    await nights.make("killed", state=RunState.RUNNING)
    resumed = msgspec.structs.replace(NIGHT, settings={"rate": 3})
    last = await nights.make("last", resumed)
    assert await nights.before(last) == "two"
    assert await nights.before(two) == "one", "a later run is not before it"


async def test_of_another_account_is_not_comparable(nights: Nights) -> None:
    first = await nights.make("one")
    last = await nights.make("two")
    assert await nights.before(msgspec.structs.replace(last, scope=last.scope + 1)) is None
    assert await nights.before(first) is None


async def test_a_report_that_is_not_that_runs_any_more(nights: Nights) -> None:
    """Moved away, emptied, or replaced by a later run with --overwrite."""
    for name in ("one", "gone", "emptied"):
        await nights.make(name)
    await nights.make("replaced", report="night")
    await nights.make("replacing", state=RunState.INCOMPLETE, report="night")
    (nights.bench.directory / "gone.jsonl").unlink()
    (nights.bench.directory / "emptied.jsonl").write_bytes(b"")
    last = await nights.make("last")
    assert await nights.before(last) == "one"


async def test_a_list_on_standard_input_may_have_changed(nights: Nights) -> None:
    await nights.make("one", LISTED)
    last = await nights.make("two", msgspec.structs.replace(LISTED, stdin_sha256="bb"))
    assert await nights.before(last) == "one"
