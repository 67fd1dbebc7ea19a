"""The stat cache, and admission: which inputs get their row at once, and which wait.

Admission is one transaction per batch: the primary key of ``scan`` decides whether a digest is new,
not a look-up before it. Which input of this run had the same bytes first is kept in a temporary
table: on disk, so that memory does not grow with the files, but never synced.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete
from sqlalchemy.dialects.sqlite import insert as upsert

from batchscan.ledger import queries
from batchscan.ledger.chosen import chosen_again
from batchscan.ledger.firsts import first_paths
from batchscan.ledger.padding import padded
from batchscan.ledger.schema import artifact, file, scan, verdict, waiting
from batchscan.ledger.standing import (
    CURRENT_VERDICT,
    Content,
    Decision,
    Freshness,
    Item,
    Known,
    Standing,
    Waiting,
    candidate_key,
    select_standing,
    standing,
)
from batchscan.ledger.store import Ledger, fetch_tuples
from batchscan.models import Artifact, FileStat, Problem, ScanState

_NOTES = msgspec.json.Decoder(tuple[str, ...])
_PROBLEM = msgspec.json.Decoder(Problem)

RACY_NS = 2_000_000_000
"""A file modified this shortly before it was read may change again without a new time stamp."""


class Admission:
    """Admits inputs of one run at the ledger's scope.

    Args:
        ledger: where they are admitted.
        run: the run's number.
        chooses: the run has a budget, or a choice, and so needs to know what each input costs.
        again: a verdict of a digest that the run has chosen is not reused.
    """

    def __init__(self, ledger: Ledger, run: int, *, chooses: bool = False, again: bool = False) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self._run = run
        self._chooses = chooses
        self.again = again

    async def known(self, locations: Sequence[bytes]) -> dict[bytes, Known]:
        """Look up what is known of files, by absolute path in raw bytes; at most a few hundred."""
        return await self._ledger.read(lambda c: _known(c, self._scope, locations))

    async def admit(
        self,
        items: Sequence[Item],
        *,
        firsts: Sequence[str | None],
        fresh: Freshness,
        read_at_ns: int,
        instead_of: Sequence[Waiting] = (),
    ) -> list[Decision]:
        """Decide for each input: row now, or wait for the digest's verdict.

        Args:
            items: inputs whose content is known.
            firsts: what ``first_seen`` told of each.
            fresh: which verdicts may be reused.
            read_at_ns: when the files were read, epoch nanoseconds.
            instead_of: the same inputs as they waited before their files changed.
        """

        def work(connection: Connection) -> list[Decision]:
            self._remember(connection, [item for item in items if item.fresh], read_at_ns)
            digests = {item.content.artifact.digest for item in items if item.content.problem is None}
            standings = self._standings(connection, sorted(digests))
            again = self._chosen(connection, sorted(digests))
            decided = {d: s for d, s in standings.items() if d not in again and self._decided(s, fresh)}
            self._enlist(connection, sorted(digests - decided.keys() - again), standings, fresh)
            decisions = [
                Decision(item, first, decided.get(item.content.artifact.digest))
                for item, first in zip(items, firsts, strict=True)
            ]
            self._wait(connection, decisions, {old.key: old.changes + 1 for old in instead_of})
            self._wait_no_more(connection, instead_of, decisions)
            return decisions

        return await self._ledger.write(work)

    def _chosen(self, connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
        return chosen_again(connection, self._scope, self._run, digests) if self.again else set()

    async def first_seen(self, items: Sequence[Item]) -> list[str | None]:
        """Note inputs in the order of discovery; tell which path of this run had the same bytes before."""
        inputs = [(i.content.artifact.digest, candidate_key(i.candidate), i.candidate.path) for i in items]
        return await self._ledger.read(lambda c: first_paths(c, self._run, inputs))

    async def standings(self, digests: Sequence[bytes]) -> dict[bytes, Standing]:
        """Tell how digests stand, without admitting them; at most a few hundred."""
        return await self._ledger.read(lambda c: self._standings(c, digests))

    def _remember(self, connection: Connection, items: Sequence[Item], read_at_ns: int) -> None:
        if not items:
            return
        encode = msgspec.json.encode
        contents = {item.content.artifact.digest: item.content for item in items}
        connection.execute(
            upsert(artifact).on_conflict_do_nothing(),
            [
                {
                    "digest": digest,
                    "size": content.artifact.size,
                    "file_count": content.artifact.file_count,
                    "notes": encode(content.artifact.notes),
                    "problem": None if content.problem is None else encode(content.problem),
                }
                for digest, content in contents.items()
            ],
        )
        rows = {}
        for item in items:
            stat = item.candidate.stat
            if stat is None or item.candidate.location is None:
                continue
            racy = read_at_ns - stat.mtime_ns < RACY_NS
            rows[item.candidate.location] = {
                "location": item.candidate.location,
                "size": stat.size,
                "mtime_ns": -1 if racy else stat.mtime_ns,
                "inode": stat.inode,
                "digest": item.content.artifact.digest,
            }
        statement = upsert(file)
        changed = {name: statement.excluded[name] for name in ("size", "mtime_ns", "inode", "digest")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=[file.c.location], set_=changed),
            list(rows.values()),
        )

    def _standings(self, connection: Connection, digests: Sequence[bytes]) -> dict[bytes, Standing]:
        statement = (
            select_standing(scan.c.digest)
            .select_from(scan.outerjoin(verdict, CURRENT_VERDICT))
            .where(scan.c.scope == self._scope, scan.c.digest.in_(padded(digests)))
        )
        return {row.digest: standing(row) for row in connection.execute(statement)}

    def _decided(self, found: Standing, fresh: Freshness) -> bool:
        """A live verdict, or a failure of this very run, gives the row at once."""
        return fresh.live(found) or (found.state is ScanState.FAILED and found.run == self._run)

    def _enlist(
        self,
        connection: Connection,
        digests: Sequence[bytes],
        standings: dict[bytes, Standing],
        fresh: Freshness,
    ) -> None:
        """Admit new digests, and those whose verdict is too old or that an earlier run gave up."""
        again = [
            digest
            for digest in digests
            if digest in standings and standings[digest].state in (ScanState.DONE, ScanState.FAILED)
        ]
        start = {"state": ScanState.ADMITTED, "attempt": 0, "polls": 0, "tries": 0, "put_off": 0}
        start["next_at"] = fresh.now
        new = [{"scope": self._scope, "digest": digest, **start} for digest in digests]
        if not new:
            return
        connection.execute(upsert(scan).on_conflict_do_nothing(), new)
        # A run that waits for what an earlier one left under way has its own patience.
        left = and_(scan.c.scope == self._scope, scan.c.digest.in_(padded(digests)), scan.c.tries > 0)
        connection.execute(scan.update().where(left).values(tries=0, put_off=0))
        if again:
            connection.execute(
                scan.update()
                .where(scan.c.scope == self._scope, scan.c.digest.in_(padded(again)))
                .values(**start, owner=None, submitted_at=None, problem=None, run=None)
            )

    def _wait(self, connection: Connection, decisions: Sequence[Decision], changes: dict[bytes, int]) -> None:
        rows = [
            {
                "run": self._run,
                "digest": d.item.content.artifact.digest,
                "key": candidate_key(d.item.candidate),
                "candidate": msgspec.json.encode(d.item.candidate),
                "path": d.item.candidate.path,
                "duplicate_of": d.duplicate_of,
                "changes": changes.get(candidate_key(d.item.candidate), 0),
                "files": max(d.item.content.artifact.file_count, 1) if self._chooses else None,
            }
            for d in decisions
            if d.waits
        ]
        statement = upsert(waiting)
        counted = {"changes": statement.excluded.changes}
        if rows:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[waiting.c.run, waiting.c.digest, waiting.c.key], set_=counted
                ),
                rows,
            )

    def _wait_no_more(
        self, connection: Connection, before: Sequence[Waiting], decisions: Sequence[Decision]
    ) -> None:
        """Of an input that waits under a new digest, drop the old wait in the same transaction.

        One whose row can be written now keeps it until the row is safe.
        """
        waits = {
            candidate_key(d.item.candidate): d.item.content.artifact.digest for d in decisions if d.waits
        }
        for old in before:
            if waits.get(old.key, old.artifact.digest) != old.artifact.digest:
                connection.execute(
                    delete(waiting).where(
                        waiting.c.run == self._run,
                        waiting.c.digest == old.artifact.digest,
                        waiting.c.key == old.key,
                    )
                )


def _known(connection: Connection, scope: int, locations: Sequence[bytes]) -> dict[bytes, Known]:
    text, parameters = queries.known(connection.dialect, scope, locations)
    return dict(map(_as_known, fetch_tuples(connection, text, parameters)))


def _as_known(row: tuple[Any, ...]) -> tuple[bytes, Known]:
    location, size, mtime_ns, inode, digest, file_count, notes, refusal, state = row[:9]
    content = Content(
        Artifact(digest, size, file_count, () if notes == b"[]" else _NOTES.decode(notes)),
        None if refusal is None else _PROBLEM.decode(refusal),
    )
    return location, Known(FileStat(size, mtime_ns, inode), content, None if state is None else standing(row))
