"""``status --verify``: sound, not sound, not there; and it writes nothing."""

import hashlib
import json
import sqlite3
import stat
from contextlib import closing

import pytest
from cli_lab import Lab, skills

from batchscan.errors import LedgerError
from batchscan.ledger.backup import back_up


async def test_status_verify(lab: Lab) -> None:
    skills(lab.inputs, 3)
    nothing = await lab.run("status", "--verify")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
    sound = await lab.run("status", "--verify")
    as_json = await lab.run("status", "--verify", "--json")
    ledger = lab.state / "ledger.sqlite3"
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("DELETE FROM verdict WHERE digest = (SELECT max(digest) FROM verdict)")
        connection.commit()
    before = hashlib.sha256(ledger.read_bytes()).digest()
    bad = await lab.run("status", "--verify")
    bad_json = await lab.run("status", "--verify", "--json")
    assert [done.code for done in (nothing, sound, as_json, bad, bad_json)] == [2, 0, 0, 2, 2]
    assert "no ledger in" in nothing.err
    assert "sound; rows:" in sound.out
    assert "3 verdict" in sound.out
    assert json.loads(as_json.out)["faults"] == []
    assert "scan: done, without its verdict" in bad.out
    assert "NOT sound; keep it for repair" in bad.out
    (fault,) = json.loads(bad_json.out)["faults"]
    assert (fault["what"], fault["count"]) == ("scan: done, without its verdict", 1)
    assert hashlib.sha256(ledger.read_bytes()).digest() == before


async def test_status_backup(lab: Lab) -> None:
    skills(lab.inputs, 3)
    copy = lab.path / "copy.sqlite3"
    nothing = await lab.run("status", "--backup", copy)
    assert (nothing.code, "no ledger in" in nothing.err, copy.exists()) == (2, True, False)
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report)
    ledger = lab.state / "ledger.sqlite3"
    with closing(sqlite3.connect(ledger, isolation_level=None)) as working:
        # what is committed last is in the log beside it, and a transaction is under way
        working.execute("UPDATE run SET counts = '{\"a\": 7}'")
        working.execute("BEGIN IMMEDIATE")
        working.execute("DELETE FROM verdict")
        made = await lab.run("status", "--backup", copy, wrapped=("sh", "-c", 'umask 0; exec "$@"', "-"))
        assert (made.code, "sound; rows:" in made.out, "3 verdict" in made.out) == (0, True, True), made.err
        working.execute("ROLLBACK")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in lab.path.glob("copy.sqlite3*")) == ["copy.sqlite3"]
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT counts FROM run").fetchall() == [('{"a": 7}',)]
    before = copy.read_bytes()
    twice = await lab.run("status", "--backup", copy)
    assert (twice.code, "nothing is overwritten" in twice.err) == (2, True)
    assert copy.read_bytes() == before
    # of a ledger that is not sound no copy is kept, which would take the place of a good one
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("DELETE FROM verdict WHERE digest = (SELECT max(digest) FROM verdict)")
    other = lab.path / "other.sqlite3"
    for spoil in (False, True):
        if spoil:
            ledger.write_bytes(ledger.read_bytes()[:5000])
        with pytest.raises(LedgerError):
            back_up(ledger, other)
        assert list(lab.path.glob("other.sqlite3*")) == []
