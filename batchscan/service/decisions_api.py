"""Decisions by HTTP: those that followed a schedule's run, or what the default policy makes of any other.

What is sent is the file that the marketplace enforces, where there is one: never something else that is much
like it.
"""

import asyncio
import shutil
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, Final

from aiohttp import web

from batchscan.decisions.making import Wanted, make_decisions
from batchscan.errors import ReportError, UsageError
from batchscan.ledger.aftermaths import Done, followed
from batchscan.ledger.runs import RunRecord
from batchscan.service.keys import DOWNLOADS, READER, SETTLED
from batchscan.service.operations import JSON, Answer, Operation, path_parameter
from batchscan.service.problems import RefusedError
from batchscan.service.reports_api import ended_run

if TYPE_CHECKING:
    from batchscan.service.stream import Write

_STEP: Final = "decisions"
_HEAD_BYTES: Final = 1 << 20


async def get_decisions(request: web.Request) -> web.StreamResponse:
    """Send the decisions on a run that has ended."""
    run_id = path_parameter(request, "run_id")
    record = await ended_run(request, run_id)
    done = await request.app[READER].read(lambda connection: followed(connection, run_id))
    file = None if done is None else _file_of(done)
    write: Write
    if file is None:
        write = partial(_make, request.app[SETTLED].config.state_dir, record)
    else:
        if not await asyncio.to_thread(_is_of, file, run_id):
            raise RefusedError(404, f"the decisions on run {run_id} were replaced by those on a later one")
        write = partial(_copy, file, run_id)
    disposition = {"Content-Disposition": f'attachment; filename="{run_id}.decisions.json"'}
    return await request.app[DOWNLOADS].send(request, write, content_type=JSON, headers=disposition)


def _file_of(done: Done) -> Path | None:
    """Find what followed the run; None where nothing was to be decided.

    Raises:
        RefusedError: it has not been done yet, or failed.
    """
    if done.steps is None:
        raise RefusedError(409, "what follows the run is under way; ask again", code="not-ended")
    for step in done.steps:
        if step.name == _STEP and step.problem is not None:
            raise RefusedError(409, f"the decisions were not made: {step.problem}", code="not-decided")
        if step.name == _STEP and step.file is not None:
            return Path(step.file)
    return None


def _is_of(file: Path, run_id: str) -> bool:
    try:
        with file.open("rb") as content:
            return _names(content, run_id)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(file, error) from error


def _names(content: BinaryIO, run_id: str) -> bool:
    return f'"run_id":"{run_id}"'.encode() in content.readline(_HEAD_BYTES)


def _copy(file: Path, run_id: str, answer: BinaryIO) -> None:
    try:
        with file.open("rb") as content:
            if not _names(content, run_id):
                raise ReportError(f"{file}: has been replaced by the decisions on another run")
            content.seek(0)
            shutil.copyfileobj(content, answer)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> ReportError:
    return ReportError(f"{file}: cannot be read ({error.strerror})")


def _make(state_dir: Path, record: RunRecord, answer: BinaryIO) -> None:
    """Decide by the default policy; the file is made first, since its head counts what comes after it."""
    try:
        place = TemporaryDirectory(dir=state_dir, prefix="decisions-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ReportError(
            f"the decisions cannot be made: {state_dir} cannot be written ({error.strerror}); check"
            " directory and disk, and ask again"
        ) from error
    with place:
        file = Path(place.name) / "decisions.json"
        try:
            make_decisions(record.report, record.state, Wanted(output=file))
        except UsageError as error:  # of the report, which no caller has named
            raise ReportError(str(error)) from error
        _copy(file, record.run_id, answer)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/runs/{run_id}/decisions",
        name="getDecisions",
        summary="Read what is decided on each input of a run",
        about="Of a schedule with a policy, the file that was written for its run; of any other run, what the"
        " default policy decides. The document is `batchscan.decisions/1`.",
        handler=get_decisions,
        answers={
            200: Answer(what="The decisions.", headers={"Content-Disposition": "a name for the file"}),
        },
        refusals={
            409: "The run has not ended, or the decisions failed.",
            502: "They cannot be read, or made.",
        },
    ),
)
