"""Which input of a run had the same bytes first. Kept in a temporary table: on disk, and never synced.

So memory does not grow with the inputs. The table grows at its end and is found by a short form of the
digest, because a million whole ones make an index that no cache holds. Two digests with the same short form
(once in ten million runs over a million inputs) both count as first.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from sqlalchemy import Connection, Dialect, select
from sqlalchemy.dialects.sqlite import insert as upsert

from batchscan.ledger.padding import padded
from batchscan.ledger.schema import seen

Seen: TypeAlias = tuple[bytes, bytes, str]
"""Digest, key and path of an input."""

_SHORT_BYTES = 8


def note_firsts(connection: Connection, run: int, inputs: Sequence[Seen]) -> int:
    """Note inputs in their order, at most some thousands; those whose digest is noted change nothing.

    Returns:
        How many were noted.
    """
    if not inputs:
        return 0
    # One statement, not one a row: a quiet night notes a million.
    rows = padded(inputs)
    values = [value for digest, key, path in rows for value in (run, _short(digest), digest, key, path)]
    return connection.exec_driver_sql(_noting(connection.dialect, len(rows)), tuple(values)).rowcount


def first_paths(connection: Connection, run: int, inputs: Sequence[Seen]) -> list[str | None]:
    """Note inputs; tell of each the path that had the same bytes before, None for the first."""
    if note_firsts(connection, run, inputs) == len(inputs):
        return [None] * len(inputs)
    statement = select(seen.c.digest, seen.c.key, seen.c.path).where(
        seen.c.run == run, seen.c.short.in_(padded([_short(digest) for digest, _, _ in inputs]))
    )
    firsts = {digest: (key, path) for digest, key, path in connection.execute(statement)}
    found: list[str | None] = []
    for digest, key, _ in inputs:
        first_key, first_path = firsts.get(digest, (key, None))
        found.append(None if first_key == key else first_path)
    return found


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:_SHORT_BYTES], "big", signed=True)


@lru_cache(maxsize=16)
def _noting(dialect: Dialect, count: int) -> str:
    """The statement that notes that many inputs; its parameters are their values, row by row."""
    row = dict.fromkeys(seen.columns.keys())
    return str(upsert(seen).values([row] * count).on_conflict_do_nothing().compile(dialect=dialect))
