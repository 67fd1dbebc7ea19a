"""Runs: what was asked for, where its report is, how far it came."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, and_, delete, insert, select, update

from batchscan.ledger.chosen import Selection
from batchscan.ledger.padding import padded
from batchscan.ledger.schema import run, waiting
from batchscan.ledger.store import Ledger
from batchscan.models import RunState

KEPT_S = 30 * 86400.0
"""How long the inputs of a run that ended with pending rows wait to be resumed, seconds."""


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator asked for, as far as resuming needs it. Holds no secret.

    Attributes:
        sources: directories and files as written; relative ones are relative to ``directory``.
        manifests: manifest files as written; ``-`` is the spooled standard input.
        directory: working directory of the run.
        nul: the manifests are separated by NUL.
        include, exclude: globs.
        endpoint: preset or URL.
        endpoint_name: what it was called, where the settings file has a name for it.
        profile: of the credentials; None is the default one.
        settings: those that resuming goes on with, see ``settings.RECORDED``; empty in older ledgers.
        stdin_sha256: what standard input held, hex.
        replace: the report replaces an older one when the run ends.
        rescan: which digests of the ledger are submitted again, instead of sources.
        sample: how many of them come first.
        roots: real directories that no source may lead out of; None: any file may be an input.
    """

    sources: tuple[str, ...]
    manifests: tuple[str, ...] = ()
    directory: str
    nul: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    endpoint: str
    endpoint_name: str | None = None
    profile: str | None = None
    settings: dict[str, Any] = {}
    stdin_sha256: str | None = None
    replace: bool = False
    rescan: Selection | None = None
    sample: int | None = None
    roots: tuple[str, ...] | None = None

    def same_inputs(self, other: "RunRequest") -> bool:
        """Whether both mean the same inputs, judged by the same service."""
        return _inputs(self) == _inputs(other)


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the ledger knows it.

    ``id`` is its small number inside the ledger, ``summary`` the JSON of how it last ended, if it did.
    """

    id: int
    run_id: str
    scope: int
    state: RunState
    started_at: float
    finished_at: float | None
    request: RunRequest
    report: Path
    counts: dict[str, int]
    summary: str | None


class Runs:
    """The ``run`` table."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def create(
        self,
        run_id: str,
        request: RunRequest,
        report: Path,
        *,
        now: float,
        together_with: Callable[[Connection, RunRecord], None] = lambda *_: None,
    ) -> RunRecord:
        """Record a run that begins now (epoch seconds), with its report's absolute path.

        What ``together_with`` writes is committed with it.

        Inputs that wait in runs which ended long ago (``KEPT_S``) wait no longer; such a run, resumed all
        the same, discovers them again.
        """
        values = {
            "run_id": run_id,
            "scope": self._ledger.scope,
            "state": RunState.RUNNING,
            "started_at": now,
            "request": _dumped(request),
            "report": os.fsencode(report),
            "counts": "{}",
        }

        ended = select(run.c.id).where(run.c.finished_at < now - KEPT_S)

        def work(connection: Connection) -> RunRecord:
            connection.execute(delete(waiting).where(waiting.c.run.in_(ended)))
            connection.execute(insert(run).values(values))
            record = to_record(connection.execute(select(run).where(run.c.run_id == run_id)).one())
            together_with(connection, record)
            return record

        return await self._ledger.write(work)

    async def get(self, run_id: str) -> RunRecord | None:
        """Find a run by its id."""
        return await self._first(select(run).where(run.c.run_id == run_id))

    async def latest_for_report(self, report: Path) -> RunRecord | None:
        """Find the newest run that writes to this report."""
        return await self._first(
            select(run).where(run.c.report == os.fsencode(report)).order_by(run.c.id.desc())
        )

    async def latest_resumable(self) -> RunRecord | None:
        """Find the newest run that is not complete."""
        return await self._first(
            select(run).where(run.c.state != RunState.COMPLETE).order_by(run.c.id.desc()).limit(1)
        )

    async def latest(self, limit: int) -> list[RunRecord]:
        """List the newest runs, newest first."""
        statement = select(run).order_by(run.c.id.desc()).limit(limit)
        return await self._ledger.read(lambda c: [to_record(row) for row in c.execute(statement)])

    async def complete_before(self, record: RunRecord, *, like: RunRequest) -> RunRecord | None:
        """Find the newest complete run older than ``record``, of its scope, over the inputs of ``like``.

        A list on standard input may have changed since, as a directory or a manifest may.
        """
        statement = (
            select(run)
            .where(run.c.id < record.id, run.c.scope == record.scope, run.c.state == RunState.COMPLETE)
            .order_by(run.c.id.desc())
        )
        wanted = msgspec.structs.replace(like, stdin_sha256=None)

        def work(connection: Connection) -> RunRecord | None:
            with connection.execute(statement) as rows:
                for found in map(to_record, rows):
                    if wanted.same_inputs(msgspec.structs.replace(found.request, stdin_sha256=None)):
                        return found
            return None

        return await self._ledger.read(work)

    async def ends_like(
        self, record: RunRecord, is_like: Callable[[RunRequest], bool], *, looked_at: int, most: int
    ) -> list[tuple[float, str]]:
        """Tell how a run and those of its scope before it ended, where their request is like its own.

        Args:
            record: the last of them.
            is_like: asked of each request.
            looked_at: how many runs, from the last one back.
            most: how many are told.

        Returns:
            When each began (epoch seconds), and the JSON of its summary; the oldest first.
        """
        mine = and_(run.c.scope == record.scope, run.c.id <= record.id, run.c.summary.is_not(None))
        requests = select(run.c.id, run.c.request).where(mine).order_by(run.c.id.desc()).limit(looked_at)

        def work(connection: Connection) -> list[tuple[float, str]]:
            # only the summaries that are wanted: each has some kilobytes
            found = [row.id for row in connection.execute(requests) if is_like(_request(row.request))]
            ends = select(run.c.started_at, run.c.summary).where(run.c.id.in_(padded(found[:most])))
            return [(began, summary) for began, summary in connection.execute(ends.order_by(run.c.id))]

        return await self._ledger.read(work)

    async def update(
        self,
        record: RunRecord,
        *,
        state: RunState,
        counts: dict[str, int],
        finished_at: float | None,
        summary: bytes | None = None,
    ) -> None:
        """Write how far the run came; without a summary the one of an earlier end stays."""
        values: dict[str, Any] = {
            "state": state,
            "counts": msgspec.json.encode(counts).decode(),
            "finished_at": finished_at,
        }
        if summary is not None:
            values["summary"] = summary.decode()
        statement = update(run).where(run.c.id == record.id).values(values)
        await self._ledger.write(lambda c: c.execute(statement))

    async def abandon(self, run_id: str, *, now: float) -> None:
        """Let nothing wait for a run any more that nobody goes on with (epoch seconds)."""
        await self._ledger.write(lambda c: abandon(c, run_id, now=now))

    async def _first(self, statement: Select[Any]) -> RunRecord | None:
        def work(connection: Connection) -> RunRecord | None:
            row = connection.execute(statement).first()
            return None if row is None else to_record(row)

        return await self._ledger.read(work)


def abandon(connection: Connection, run_id: str, *, now: float) -> None:
    """Let nothing wait for a run any more; call inside a ledger write, with what ends it.

    Whoever resumes it all the same discovers its inputs again.
    """
    number = select(run.c.id).where(run.c.run_id == run_id).scalar_subquery()
    connection.execute(delete(waiting).where(waiting.c.run == number))
    ended = update(run).where(run.c.run_id == run_id, run.c.finished_at.is_(None))
    connection.execute(ended.values(finished_at=now))


def _inputs(request: RunRequest) -> RunRequest:
    return msgspec.structs.replace(request, replace=False, endpoint_name=None, settings={})


def _dumped(request: RunRequest) -> str:
    # The standard library escapes the lone surrogates of names that are not UTF-8; msgspec refuses them.
    return json.dumps(msgspec.to_builtins(request))


def _request(document: str) -> RunRequest:
    return msgspec.convert(json.loads(document), RunRequest)


def to_record(row: Row[Any]) -> RunRecord:
    """Read a row of the table."""
    return RunRecord(
        id=row.id,
        run_id=row.run_id,
        scope=row.scope,
        state=RunState(row.state),
        started_at=row.started_at,
        finished_at=row.finished_at,
        request=_request(row.request),
        report=Path(os.fsdecode(row.report)),
        counts=msgspec.json.decode(row.counts, type=dict[str, int]),
        summary=row.summary,
    )
