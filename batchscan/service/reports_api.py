"""Reports by HTTP: in each format, written as they are sent."""

import asyncio
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal

import msgspec
from aiohttp import web
from pydantic import Field

from batchscan.config import Config
from batchscan.errors import ReportError, UsageError
from batchscan.formats.registry import FORMATS
from batchscan.ledger.runs import RunRecord
from batchscan.lookback import look_back
from batchscan.models import ROW_SCHEMA
from batchscan.publish import write_document
from batchscan.report.gaps import find_gaps
from batchscan.report.lines import BLOCK_BYTES, read_failure
from batchscan.service.documents import Order
from batchscan.service.keys import DOWNLOADS, SETTLED
from batchscan.service.operations import Answer, Operation, path_parameter, read_query
from batchscan.service.problems import RefusedError
from batchscan.service.runs_api import describe, find_run

if TYPE_CHECKING:
    from batchscan.service.stream import Write

JSONL: Final = "jsonl"
MEDIA: Final = {
    JSONL: "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "defectdojo": "application/json",
    "html": "text/html; charset=utf-8",
    "junit": "application/xml",
    "markdown": "text/markdown; charset=utf-8",
    "ocsf": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "sarif": "application/sarif+json",
}
"""What each format is sent as."""

_MISSING: Final = "Batchscan-Rows-Missing"
_UNFINISHED: Final = frozenset({"queued", "running"})

FormatName = Literal["jsonl", "csv", "defectdojo", "html", "junit", "markdown", "ocsf", "parquet", "sarif"]


class ReportQuery(Order):
    """Which format."""

    format: Annotated[FormatName, Field(description="Of the report.")] = "jsonl"


async def ended_run(request: web.Request, run_id: str) -> RunRecord:
    """Find a run that has a report and is not under way.

    Raises:
        RefusedError: there is none such.
        ReportError: whether its report is there cannot be told.
    """
    listed = await find_run(request, run_id)
    state, record = describe(request, listed).state, listed.record
    if state in _UNFINISHED:
        raise RefusedError(
            409, f"run {run_id} is {state}; its report is whole when it has ended", code="not-ended"
        )
    if record is None or not await asyncio.to_thread(_is_there, record.report):
        raise RefusedError(404, f"run {run_id} has no report: it ended before, or the file is gone")
    return record


def _is_there(report: Path) -> bool:
    try:
        return stat.S_ISREG(report.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise read_failure(report, error) from error


async def get_report(request: web.Request) -> web.StreamResponse:
    """Send the report of a run that is not under way."""
    run_id = path_parameter(request, "run_id")
    wanted = read_query(request, ReportQuery).format
    record = await ended_run(request, run_id)
    suffix = ".jsonl" if wanted == JSONL else FORMATS[wanted].suffix
    headers = {"Content-Disposition": f'attachment; filename="{run_id}{suffix}"'}
    write: Write
    if wanted == JSONL:
        write = partial(_copy, record, headers)
    else:
        write = partial(_write, request.app[SETTLED].config, record, wanted)
    return await request.app[DOWNLOADS].send(request, write, content_type=MEDIA[wanted], headers=headers)


def _write(config: Config, record: RunRecord, name: str, file: BinaryIO) -> None:
    FORMATS[name].opener()  # what is not installed is of the request
    past = look_back(config, record.report, record) if FORMATS[name].looks_back else None
    try:
        write_document(record.report, name, file, state=record.state, summary=record.summary, run=past)
    except UsageError as error:  # of the file, which no caller has named
        raise ReportError(str(error)) from error


def _copy(record: RunRecord, headers: dict[str, str], file: BinaryIO) -> None:
    """Copy whole rows of this run, and nothing that somebody has put in the file's place.

    How many are missing is told first: a report that was cut at a line's end looks whole by itself.
    """
    report, run_id = record.report, record.run_id
    start = msgspec.json.encode({"schema": ROW_SCHEMA, "run_id": run_id})[:-1]
    try:
        with report.open("rb") as rows:
            if record.summary is not None:
                count = sum(block.count(b"\n") for block in iter(partial(rows.read, BLOCK_BYTES), b""))
                headers[_MISSING] = str(find_gaps(record.summary, count).rowless)
                rows.seek(0)
            for row in rows:
                if not row.startswith(start):
                    raise ReportError(f"{report}: is not the report of run {run_id} any more")
                if row.endswith(b"\n"):
                    file.write(row)
    except OSError as error:
        raise read_failure(report, error) from error


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/runs/{run_id}/report",
        name="getReport",
        summary="Read the report of a run",
        about="`jsonl` is the record, one row for each input; the others are made of it.",
        handler=get_report,
        query=ReportQuery,
        answers={
            200: Answer(
                what="The report.",
                media=tuple(dict.fromkeys(MEDIA.values())),
                headers={
                    "Content-Disposition": "a name for the file",
                    _MISSING: "of `jsonl`: how many more inputs the run had than the report has rows; without"
                    " it, that is not known. The other formats say so themselves.",
                },
            )
        },
        refusals={409: "The run has not ended.", 502: "The report cannot be read."},
    ),
)
