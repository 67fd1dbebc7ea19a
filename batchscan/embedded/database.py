"""One SQLite file on one thread, with group commit.

A call is a function of the connection. Calls that arrive while a transaction runs share the next one,
so ``synchronous=FULL`` costs one fsync for many of them and a commit survives a power cut as well as a
kill. The standard library's driver is used directly: async drivers hop to a thread per statement, here
it is one hop per transaction.
"""

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from batchscan.embedded.errors import StoreError

T = TypeVar("T")
Statement = Callable[[sqlite3.Connection], T]
Prepare = Callable[[sqlite3.Connection, bool], None]
_Call = tuple[Statement[Any], "asyncio.Future[Any]"]

BUSY_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 30.0
_LOCK_RETRY_S = 0.02


class Database:
    """Runs calls on the database's thread. Made by ``open_database``."""

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._connection = connection
        self._thread = thread
        self._waiting: list[_Call] = []
        self._running = False

    async def call(self, statement: Statement[T]) -> T:
        """Run one call; when this returns it is committed.

        A cancelled caller does not undo its call: it is in the queue or done.

        Raises:
            StoreError: the transaction failed, all of it; or it took longer than 30 seconds.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((statement, future))
        if not self._running:
            self._start(loop)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await future
        except TimeoutError as error:
            raise StoreError(
                f"{self._path}: no answer within {CALL_TIMEOUT_S:g} s; is the disk busy?"
            ) from error

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting, []
        self._running = True
        statements = [statement for statement, _ in batch]
        transaction = loop.run_in_executor(self._thread, _transact, self._connection, statements)

        def finish(done: "asyncio.Future[list[Any]]") -> None:
            self._running = False
            self._settle(batch, done)
            if self._waiting:
                self._start(loop)

        transaction.add_done_callback(finish)

    def _settle(self, batch: list[_Call], done: "asyncio.Future[list[Any]]") -> None:
        error = done.exception()
        results = [None] * len(batch) if error else done.result()
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if error is None:
                future.set_result(result)
            else:
                failure = StoreError(f"{self._path}: {error}")
                failure.__cause__ = error
                future.set_exception(failure)


def _transact(db: sqlite3.Connection, statements: list[Statement[Any]]) -> list[Any]:
    db.execute("BEGIN IMMEDIATE")
    try:
        results = [statement(db) for statement in statements]
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return results


@asynccontextmanager
async def open_database(path: Path, prepare: Prepare) -> AsyncIterator[Database]:
    """Open or make the file (readable by its owner only).

    Args:
        path: the SQLite file; ``PATH.lock`` beside it tells engines of each other.
        prepare: runs in the first transaction, told whether no other process has the file open.

    Raises:
        StoreError: it cannot be used.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-store")
    try:
        connection, lock = await loop.run_in_executor(thread, _open, path, prepare)
        try:
            yield Database(path, connection, thread)
        finally:
            await loop.run_in_executor(thread, _close, connection, lock)
    finally:
        thread.shutdown(wait=False)


def _open(path: Path, prepare: Prepare) -> tuple[sqlite3.Connection, int]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; choose a directory that can be written to") from error
    try:
        alone = _lock(path, lock)
        connection = _connect(path, prepare, alone=alone)
        fcntl.flock(lock, fcntl.LOCK_SH)  # from exclusive to shared: never waits
    except BaseException:
        os.close(lock)
        raise
    return connection, lock


def _lock(path: Path, lock: int) -> bool:
    """Take the lock alone where possible, else with others; the kernel frees it when a process dies."""
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        for mode in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            try:
                fcntl.flock(lock, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return mode == fcntl.LOCK_EX
        if time.monotonic() > give_up:
            raise StoreError(
                f"{path}: another engine has been starting on it for {BUSY_TIMEOUT_S:g} s; try again"
            )
        time.sleep(_LOCK_RETRY_S)


def _connect(path: Path, prepare: Prepare, *, alone: bool) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}; choose another file") from error
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        _transact(db, [lambda connection: prepare(connection, alone)])
    except sqlite3.Error as error:
        db.close()
        raise StoreError(f"{path}: {error}; move the file away to start with an empty one") from error
    except BaseException:
        db.close()
        raise
    return db


def _close(connection: sqlite3.Connection, lock: int) -> None:
    connection.close()
    os.close(lock)
