"""Admission: what is read, what is known, what waits, and who was first."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from core_lab import ENGINE, LIMIT, Bench, candidate, sha, write_skills, zipped

from batchscan.admit import Admitted
from batchscan.ledger.admission import RACY_NS
from batchscan.ledger.runs import RunRecord
from batchscan.ledger.standing import Decision, Freshness
from batchscan.models import Candidate, Problem, RiskLevel, ScanState, Verdict

NOW = 1_900_000_000.0
FRESH = Freshness(NOW)
DAY = 86400.0


def old(path: Path, content: bytes | None = None) -> Path:
    """Write a file, and let it look as if it had not been touched for a day."""
    if content is not None:
        path.write_bytes(content)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10 * RACY_NS))
    return path


class Admissions:
    """Admits files of one directory, as runs do one after another."""

    def __init__(self, shelf: Bench, root: Path) -> None:
        self.shelf = shelf
        self.root = root
        root.mkdir(exist_ok=True)
        self.runs = 0

    async def run(
        self, paths: Sequence[Path], *, fresh: Freshness = FRESH, rehash: bool = False
    ) -> list[Decision]:
        self.runs += 1
        run = await self.shelf.new_run(f"run-{self.runs}")
        return (await self.admit(run, paths, fresh=fresh, rehash=rehash)).decisions

    async def admit(
        self,
        run: RunRecord,
        paths: Sequence[Path],
        *,
        fresh: Freshness = FRESH,
        rehash: bool = False,
    ) -> Admitted:
        admitter = self.shelf.admitter(run, rehash=rehash)
        try:
            found = await admitter.admit([candidate(path, self.root) for path in paths], fresh)
        finally:
            admitter.close()
        by_path = {d.item.candidate.path: d for d in found.decisions}
        return Admitted([by_path[path.name] for path in paths if path.name in by_path], found.rejections)

    async def judged(
        self, content: bytes, *, run: int, at: float = NOW, retention_s: float = 90 * DAY
    ) -> None:
        """Let the service have judged it."""
        scans, digest = self.shelf.scans, sha(content)
        claim = await self.shelf.ledger.write(
            lambda c: scans.claim(c, digest, owner="x", now=at, lease_until=at + 9)
        )
        assert claim is not None
        await scans.accepted(claim, ENGINE, now=at, next_at=at)
        poll = await self.shelf.ledger.write(lambda c: scans.poll(c, digest, now=at, next_at=at + 9))
        assert poll is not None
        verdict = Verdict(level=RiskLevel.BENIGN, engine_version=ENGINE, scanned_at=at)
        assert await scans.judged(poll, verdict, run=run, now=at, retention_s=retention_s)


@pytest.fixture
def admissions(shelf: Bench, tmp_path: Path) -> Admissions:
    return Admissions(shelf, tmp_path / "in")


def digests(decisions: Sequence[Decision]) -> list[bytes]:
    return [d.item.content.artifact.digest for d in decisions]


async def test_an_unchanged_file_is_not_opened_and_rehash_opens_it(admissions: Admissions) -> None:
    first, second = zipped("first"), zipped("other")
    assert len(first) == len(second)
    path = old(admissions.root / "a.zip", first)
    stat = path.stat()
    assert digests(await admissions.run([path])) == [sha(first)]
    with path.open("r+b") as file:  # the same inode
        file.write(second)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests(await admissions.run([path])) == [sha(first)]
    assert digests(await admissions.run([path], rehash=True)) == [sha(second)]


async def test_a_changed_time_size_or_inode_is_read_again(admissions: Admissions) -> None:
    path = old(admissions.root / "a.zip", zipped("first"))
    await admissions.run([path])
    stat = path.stat()
    other = zipped("other")
    path.write_bytes(other)
    os.utime(path, ns=(1, stat.st_mtime_ns + 1))
    assert digests(await admissions.run([path])) == [sha(other)]
    swapped = zipped("third")
    beside = admissions.root / "b"
    beside.write_bytes(swapped)
    os.utime(beside, ns=(1, stat.st_mtime_ns + 1))
    beside.rename(path)
    assert digests(await admissions.run([path])) == [sha(swapped)]


async def test_a_file_modified_just_before_it_was_read_is_read_again(admissions: Admissions) -> None:
    path = admissions.root / "a.zip"
    path.write_bytes(zipped("first"))
    stat = path.stat()
    await admissions.run([path])
    with path.open("r+b") as file:
        file.write(zipped("other"))
    os.utime(path, ns=(1, stat.st_mtime_ns))  # within the clock tick of the first write
    assert digests(await admissions.run([path])) == [sha(zipped("other"))]


async def test_a_file_from_the_future_is_read_again(admissions: Admissions) -> None:
    path = admissions.root / "a.zip"
    path.write_bytes(zipped("first"))
    os.utime(path, (5e9, 5e9))
    await admissions.run([path])
    with path.open("r+b") as file:
        file.write(zipped("other"))
    os.utime(path, (5e9, 5e9))
    assert digests(await admissions.run([path])) == [sha(zipped("other"))]


async def test_duplicates_name_the_first_of_the_run_whatever_the_cache_knows(
    admissions: Admissions,
) -> None:
    content = zipped("same")
    known = old(admissions.root / "known.zip", content)
    await admissions.run([known])
    await admissions.judged(content, run=1)
    new = old(admissions.root / "new.zip", content)
    other = old(admissions.root / "other.zip", zipped("other"))
    run, beside = [await admissions.shelf.new_run(name) for name in ("run-x", "run-y")]
    first = await admissions.admit(run, [new, known, other])
    assert [d.duplicate_of for d in (await admissions.admit(beside, [known])).decisions] == [None]
    assert [d.duplicate_of for d in first.decisions] == [None, "new.zip", None]
    later = old(admissions.root / "later.zip", content)
    assert [d.duplicate_of for d in (await admissions.admit(run, [later])).decisions] == ["new.zip"]
    assert [d.waits for d in first.decisions] == [False, False, True]


async def test_a_live_verdict_is_reused_and_an_expired_one_is_not(admissions: Admissions) -> None:
    path = old(admissions.root / "a.zip", zipped("a"))
    (first,) = await admissions.run([path])
    assert first.waits
    await admissions.judged(zipped("a"), run=1, retention_s=DAY)
    (reused,) = await admissions.run([path], fresh=Freshness(NOW + DAY - 1))
    assert not reused.waits
    assert reused.standing is not None
    assert reused.standing.run == 1
    for fresh in (Freshness(NOW + DAY), Freshness(NOW, oldest=NOW + 1)):
        (again,) = await admissions.run([path], fresh=fresh)
        assert again.waits
        found = await admissions.shelf.scan_state(sha(zipped("a")))
        assert (found["state"], found["attempt"], found["submitted_at"]) == ("admitted", 0, None)
        await admissions.judged(zipped("a"), run=2, retention_s=DAY)


async def test_a_verdict_of_the_least_age_asked_for_is_reused(admissions: Admissions) -> None:
    path = old(admissions.root / "a.zip", zipped("a"))
    await admissions.run([path])
    await admissions.judged(zipped("a"), run=1)
    (reused,) = await admissions.run([path], fresh=Freshness(NOW, oldest=NOW))
    assert not reused.waits


@pytest.mark.parametrize("known", [True, False], ids=["cached", "read"])
async def test_what_this_run_gave_up_is_told_and_what_another_did_is_tried(
    admissions: Admissions, *, known: bool
) -> None:
    path = old(admissions.root / "a.zip", zipped("a"))
    run = await admissions.shelf.new_run("run-a")
    await admissions.admit(run, [path])
    scans, digest = admissions.shelf.scans, sha(zipped("a"))
    claim = await admissions.shelf.ledger.write(
        lambda c: scans.claim(c, digest, owner="x", now=NOW, lease_until=NOW)
    )
    assert claim is not None
    await scans.fail(claim, Problem("scan-failed", "no"), run=run.id)
    copy = path if known else old(admissions.root / "copy.zip", zipped("a"))
    (told,) = (await admissions.admit(run, [copy])).decisions
    assert not told.waits
    assert told.standing is not None
    assert told.standing.state is ScanState.FAILED
    assert told.standing.problem == Problem("scan-failed", "no")
    (tried,) = await admissions.run([copy])
    assert tried.waits
    found = await admissions.shelf.scan_state(digest)
    assert (found["state"], found["attempt"], found["problem"]) == ("admitted", 0, None)


async def test_what_is_under_way_is_joined_with_new_patience(admissions: Admissions) -> None:
    path = old(admissions.root / "a.zip", zipped("a"))
    await admissions.run([path])
    await admissions.shelf.change("UPDATE scan SET attempt = 2, tries = 59")
    (joined,) = await admissions.run([path])
    assert joined.waits
    found = await admissions.shelf.scan_state(sha(zipped("a")))
    assert (found["attempt"], found["tries"]) == (2, 0)
    assert len(await admissions.shelf.rows("SELECT * FROM scan")) == 1
    assert len(await admissions.shelf.rows("SELECT * FROM waiting")) == 2


async def test_rejected_content_is_remembered(admissions: Admissions) -> None:
    path = old(admissions.root / "a.zip", b"no zip at all")
    (read,) = await admissions.run([path])
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"NO zip at all")
    os.utime(path, ns=(1, stat.st_mtime_ns))
    (told,) = await admissions.run([path])  # from the cache: the bytes are others by now
    for decision in (read, told):
        assert not decision.waits
        assert decision.standing is None
        assert decision.item.content.problem is not None
        assert decision.item.content.problem.code == "not-a-zip"
    assert digests([told]) == [sha(b"no zip at all")]
    assert await admissions.shelf.rows("SELECT * FROM scan") == []


async def test_what_cannot_be_read_is_rejected_with_its_reason(admissions: Admissions) -> None:
    run = await admissions.shelf.new_run("run-a")
    root = admissions.root
    (root / "large.zip").write_bytes(b"x")
    os.truncate(root / "large.zip", LIMIT + 1)
    gone, fifo = root / "gone.zip", root / "fifo.zip"
    for path in (gone, fifo):
        path.write_bytes(b"x")
    inputs = [candidate(path, root) for path in (root / "large.zip", gone, fifo)]
    gone.unlink()
    fifo.unlink()
    os.mkfifo(fifo)
    inputs.append(Candidate(source="s", path="bad", problem=Problem("bad-manifest-line", "line 1")))
    admitter = admissions.shelf.admitter(run)
    found = await admitter.admit(inputs, FRESH)
    admitter.close()
    assert found.decisions == []
    assert {c.path: r.problem.code for c, r in found.rejections} == {
        "large.zip": "too-large",
        "gone.zip": "missing",
        "fifo.zip": "not-a-file",
        "bad": "bad-manifest-line",
    }


async def test_a_dry_run_admits_nothing(admissions: Admissions) -> None:
    paths = write_skills(admissions.root, 3)
    run = await admissions.shelf.new_run("run-a")
    admitter = admissions.shelf.admitter(run)
    items, rejections = await admitter.inspect([candidate(path, admissions.root) for path in paths])
    admitter.close()
    assert (len(items), rejections) == (3, [])
    for table in ("scan", "waiting", "file", "artifact"):
        assert await admissions.shelf.rows(f"SELECT * FROM {table}") == []
