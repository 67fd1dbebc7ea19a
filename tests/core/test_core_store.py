"""The ledger's file: commits in groups, locks, and files that are not to be touched."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from core_lab import Bench, bench
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from batchscan.errors import LedgerError
from batchscan.ledger.store import Ledger, fetch_tuples, open_ledger

SCOPE = "test@scripted"


def insert(name: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO scope (name) VALUES (?)", (name,))

    return work


async def names(ledger: Ledger) -> set[str]:
    return await ledger.read(lambda c: set(c.exec_driver_sql("SELECT name FROM scope").scalars()))


def driver(ledger: Ledger) -> sqlite3.Connection:
    """The ledger's own connection, below SQLAlchemy."""
    raw: Any = ledger._connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


class Commits:
    """Counts the transactions of a ledger, and can hold the first of them up."""

    def __init__(self, ledger: Ledger) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.entered = threading.Event()
        driver(ledger).set_trace_callback(self._traced)

    def _traced(self, statement: str) -> None:
        if statement == "COMMIT":
            self.count += 1

    def hold(self, _connection: Connection) -> None:
        self.entered.set()
        assert self.gate.wait(10)


async def held_up(ledger: Ledger, commits: Commits) -> "asyncio.Task[None]":
    """Occupy the ledger's thread with a transaction until the gate opens."""
    first = asyncio.create_task(ledger.write(commits.hold))
    await asyncio.to_thread(commits.entered.wait, 10)
    return first


async def test_writes_of_one_moment_share_a_commit(shelf: Bench) -> None:
    commits = Commits(shelf.ledger)
    first = await held_up(shelf.ledger, commits)
    others = [asyncio.create_task(shelf.ledger.write(insert(f"w{i}"))) for i in range(50)]
    await asyncio.sleep(0)  # they queue up
    commits.gate.set()
    await asyncio.gather(first, *others)
    assert commits.count == 2
    assert {f"w{i}" for i in range(50)} <= await names(shelf.ledger)


async def test_a_failing_write_fails_alone(shelf: Bench) -> None:
    commits = Commits(shelf.ledger)
    first = await held_up(shelf.ledger, commits)
    before, broken, after, raising = (
        asyncio.create_task(shelf.ledger.write(work))
        for work in (insert("before"), insert(SCOPE), insert("after"), lambda _: 1 // 0)
    )
    await asyncio.sleep(0)
    commits.gate.set()
    await asyncio.gather(first, before, after)
    with pytest.raises(LedgerError) as caught:
        await broken
    assert isinstance(caught.value.__cause__, IntegrityError)
    with pytest.raises(ZeroDivisionError):
        await raising
    assert {"before", "after"} <= await names(shelf.ledger)


async def test_a_failing_write_leaves_nothing_behind(shelf: Bench) -> None:
    def half(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO scope (name) VALUES ('half')")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - which one is clear
        await shelf.ledger.write(half)
    assert "half" not in await names(shelf.ledger)


async def test_the_write_of_a_cancelled_caller_is_committed(shelf: Bench) -> None:
    commits = Commits(shelf.ledger)
    first = await held_up(shelf.ledger, commits)
    paid_for = asyncio.create_task(shelf.ledger.write(insert("paid for")))
    await asyncio.sleep(0)
    paid_for.cancel()
    beside = asyncio.create_task(shelf.ledger.write(lambda _: "its own answer"))
    with pytest.raises(asyncio.CancelledError):
        await paid_for
    commits.gate.set()
    await first
    assert await beside == "its own answer"  # and by then all that was queued before is done
    assert "paid for" in await names(shelf.ledger)


async def test_what_is_queued_when_the_ledger_closes_is_committed(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        paid_for = asyncio.create_task(made.ledger.write(insert("paid for")))
        await asyncio.sleep(0)
        paid_for.cancel()
        with pytest.raises(asyncio.CancelledError):
            await paid_for
    async with bench(tmp_path) as made:
        assert "paid for" in await names(made.ledger)


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
connection.close()
"""


@pytest.fixture
def locker(tmp_path: Path, shelf: Bench) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the write lock until it reads a line."""
    assert shelf.ledger.path == tmp_path / "ledger.sqlite3"
    command = [sys.executable, "-c", LOCKER, str(shelf.ledger.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.stdin.close()
        process.wait(10)


async def test_a_lock_of_another_process_is_waited_for(shelf: Bench, locker: "subprocess.Popen[str]") -> None:
    await shelf.ledger.read(lambda c: c.exec_driver_sql("PRAGMA busy_timeout=20").fetchall())
    write = asyncio.create_task(shelf.ledger.write(insert("waited")))
    done, _ = await asyncio.wait({write}, timeout=0.04)  # longer than one busy time-out
    assert not done
    assert locker.stdin is not None
    locker.stdin.write("go\n")
    locker.stdin.flush()
    await write
    assert "waited" in await names(shelf.ledger)


async def test_a_lock_that_stays_fails_all_that_wait_at_once(
    shelf: Bench, locker: "subprocess.Popen[str]"
) -> None:
    await shelf.ledger.read(lambda c: c.exec_driver_sql("PRAGMA busy_timeout=20").fetchall())
    begins = 0

    def traced(statement: str) -> None:
        nonlocal begins
        begins += statement == "BEGIN IMMEDIATE"

    driver(shelf.ledger).set_trace_callback(traced)
    held: Future[None] = Future()
    shelf.ledger._thread.submit(held.result, 10)  # so that all ten are one group
    writes = [asyncio.create_task(shelf.ledger.write(insert(f"w{i}"))) for i in range(10)]
    await asyncio.sleep(0)
    held.set_result(None)
    errors = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(error, LedgerError) for error in errors)
    assert "another process held it for too long" in str(errors[0])
    assert begins == 6  # not six for each
    assert locker.poll() is None


async def refused(path: Path) -> str:
    with pytest.raises(LedgerError) as caught:
        async with open_ledger(path, SCOPE):
            pass
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_what_is_no_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"my diary\n" * 200)
    assert "no ledger or is damaged" in await refused(path)
    assert path.read_bytes() == b"my diary\n" * 200
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 - names


@pytest.mark.parametrize("own_id", [0, 4711])
async def test_another_programs_database_is_not_touched(tmp_path: Path, own_id: int) -> None:
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id={own_id}")
    if not own_id:
        connection.execute("CREATE TABLE photos (id)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    assert "another program's database" in await refused(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 - names


async def test_a_newer_ledger_is_not_touched(tmp_path: Path) -> None:
    async with bench(tmp_path):
        pass
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = path.read_bytes()
    message = await refused(path)
    assert "newer batchscan" in message
    assert "upgrade" in message
    assert path.read_bytes() == before


async def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path) as made:
        await made.change("CREATE TABLE filler AS SELECT randomblob(20000) AS x")
    path = tmp_path / "ledger.sqlite3"
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xff" * len(raw[4096:])
    path.write_bytes(raw)
    assert "damaged" in await refused(path)


READ_ONLY = """
import asyncio, os, sys
from pathlib import Path
from batchscan.errors import LedgerError
from batchscan.ledger.store import open_ledger

async def main():
    async with open_ledger(Path(sys.argv[1]), "test@scripted"):
        pass

os.setuid(65534) if os.getuid() == 0 else None
try:
    asyncio.run(main())
except LedgerError as error:
    print(error)
"""


def as_nobody(path: Path) -> str:
    command = [sys.executable, "-c", READ_ONLY, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    async with bench(tmp_path):
        pass
    path = tmp_path / "ledger.sqlite3"
    before = path.read_bytes()
    path.chmod(0o444)
    with ExitStack() as stack:
        for directory in (tmp_path, *tmp_path.parents):
            if directory.stat().st_uid == os.getuid() and not directory.stat().st_mode & 0o001:
                stack.callback(directory.chmod, directory.stat().st_mode)
                directory.chmod(directory.stat().st_mode | 0o005)
        message = as_nobody(path)
    assert str(path) in message
    assert "Permission denied" in message
    assert "--state-dir" in message
    assert path.read_bytes() == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_told_and_loses_nothing(tiny_disk: Path) -> None:
    async with bench(tiny_disk) as made:
        await made.change("INSERT INTO scope (name) VALUES ('safe')")
        with pytest.raises(LedgerError, match="the disk is full; make room and resume the run"):
            await made.change("CREATE TABLE big AS SELECT randomblob(2000000) AS x")
        await made.change("INSERT INTO scope (name) VALUES ('still works')")
        assert {"safe", "still works"} <= await names(made.ledger)


async def test_a_disk_too_small_for_a_ledger_is_told(tiny_disk: Path) -> None:
    (tiny_disk / "full").write_bytes(b"x" * 480 * 1024)
    assert "full; " in await refused(tiny_disk / "ledger.sqlite3")


SPOIL = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    file.write(b"\\xab" * int(sys.argv[3]))
"""
READ_ONCE = """
import sqlite3, sys
ledger = sqlite3.connect(sys.argv[1])
print(*(name for name, in ledger.execute("SELECT name FROM scope")))
ledger.close()
"""


async def test_a_second_ledger_of_one_process_leaves_the_locks_of_the_first_alone(tmp_path: Path) -> None:
    """A lock that is lost lets the next process that closes the file remove the journal under the others."""
    path = tmp_path / "ledger.sqlite3"
    looking = (sys.executable, "-c", READ_ONCE, str(path))
    async with open_ledger(path, SCOPE) as ledger, open_ledger(path, SCOPE):
        await asyncio.to_thread(subprocess.run, looking, check=True, capture_output=True)
        await ledger.write(insert("later"))
        seen = await asyncio.to_thread(subprocess.run, looking, check=True, capture_output=True, text=True)
        assert seen.stdout.split() == [SCOPE, "later"]
        assert path.with_name("ledger.sqlite3-wal").exists()


async def test_a_page_that_is_damaged_is_told_by_what_is_read_with_the_driver_alone(shelf: Bench) -> None:
    path = shelf.ledger.path
    root = await shelf.ledger.read(
        lambda c: c.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'scope'").scalar_one()
    )
    await shelf.ledger.write(lambda c: c.exec_driver_sql("PRAGMA cache_size=0"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = other.execute("PRAGMA page_size").fetchone()[0]
    spoil = (sys.executable, "-c", SPOIL, str(path), str((root - 1) * size), str(size))
    await asyncio.to_thread(subprocess.run, spoil, check=True)
    with pytest.raises(LedgerError, match="it is damaged"):
        await shelf.ledger.read(lambda c: fetch_tuples(c, "SELECT name FROM scope", ()))


async def test_the_ledger_is_private_to_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with bench(tmp_path):
            names = [name for name in os.listdir(tmp_path) if name.startswith("ledger")]  # noqa: PTH208 - names
            modes = [(tmp_path / name).stat().st_mode & 0o777 for name in names]
    finally:
        os.umask(before)
    assert len(modes) == 3  # with the write-ahead log
    assert set(modes) == {0o600}


def test_processes_that_make_a_ledger_together_all_get_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    program = READ_ONLY.replace("os.setuid(65534) if os.getuid() == 0 else None", "")
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=30)[0] for process in processes] == [""] * 3
    assert [process.returncode for process in processes] == [0] * 3
