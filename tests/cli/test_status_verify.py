"""``status --verify``: sound, not sound, not there; and it writes nothing."""

import hashlib
import json
import sqlite3
from contextlib import closing

from cli_lab import Lab, skills


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
