"""The backlog: digests that are to come forward, or are held up by a dead process or a wrong clock."""

from collections.abc import Sequence
from functools import partial
from math import inf

import msgspec
from sqlalchemy import Connection, null, select, update

from batchscan.ledger import queries
from batchscan.ledger.budget import Budget
from batchscan.ledger.schema import scan
from batchscan.ledger.store import Ledger
from batchscan.models import ScanState, Stage


class Work(msgspec.Struct, frozen=True):
    """Contents, and the files inside them, as the service bills them."""

    skills: int = 0
    files: int = 0


class Backlog:
    """Unfinished digests of the ledger's scope, of all its processes."""

    def __init__(self, ledger: Ledger, budget: Budget | None = None) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self._budget = budget

    async def due(self, run: int, stage: Stage, *, until: float, limit: int) -> list[tuple[bytes, float]]:
        """List digests that the run waits for and that are due by ``until`` (epoch seconds).

        Returns:
            Pairs of digest and the time it is due, the earliest first; where the run chooses by what a
            digest costs, only what it can afford.
        """
        budget = self._choosing([stage])
        if budget is not None:
            return await self._ledger.read(partial(self._in_line, budget, run, until, limit))
        statements = [
            queries.due(self._scope, run, state, until=until, limit=limit) for state in queries.WAKES[stage]
        ]

        def work(connection: Connection) -> list[tuple[bytes, float]]:
            found = [(row[0], row[1]) for each in statements for row in connection.execute(each)]
            return sorted(found, key=lambda pair: pair[1])[:limit]

        return await self._ledger.read(work)

    async def any_left(self, run: int, stages: Sequence[Stage]) -> bool:
        """Whether a digest that the run waits for will come forward, now or later, in these stages."""
        states = [state for stage in stages for state in queries.WAKES[stage]]
        budget = self._choosing(stages)
        if budget is not None:
            states.remove(ScanState.ADMITTED)  # of those, only what may be submitted
        found = queries.left(self._scope, run, states)

        def work(connection: Connection) -> bool:
            if connection.execute(found).first() is not None:
                return True
            return budget is not None and bool(self._in_line(budget, run, inf, 1, connection))

        return await self._ledger.read(work)

    async def work(self, stage: Stage) -> Work:
        """Count what is to come forward in a stage, in all runs: to be submitted, or to be judged."""
        statement = queries.work(self._scope, queries.WAKES[stage])
        skills, files = await self._ledger.read(lambda c: c.execute(statement).one())
        return Work(skills, files or 0)

    def _choosing(self, stages: Sequence[Stage]) -> Budget | None:
        """The budget, where it decides what is submitted next in these stages."""
        if Stage.SUBMIT not in stages or self._budget is None or not self._budget.chooses:
            return None
        return self._budget

    def _in_line(
        self, budget: Budget, run: int, until: float, limit: int, connection: Connection
    ) -> list[tuple[bytes, float]]:
        most = max(0, budget.left(connection))
        found = queries.in_line(self._scope, run, most_files=most, until=until, limit=limit)
        return [(row[0], row[1]) for row in connection.execute(found)]

    async def owners(self) -> list[str]:
        """List the processes that hold claims."""
        statement = select(scan.c.owner).where(*queries.claimed(self._scope)).distinct()
        return await self._ledger.read(lambda c: list(c.execute(statement).scalars()))

    async def take_back(self, owners: Sequence[str], *, now: float) -> int:
        """End the leases of processes that are known to be dead.

        Returns:
            How many claims became free.
        """
        statement = (
            update(scan)
            .where(*queries.claimed(self._scope), scan.c.owner.in_(owners))
            .values(state=ScanState.ADMITTED, owner=null(), next_at=now)
        )
        return await self._ledger.write(lambda c: c.execute(statement).rowcount)

    async def pull_in(self, latest: float) -> int:
        """Let nothing be due later than ``latest`` (epoch seconds): a later time is a set-back clock's.

        Returns:
            How many digests that were.
        """
        statement = (
            update(scan)
            .where(
                scan.c.scope == self._scope,
                scan.c.state.in_([state for states in queries.WAKES.values() for state in states]),
                scan.c.next_at > latest,
            )
            .values(next_at=latest)
        )
        return await self._ledger.write(lambda c: c.execute(statement).rowcount)
