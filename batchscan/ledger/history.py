"""What the ledger knows of one content, at every scope and in every run; and what will expire."""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    func,
    literal,
    select,
    tuple_,
    union,
    union_all,
)

from batchscan.ledger.chosen import level_of
from batchscan.ledger.schema import (
    artifact,
    charge,
    chosen,
    file,
    run,
    scan,
    scope,
    superseded,
    verdict,
    waiting,
)
from batchscan.ledger.standing import CURRENT_VERDICT
from batchscan.ledger.store import Ledger
from batchscan.models import FileStat, Problem, Verdict

_PAGE = 500
_PROBLEM = msgspec.json.Decoder(Problem)
_VERDICT = msgspec.json.Decoder(Verdict)
_NOTES = msgspec.json.Decoder(tuple[str, ...])


class Place(msgspec.Struct, frozen=True):
    """A file that held the content when it was last looked at; raw absolute path."""

    location: bytes
    stat: FileStat


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """How the content stands at a scope; times are epoch seconds."""

    scope: str
    state: str
    engine_version: int | None
    attempts: int
    polls: int
    submitted_at: float | None
    next_at: float | None
    problem: Problem | None
    reserved_files: int


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that was given once; ``stands`` tells the ones that are reused while they live."""

    scope: str
    verdict: Verdict
    scanned_at: float
    expires_at: float
    run_id: str | None
    stands: bool


class Mention(msgspec.Struct, frozen=True):
    """A run that had to do with the content, and how."""

    run_id: str
    how: str


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one content; the lists are in a steady order, newest verdict first."""

    digest: bytes
    size: int
    file_count: int
    notes: tuple[str, ...]
    problem: Problem | None
    places: list[Place]
    live: list[Live]
    judgements: list[Judgement]
    runs: list[Mention]


class Expiring(msgspec.Struct, frozen=True):
    """Verdicts of a scope that must be fetched anew: already, and within the time asked about."""

    scope: str
    expired: int
    expiring: int


class ExpiringFile(msgspec.Struct, frozen=True):
    """A file whose verdict expires."""

    scope: str
    location: bytes
    digest: bytes
    level: str
    expires_at: float


async def known_of(ledger: Ledger, digest: bytes) -> Known | None:
    """Read all that is known of a content, None when nothing is."""

    def work(connection: Connection) -> Known | None:
        row = connection.execute(select(artifact).where(artifact.c.digest == digest)).one_or_none()
        if row is None:
            return None
        return Known(
            digest=digest,
            size=row.size,
            file_count=row.file_count,
            notes=_NOTES.decode(row.notes),
            problem=None if row.problem is None else _PROBLEM.decode(row.problem),
            places=_places(connection, digest),
            live=_live(connection, digest),
            judgements=_judgements(connection, digest),
            runs=_mentions(connection, digest),
        )

    return await ledger.read(work)


async def digests_between(ledger: Ledger, first: bytes, last: bytes, *, limit: int) -> list[bytes]:
    """List known contents from one digest to another, both included."""
    statement = (
        select(artifact.c.digest)
        .where(artifact.c.digest.between(first, last))
        .order_by(artifact.c.digest)
        .limit(limit)
    )
    return await ledger.read(lambda c: list(c.execute(statement).scalars()))


async def digests_at(ledger: Ledger, location: bytes) -> list[bytes]:
    """List what a file at this absolute path held when it was last looked at: one content, or none."""
    statement = select(file.c.digest).where(file.c.location == location)
    return await ledger.read(lambda c: list(c.execute(statement).scalars()))


async def digests_below(ledger: Ledger, path: bytes, *, limit: int) -> list[bytes]:
    """List what the files held whose path ends in this relative one; looks at every path."""
    tail = b"/" + path
    statement = (
        select(file.c.digest).where(func.substr(file.c.location, -len(tail)) == tail).distinct().limit(limit)
    )
    return await ledger.read(lambda c: list(c.execute(statement).scalars()))


async def locations(ledger: Ledger) -> AsyncGenerator[list[tuple[bytes, bytes]], None]:
    """Yield every known path with what it held, in the order of the path."""
    after = b""
    while True:
        statement = (
            select(file.c.location, file.c.digest)
            .where(file.c.location > after)
            .order_by(file.c.location)
            .limit(_PAGE)
        )
        rows = await ledger.read(partial(_rows, statement))
        if rows:
            yield [(row[0], row[1]) for row in rows]
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


async def expiring(ledger: Ledger, *, now: float, until: float) -> list[Expiring]:
    """Count, by scope, the verdicts that have expired or will by ``until`` (epoch seconds)."""
    past = func.count().filter(verdict.c.expires_at <= now)
    statement = (
        select(scope.c.name, past, func.count())
        .select_from(verdict.join(scan, CURRENT_VERDICT).join(scope, scope.c.id == verdict.c.scope))
        .where(verdict.c.expires_at <= until)
        .group_by(scope.c.name)
        .order_by(scope.c.name)
    )
    return await ledger.read(
        lambda c: [Expiring(name, gone, every - gone) for name, gone, every in c.execute(statement)]
    )


async def expiring_files(ledger: Ledger, *, until: float) -> AsyncGenerator[list[ExpiringFile], None]:
    """Yield the files whose verdicts have expired or will by ``until``, in the order of the path."""
    level = level_of(verdict.c.result)
    soon = select(verdict.c.digest).where(verdict.c.expires_at <= until)
    place = tuple_(file.c.location, scan.c.scope)
    after: tuple[bytes, int] = (b"", -1)
    while True:
        statement = (
            select(scope.c.name, file.c.location, file.c.digest, level, verdict.c.expires_at, scan.c.scope)
            .select_from(
                file.join(scan, scan.c.digest == file.c.digest)
                .join(verdict, CURRENT_VERDICT)
                .join(scope, scope.c.id == scan.c.scope)
            )
            .where(file.c.digest.in_(soon), verdict.c.expires_at <= until, place > tuple_(*after))
            .order_by(file.c.location, scan.c.scope)
            .limit(_PAGE)
        )
        rows = await ledger.read(partial(_rows, statement))
        if rows:
            yield [ExpiringFile(*row[:5]) for row in rows]
        if len(rows) < _PAGE:
            return
        after = (rows[-1][1], rows[-1][5])


def _places(connection: Connection, digest: bytes) -> list[Place]:
    statement = select(file).where(file.c.digest == digest).order_by(file.c.location)
    return [
        Place(row.location, FileStat(row.size, row.mtime_ns, row.inode))
        for row in connection.execute(statement)
    ]


def _live(connection: Connection, digest: bytes) -> list[Live]:
    reserved = (
        select(func.coalesce(func.max(charge.c.files), 0))
        .where(charge.c.scope == scan.c.scope, charge.c.digest == scan.c.digest)
        .scalar_subquery()
    )
    statement = (
        select(scan, scope.c.name, reserved.label("reserved"))
        .join(scope, scope.c.id == scan.c.scope)
        .where(scan.c.digest == digest)
        .order_by(scope.c.name)
    )
    return [
        Live(
            scope=row.name,
            state=row.state,
            engine_version=row.engine_version,
            attempts=row.attempt,
            polls=row.polls,
            submitted_at=row.submitted_at,
            next_at=row.next_at,
            problem=None if row.problem is None else _PROBLEM.decode(row.problem),
            reserved_files=row.reserved,
        )
        for row in connection.execute(statement)
    ]


def _judgements(connection: Connection, digest: bytes) -> list[Judgement]:
    now = (
        select(*_judged(verdict), scope.c.name, run.c.run_id, scan.c.scope.is_not(None).label("stands"))
        .select_from(
            verdict.join(scope, scope.c.id == verdict.c.scope)
            .outerjoin(run, run.c.id == verdict.c.run)
            .outerjoin(scan, CURRENT_VERDICT)
        )
        .where(verdict.c.digest == digest)
    )
    before = (
        select(*_judged(superseded), scope.c.name, run.c.run_id, literal(value=False).label("stands"))
        .select_from(
            superseded.join(scope, scope.c.id == superseded.c.scope).outerjoin(
                run, run.c.id == superseded.c.run
            )
        )
        .where(superseded.c.digest == digest)
    )
    found = [
        Judgement(
            scope=row.name,
            verdict=_VERDICT.decode(row.result),
            scanned_at=row.scanned_at,
            expires_at=row.expires_at,
            run_id=row.run_id,
            stands=bool(row.stands),
        )
        for row in connection.execute(union_all(now, before))
    ]
    return sorted(found, key=lambda judgement: (-judgement.scanned_at, judgement.scope))


def _judged(table: Table) -> list[ColumnElement[Any]]:
    return [table.c.result, table.c.scanned_at, table.c.expires_at]


def _mentions(connection: Connection, digest: bytes) -> list[Mention]:
    ways: list[tuple[Table, str]] = [
        (verdict, "fetched its verdict"),
        (superseded, "fetched its verdict"),
        (scan, "gave it up"),
        (chosen, "submits it again"),
        (waiting, "waits for its verdict"),
    ]
    each = [
        select(run.c.id, run.c.run_id, literal(how).label("how"))
        .join(table, table.c.run == run.c.id)
        .where(table.c.digest == digest)
        for table, how in ways
    ]
    rows = connection.execute(union(*each).order_by("id", "how"))
    return [Mention(row.run_id, row.how) for row in rows]


def _rows(statement: Select[Any], connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
    return connection.execute(statement).all()
