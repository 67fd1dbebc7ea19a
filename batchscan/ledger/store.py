"""The ledger's file: opening, checking, reading, and commits in groups.

One thread owns the one connection. Every access is a function on a Core ``Connection`` that runs
there; ``docs/decisions/ledger.md`` tells why not an async driver. Writes that arrive while a commit
is under way share the next one, so its fsync is paid once for all of them. A queued write is carried
out even if its caller is cancelled, because it is usually an answer that was paid for.
"""

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from batchscan.errors import LedgerError
from batchscan.ledger import migrations, schema

T = TypeVar("T")
Work = Callable[[Connection], T]

BUSY_TIMEOUT_MS = 10_000
BUSY_RETRIES = 6
"""How often a transaction that met a lock for the whole time-out is tried: a minute in all."""

_MAKING = Lock()
"""Held while a file is made: nothing else of this process has it open until its descriptor is closed."""

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA cache_size=-65536",
    # Of the temporary tables: a batch of inputs touches hundreds of pages, each of which a journal on disk
    # would hold first.
    "PRAGMA temp.journal_mode=MEMORY",
    "PRAGMA temp.cache_size=-16384",
)


class Ledger:
    """An open ledger. Made by ``open_ledger``.

    Attributes:
        path: the SQLite file, named in errors.
        scope: id of the scope that this process works for.
    """

    def __init__(self, path: Path, connection: Connection, thread: ThreadPoolExecutor) -> None:
        self.path = path
        self.scope = 0
        self._connection = connection
        self._thread = thread
        self._queued: deque[tuple[Work[Any], Future[Any]]] = deque()

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` outside a transaction.

        Raises:
            LedgerError: the database failed.
        """
        return await asyncio.wrap_future(self._thread.submit(self._read, work))

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` inside a transaction, shared with other writes of the moment, and commit it.

        ``work`` may run twice: when a write beside it fails, each is tried alone.

        Raises:
            LedgerError: the database failed; nothing of ``work`` was written.
        """
        done: Future[T] = Future()
        self._queued.append((work, done))
        self._thread.submit(self._commit_queued)
        written = asyncio.wrap_future(done)
        written.add_done_callback(_look_at)
        return await asyncio.shield(written)

    def _read(self, work: Work[T]) -> T:
        try:
            return work(self._connection)
        except DBAPIError as error:
            raise _translated(error, self.path) from error

    def _commit_queued(self) -> None:
        """Commit all that is queued; a no-op when an earlier call took it along."""
        group = []
        while self._queued:
            group.append(self._queued.popleft())
        if group:
            self._commit(group)

    def _commit(self, group: list[tuple[Work[Any], Future[Any]]]) -> None:
        """Commit a group; when that fails, each alone, so that a write meets only its own error."""
        try:
            results = self._transact([work for work, _ in group])
        except Exception as error:  # noqa: BLE001 - handed to whoever asked for the write
            if len(group) == 1 or _is_busy(error.__cause__):  # a lock is no fault of one: all have waited
                for _, done in group:
                    done.set_exception(error)
            else:
                for one in group:
                    self._commit([one])
            return
        for (_, done), result in zip(group, results, strict=True):
            done.set_result(result)

    def _transact(self, works: list[Work[Any]]) -> list[Any]:
        for left in reversed(range(BUSY_RETRIES)):
            try:
                return _in_transaction(self._connection, works)
            except DBAPIError as error:
                if not (left and _is_busy(error)):
                    raise _translated(error, self.path) from error
        raise AssertionError  # the last try returned or raised


def _in_transaction(connection: Connection, works: list[Work[Any]]) -> list[Any]:
    # IMMEDIATE: a deferred transaction that reads before it writes gets BUSY without waiting when
    # another process wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        results = [work(connection) for work in works]
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        with suppress(SQLAlchemyError):  # SQLite may have rolled back by itself, on a full disk say
            connection.exec_driver_sql("ROLLBACK")
        raise
    return results


def fetch_tuples(connection: Connection, text: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Read with the driver alone: its own values, in plain tuples.

    Raises:
        DBAPIError: the database failed, as everywhere.
    """
    try:
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(text, parameters)
            return list(cursor.fetchall())
    except sqlite3.Error as error:
        raise DBAPIError(text, parameters, error) from error


def _look_at(written: asyncio.Future[Any]) -> None:
    """See a failure whose caller was cancelled: the run has its error already; asyncio would print it."""
    if not written.cancelled():
        written.exception()


def _is_busy(error: BaseException | None) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return getattr(error.orig, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


_MOVE = "or choose another --state-dir"
_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and resume the run",
    sqlite3.SQLITE_IOERR: "the disk takes no reads or writes, or is full; check it, then resume the run",
    sqlite3.SQLITE_READONLY: f"it cannot be written; check its owner and the mount, {_MOVE}",
    sqlite3.SQLITE_CANTOPEN: f"it cannot be opened; check its owner and the mount, {_MOVE}",
    sqlite3.SQLITE_CORRUPT: f"it is damaged; keep it for repair, {_MOVE}",
    sqlite3.SQLITE_NOTADB: f"it is no ledger or is damaged; keep it for repair, {_MOVE}",
    sqlite3.SQLITE_BUSY: "another process held it for too long; see which processes use this --state-dir",
}


def _translated(error: DBAPIError, path: Path) -> LedgerError:
    code = getattr(error.orig, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else 0
    return LedgerError(f"ledger {path}: {_ADVICE.get(primary, 'unexpected database error')} ({error.orig})")


@asynccontextmanager
async def open_ledger(path: Path, scope: str) -> AsyncIterator[Ledger]:
    """Open the ledger at ``path`` for one scope, making it where there is none.

    Args:
        path: the SQLite file; its directory must exist.
        scope: profile name and endpoint host.

    Raises:
        LedgerError: not writable, damaged, another program's file, or from a newer batchscan.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
    loop = asyncio.get_running_loop()
    try:
        connection, engine = await loop.run_in_executor(thread, _connect, path)
        try:
            ledger = Ledger(path, connection, thread)
            ledger.scope = await ledger.write(lambda c: _scope_id(c, scope))
            yield ledger
        finally:
            await asyncio.shield(loop.run_in_executor(thread, _disconnect, connection, engine))
    finally:
        thread.shutdown(wait=False)


def _connect(path: Path) -> tuple[Connection, Engine]:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        _make_private(path)
        connection = engine.connect()
        try:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            _check_ours(connection, path)  # before a pragma writes to what may be another program's file
            for pragma in _PRAGMAS:
                connection.exec_driver_sql(pragma)
            _in_transaction(connection, [lambda c: _migrate(c, path)])
            schema.metadata.create_all(connection, tables=schema.TEMPORARY, checkfirst=False)
        except BaseException:
            _disconnect(connection, engine)
            raise
    except DBAPIError as error:
        raise _translated(error, path) from error
    except OSError as error:
        raise LedgerError(
            f"ledger {path}: {error.strerror}; check the directory's owner, or choose another --state-dir"
        ) from error
    return connection, engine


def _make_private(path: Path) -> None:
    """Make the file with 0600, before SQLite does with the umask: it names every skill of the marketplace.

    One that is there is not opened: to close any descriptor of a file frees all POSIX locks that this
    process has on it, those of an open ledger included. Another process would then take itself for the last
    one, and remove the journal that this one goes on writing to.
    """
    with _MAKING, suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _disconnect(connection: Connection, engine: Engine) -> None:
    connection.close()
    engine.dispose()


def _check_ours(connection: Connection, path: Path) -> int:
    """Tell the file's schema version, 0 when it is empty; refuse what is neither empty nor ours."""
    application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if application == schema.APPLICATION_ID and version > schema.SCHEMA_VERSION:
        raise LedgerError(
            f"ledger {path}: made by a newer batchscan (schema {version}, this one knows"
            f" {schema.SCHEMA_VERSION}); upgrade batchscan, or choose another --state-dir"
        )
    if application == schema.APPLICATION_ID and version:
        return version
    if application or connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
        raise LedgerError(f"ledger {path}: another program's database; choose another --state-dir")
    return 0


def _migrate(connection: Connection, path: Path) -> None:
    """Make the tables, or bring old ones up to date, unless another process has done so meanwhile."""
    version = _check_ours(connection, path)
    if version:
        migrations.upgrade(connection, version, schema.SCHEMA_VERSION)
        return
    schema.metadata.create_all(connection, tables=schema.PERSISTENT, checkfirst=False)
    connection.exec_driver_sql(f"PRAGMA application_id={schema.APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version={schema.SCHEMA_VERSION}")


def _scope_id(connection: Connection, name: str) -> int:
    connection.execute(insert(schema.scope).values(name=name).on_conflict_do_nothing())
    found: int = connection.execute(select(schema.scope.c.id).where(schema.scope.c.name == name)).scalar_one()
    return found
