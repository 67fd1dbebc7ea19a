"""Admit: stat cache, then one read of the file that gives digest and inspection, then dedupe.

An unchanged file is not read. Reading and hashing run in threads (hashlib lets other threads run), a
few files at a time, so that the bytes in memory are bounded by ``READERS`` files of the size limit.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from batchscan.content import read_content, too_large
from batchscan.ledger.admission import Admission
from batchscan.ledger.standing import Content, Decision, Freshness, Item, Known, Waiting
from batchscan.models import Candidate, FileStat, Problem, Rejection

READERS = 2
_CHUNK = 32


class Admitted(msgspec.Struct, frozen=True):
    """A batch after admission: what is decided or waits, and what has no content to admit."""

    decisions: list[Decision]
    rejections: list[tuple[Candidate, Rejection]]


class Admitter:
    """Admits batches of candidates, in the order of their discovery.

    Args:
        admission: the ledger's part of it.
        limit_bytes: larger files are rejected without being read.
        rehash: read every file, whatever the stat cache says.
        roots: real directories; what was opened and is not below one of them is not read.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        limit_bytes: int,
        rehash: bool,
        roots: frozenset[bytes] | None = None,
    ) -> None:
        self._admission = admission
        self._limit_bytes = limit_bytes
        self._rehash = rehash
        self._roots = roots
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")

    def close(self) -> None:
        """Let the reading threads end."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def admit(
        self, batch: Sequence[Candidate], fresh: Freshness, *, instead_of: Sequence[Waiting] = ()
    ) -> Admitted:
        """Decide for each candidate; see ``Admission.admit``."""
        items, rejections, read_at_ns = await self._look(batch, reread=bool(instead_of))
        firsts = await self._admission.first_seen([item for item, _ in items])
        decisions: list[Decision] = []
        others: list[tuple[Item, str | None]] = []
        for (item, known), first in zip(items, firsts, strict=True):
            if known is not None and (item.content.problem is not None or self._reusable(known, fresh)):
                decisions.append(Decision(item, first, known.standing))
            else:
                others.append((item, first))
        if others:
            decisions += await self._admission.admit(
                [item for item, _ in others],
                firsts=[first for _, first in others],
                fresh=fresh,
                read_at_ns=read_at_ns,
                instead_of=instead_of,
            )
        return Admitted(decisions, rejections)

    async def inspect(
        self, batch: Sequence[Candidate]
    ) -> tuple[list[tuple[Item, Known | None]], list[tuple[Candidate, Rejection]]]:
        """Look at content without admitting it, for a dry run."""
        items, rejections, _ = await self._look(batch, reread=False)
        return items, rejections

    async def _look(
        self, batch: Sequence[Candidate], *, reread: bool
    ) -> tuple[list[tuple[Item, Known | None]], list[tuple[Candidate, Rejection]], int]:
        rejections, readable = [], []
        for candidate in batch:
            rejection = self._refuse_unread(candidate)
            if rejection is None:
                readable.append(candidate)
            else:
                rejections.append((candidate, rejection))
        known = {}
        if readable and not (reread or self._rehash):
            known = await self._admission.known([c.location for c in readable if c.location is not None])
        read_at_ns = time.time_ns()
        stale = [c for c in readable if not _unchanged(c, known)]
        contents = dict(zip(map(id, stale), await self._read_all(stale), strict=True))
        items: list[tuple[Item, Known | None]] = []
        for candidate in readable:
            read = contents.get(id(candidate))
            if isinstance(read, Rejection):
                rejections.append((candidate, read))
            elif read is not None:
                stat, content = read
                items.append((Item(msgspec.structs.replace(candidate, stat=stat), content, fresh=True), None))
            else:
                found = known[candidate.location or b""]
                items.append((Item(candidate, found.content, fresh=False), found))
        return items, rejections, read_at_ns

    def _reusable(self, known: Known, fresh: Freshness) -> bool:
        return not self._admission.again and fresh.live(known.standing)

    def _refuse_unread(self, candidate: Candidate) -> Rejection | None:
        if candidate.stat is None:
            return Rejection(candidate.problem or Problem("unreadable", "not looked at"))
        if candidate.stat.size > self._limit_bytes:
            return Rejection(too_large(candidate.stat.size, self._limit_bytes), candidate.stat.size)
        return None

    async def _read_all(self, candidates: Sequence[Candidate]) -> list[tuple[FileStat, Content] | Rejection]:
        loop = asyncio.get_running_loop()
        chunks = [candidates[i : i + _CHUNK] for i in range(0, len(candidates), _CHUNK)]
        parts = await asyncio.gather(
            *(loop.run_in_executor(self._readers, self._read_chunk, chunk) for chunk in chunks)
        )
        return [result for part in parts for result in part]

    def _read_chunk(self, chunk: Sequence[Candidate]) -> list[tuple[FileStat, Content] | Rejection]:
        return [read_content(c.location or b"", self._limit_bytes, self._roots) for c in chunk]


def _unchanged(candidate: Candidate, known: dict[bytes, Known]) -> bool:
    found = known.get(candidate.location or b"")
    return found is not None and found.stat == candidate.stat
