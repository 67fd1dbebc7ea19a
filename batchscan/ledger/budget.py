"""Budgets: files are reserved before their ZIP is sent, and settled by what the service says it billed.

A reservation is committed together with the claim, so processes that share the ledger cannot spend the
same allowance twice. Each submission is booked in the day's purse, and in its run's where the run has a
budget. A scan that fails is not billed; what may have been sent and was never answered counts as billed.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from batchscan.ledger.chosen import waits_for_its_turn
from batchscan.ledger.schema import artifact, charge, purse, scan, waiting
from batchscan.ledger.standing import FINISHED
from batchscan.ledger.store import Ledger
from batchscan.models import ScanState

LEAST_FILES = 1
"""A ZIP without any file counts as one: the inspection may be wrong, and the service's count settles it."""

_NO_LIMIT = 2**53
_FILES = case((artifact.c.file_count < LEAST_FILES, LEAST_FILES), else_=artifact.c.file_count)

# Built once: each submission runs these, and building a statement costs more than carrying it out.
_RESERVE = (
    insert(charge)
    .from_select(
        ["scope", "digest", "purse", "files"],
        select(
            bindparam("p_scope", type_=Integer),
            artifact.c.digest,
            bindparam("p_purse", type_=Text),
            _FILES,
        ).where(artifact.c.digest == bindparam("p_digest")),
    )
    .on_conflict_do_nothing()
    .returning(charge.c.files)
)
_NEW = insert(purse)
_ADD = _NEW.on_conflict_do_update(
    index_elements=[purse.c.scope, purse.c.name],
    set_={"reserved": purse.c.reserved + _NEW.excluded.reserved},
)
_TAKE = (
    delete(charge)
    .where(charge.c.scope == bindparam("p_scope"), charge.c.digest == bindparam("p_digest"))
    .returning(charge.c.purse, charge.c.files)
)
_SETTLE = (
    update(purse)
    .where(purse.c.scope == bindparam("p_scope"), purse.c.name == bindparam("p_purse"))
    .values(reserved=purse.c.reserved - bindparam("p_reserved"), spent=purse.c.spent + bindparam("p_spent"))
)


class Spending(msgspec.Struct, frozen=True):
    """A run's budget: all in files.

    Attributes:
        allowance: what the run may bill, None when only the day limits it.
        spent: billed under this allowance.
        reserved: sent, and not judged yet.
        left: what may still be sent, by the run's and the day's allowance.
    """

    allowance: int | None
    spent: int
    reserved: int
    left: int


class Leftover(msgspec.Struct, frozen=True):
    """What a budget did not reach: distinct contents, and the files inside them."""

    digests: int
    files: int


class Budget:
    """What one run may bill.

    Args:
        ledger: holds the purses.
        run: the run's number.
        allowance: files that the run may bill; None: no limit, or the one it was given before.
        daily: files that all runs of the scope may bill in a day (UTC); None: no limit.
        again: the run submits again what it has chosen.
        clock: epoch seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        run: int,
        *,
        allowance: int | None = None,
        daily: int | None = None,
        again: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self._run = run
        self._own = f"run {run}"
        self._allowance = allowance
        self._daily = daily
        self.again = again
        self._clock = clock

    @property
    def limited(self) -> bool:
        """Whether there is any limit; known once ``open`` has returned."""
        return self._allowance is not None or self._daily is not None

    @property
    def chooses(self) -> bool:
        """Whether what is submitted next depends on more than the time."""
        return self.limited or self.again

    async def open(self, *, anew: bool) -> None:
        """Take up the run's purse.

        Args:
            anew: the allowance counts from now on; else what was used of it before stays used.
        """
        own = self._key(self._own)

        def work(connection: Connection) -> int | None:
            row = connection.execute(select(purse).where(own)).one_or_none()
            allowance = self._allowance
            if row is not None:
                allowance = row.allowance if allowance is None else allowance
                base = row.spent + row.reserved if anew else row.base
                connection.execute(update(purse).where(own).values(allowance=allowance, base=base))
            elif allowance is not None:
                connection.execute(
                    insert(purse).values(scope=self._scope, name=self._own, allowance=allowance)
                )
            if allowance is not None or self._daily is not None or self.again:
                self._price(connection)
            return allowance

        self._allowance = await self._ledger.write(work)

    def fits(self, connection: Connection, digest: bytes) -> bool:
        """Whether the digest may be sent; inside a ledger write, so that it still holds when booked."""
        if not self.limited:
            return True
        if connection.execute(select(charge.c.files).where(self._booked(digest, self._own))).first():
            return True  # a repeat: the service knows content by its hash, and bills it once
        files = connection.execute(select(_FILES).where(artifact.c.digest == digest)).scalar_one()
        return bool(files <= self.left(connection))

    def book(self, connection: Connection, digest: bytes) -> None:
        """Reserve the digest's files, unless they are reserved already."""
        names = (self._own, self._today()) if self.limited else (self._today(),)
        for name in names:
            mine = {"p_scope": self._scope, "p_digest": digest, "p_purse": name}
            booked = connection.execute(_RESERVE, mine).scalar_one_or_none()
            if booked is not None:
                connection.execute(_ADD, {"scope": self._scope, "name": name, "reserved": booked})
        if self.limited:
            self._mark(connection, digest, 0)  # sent again, it costs nothing more

    def give_back(self, connection: Connection, digest: bytes) -> None:
        """Free what is reserved for a digest that was not sent after all."""
        close(connection, self._scope, digest, billed=0)
        if self.limited:
            files = connection.execute(select(_FILES).where(artifact.c.digest == digest)).scalar_one()
            self._mark(connection, digest, files)

    def left(self, connection: Connection) -> int:
        """How many files may still be sent; less than nothing when the service billed more than was seen."""
        limits = [(self._own, self._allowance), (self._today(), self._daily)]
        return min(
            (self._left(connection, name, limit) for name, limit in limits if limit is not None),
            default=_NO_LIMIT,
        )

    async def spending(self) -> Spending | None:
        """Tell how far the budget is used; None without one."""
        if not self.limited:
            return None

        def work(connection: Connection) -> Spending:
            row = connection.execute(select(purse).where(self._key(self._own))).one_or_none()
            spent, reserved, base = (0, 0, 0) if row is None else (row.spent, row.reserved, row.base)
            used = max(0, spent + reserved - base)
            open_now = min(reserved, used)
            return Spending(self._allowance, used - open_now, open_now, max(0, self.left(connection)))

        return await self._ledger.read(work)

    async def leftover(self) -> Leftover:
        """Count what the run still has to send and what does not fit."""
        if not self.limited:
            return Leftover(0, 0)
        ready = scan.c.state == ScanState.ADMITTED
        again = and_(scan.c.state.in_(FINISHED), waits_for_its_turn(self._run, waiting.c.digest))

        def work(connection: Connection) -> Leftover:
            each = (
                select(waiting.c.digest, waiting.c.files)
                .join(scan, and_(scan.c.scope == self._scope, scan.c.digest == waiting.c.digest))
                .where(waiting.c.run == self._run, waiting.c.files > max(0, self.left(connection)))
                .where(ready | again, waiting.c.given_up.is_(False))
                .distinct()
                .subquery()
            )
            return Leftover(
                *connection.execute(select(func.count(), func.coalesce(func.sum(each.c.files), 0))).one()
            )

        return await self._ledger.read(work)

    def _price(self, connection: Connection) -> None:
        """Note what the inputs of a resumed run cost, which had no budget before."""
        cost = select(_FILES).where(artifact.c.digest == waiting.c.digest).scalar_subquery()
        connection.execute(
            update(waiting).where(waiting.c.run == self._run, waiting.c.files.is_(None)).values(files=cost)
        )

    def _left(self, connection: Connection, name: str, allowance: int) -> int:
        row = connection.execute(
            select(purse.c.base, purse.c.reserved, purse.c.spent).where(self._key(name))
        ).one_or_none()
        return allowance if row is None else int(row.base + allowance - row.reserved - row.spent)

    def _mark(self, connection: Connection, digest: bytes, files: int) -> None:
        connection.execute(
            update(waiting)
            .where(waiting.c.run == self._run, waiting.c.digest == digest, waiting.c.files.is_not(None))
            .values(files=files)
        )

    def _today(self) -> str:
        return day_purse(self._clock())

    def _key(self, name: str) -> ColumnElement[bool]:
        return and_(purse.c.scope == self._scope, purse.c.name == name)

    def _booked(self, digest: bytes, name: str) -> ColumnElement[bool]:
        return and_(charge.c.scope == self._scope, charge.c.digest == digest, charge.c.purse == name)


def close(connection: Connection, scope: int, digest: bytes, *, billed: int | None) -> None:
    """Settle what is reserved for a digest, whoever reserved it; inside a ledger write.

    Args:
        connection: the ledger's.
        scope: whose purses.
        digest: what was sent.
        billed: files that the service billed; None when it does not say: then all that was reserved.
    """
    for name, files in connection.execute(_TAKE, {"p_scope": scope, "p_digest": digest}).all():
        spent = files if billed is None else billed
        values = {"p_scope": scope, "p_purse": name, "p_reserved": files, "p_spent": spent}
        connection.execute(_SETTLE, values)


def day_purse(now: float) -> str:
    """Name the purse of the day (UTC) of an epoch time."""
    return f"day {datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
