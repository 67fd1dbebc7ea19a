"""What the endpoint must not forget, in one SQLite file: scans, their ZIPs until judged, booked units.

Several engines may share the file. A scan is judged under a lease; only the engine that holds it, in
that attempt, can finish it, so nothing is booked twice whoever else judged it. The lease is no lock: it
saves work, correctness does not depend on it.
"""

import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from batchscan.embedded.database import Database, open_database
from batchscan.embedded.errors import StoreError

Clock = Callable[[], float]

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE scan (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    engine_version INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    creates INTEGER NOT NULL DEFAULT 1,
    created_at REAL NOT NULL,
    finished_at REAL,
    message TEXT,
    detection BLOB,
    owner TEXT,
    lease_until REAL NOT NULL DEFAULT 0,
    UNIQUE (digest, engine_version)
);
CREATE INDEX scan_open ON scan (id) WHERE status = 'SCANNING';
CREATE TABLE content (scan_id INTEGER PRIMARY KEY, zip BLOB NOT NULL);
CREATE TABLE booking (created_at REAL NOT NULL, skill_name TEXT NOT NULL, units INTEGER NOT NULL);
CREATE INDEX booking_time ON booking (created_at);
CREATE TABLE account (opened_at REAL NOT NULL, used_units INTEGER NOT NULL);
"""
_NEWEST = (
    "SELECT * FROM booking WHERE created_at BETWEEN ? AND ?"
    " ORDER BY created_at DESC, rowid DESC LIMIT ? OFFSET ?"
)
_OLDEST = "SELECT * FROM booking WHERE created_at BETWEEN ? AND ? ORDER BY created_at, rowid LIMIT ? OFFSET ?"


class Status(StrEnum):
    """Where a scan stands, in the wire's words."""

    SCANNING = "SCANNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class Admission(StrEnum):
    """What Create did."""

    NEW = "new"
    KNOWN = "known"
    NO_QUOTA = "no-quota"


class Scan(msgspec.Struct, frozen=True):
    """One scan. Times are epoch seconds; ``finished_at`` is None while it runs."""

    status: Status
    created_at: float
    finished_at: float | None
    message: str | None
    detection: bytes | None


class Work(msgspec.Struct, frozen=True):
    """One leased scan; ``content`` is None when the ZIP is missing, which only damage explains."""

    scan_id: int
    attempt: int
    content: bytes | None


class Booking(msgspec.Struct, frozen=True):
    """Units taken by one scan; ``created_at`` is the time of its Create."""

    created_at: float
    skill_name: str
    units: int


class Account(msgspec.Struct, frozen=True):
    """Units booked since the file was made at ``opened_at``."""

    opened_at: float
    used_units: int


class Store:
    """The open file. Made by ``open_store``; every method raises ``StoreError``."""

    def __init__(self, database: Database, retention_s: float, clock: Clock) -> None:
        self._database = database
        self._retention_s = retention_s
        self._clock = clock
        self._owner = uuid.uuid4().hex

    async def create(self, digest: bytes, engine_version: int, content: bytes, quota: int) -> Admission:
        """Admit one ZIP: at most one live scan per digest and engine version.

        New, failed and expired scans start (again) and need quota; a running or kept one is only
        counted. Committed when this returns.
        """
        now = self._clock()

        def statement(db: sqlite3.Connection) -> Admission:
            known = db.execute(
                "UPDATE scan SET creates = creates + 1 WHERE digest = ? AND engine_version = ?"
                " AND (status = 'SCANNING' OR (status = 'SUCCESS' AND finished_at > ?))",
                (digest, engine_version, now - self._retention_s),
            )
            if known.rowcount:
                return Admission.KNOWN
            if db.execute("SELECT used_units >= ? FROM account", (quota,)).fetchone()[0]:
                return Admission.NO_QUOTA
            (scan_id,) = db.execute(
                "INSERT INTO scan (digest, engine_version, status, created_at) VALUES (?, ?, 'SCANNING', ?)"
                " ON CONFLICT (digest, engine_version) DO UPDATE SET status = 'SCANNING',"
                " attempt = attempt + 1, creates = creates + 1, created_at = excluded.created_at,"
                " finished_at = NULL, message = NULL, detection = NULL, owner = NULL, lease_until = 0"
                " RETURNING id",
                (digest, engine_version, now),
            ).fetchone()
            db.execute("INSERT INTO content VALUES (?, ?)", (scan_id, content))
            return Admission.NEW

        return await self._database.call(statement)

    async def find(self, digest: bytes, engine_version: int) -> Scan | None:
        """The scan, unless there is none or its retention is over."""
        oldest = self._clock() - self._retention_s

        def statement(db: sqlite3.Connection) -> Scan | None:
            row = db.execute(
                "SELECT status, created_at, finished_at, message, detection FROM scan"
                " WHERE digest = ? AND engine_version = ? AND (finished_at IS NULL OR finished_at > ?)",
                (digest, engine_version, oldest),
            ).fetchone()
            return None if row is None else Scan(Status(row[0]), *row[1:])

        return await self._database.call(statement)

    async def claim(self, lease_s: float) -> Work | None:
        """Lease the oldest scan that waits, with its ZIP."""
        now = self._clock()

        def statement(db: sqlite3.Connection) -> Work | None:
            row = db.execute(
                "UPDATE scan SET owner = ?, lease_until = ? WHERE id = (SELECT id FROM scan"
                " WHERE status = 'SCANNING' AND lease_until < ? ORDER BY id LIMIT 1) RETURNING id, attempt",
                (self._owner, now + lease_s, now),
            ).fetchone()
            if row is None:
                return None
            content = db.execute("SELECT zip FROM content WHERE scan_id = ?", (row[0],)).fetchone()
            return Work(row[0], row[1], content and content[0])

        return await self._database.call(statement)

    async def succeed(self, work: Work, detection: bytes, skill_name: str, units: int) -> bool:
        """Keep a judgement and book its units. False: the scan is no longer ours."""

        def statement(db: sqlite3.Connection) -> bool:
            created_at = self._finish(db, work, Status.SUCCESS, None, detection)
            if created_at is None:
                return False
            db.execute("INSERT INTO booking VALUES (?, ?, ?)", (created_at, skill_name, units))
            db.execute("UPDATE account SET used_units = used_units + ?", (units,))
            return True

        return await self._database.call(statement)

    async def fail(self, work: Work, message: str) -> bool:
        """Keep a failure; nothing is booked. False: the scan is no longer ours."""

        def statement(db: sqlite3.Connection) -> bool:
            return self._finish(db, work, Status.FAILED, message, None) is not None

        return await self._database.call(statement)

    def _finish(
        self, db: sqlite3.Connection, work: Work, status: Status, message: str | None, detection: bytes | None
    ) -> float | None:
        row = db.execute(
            "UPDATE scan SET status = ?, finished_at = ?, message = ?, detection = ?, owner = NULL"
            " WHERE id = ? AND status = 'SCANNING' AND attempt = ? AND owner = ? RETURNING created_at",
            (status, self._clock(), message, detection, work.scan_id, work.attempt, self._owner),
        ).fetchone()
        if row is None:
            return None
        db.execute("DELETE FROM content WHERE scan_id = ?", (work.scan_id,))
        return float(row[0])

    async def account(self) -> Account:
        """What has been booked."""

        def statement(db: sqlite3.Connection) -> Account:
            return Account(*db.execute("SELECT opened_at, used_units FROM account").fetchone())

        return await self._database.call(statement)

    async def bookings(
        self, start: float, end: float, *, newest_first: bool, offset: int, limit: int
    ) -> tuple[int, list[Booking]]:
        """How many bookings lie in ``start <= created_at <= end``, and one page of them."""

        def statement(db: sqlite3.Connection) -> tuple[int, list[Booking]]:
            (total,) = db.execute(
                "SELECT count(*) FROM booking WHERE created_at BETWEEN ? AND ?", (start, end)
            ).fetchone()
            rows = db.execute(_NEWEST if newest_first else _OLDEST, (start, end, limit, offset))
            return total, [Booking(*row) for row in rows]

        return await self._database.call(statement)

    async def counts(self) -> dict[str, Any]:
        """Scans by status, and accepted Creates per content: reads the whole table."""

        def statement(db: sqlite3.Connection) -> dict[str, Any]:
            hashes, accepted, repeated = db.execute(
                "SELECT count(*), coalesce(sum(creates), 0), coalesce(sum(creates > 1), 0)"
                " FROM (SELECT sum(creates) AS creates FROM scan GROUP BY digest)"
            ).fetchone()
            return {
                "scans": dict(db.execute("SELECT status, count(*) FROM scan GROUP BY status").fetchall()),
                "creates": {"accepted": accepted, "hashes": hashes, "hashes_created_again": repeated},
            }

        return await self._database.call(statement)

    async def purge(self) -> int:
        """Delete scans whose retention is over; bookings stay. How many there were."""
        oldest = self._clock() - self._retention_s
        return await self._database.call(
            lambda db: db.execute("DELETE FROM scan WHERE finished_at <= ?", (oldest,)).rowcount
        )

    async def release(self) -> None:
        """Give up this engine's leases, so that the next one need not wait for them."""
        await self._database.call(
            lambda db: db.execute(
                "UPDATE scan SET lease_until = 0, owner = NULL WHERE owner = ?", (self._owner,)
            )
        )


@asynccontextmanager
async def open_store(path: Path, *, retention_s: float, clock: Clock) -> AsyncIterator[Store]:
    """Open the file, make it where it is missing, and take back what a dead engine had leased.

    Raises:
        StoreError: it cannot be used; the message says why and what to do.
    """

    def prepare(db: sqlite3.Connection, alone: bool) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise StoreError(
                f"{path} is of version {version}, this program knows {SCHEMA_VERSION}: use a newer one"
            )
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO account VALUES (?, 0)", (clock(),))
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        if alone:
            db.execute("UPDATE scan SET lease_until = 0, owner = NULL WHERE status = 'SCANNING'")

    async with open_database(path, prepare) as database:
        store = Store(database, retention_s, clock)
        await store.purge()
        try:
            yield store
        finally:
            await store.release()
