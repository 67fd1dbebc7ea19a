"""Status: runs and how far they came, read from the ledger alone."""

import sys

import msgspec
from rich.table import Table

from batchscan.errors import UsageError
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.ledger.store import Ledger
from batchscan.ledger.waiting import WaitingInputs
from batchscan.report.console import open_console
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


async def show_runs(ledger: Ledger, run_id: str | None, *, limit: int, as_json: bool) -> int:
    """Print the latest runs, or one, on stdout.

    Raises:
        UsageError: there is no such run.
        LedgerError: the ledger failed.
    """
    runs = Runs(ledger)
    if run_id is None:
        records = await runs.latest(limit)
    else:
        record = await runs.get(run_id)
        if record is None:
            raise UsageError(f"no run {run_id} in {ledger.path}; `batchscan status` lists the runs")
        records = [record]
    found = [await _status(ledger, record) for record in records]
    if as_json:
        for status in found:
            sys.stdout.buffer.write(msgspec.json.encode(status) + b"\n")
    elif not found:
        print(f"no runs yet in {ledger.path}")  # noqa: T201 - data goes to stdout
    else:
        _print(found)
    return 0


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
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("run", "state", "endpoint", "waiting", "report"):
        table.add_column(heading, justify="right" if heading == "waiting" else "left", overflow="fold")
    for status in found:
        table.add_row(status.run_id, status.state, status.endpoint, f"{status.waiting:,}", status.report)
    console = open_console(sys.stdout)
    console.print(table, crop=False, width=None if console.is_terminal else 10_000)
