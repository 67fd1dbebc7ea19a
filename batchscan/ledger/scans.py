"""The ``scan`` and ``verdict`` tables: claims, leases and fenced writes for one digest at a time.

Functions that take a ``Connection`` are the body of a ledger write, so that a caller can commit one
together with something else (a claim with its slot). A claim is fenced: what its holder writes is
dropped when another process has claimed the digest since.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, exists, null, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from batchscan.ledger.schema import file, scan, verdict, waiting
from batchscan.ledger.store import Ledger
from batchscan.models import Problem, ScanState, Stage, Verdict

_WAKES = {
    Stage.SUBMIT: (ScanState.ADMITTED, ScanState.SUBMITTING),
    Stage.POLL: (ScanState.SCANNING,),
}


class Claim(msgspec.Struct, frozen=True):
    """The right to submit a digest, until the lease ends or the process dies."""

    digest: bytes
    owner: str
    attempt: int


class Poll(msgspec.Struct, frozen=True):
    """The right to ask for a result once; ``polls`` counts this one."""

    digest: bytes
    engine_version: int
    submitted_at: float
    polls: int
    attempt: int
    tries: int


class ScanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The live state of a digest."""

    digest: bytes
    state: ScanState
    attempt: int
    tries: int
    polls: int
    owner: str | None
    next_at: float | None
    submitted_at: float | None


class Scans:
    """Live states and verdicts of the ledger's scope."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._scope = ledger.scope

    async def due(self, run: int, stage: Stage, *, until: float, limit: int) -> list[tuple[bytes, float]]:
        """List digests that the run waits for and that are due by ``until`` (epoch seconds).

        Returns:
            Pairs of digest and the time it is due, the earliest first.
        """
        wanted = exists().where(
            waiting.c.run == run, waiting.c.digest == scan.c.digest, waiting.c.given_up.is_(False)
        )
        statement = (
            select(scan.c.digest, scan.c.next_at)
            .where(
                scan.c.scope == self._scope,
                scan.c.state.in_(_WAKES[stage]),
                scan.c.next_at <= until,
                wanted,
            )
            .order_by(scan.c.next_at)
            .limit(limit)
        )
        return await self._ledger.read(lambda c: [(row[0], row[1]) for row in c.execute(statement)])

    async def get(self, digest: bytes) -> ScanRecord | None:
        """Read the live state of a digest."""

        def work(connection: Connection) -> ScanRecord | None:
            row = connection.execute(select(scan).where(self._key(digest))).one_or_none()
            if row is None:
                return None
            return ScanRecord(
                digest=row.digest,
                state=ScanState(row.state),
                attempt=row.attempt,
                tries=row.tries,
                polls=row.polls,
                owner=row.owner,
                next_at=row.next_at,
                submitted_at=row.submitted_at,
            )

        return await self._ledger.read(work)

    async def locations(self, digest: bytes, limit: int = 8) -> list[bytes]:
        """List files that held these bytes when they were last read."""
        statement = select(file.c.location).where(file.c.digest == digest).limit(limit)
        return await self._ledger.read(lambda c: list(c.execute(statement).scalars()))

    def claim(
        self, connection: Connection, digest: bytes, *, owner: str, now: float, lease_until: float
    ) -> Claim | None:
        """Take the digest for submission, or return None when it is not to be taken now."""
        statement = (
            update(scan)
            .where(
                self._key(digest),
                or_(
                    scan.c.state == ScanState.ADMITTED,
                    and_(scan.c.state == ScanState.SUBMITTING, scan.c.next_at < now),
                ),
            )
            .values(state=ScanState.SUBMITTING, attempt=scan.c.attempt + 1, owner=owner, next_at=lease_until)
            .returning(scan.c.attempt)
        )
        attempt = connection.execute(statement).scalar_one_or_none()
        return None if attempt is None else Claim(digest, owner, attempt)

    def renew(self, connection: Connection, claim: Claim, *, lease_until: float) -> Claim | None:
        """Extend a claim that is still held, or return None."""
        statement = update(scan).where(self._held(claim)).values(next_at=lease_until)
        return claim if connection.execute(statement).rowcount else None

    async def release(self, claim: Claim, *, at: float, problem: Problem | None, counted: bool) -> None:
        """Give a claim back, to be taken again at ``at`` (epoch seconds).

        Args:
            claim: what was held.
            at: when the digest is due again.
            problem: why it was not submitted, for the row in case that it never is.
            counted: whether this try counts as an attempt: the service may have got it.
        """
        statement = (
            update(scan)
            .where(self._held(claim))
            .values(
                state=ScanState.ADMITTED,
                owner=null(),
                next_at=at,
                attempt=scan.c.attempt - (0 if counted else 1),
                tries=scan.c.tries + (0 if problem is None else 1),
                problem=_encoded(problem),
            )
        )
        await self._ledger.write(lambda c: c.execute(statement))

    async def accepted(self, claim: Claim, engine_version: int, *, now: float, next_at: float) -> bool:
        """Record that the service has the digest.

        Returns:
            False when another process took the claim over meanwhile: it will hear the same.
        """
        statement = (
            update(scan)
            .where(self._held(claim))
            .values(
                state=ScanState.SCANNING,
                owner=null(),
                engine_version=engine_version,
                submitted_at=now,
                next_at=next_at,
                polls=0,
                tries=0,
                problem=null(),
            )
        )
        return await self._ledger.write(lambda c: c.execute(statement).rowcount > 0)

    def poll(self, connection: Connection, digest: bytes, *, now: float, next_at: float) -> Poll | None:
        """Take the right to ask once, or return None when it is not due."""
        statement = (
            update(scan)
            .where(self._key(digest), scan.c.state == ScanState.SCANNING, scan.c.next_at <= now)
            .values(polls=scan.c.polls + 1, next_at=next_at)
            .returning(
                scan.c.digest,
                scan.c.engine_version,
                scan.c.submitted_at,
                scan.c.polls,
                scan.c.attempt,
                scan.c.tries,
            )
        )
        row = connection.execute(statement).one_or_none()
        return None if row is None else Poll(*row)

    async def postpone(self, poll: Poll, *, next_at: float, problem: Problem | None) -> None:
        """Ask again at ``next_at``; with a problem, the call failed and is counted."""
        statement = (
            update(scan)
            .where(self._polled(poll))
            .values(
                next_at=next_at,
                tries=0 if problem is None else scan.c.tries + 1,
                problem=_encoded(problem),
            )
        )
        await self._ledger.write(lambda c: c.execute(statement))

    async def resubmit(self, poll: Poll, *, at: float, problem: Problem) -> None:
        """Lead back to submission: the service failed, or does not know the digest."""
        statement = (
            update(scan)
            .where(self._polled(poll))
            .values(state=ScanState.ADMITTED, next_at=at, tries=0, problem=_encoded(problem))
        )
        await self._ledger.write(lambda c: c.execute(statement))

    async def judged(
        self, digest: bytes, found: Verdict, *, run: int, now: float, retention_s: float
    ) -> None:
        """Record a verdict: an answer that was paid for, so it is kept whatever the state is."""
        scanned_at = found.scanned_at if found.scanned_at is not None else now
        values = {
            "result": msgspec.json.encode(found),
            "scanned_at": scanned_at,
            "expires_at": scanned_at + retention_s,
            "run": run,
        }

        def work(connection: Connection) -> None:
            connection.execute(
                insert(verdict)
                .values(scope=self._scope, digest=digest, engine_version=found.engine_version, **values)
                .on_conflict_do_update(
                    index_elements=[verdict.c.scope, verdict.c.digest, verdict.c.engine_version],
                    set_=values,
                )
            )
            connection.execute(
                update(scan)
                .where(self._key(digest))
                .values(
                    state=ScanState.DONE,
                    engine_version=found.engine_version,
                    owner=null(),
                    next_at=null(),
                    tries=0,
                    problem=null(),
                )
            )

        await self._ledger.write(work)

    async def fail(self, digest: bytes, problem: Problem, *, run: int, claim: Claim | None = None) -> None:
        """Give a digest up for this run; the next run admits it anew."""
        held = self._key(digest) if claim is None else self._held(claim)
        statement = (
            update(scan)
            .where(held, scan.c.state != ScanState.DONE)
            .values(state=ScanState.FAILED, owner=null(), next_at=null(), run=run, problem=_encoded(problem))
        )
        await self._ledger.write(lambda c: c.execute(statement))

    async def owners(self) -> list[str]:
        """List the processes that hold claims."""
        statement = (
            select(scan.c.owner)
            .where(scan.c.scope == self._scope, scan.c.state == ScanState.SUBMITTING)
            .distinct()
        )
        return await self._ledger.read(lambda c: list(c.execute(statement).scalars()))

    async def take_back(self, owners: Sequence[str], *, now: float) -> int:
        """End the leases of processes that are known to be dead.

        Returns:
            How many claims became free.
        """
        statement = (
            update(scan)
            .where(
                scan.c.scope == self._scope,
                scan.c.state == ScanState.SUBMITTING,
                scan.c.owner.in_(owners),
            )
            .values(state=ScanState.ADMITTED, owner=null(), next_at=now)
        )
        return await self._ledger.write(lambda c: c.execute(statement).rowcount)

    def _key(self, digest: bytes) -> ColumnElement[bool]:
        return and_(scan.c.scope == self._scope, scan.c.digest == digest)

    def _held(self, claim: Claim) -> ColumnElement[bool]:
        return and_(
            self._key(claim.digest),
            scan.c.state == ScanState.SUBMITTING,
            scan.c.owner == claim.owner,
            scan.c.attempt == claim.attempt,
        )

    def _polled(self, poll: Poll) -> ColumnElement[bool]:
        return and_(
            self._key(poll.digest),
            scan.c.state == ScanState.SCANNING,
            scan.c.polls == poll.polls,
            scan.c.attempt == poll.attempt,
        )


def _encoded(problem: Problem | None) -> bytes | None:
    return None if problem is None else msgspec.json.encode(problem)
