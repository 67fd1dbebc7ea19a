"""Status: runs and how far they came, read from the ledger alone."""

import sys

import msgspec

from batchscan.ledger.runs import RunRecord, Runs
from batchscan.ledger.store import Ledger
from batchscan.ledger.verify import Verification
from batchscan.ledger.waiting import WaitingInputs
from batchscan.report.rows import rfc3339
from batchscan.report.text import printable


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One run; ``waiting`` inputs have no final row yet."""

    run_id: str
    state: str
    endpoint: str
    started_at: str | None
    finished_at: str | None
    waiting: int
    requests: dict[str, int]
    sources: tuple[str, ...]
    report: str


async def find_runs(ledger: Ledger, run_id: str | None, *, limit: int) -> list[RunStatus]:
    """Find one run, or the latest ones, newest first; an empty list when there is none such.

    Raises:
        LedgerError: the ledger failed.
    """
    runs = Runs(ledger)
    if run_id is None:
        records = await runs.latest(limit)
    else:
        record = await runs.get(run_id)
        records = [] if record is None else [record]
    return [await _status(ledger, record) for record in records]


def show_runs(found: list[RunStatus], *, as_json: bool) -> None:
    """Print runs on stdout."""
    if as_json:
        for status in found:
            sys.stdout.buffer.write(msgspec.json.encode(status) + b"\n")
    elif not found:
        print("no runs yet")  # noqa: T201 - data goes to stdout
    else:
        _print(found)


def show_verification(found: Verification, *, as_json: bool) -> None:
    """Print on stdout what a verification found."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        return
    name = printable(found.ledger)
    for fault in found.faults:
        times = (
            f" ({fault.count:,} times, first {fault.example})" if fault.count > 1 else f" ({fault.example})"
        )
        print(f"{fault.what}{printable(times)}")  # noqa: T201 - data goes to stdout
    if found.faults:
        print(f"ledger {name}: NOT sound; keep it for repair, and choose another --state-dir")  # noqa: T201 - see above
    else:
        rows = ", ".join(f"{count:,} {table}" for table, count in found.rows.items())
        print(f"ledger {name}: sound; rows: {rows or 'none'}")  # noqa: T201 - see above


async def _status(ledger: Ledger, record: RunRecord) -> RunStatus:
    request = record.request
    return RunStatus(
        run_id=record.run_id,
        state=record.state,
        endpoint=request.endpoint,
        started_at=rfc3339(record.started_at),
        finished_at=rfc3339(record.finished_at),
        waiting=await WaitingInputs(ledger, record.id).count(),
        requests=record.counts,
        sources=tuple(printable(source) for source in (*request.sources, *request.manifests)),
        report=printable(str(record.report)),
    )


def _print(found: list[RunStatus]) -> None:
    """One line a run, however narrow the terminal: an id that is folded or cut cannot be copied."""
    rows = [("run", "state", "endpoint", "waiting", "report")]
    rows += [(s.run_id, s.state, printable(s.endpoint), f"{s.waiting:,}", s.report) for s in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())  # noqa: T201 - data goes to stdout
