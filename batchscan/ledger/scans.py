"""The ``scan`` and ``verdict`` tables: claims, leases and fenced writes for one digest at a time.

Functions that take a ``Connection`` are the body of a ledger write, so that a caller can commit one
together with something else (a claim with its slot). A claim is fenced: what its holder writes is
dropped when another process has claimed the digest since.
"""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    null,
    or_,
    select,
    update,
)

from batchscan.ledger import queries
from batchscan.ledger.backlog import Backlog
from batchscan.ledger.budget import Budget, close
from batchscan.ledger.chosen import Choice
from batchscan.ledger.schema import scan
from batchscan.ledger.standing import FINISHED
from batchscan.ledger.store import Ledger
from batchscan.ledger.verdicts import Engines, is_on_record, keep_verdict, was_malicious
from batchscan.models import Candidate, Problem, RiskLevel, ScanState, Verdict

_CANDIDATE = msgspec.json.Decoder(Candidate)
_LOCATIONS = 100


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


class Judged(msgspec.Struct, frozen=True):
    """A verdict was recorded.

    Attributes:
        news: it is malicious, and no verdict on record had said so.
        billed: files that were billed for it; None when the service does not say.
    """

    news: bool
    billed: int | None


class ScanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The live state of a digest; ``again``: it is finished, and this run is to submit it once more."""

    digest: bytes
    state: ScanState
    attempt: int
    tries: int
    put_off: int
    polls: int
    owner: str | None
    next_at: float | None
    submitted_at: float | None
    again: bool = False


class Scans:
    """Live states and verdicts of the ledger's scope.

    Args:
        ledger: where they are.
        budget: what may be billed; None: no limit, and nothing is counted.
        choice: what is submitted again although it is finished.

    Attributes:
        budget, choice: as given.
        backlog: the same digests, seen together.
        engines: who judges them.
    """

    def __init__(self, ledger: Ledger, budget: Budget | None = None, choice: Choice | None = None) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self.budget = budget
        self.choice = choice
        self.backlog = Backlog(ledger, budget)
        self.engines = Engines(ledger)

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
                put_off=row.put_off,
                polls=row.polls,
                owner=row.owner,
                next_at=row.next_at,
                submitted_at=row.submitted_at,
                again=row.state in FINISHED and self._again(connection, digest),
            )

        return await self._ledger.read(work)

    async def locations(self, run: int, digest: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the files of the run's inputs that wait for the digest: they held it when admitted."""
        after = b""
        while True:
            statement = queries.locations(run, digest, after=after, limit=_LOCATIONS)
            rows = await self._ledger.read(partial(_fetched, statement))
            for row in rows:
                location = _CANDIDATE.decode(row.candidate).location
                if location is not None:
                    yield location
            if len(rows) < _LOCATIONS:
                return
            after = rows[-1].key

    def claim(
        self, connection: Connection, digest: bytes, *, owner: str, now: float, lease_until: float
    ) -> Claim | None:
        """Take the digest for submission, or return None when it is not to be taken now.

        What it costs is reserved with it. Where it is to be submitted again, its verdict stands until here.
        """
        if self.budget is not None and not self.budget.fits(connection, digest):
            return None
        free = [
            scan.c.state == ScanState.ADMITTED,
            and_(scan.c.state == ScanState.SUBMITTING, scan.c.next_at < now),
        ]
        begins = scan.c.state.in_(FINISHED)
        if self._again(connection, digest):
            free.append(begins)
        statement = (
            update(scan)
            .where(self._key(digest), or_(*free))
            .values(
                state=ScanState.SUBMITTING,
                attempt=case((begins, 1), else_=scan.c.attempt + 1),
                tries=case((begins, 0), else_=scan.c.tries),
                put_off=case((begins, 0), else_=scan.c.put_off),
                owner=owner,
                next_at=lease_until,
            )
            .returning(scan.c.attempt)
        )
        attempt = connection.execute(statement).scalar_one_or_none()
        if attempt is None:
            return None
        if self.choice is not None:
            self.choice.take(connection, digest)
        if self.budget is not None:
            self.budget.book(connection, digest)
        return Claim(digest, owner, attempt)

    async def affordable(self, digest: bytes) -> bool:
        """Whether the budget has enough left for the digest."""
        budget = self.budget
        return budget is None or await self._ledger.read(lambda c: budget.fits(c, digest))

    def _again(self, connection: Connection, digest: bytes) -> bool:
        return self.choice is not None and self.choice.has(connection, digest)

    def renew(self, connection: Connection, claim: Claim, *, lease_until: float) -> Claim | None:
        """Extend a claim that is still held, or return None."""
        statement = update(scan).where(self._held(claim)).values(next_at=lease_until)
        return claim if connection.execute(statement).rowcount else None

    async def release(
        self, claim: Claim, *, at: float, problem: Problem | None, counted: bool, put_off: bool = False
    ) -> None:
        """Give a claim back, to be taken again at ``at`` (epoch seconds).

        Args:
            claim: what was held.
            at: when the digest is due again.
            problem: why it was not submitted, for the row in case that it never is.
            counted: whether this try counts as an attempt: the service may have got it.
            put_off: whether it failed for a reason that has nothing to do with the digest.
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
                put_off=scan.c.put_off + (1 if put_off else 0),
                problem=_encoded(problem),
            )
            .returning(scan.c.attempt)
        )

        def work(connection: Connection) -> None:
            attempts = connection.execute(statement).scalar_one_or_none()
            if attempts == 0 and self.budget is not None:  # nothing of it can have reached the service
                self.budget.give_back(connection, claim.digest)

        await self._ledger.write(work)

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
                put_off=0,
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
            .values(state=ScanState.ADMITTED, next_at=at, tries=0, put_off=0, problem=_encoded(problem))
        )
        await self._ledger.write(lambda c: c.execute(statement))

    async def judged(
        self, poll: Poll, found: Verdict, *, run: int, now: float, retention_s: float
    ) -> Judged | None:
        """Record a verdict: an answer that was paid for, so it is kept whatever the state is.

        Returns:
            None when the digest has moved on since it was asked about (it was admitted anew, say): then
            the verdict is history, and the state is left alone.
        """

        def work(connection: Connection) -> Judged | None:
            malicious = found.level is RiskLevel.MALICIOUS
            news = malicious and not was_malicious(connection, self._scope, poll.digest)
            done = update(scan).values(
                state=ScanState.DONE,
                engine_version=found.engine_version,
                owner=null(),
                next_at=null(),
                tries=0,
                put_off=0,
                problem=null(),
            )
            awaited = connection.execute(done.where(self._asked(poll))).rowcount > 0
            again = is_on_record(connection, self._scope, poll.digest, found)
            if awaited or not again:  # else another process asked at the same time, and has just recorded it
                kept = msgspec.structs.replace(found, told_again=again)
                keep_verdict(
                    connection, self._scope, poll.digest, kept, run=run, now=now, retention_s=retention_s
                )
            if not awaited:
                return None
            billed = 0 if again else found.file_count
            close(connection, self._scope, poll.digest, billed=billed)
            return Judged(news, billed)

        return await self._ledger.write(work)

    async def fail(self, held: Claim | Poll, problem: Problem, *, run: int, billed: bool = False) -> None:
        """Give a digest up for this run, unless it has moved on; the next run admits it anew.

        Args:
            held: the right to say so.
            problem: why.
            run: who gives it up.
            billed: whether the service may have scanned it all the same.
        """
        statement = (
            update(scan)
            .where(self._held(held) if isinstance(held, Claim) else self._asked(held))
            .values(state=ScanState.FAILED, owner=null(), next_at=null(), run=run, problem=_encoded(problem))
        )

        def work(connection: Connection) -> None:
            if connection.execute(statement).rowcount:
                close(connection, self._scope, held.digest, billed=None if billed else 0)

        await self._ledger.write(work)

    def _key(self, digest: bytes) -> ColumnElement[bool]:
        return and_(scan.c.scope == self._scope, scan.c.digest == digest)

    def _held(self, claim: Claim) -> ColumnElement[bool]:
        return and_(
            self._key(claim.digest),
            scan.c.state == ScanState.SUBMITTING,
            scan.c.owner == claim.owner,
            scan.c.attempt == claim.attempt,
        )

    def _asked(self, poll: Poll) -> ColumnElement[bool]:
        """The submission that was asked about is still the one that counts."""
        return and_(
            self._key(poll.digest),
            scan.c.state == ScanState.SCANNING,
            scan.c.engine_version == poll.engine_version,
            scan.c.submitted_at == poll.submitted_at,
            scan.c.attempt == poll.attempt,
        )

    def _polled(self, poll: Poll) -> ColumnElement[bool]:
        """No later poll has been made."""
        return and_(self._asked(poll), scan.c.polls == poll.polls)


def _fetched(statement: Select[Any], connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(statement).all()


def _encoded(problem: Problem | None) -> bytes | None:
    return None if problem is None else msgspec.json.encode(problem)
