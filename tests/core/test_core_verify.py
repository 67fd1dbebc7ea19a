"""Verification: a sound ledger is sound, each thing that can be wrong is named, and nothing is written."""

import asyncio
import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from test_core_migrations import SCOPE, fill

from batchscan.errors import LedgerError
from batchscan.ledger.store import open_ledger
from batchscan.ledger.verify import verify

WRONG = {
    "UPDATE scan SET scope = 9": "scan: of a scope that is not there",
    "UPDATE verdict SET scope = 9": "verdict: of a scope that is not there",
    "UPDATE run SET scope = 9": "run: of a scope that is not there",
    "INSERT INTO cap VALUES (9, 'CreateSkillScan', 0, 0, 0)": "cap: of a scope that is not there",
    "DELETE FROM verdict": "scan: done, without its verdict",
    "UPDATE scan SET engine_version = 7 WHERE state = 'done'": "scan: done, without its verdict",
    "UPDATE scan SET submitted_at = NULL WHERE state = 'scanning'": "scan: submitted, without what it takes",
    "UPDATE scan SET owner = NULL": "scan: claimed by nobody",
    "UPDATE scan SET next_at = NULL WHERE state = 'admitted'": "scan: never due",
    "UPDATE scan SET state = 'lost'": "scan: in a state that does not exist",
    "UPDATE scan SET problem = x'7B'": "scan: its error cannot be decoded",
    "UPDATE verdict SET result = x'7B'": "verdict: cannot be decoded",
    "UPDATE verdict SET engine_version = 7": "verdict: cannot be decoded, or is of another engine",
    "UPDATE artifact SET notes = 'x'": "artifact: cannot be decoded",
    "DELETE FROM artifact": "file: of content that is not there",
    "DELETE FROM run": "waiting: for a run that is not there",
    "UPDATE run SET state = 'complete'": "waiting: for a run that is complete",
    "DELETE FROM scan": "waiting: for a verdict that will not come",
    "UPDATE waiting SET candidate = x'7B7D'": "waiting: is another input than it says",
    "UPDATE waiting SET path = 'x', key = randomblob(16)": "waiting: is another input than it says",
    "UPDATE run SET request = '{}'": "run: cannot be decoded",
    "UPDATE run SET state = 'asleep'": "run: cannot be decoded",
    "DROP TABLE cap": "cap: cannot be read",
    "PRAGMA user_version = 99": "made by a newer batchscan",
    "PRAGMA application_id = 4711": "another program's database",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "ledger.sqlite3"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def ledger(filled: Path, tmp_path: Path) -> Path:
    return shutil.copyfile(filled, tmp_path / "ledger.sqlite3")


def test_a_sound_ledger_is_sound(ledger: Path) -> None:
    found = verify(ledger)
    assert found.faults == []
    assert (found.rows["scan"], found.rows["waiting"], found.rows["verdict"]) == (4, 4, 1)


@pytest.mark.parametrize(("change", "named"), WRONG.items(), ids=WRONG)
def test_what_is_wrong_is_named_and_left_alone(ledger: Path, change: str, named: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute(change)
        connection.commit()
    before = hashlib.sha256(ledger.read_bytes()).digest()
    faults = verify(ledger).faults
    assert any(fault.what.startswith(named) for fault in faults), faults
    assert hashlib.sha256(ledger.read_bytes()).digest() == before


def test_a_damaged_page_is_named_and_left_alone(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'verdict'")
    raw = bytearray(ledger.read_bytes())
    raw[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    ledger.write_bytes(raw)
    faults = verify(ledger).faults
    assert any("malformed" in fault.example or fault.what == "damaged" for fault in faults), faults
    assert ledger.read_bytes() == raw


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"my diary\n" * 200)
    assert {fault.what for fault in verify(path).faults} == {"the file: cannot be read"}
    with pytest.raises(LedgerError, match="cannot be read"):
        verify(tmp_path / "nothing")


async def test_a_live_run_does_not_disturb_and_is_not_disturbed(ledger: Path) -> None:
    async with open_ledger(ledger, SCOPE) as opened:
        await opened.write(lambda c: c.exec_driver_sql("INSERT INTO scope (name) VALUES ('other')"))
        found = verify(ledger)
        assert found.faults == []
        assert found.rows["scope"] == 2
        await opened.write(lambda c: c.exec_driver_sql("INSERT INTO scope (name) VALUES ('third')"))


def test_an_empty_file_is_a_ledger_that_was_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.touch()
    assert verify(path).faults == []
