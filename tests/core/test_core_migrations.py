"""Ledgers of every released schema become today's, whole or not at all.

``data/ledger-N.sql`` is a ledger as version N made it, and stays as it is. A change of the schema is a new
version with its step; ``python tests/core/test_core_migrations.py`` then writes that version's ledger.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from batchscan.errors import LedgerError
from batchscan.ledger import migrations, schema
from batchscan.ledger.admission import Admission
from batchscan.ledger.runs import RunRequest, Runs
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Content, Freshness, Item
from batchscan.ledger.store import open_ledger
from batchscan.ledger.verify import verify
from batchscan.models import Artifact, Candidate, FileStat, RiskLevel, Verdict

VERSIONS = range(1, schema.SCHEMA_VERSION + 1)
SCOPE = "default@csip.intl.tencentcloudapi.com"
T0 = 1_780_000_000.0
INPUTS = 4


def candidate(number: int) -> Candidate:
    path = f"skill-{number}.zip"
    stat = FileStat(100 + number, 1_700_000_000_000_000_000, number)
    return Candidate(source="skills", path=path, location=f"/srv/skills/{path}".encode(), stat=stat)


async def fill(path: Path) -> None:
    """A run with a verdict, a scan under way, a claim, and one that nobody has begun with."""
    digests = [bytes([number]) * 32 for number in range(INPUTS)]
    async with open_ledger(path, SCOPE) as ledger:
        request = RunRequest(sources=("skills",), directory="/srv", endpoint="intl")
        run = await Runs(ledger).create("20260528T000000Z-0badcafe", request, Path("/srv/r.jsonl"), now=T0)
        items = [
            Item(candidate(number), Content(Artifact(digest, 100 + number, 3, ("symlink",))), fresh=True)
            for number, digest in enumerate(digests)
        ]
        await Admission(ledger, run.id).admit(
            items, firsts=[None] * INPUTS, fresh=Freshness(T0), read_at_ns=int(T0 * 1e9)
        )
        scans = Scans(ledger)
        for digest in digests[:3]:
            claim = await ledger.write(
                partial(scans.claim, digest=digest, owner="host-1-a", now=T0, lease_until=T0 + 300)
            )
            assert claim is not None
            if digest != digests[2]:
                await scans.accepted(claim, 20260501, now=T0, next_at=T0 + 300)
        poll = await ledger.write(
            lambda c: scans.poll(c, digests[0], now=T0 + 300, next_at=T0 + 360),
        )
        assert poll is not None
        found = Verdict(level=RiskLevel.MALICIOUS, engine_version=20260501, score=7)
        await scans.judged(poll, found, run=run.id, now=T0 + 301, retention_s=90 * 86400.0)


def fixture(version: int) -> Path:
    return Path(__file__).parent / "data" / f"ledger-{version}.sql"


def restored(path: Path, version: int = 1) -> Path:
    with closing(sqlite3.connect(path)) as ledger:
        ledger.executescript(fixture(version).read_text())
    return path


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as ledger:
        return ledger.execute(sql).fetchall()


def tables(path: Path) -> dict[str, str]:
    found = query(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: " ".join(sql.split()) for name, sql in found}


async def opened(path: Path) -> None:
    async with open_ledger(path, SCOPE):
        pass


def test_every_released_version_has_its_step() -> None:
    assert set(migrations.STEPS) == set(range(1, schema.SCHEMA_VERSION))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_ledger_of_an_earlier_version_becomes_todays(tmp_path: Path, version: int) -> None:
    old, new = restored(tmp_path / "old.sqlite3", version), tmp_path / "new.sqlite3"
    states = query(old, "SELECT digest, state, attempt FROM scan ORDER BY digest")
    await opened(old)
    await opened(new)
    assert tables(old) == tables(new), "the schema has changed: see this module"
    assert query(old, "PRAGMA user_version") == [(schema.SCHEMA_VERSION,)]
    assert query(old, "SELECT digest, state, attempt FROM scan ORDER BY digest") == states
    assert [state for _, state, _ in states] == ["done", "scanning", "submitting", "admitted"]
    found = verify(old)
    assert found.faults == []
    assert (found.rows["verdict"], found.rows["waiting"], found.rows["run"]) == (1, INPUTS, 1)


def later(monkeypatch: pytest.MonkeyPatch, steps: Mapping[int, migrations.Step]) -> None:
    """Pretend that this is a later batchscan, with further steps."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + len(steps))
    monkeypatch.setattr(migrations, "STEPS", {**migrations.STEPS, **steps})


def add(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE run ADD COLUMN note TEXT")


def fill_in(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE run SET note = coalesce(note, '') || 'once'")


async def test_steps_run_in_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = restored(tmp_path / "ledger.sqlite3")
    newest = schema.SCHEMA_VERSION
    later(monkeypatch, {newest: add, newest + 1: fill_in})
    await opened(path)
    await opened(path)
    assert query(path, "SELECT note FROM run") == [("once",)]
    assert query(path, "PRAGMA user_version") == [(newest + 2,)]


async def test_a_step_that_fails_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    path = restored(tmp_path / "ledger.sqlite3")
    before = query(path, "PRAGMA user_version"), tables(path)
    newest = schema.SCHEMA_VERSION
    later(monkeypatch, {newest: add, newest + 1: fail})
    with pytest.raises(LedgerError, match="no such table: nowhere"):
        await opened(path)
    assert (query(path, "PRAGMA user_version"), tables(path)) == before


def write_fixture() -> None:
    """Make the ledger of a new version; one that is there is never made anew."""
    target = fixture(schema.SCHEMA_VERSION)
    assert not target.exists()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite3"
        asyncio.run(fill(path))
        with closing(sqlite3.connect(path)) as ledger:
            ours, newest = schema.APPLICATION_ID, schema.SCHEMA_VERSION
            marks = f"PRAGMA application_id={ours};\nPRAGMA user_version={newest};\n"
            target.write_text(marks + "\n".join(ledger.iterdump()) + "\n")


if __name__ == "__main__":
    write_fixture()
