"""Claims: one process at a time, fenced, leased, and free at once when their holder dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from core_lab import ENGINE, T0, Bench, batches, candidate, sha, write_skills

from batchscan.ledger.owners import is_alive
from batchscan.ledger.scans import Claim, Poll, Scans
from batchscan.ledger.standing import Freshness
from batchscan.models import Problem, RiskLevel, Stage, Verdict

D = b"\x01" * 32
OOPS = Problem("InternalError", "oops")


async def admitted(shelf: Bench, *digests: bytes) -> Scans:
    for digest in digests:
        await shelf.change(
            "INSERT INTO scan (scope, digest, state, attempt, polls, tries, next_at)"
            " VALUES (1, ?, 'admitted', 0, 0, 0, ?)",
            (digest, T0),
        )
    return shelf.scans


async def claim(
    scans: Scans, shelf: Bench, owner: str, *, now: float = T0, lease_s: float = 300.0
) -> Claim | None:
    return await shelf.ledger.write(
        lambda c: scans.claim(c, D, owner=owner, now=now, lease_until=now + lease_s)
    )


async def polled(scans: Scans, shelf: Bench, now: float) -> Poll | None:
    return await shelf.ledger.write(lambda c: scans.poll(c, D, now=now, next_at=now + 60))


async def test_a_digest_is_claimed_once(shelf: Bench) -> None:
    scans = await admitted(shelf, D)
    assert await claim(scans, shelf, "a") == Claim(D, "a", 1)
    assert await claim(scans, shelf, "b") is None
    assert await claim(scans, shelf, "a") is None


async def test_a_lease_ends(shelf: Bench) -> None:
    scans = await admitted(shelf, D)
    await claim(scans, shelf, "a", lease_s=300)
    assert await claim(scans, shelf, "b", now=T0 + 300) is None
    assert await claim(scans, shelf, "b", now=T0 + 300.1) == Claim(D, "b", 2)


async def test_a_renewed_lease_ends_later(shelf: Bench) -> None:
    scans = await admitted(shelf, D)
    held = await claim(scans, shelf, "a", lease_s=300)
    assert held is not None
    assert await shelf.ledger.write(lambda c: scans.renew(c, held, lease_until=T0 + 500)) == held
    assert await claim(scans, shelf, "b", now=T0 + 400) is None


async def stale(shelf: Bench) -> tuple[Scans, Claim]:
    """A claim whose lease ended and that another process holds now."""
    scans = await admitted(shelf, D)
    held = await claim(scans, shelf, "slow", lease_s=10)
    assert held is not None
    assert await claim(scans, shelf, "quick", now=T0 + 11) == Claim(D, "quick", 2)
    return scans, held


async def test_what_a_stale_holder_writes_is_dropped(shelf: Bench) -> None:
    scans, held = await stale(shelf)
    before = await shelf.scan_state(D)
    assert not await scans.accepted(held, ENGINE, now=T0 + 12, next_at=T0 + 13)
    await scans.release(held, at=T0 + 12, problem=OOPS, counted=False)
    await scans.fail(held, OOPS, run=1)
    assert await shelf.ledger.write(lambda c: scans.renew(c, held, lease_until=T0 + 999)) is None
    assert await shelf.scan_state(D) == before


async def test_the_same_owner_is_fenced_by_its_attempt(shelf: Bench) -> None:
    scans = await admitted(shelf, D)
    first = await claim(scans, shelf, "a", lease_s=10)
    second = await claim(scans, shelf, "a", now=T0 + 11)
    assert first is not None
    assert second is not None
    assert not await scans.accepted(first, ENGINE, now=T0, next_at=T0)
    assert await scans.accepted(second, ENGINE, now=T0, next_at=T0)


async def test_another_owner_is_fenced_though_the_attempt_is_the_same(shelf: Bench) -> None:
    scans, held = await stale(shelf)
    await shelf.change("UPDATE scan SET attempt = ?", (held.attempt,))
    assert not await scans.accepted(held, ENGINE, now=T0 + 12, next_at=T0 + 13)


@pytest.mark.parametrize(
    ("attempt", "later_s"), [(1, 0.0), (0, 5.0)], ids=["submitted again", "admitted again"]
)
async def test_an_answer_about_an_earlier_submission_moves_nothing(
    shelf: Bench, attempt: int, later_s: float
) -> None:
    scans = await admitted(shelf, D)
    held = await claim(scans, shelf, "a")
    assert held is not None
    await scans.accepted(held, ENGINE, now=T0, next_at=T0)
    slow = await polled(scans, shelf, T0)
    assert slow is not None
    await scans.resubmit(slow, at=T0, problem=OOPS)  # as a poll of another process found that it has to
    await shelf.change("UPDATE scan SET attempt = ?", (attempt,))
    again = await claim(scans, shelf, "b")
    assert again is not None
    await scans.accepted(again, ENGINE, now=T0 + later_s, next_at=T0 + 5)
    before = await shelf.scan_state(D)
    verdict = Verdict(level=RiskLevel.BENIGN, engine_version=ENGINE)
    assert not await scans.judged(slow, verdict, run=1, now=T0 + 6, retention_s=9)
    await scans.fail(slow, OOPS, run=1)
    await scans.postpone(slow, next_at=T0 + 99, problem=OOPS)
    await scans.resubmit(slow, at=T0 + 99, problem=OOPS)
    assert await shelf.scan_state(D) == before
    assert len(await shelf.rows("SELECT * FROM verdict")) == 1  # it was paid for


async def test_a_verdict_counts_though_another_poll_came_between(shelf: Bench) -> None:
    scans = await admitted(shelf, D)
    held = await claim(scans, shelf, "a")
    assert held is not None
    await scans.accepted(held, ENGINE, now=T0, next_at=T0)
    slow, quick = await polled(scans, shelf, T0), await polled(scans, shelf, T0 + 60)
    assert slow is not None
    assert quick is not None
    verdict = Verdict(level=RiskLevel.BENIGN, engine_version=7)
    assert await scans.judged(slow, verdict, run=1, now=T0 + 6, retention_s=9)
    await scans.postpone(quick, next_at=T0 + 99, problem=None)
    found = await shelf.scan_state(D)
    assert (found["state"], found["engine_version"], found["next_at"]) == ("done", 7, None)


async def test_a_poll_is_taken_once_and_not_early(shelf: Bench) -> None:
    scans = await admitted(shelf, D)
    held = await claim(scans, shelf, "a")
    assert held is not None
    await scans.accepted(held, ENGINE, now=T0, next_at=T0 + 300)
    assert await polled(scans, shelf, T0 + 299) is None
    assert await polled(scans, shelf, T0 + 300) == Poll(D, ENGINE, T0, 1, 1, 0)
    assert await polled(scans, shelf, T0 + 300) is None


RACER = """
import asyncio, sys
from pathlib import Path
from batchscan.ledger.owners import own
from batchscan.ledger.scans import Scans
from batchscan.ledger.store import open_ledger

async def main():
    state = Path(sys.argv[1])
    async with open_ledger(state / "ledger.sqlite3", "test@scripted") as ledger:
        with own(state / "owners") as owner:
            scans = Scans(ledger)
            print("ready", flush=True)
            sys.stdin.readline()
            for number in range(int(sys.argv[2])):
                digest = number.to_bytes(32, "big")
                work = lambda c: scans.claim(c, digest, owner=owner, now=1e9, lease_until=2e9)
                if await ledger.write(work):
                    print(number, flush=True)
            print(owner, flush=True)
            sys.stdin.readline()

asyncio.run(main())
"""


class Racer:
    """Another process that claims all it can get, then waits to be let go."""

    def __init__(self, state: Path, count: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RACER, str(state), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def claims(self) -> tuple[list[int], str]:
        """What it got, and its name."""
        got = []
        while (line := self.line()).isdigit():
            got.append(int(line))
        return got, line

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


async def test_processes_that_race_never_get_the_same_digest(shelf: Bench, tmp_path: Path) -> None:
    count = 60
    await admitted(shelf, *(number.to_bytes(32, "big") for number in range(count)))
    racers = [Racer(tmp_path, count) for _ in range(2)]
    for racer in racers:
        assert racer.line() == "ready"
    for racer in racers:
        racer.go()
    got = [racer.claims()[0] for racer in racers]
    for racer in racers:
        racer.close()
    assert sorted(got[0] + got[1]) == list(range(count))


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "alive"])
async def test_claims_are_taken_back_from_the_dead_only(
    table: Bench, tmp_path: Path, *, killed: bool
) -> None:
    (path,) = write_skills(tmp_path / "in", 1)
    digest = sha(path.read_bytes())
    run = await table.new_run()
    await table.admitter(run).admit([candidate(path, tmp_path / "in")], Freshness(1.0))
    await table.change("UPDATE scan SET digest = ?", ((0).to_bytes(32, "big"),))
    racer = Racer(tmp_path, 1)
    assert racer.line() == "ready"
    racer.go()
    got, name = racer.claims()
    assert got == [0]
    await table.change("UPDATE scan SET digest = ?", (digest,))
    assert is_alive(table.owners, name)
    if killed:
        os.kill(racer.process.pid, signal.SIGKILL)
        racer.process.wait(10)
        assert not is_alive(table.owners, name)
    async with table.pipeline(run, batches()) as (pipeline, _):
        await pipeline._sweep()
    found = await table.scan_state(digest)
    assert found["state"] == ("admitted" if killed else "submitting")
    assert found["attempt"] == 1  # it may have been sent
    due = await table.scans.backlog.due(run.id, Stage.SUBMIT, until=9e9, limit=9)
    assert [d for d, _ in due] == [digest]
    racer.close()
