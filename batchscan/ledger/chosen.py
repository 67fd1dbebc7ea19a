"""The choice of a rescan: which digests a run submits again although they have a verdict.

The verdict that stands keeps standing, for all other runs, until the very claim that submits the digest
again: what a budget does not reach, or a kill leaves behind, is as it was.
"""

from collections.abc import AsyncGenerator, Sequence
from enum import StrEnum
from functools import partial
from hashlib import blake2b
from heapq import nsmallest

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Exists,
    Integer,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    select,
    true,
    union_all,
    update,
)

from batchscan.ledger.padding import padded
from batchscan.ledger.schema import artifact, chosen, file, scan, verdict
from batchscan.ledger.standing import CURRENT_VERDICT, FINISHED
from batchscan.ledger.store import Ledger
from batchscan.models import RiskLevel, ScanState

_PAGE = 500


class Which(StrEnum):
    """What a rescan chooses by."""

    ENGINE_BEFORE = "engine-before"
    EXPIRED = "expired"
    FAILED = "failed"
    VERDICT = "verdict"
    ALL = "all"


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which digests to submit again; ``value`` is the engine version or the verdict it asks for.

    Engine versions are compared as numbers. The vendor calls them opaque, so what comes before what is the
    operator's knowledge.
    """

    which: Which
    value: str | None = None

    def __str__(self) -> str:
        return f"--{self.which}" if self.value is None else f"--{self.which} {self.value}"


class Extent(msgspec.Struct, frozen=True):
    """What a selection comes to.

    Attributes:
        digests: distinct contents with a known path.
        files: files inside them: what would be billed.
        paths: where they were seen last.
        lost: contents whose path is not known any more; they cannot be submitted.
    """

    digests: int
    files: int
    paths: int
    lost: int


class Change(msgspec.Struct, frozen=True):
    """How many contents went from one verdict to another; ``before`` is None where there was none."""

    before: RiskLevel | None
    after: RiskLevel
    count: int


def waits_for_its_turn(run: int, digest: ColumnElement[bytes]) -> Exists:
    """The run is to submit the digest again, and may now."""
    return exists().where(
        chosen.c.run == run, chosen.c.digest == digest, chosen.c.waits, chosen.c.held.is_(False)
    )


def waits(run: int | ColumnElement[int], digest: ColumnElement[bytes]) -> Exists:
    """The run is to submit the digest again, now or later: what it has is not its verdict yet."""
    return exists().where(chosen.c.run == run, chosen.c.digest == digest, chosen.c.waits)


def choose(connection: Connection, scope: int, run: int, selection: Selection, *, now: float) -> int:
    """Note a run's choice; call inside a ledger write.

    Returns:
        How many digests that are.
    """
    chosen_now = _selected(scope, selection, now)
    source = select(
        literal(run), chosen_now.c.digest, chosen_now.c.level, chosen_now.c.engine, true(), false()
    )
    return connection.execute(
        insert(chosen).from_select(
            ["run", "digest", "level", "engine_version", "waits", "held"],
            source.where(chosen_now.c.digest.in_(select(file.c.digest))),
        )
    ).rowcount


def is_empty(connection: Connection, scope: int, selection: Selection, *, now: float) -> bool:
    """Whether a selection names nothing that could be submitted."""
    found = _selected(scope, selection, now)
    named = select(found.c.digest).where(found.c.digest.in_(select(file.c.digest)))
    return connection.execute(named.limit(1)).first() is None


def hold_all_but(connection: Connection, run: int, sample: int, seed: str) -> None:
    """Let only ``sample`` of the digests come forward, chosen by chance but always the same for a seed."""
    digests = connection.execute(select(chosen.c.digest).where(chosen.c.run == run)).scalars()
    first = nsmallest(sample, digests, key=lambda digest: blake2b(seed.encode() + digest).digest())
    connection.execute(update(chosen).where(chosen.c.run == run).values(held=True))
    if first:
        connection.execute(
            update(chosen).where(chosen.c.run == run, chosen.c.digest == bindparam("d")).values(held=False),
            [{"d": digest} for digest in first],
        )


def chosen_again(connection: Connection, scope: int, run: int, digests: Sequence[bytes]) -> set[bytes]:
    """Tell which of the digests the run is to submit again; inside a ledger write.

    One that another process has begun to submit meanwhile is left to it.
    """
    mine = and_(chosen.c.run == run, chosen.c.digest.in_(padded(digests)), chosen.c.waits)
    rows = connection.execute(
        select(chosen.c.digest, scan.c.state)
        .join(scan, and_(scan.c.scope == scope, scan.c.digest == chosen.c.digest))
        .where(mine)
    ).all()
    again = {digest for digest, state in rows if state in FINISHED}
    begun = [digest for digest, state in rows if state not in FINISHED]
    if begun:
        connection.execute(
            update(chosen).where(chosen.c.run == run, chosen.c.digest.in_(padded(begun))).values(waits=False)
        )
    return again


class Choice:
    """What one run submits again."""

    def __init__(self, ledger: Ledger, run: int) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self._run = run

    def has(self, connection: Connection, digest: bytes) -> bool:
        """Whether the digest is to be submitted again, now."""
        found = waits_for_its_turn(self._run, literal(digest))
        return bool(connection.execute(select(found)).scalar_one())

    def take(self, connection: Connection, digest: bytes) -> None:
        """The digest is being submitted again: from here on, it is as any other."""
        connection.execute(
            update(chosen).where(chosen.c.run == self._run, chosen.c.digest == digest).values(waits=False)
        )

    async def release(self) -> int:
        """Let all come forward that the sample held back.

        Returns:
            How many those are.
        """
        statement = (
            update(chosen).where(chosen.c.run == self._run, chosen.c.held.is_(True)).values(held=False)
        )
        return await self._ledger.write(lambda c: c.execute(statement).rowcount)

    async def held(self) -> int:
        """Count what the sample holds back."""
        statement = select(func.count()).where(chosen.c.run == self._run, chosen.c.held.is_(True))
        return await self._ledger.read(lambda c: c.execute(statement).scalar_one())

    async def locations(self) -> AsyncGenerator[list[bytes], None]:
        """Yield where the chosen digests were seen last, in the order of the path."""
        after = b""
        while True:
            statement = (
                select(file.c.location)
                .join(chosen, and_(chosen.c.run == self._run, chosen.c.digest == file.c.digest))
                .where(file.c.location > after)
                .order_by(file.c.location)
                .limit(_PAGE)
            )
            found = await self._ledger.read(partial(_scalars, statement))
            if found:
                yield found
            if len(found) < _PAGE:
                return
            after = found[-1]

    async def changes(self) -> list[Change]:
        """Compare the verdicts that this run got with those before."""
        level = level_of(verdict.c.result)
        statement = (
            select(chosen.c.level, level, func.count())
            .join(scan, and_(scan.c.scope == self._scope, scan.c.digest == chosen.c.digest))
            .join(verdict, CURRENT_VERDICT)
            .where(chosen.c.run == self._run, chosen.c.waits.is_(False))
            .group_by(chosen.c.level, level)
            .order_by(chosen.c.level, level)
        )

        def work(connection: Connection) -> list[Change]:
            return [
                Change(None if before is None else RiskLevel(before), RiskLevel(after), count)
                for before, after, count in connection.execute(statement)
            ]

        return await self._ledger.read(work)


async def extent(ledger: Ledger, selection: Selection, *, now: float) -> Extent:
    """Count what a selection comes to, without choosing it."""
    found = _selected(ledger.scope, selection, now)
    known = select(file.c.digest)

    def work(connection: Connection) -> Extent:
        digests, files = connection.execute(
            select(func.count(), func.coalesce(func.sum(func.max(artifact.c.file_count, 1)), 0))
            .select_from(found.join(artifact, artifact.c.digest == found.c.digest))
            .where(found.c.digest.in_(known))
        ).one()
        every = connection.execute(select(func.count()).select_from(found)).scalar_one()
        paths = connection.execute(
            select(func.count()).select_from(file).where(file.c.digest.in_(select(found.c.digest)))
        ).scalar_one()
        return Extent(digests, files, paths, every - digests)

    return await ledger.read(work)


def _selected(scope: int, selection: Selection, now: float) -> Subquery:
    """Digest, level and engine of what a selection names."""
    value = selection.value
    failed = select(
        scan.c.digest, cast(null(), Text).label("level"), scan.c.engine_version.label("engine")
    ).where(scan.c.scope == scope, scan.c.state == ScanState.FAILED)
    if selection.which is Which.FAILED:
        return failed.subquery()
    level = level_of(verdict.c.result)
    done = (
        select(scan.c.digest, level.label("level"), verdict.c.engine_version.label("engine"))
        .select_from(verdict.join(scan, CURRENT_VERDICT))
        .where(verdict.c.scope == scope)
    )
    if selection.which is Which.ALL:
        return union_all(done, failed).subquery()
    conditions: dict[Which, ColumnElement[bool]] = {
        Which.ENGINE_BEFORE: verdict.c.engine_version < literal(value).cast(Integer),
        Which.EXPIRED: verdict.c.expires_at <= now,
        Which.VERDICT: level == value,
    }
    return done.where(conditions[selection.which]).subquery()


def level_of(result: ColumnElement[bytes]) -> ColumnElement[str]:
    """The level in a verdict's JSON."""
    return func.json_extract(cast(result, Text), "$.level")


def _scalars(statement: Select[bytes], connection: Connection) -> list[bytes]:
    return list(connection.execute(statement).scalars())
