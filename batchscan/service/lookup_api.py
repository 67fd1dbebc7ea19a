"""Look-ups by HTTP: what is known of a file or a content, and what is left of the account's order."""

import asyncio
import time
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from pydantic import Field

from batchscan.errors import ServiceError
from batchscan.explain import Explanation, explain_all
from batchscan.ledger.backlog import Backlog
from batchscan.models import Stage
from batchscan.quota import ask_quota, to_quota
from batchscan.service.documents import Document, Level, Order, ReasonDocument, RunId, Time
from batchscan.service.keys import QUOTA, READER, STATION
from batchscan.service.operations import Answer, Operation, json_response, path_parameter, read_query
from batchscan.service.problems import RefusedError
from batchscan.service.quota_note import QuotaDocument

_QUESTION_S: Final = 20.0
_FRESH_S: Final = 10.0


class FileQuery(Order):
    """Which file."""

    path: Annotated[
        str, Field(min_length=1, max_length=4096, description="As a report shows it, or absolute.")
    ]


class SeenFile(Document):
    """A file that held the content; `now`: `as then`, `changed`, `missing`, `unreadable` or `not-a-file`."""

    path: str
    size: int
    now: str


class ErrorDocument(ReasonDocument):
    """Why there is no verdict."""

    request_id: str | None


class StandingDocument(Document):
    """How the content stands at a profile and endpoint."""

    scope: str
    state: str
    engine_version: int | None
    attempts: int
    polls: int
    submitted_at: Time | None
    due_at: Time | None
    reserved_files: int
    error: ErrorDocument | None


class RuleDocument(Document):
    """A rule that hit."""

    id: str
    name: str | None
    engine: str
    description: str


class CapabilityDocument(Document):
    """Something that the skill can do; no statement of risk."""

    id: str
    name: str


class VerdictDocument(Document):
    """A verdict that was given once; `stands` tells the one that is reused while it lives."""

    scope: str
    stands: bool
    expired: bool
    verdict: Level
    score: int | None
    engine_version: int
    file_count: int | None
    skill: str | None
    primary_rule: str | None
    rules: tuple[RuleDocument, ...]
    capabilities: tuple[CapabilityDocument, ...]
    summary: str | None
    mitigation: str | None
    report_url: str | None
    scanned_at: Time | None
    expires_at: Time | None
    run_id: RunId | None


class Mention(Document):
    """A run that had to do with the content."""

    run_id: RunId
    how: str


class Content(Document):
    """All that is known of one content, as `batchscan explain --json` prints it."""

    schema_: Annotated[str, Field(alias="schema")]
    sha256: str
    size: int
    file_count: int
    notes: tuple[str, ...]
    error: ErrorDocument | None
    files: tuple[SeenFile, ...]
    standings: tuple[StandingDocument, ...]
    verdicts: tuple[VerdictDocument, ...]
    runs: tuple[Mention, ...]


class Contents(Document):
    """What a path has stood for, one for each content."""

    contents: tuple[Content, ...]


async def get_file(request: web.Request) -> web.Response:
    """Say what is known of a path."""
    path = read_query(request, FileQuery).path
    found = await explain_all(request.app[READER], path)
    if not found:
        raise RefusedError(
            404, "nothing is known of this path: give it as a report shows it, and scan it first"
        )
    return json_response(Contents(contents=tuple(map(_content, found))))


async def get_content(request: web.Request) -> web.Response:
    """Say what is known of a content."""
    sha256 = path_parameter(request, "sha256")
    found = [each for each in await explain_all(request.app[READER], sha256) if each.sha256 == sha256]
    if not found:
        raise RefusedError(404, "nothing is known of this content: scan it first")
    return json_response(_content(found[0]))


async def get_quota(request: web.Request) -> web.Response:
    """Say what is left of the account's order; the answer may be some seconds old."""
    return json_response(await known_quota(request.app))


async def known_quota(app: web.Application) -> QuotaDocument:
    """Ask the endpoint, unless that was done just now.

    Raises:
        RefusedError: it did not tell.
    """
    note = app[QUOTA]
    async with note.asking:
        if note.document is None or time.monotonic() >= note.fresh_until:
            note.document = await _quota(app)
            note.fresh_until = time.monotonic() + _FRESH_S
        return note.document


async def _quota(app: web.Application) -> QuotaDocument:
    station, backlog = app[STATION], Backlog(app[READER])
    under_way, pending = await backlog.work(Stage.POLL), await backlog.work(Stage.SUBMIT)
    try:
        async with asyncio.timeout(_QUESTION_S):
            info = await ask_quota(station.client)
    except TimeoutError as error:
        raise RefusedError(504, f"{station.endpoint} has not answered within {_QUESTION_S:.0f} s") from error
    except ServiceError as error:
        raise RefusedError(502, f"{station.endpoint}: {error}", code="endpoint-refused") from error
    quota = to_quota(info, station.endpoint, under_way=under_way, pending=pending)
    return QuotaDocument.model_validate(_plain(quota))


def _content(found: Explanation) -> Content:
    return Content.model_validate(_plain(found))


def _plain(struct: Any) -> Any:  # noqa: ANN401 - any of our records
    return msgspec.to_builtins(struct)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/files",
        name="getFile",
        summary="Look a file up by its path",
        about="Reads the ledger, and looks whether the file is still as it was. Nothing is sent.",
        handler=get_file,
        query=FileQuery,
        answers={200: Answer(what="What is known of it.", model=Contents)},
    ),
    Operation(
        method="GET",
        path="/files/{sha256}",
        name="getContent",
        summary="Look a content up by its SHA-256",
        handler=get_content,
        answers={200: Answer(what="What is known of it.", model=Content)},
    ),
    Operation(
        method="GET",
        path="/quota",
        name="getQuota",
        summary="Ask what is left of the account's order",
        about="Asks the service's endpoint, at most once in ten seconds, which bills nothing.",
        handler=get_quota,
        answers={200: Answer(what="The order, and what waits for it.", model=QuotaDocument)},
        refusals={502: "The endpoint refused to tell.", 504: "The endpoint did not answer in time."},
    ),
)
