"""Inputs of a run that have no row yet, and those that a resumed run need not discover again."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Delete, bindparam, delete, func, insert, select, update
from sqlalchemy import Row as Record
from sqlalchemy.dialects.sqlite import insert as upsert

from batchscan.ledger import queries
from batchscan.ledger.firsts import Seen, note_firsts
from batchscan.ledger.padding import padded
from batchscan.ledger.schema import reported, seen, waiting
from batchscan.ledger.standing import (
    Waiting,
    candidate_key,
    input_key,
    standing,
)
from batchscan.ledger.store import Ledger
from batchscan.models import Artifact, Candidate, Row

_NOTES = msgspec.json.Decoder(tuple[str, ...])
_PAGE = 500
_CANDIDATE = msgspec.json.Decoder(Candidate)

_FORGOTTEN = 10_000

Place = tuple[bytes, bytes]
"""Digest and key of a waiting input."""


class WaitingInputs:
    """Inputs of one run that wait for their verdicts."""

    def __init__(self, ledger: Ledger, run: int) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self._run = run

    async def page(
        self,
        digests: Sequence[bytes] | None = None,
        *,
        after: Place | None = None,
        limit: int = 500,
        finished: bool = False,
    ) -> tuple[list[Waiting], Place | None]:
        """List waiting inputs, a page at a time, in the order of digest and key.

        Args:
            digests: only these.
            after: where the page before ended.
            limit: how many inputs to look at.
            finished: of those, only the ones whose digest is done or failed.

        Returns:
            The inputs, and where the page ended; None after the last page.
        """
        statement = queries.waiting_page(
            self._scope, self._run, digests, after=after, limit=limit, finished=finished
        )

        def work(connection: Connection) -> tuple[list[Waiting], Place | None]:
            rows = connection.execute(statement).all()
            ended = (rows[-1].digest, rows[-1].key) if len(rows) == limit else None
            return [_waiting(row) for row in rows if row.state is not None], ended

        return await self._ledger.read(work)

    async def forget(self, done: Iterable[Waiting]) -> None:
        """Drop inputs whose rows are safely in the report."""
        keys = [{"d": w.artifact.digest, "k": w.key} for w in done]
        statement = delete(waiting).where(
            waiting.c.run == self._run,
            waiting.c.digest == bindparam("d"),
            waiting.c.key == bindparam("k"),
        )
        if keys:
            await self._ledger.write(lambda c: c.execute(statement, keys))

    async def give_up(self, digest: bytes) -> int:
        """Wait no longer for a digest in this run.

        Returns:
            How many inputs that concerns.
        """
        statement = (
            update(waiting)
            .where(waiting.c.run == self._run, waiting.c.digest == digest, waiting.c.given_up.is_(False))
            .values(given_up=True)
        )
        return await self._ledger.write(lambda c: c.execute(statement).rowcount)

    async def count(self) -> int:
        """Count the inputs that wait."""
        statement = select(func.count()).select_from(waiting).where(waiting.c.run == self._run)
        return await self._ledger.read(lambda c: c.execute(statement).scalar_one())

    async def begin_anew(self) -> None:
        """Forget what this process noted of the run's inputs: before it goes on, and when it is over.

        What an earlier leg in this process had noted would be taken for rows that are in the report.
        """
        for table, key in ((seen, seen.c.short), (reported, reported.c.key)):
            some = select(key).where(table.c.run == self._run).limit(_FORGOTTEN)
            statement = delete(table).where(table.c.run == self._run, key.in_(some))
            # a page at a time: others share the ledger's thread
            while await self._ledger.read(partial(_deleted, statement)) == _FORGOTTEN:
                pass

    async def note_reported(self, rows: Sequence[Row]) -> None:
        """Take in rows that a resumed run's report has already."""
        keys: list[dict[str, Any]] = [
            {"run": self._run, "key": input_key(row.source, row.path, row.manifest_line)} for row in rows
        ]
        firsts: list[Seen] = [
            (bytes.fromhex(row.sha256), named["key"], row.path)
            for row, named in zip(rows, keys, strict=True)
            if row.sha256 is not None and row.duplicate_of is None
        ]

        def work(connection: Connection) -> None:
            connection.execute(upsert(reported).on_conflict_do_nothing(), keys)
            note_firsts(connection, self._run, firsts)

        if keys:
            await self._ledger.read(work)

    async def take_up(self) -> None:
        """After ``note_reported``, when a run is resumed.

        Inputs that got their row just before the kill need not wait; the others wait as they did,
        and are not discovered a second time.
        """
        mine = waiting.c.run == self._run
        firsts = select(waiting.c.digest, waiting.c.key, waiting.c.path).where(
            mine, waiting.c.duplicate_of.is_(None)
        )

        def work(connection: Connection) -> None:
            connection.execute(
                delete(waiting).where(
                    mine, waiting.c.key.in_(select(reported.c.key).where(reported.c.run == self._run))
                )
            )
            connection.execute(update(waiting).where(mine).values(given_up=False))
            connection.execute(
                insert(reported).from_select(["run", "key"], select(waiting.c.run, waiting.c.key).where(mine))
            )
            for part in connection.execute(firsts).partitions(_PAGE):
                note_firsts(connection, self._run, [(digest, key, path) for digest, key, path in part])

        await self._ledger.write(work)

    async def unreported(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Leave out inputs that have a row, or wait already, when a resumed run discovers them again."""
        keys = [candidate_key(c) for c in candidates]

        def work(connection: Connection) -> list[Candidate]:
            taken = set(
                connection.execute(
                    select(reported.c.key).where(
                        reported.c.run == self._run, reported.c.key.in_(padded(keys))
                    )
                ).scalars()
            )
            return [c for c, key in zip(candidates, keys, strict=True) if key not in taken]

        return await self._ledger.read(work)


def _deleted(statement: Delete, connection: Connection) -> int:
    return connection.execute(statement).rowcount


def _waiting(row: Record[Any]) -> Waiting:
    return Waiting(
        row.key,
        _CANDIDATE.decode(row.candidate),
        Artifact(row.digest, row.size, row.file_count, _NOTES.decode(row.notes)),
        row.duplicate_of,
        standing(row),
        row.changes,
    )
