"""A ledger that knows a tree already, as after a night that scanned all of it.

Usage: seed.py LEDGER TREE. A ledger that was seeded like this before is kept. A process of its own, because a
child's memory is never told to be less than what its parent had when it started the child.
"""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
from sqlalchemy import Connection, insert
from sqlalchemy.schema import CreateTable

from batchscan.ledger import schema
from batchscan.ledger.store import open_ledger
from batchscan.models import Capability, RiskLevel, ScanState, Verdict

_PAGE = 5000
_VERDICT = Verdict(
    level=RiskLevel.BENIGN,
    engine_version=1,
    score=98,
    skill_name="sorter",
    skill_description="Sorts a list and says in a sentence or two what it did with it, as real ones do.",
    file_count=1,
    capabilities=(Capability("file_read", "Reads files"),),
    summary="All of its content was looked at and nothing was found. That is no proof of safety.",
    scanned_at=time.time(),
)


_SCOPE = "default@benchmark"


def _mark() -> str:
    """Changes with the ledger's tables and with what is entered."""
    tables = "".join(str(CreateTable(table)) for table in schema.PERSISTENT)
    return hashlib.sha256(tables.encode() + Path(__file__).read_bytes()).hexdigest()[:12]


_Known = tuple[bytes, os.stat_result, bytes]


def _pages(tree: Path) -> Iterator[list[_Known]]:
    page: list[_Known] = []
    for directory in sorted(tree.iterdir()):
        for entry in os.scandir(directory):
            digest = hashlib.sha256(Path(entry.path).read_bytes()).digest()
            page.append((os.fsencode(entry.path), entry.stat(), digest))
        if len(page) >= _PAGE:
            yield page
            page = []
    if page:
        yield page


def _set(pragma: str, connection: Connection) -> None:
    connection.exec_driver_sql(f"PRAGMA {pragma}")


async def seed(ledger_file: Path, tree: Path) -> None:
    """Enter every file of ``tree`` with a live verdict."""
    async with open_ledger(ledger_file, _SCOPE) as ledger:
        for pragma in ("cache_size=-2000000", "synchronous=OFF"):  # digests come in no order
            await ledger.read(partial(_set, pragma))
        for page in _pages(tree):
            await ledger.write(partial(_enter, scope=ledger.scope, page=page))


def _enter(connection: Connection, scope: int, page: list[_Known]) -> None:
    now, result = time.time(), msgspec.json.encode(_VERDICT)
    connection.execute(
        insert(schema.file),
        [
            {
                "location": path,
                "size": stat.st_size,
                "mtime_ns": stat.st_mtime_ns,
                "inode": stat.st_ino,
                "digest": digest,
            }
            for path, stat, digest in page
        ],
    )
    digests = [(digest, stat.st_size) for _, stat, digest in page]
    connection.execute(
        insert(schema.artifact),
        [{"digest": d, "size": size, "file_count": 1, "notes": b"[]"} for d, size in digests],
    )
    connection.execute(
        insert(schema.scan),
        [
            {
                "scope": scope,
                "digest": d,
                "state": ScanState.DONE,
                "engine_version": 1,
                "attempt": 1,
                "polls": 1,
                "submitted_at": now,
            }
            for d, _ in digests
        ],
    )
    connection.execute(
        insert(schema.verdict),
        [
            {
                "scope": scope,
                "digest": d,
                "engine_version": 1,
                "result": result,
                "scanned_at": now,
                "expires_at": now + 90 * 86400,
                "run": 0,
            }
            for d, _ in digests
        ],
    )


def main(ledger_file: Path, tree: Path) -> None:
    done = ledger_file.with_name(f"seeded-{_mark()}")
    if done.exists():
        return
    for old in ledger_file.parent.glob(f"{ledger_file.name}*"):
        old.unlink()
    asyncio.run(seed(ledger_file, tree))
    done.touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
