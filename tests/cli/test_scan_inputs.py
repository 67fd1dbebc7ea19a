"""Whatever lies in a directory or stands in a list: one valid row each, and only ZIPs are sent."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_lab import Lab, by_path, code_of, digest, skill, skills, until

sys.path.insert(0, str(Path(__file__).parent.parent))
from hostile_zips import CORPUS, many

SUBMITS = 16  # at the same time, by the pipeline's policy


def zoo(directory: Path) -> dict[str, str | None]:
    """Odd files by the path that their row shows, and the code of their error, None when they are sent."""
    directory.mkdir()
    expected: dict[str, str | None] = {}

    def put(name: bytes, shown: str, content: bytes | None = None) -> None:
        place = directory / os.fsdecode(name)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(skill(shown) if content is None else content)
        expected[shown] = None

    put(b"plain.zip", "plain.zip")
    put(b"UPPER.ZIP", "UPPER.ZIP")
    put(b"bad\xff.zip", "bad\\xff.zip")
    put(b"bad\xfe.zip", "bad\\xfe.zip")
    put(b"dir\xff/a.zip", "dir\\xff/a.zip")
    put(b"two\nlines.zip", "two\nlines.zip")
    put(b"esc\x1b[31m.zip", "esc\x1b[31m.zip")
    put("rtl\u202egpj.zip".encode(), "rtl\u202egpj.zip")
    put("\u6280\u80fd.zip".encode(), "\u6280\u80fd.zip")
    put(b".hidden/a.zip", ".hidden/a.zip")
    put(b"directory.zip/inside.zip", "directory.zip/inside.zip")
    put(b"too-large.zip", "too-large.zip", b"PK\3\4" + b"\0" * 6_999_997)
    (directory / "link.zip").symlink_to("plain.zip")
    (directory / "broken.zip").symlink_to("nowhere")
    (directory / "loop").symlink_to(".")
    (directory / "notes.txt").write_text("no input")
    os.mkfifo(directory / "fifo.zip")
    put(b"many.zip", "many.zip", many(60_000))
    for name, make in CORPUS.items():
        put(f"corpus/{name}.zip".encode(), f"corpus/{name}.zip", make())
    not_zips = ("text_file", "truncated", "without_end")
    expected |= {f"corpus/{name}.zip": "not-a-zip" for name in not_zips}
    expected |= {
        "too-large.zip": "too-large",
        "broken.zip": "missing",
        "fifo.zip": "not-a-file",
        "link.zip": None,
    }
    return expected


async def test_a_zoo_of_files_gets_a_row_each_and_only_zips_are_sent(lab: Lab) -> None:
    expected = zoo(lab.inputs)
    async with lab.service() as service:
        dry = await lab.scan(service, "in", "-n", "--json", "-o", lab.report)
        assert service.engine.requests == {"DescribeSkillScanPayInfo": 1}  # no file is sent
        assert not lab.report.exists()
        done = await lab.scan(service, "in", "-o", lab.report, "--json")
        again = await lab.scan(service, "in", "-n", "--json")
    rows = by_path(lab.rows_of(len(expected)))
    found = {path: code_of(row) for path, row in rows.items()}
    sure = {path: code for path, code in expected.items() if not path.startswith("corpus/") or code}
    assert {path: found[path] for path in sure} == sure
    assert found.keys() == expected.keys()
    assert done.code == 3
    assert rows["link.zip"]["duplicate_of"] == "plain.zip" or rows["plain.zip"]["duplicate_of"] == "link.zip"
    assert "encrypted" in rows["corpus/encrypted.zip"]["notes"]
    assert "path-traversal" in rows["corpus/traversal.zip"]["notes"]
    assert "zip-bomb-ratio" in rows["corpus/flat_bomb.zip"]["notes"]
    assert "symlink" in rows["corpus/symlink.zip"]["notes"]

    failed = [row for row in rows.values() if row["outcome"] == "failed"]
    assert {code_of(row) for row in failed} <= {"InvalidParameterValue"}, (
        "by the service, which has a look at the ZIP as well"
    )
    sent = {row["sha256"] for row in rows.values() if row["outcome"] != "rejected"}
    assert service.creates == dict.fromkeys(sent, 1)
    plan, replan = json.loads(dry.out), json.loads(again.out)
    rejected = done.summary["counts"]["rejected"]
    duplicates = sum(row["duplicate_of"] is not None for row in rows.values())
    assert (plan["inputs"], plan["submitted"], plan["reused"]) == (len(rows), len(sent), 0)
    assert (sum(plan["rejected"].values()), plan["duplicates"]) == (rejected, duplicates)
    assert replan["submitted"] == len(failed), "what failed is tried again by another run"
    assert replan["reused"] == len(rows) - rejected - len(failed)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="root, who can read all, drops to nobody"
)
async def test_files_and_directories_that_cannot_be_read(open_lab: Lab) -> None:
    """Run as somebody who owns neither the inputs nor the state directory it is first given."""
    lab = open_lab
    skills(lab.inputs, 2)
    (lab.inputs / "skill-0001.zip").chmod(0)
    (lab.inputs / "locked").mkdir(mode=0)
    lab.state.mkdir(parents=True)
    own = lab.path / "own"
    for place in (own, lab.home):
        place.mkdir(exist_ok=True)
        os.chown(place, 65534, 65534)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    probe = await _can_start(nobody)
    if not probe:
        pytest.skip("this interpreter cannot be run by another user")
    async with lab.service() as service:
        denied = await lab.scan(service, "in", wrapped=nobody)
        report = own / "r.jsonl"
        done = await lab.scan(service, "in", "-o", report, "--state-dir", own, "--json", wrapped=nobody)
        nowhere = await lab.scan(service, "in", "-o", lab.path / "r", "--state-dir", own, wrapped=nobody)
    assert denied.code == 2
    assert "cannot be written; choose another --state-dir" in denied.err
    assert done.code == 3
    rows = by_path(lab.rows_of(2, report))
    assert {path: code_of(row) for path, row in rows.items()} == {
        "skill-0000.zip": None,
        "skill-0001.zip": "unreadable",
    }
    assert done.summary["skipped"] == {"unreadable-directory": 1}
    assert nowhere.code == 2
    assert "cannot be written (Permission denied)" in nowhere.err


async def _can_start(wrapped: tuple[str, ...]) -> bool:
    import asyncio

    process = await asyncio.create_subprocess_exec(
        *wrapped, sys.executable, "-c", "import batchscan.cli", stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


async def test_lists_of_paths_in_every_form(lab: Lab) -> None:
    skills(lab.inputs, 3)
    (lab.path / "list.csv").write_text("id,path\nfirst,in/skill-0000.zip\nsecond,in/nosuch.zip\n")
    lines: list[Any] = [{"path": "in/skill-0001.zip", "id": 7, "metadata": {"a": [1]}}, {"path": 3}]
    (lab.path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    listed = b"in/skill-0002.zip\0in/two\nlines.zip\0"
    (lab.inputs / "two\nlines.zip").write_bytes(skill("lines"))
    async with lab.service() as service:
        done = await lab.scan(
            service, "--manifest", "list.csv", "--manifest", "list.jsonl", "-o", lab.report, "--json"
        )
        nul = lab.path / "nul.jsonl"
        piped = await lab.scan(service, "-", "-0", "-o", nul, text=listed)
        empty = await lab.scan(service, "-", "-o", lab.path / "no.jsonl", text="")
    rows = lab.rows_of(4)
    assert {(row["id"], row["outcome"], code_of(row)) for row in rows} == {
        ("first", "scanned", None),
        ("second", "rejected", "missing"),
        (7, "scanned", None),
        (None, "rejected", "bad-manifest-line"),
    }
    assert [row["metadata"] for row in rows if row["id"] == 7] == [{"a": [1]}]
    assert done.code == 3
    assert piped.code == 0
    assert {row["path"] for row in lab.rows_of(2, nul)} == {"in/skill-0002.zip", "in/two\nlines.zip"}
    assert empty.code == 5
    assert not (lab.path / "no.jsonl").exists()
    assert list((lab.state / "stdin").iterdir()) == []


async def test_a_terminal_is_no_list(lab: Lab) -> None:
    ours, theirs = os.openpty()
    try:
        done = await (await lab.start("scan", "-", stdin=theirs)).done()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.code == 2
    assert "standard input, which is a terminal" in done.err


async def test_filters_limits_and_only_rejected_inputs(lab: Lab) -> None:
    skills(lab.inputs, 2)
    (lab.inputs / "text.zip").write_text("no ZIP")
    small = len(skill("skill 0")) - 1
    async with lab.service() as service:
        filtered = await lab.scan(
            service, "in", "--include", "skill*", "--exclude", "*1.zip", "-o", lab.report
        )
        assert [row["path"] for row in lab.rows_of(1)] == ["skill-0000.zip"]
        limited = await lab.scan(
            service, "in", "--limit-bytes", str(small), "-o", lab.report, "--overwrite", "--json"
        )
        assert {code_of(row) for row in lab.rows_of(3)} == {"too-large", "not-a-zip"}
    assert (filtered.code, limited.code) == (0, 3)
    assert limited.summary["state"] == "complete"
    assert sum(service.creates.values()) == 1


async def test_max_age_and_rehash(lab: Lab) -> None:
    (path,) = skills(lab.inputs, 1)
    last_year = (1_750_000_000, 1_750_000_000)  # long enough ago for the stat cache to be believed
    os.utime(path, last_year)
    async with lab.service() as service:
        await lab.scan(service, "in", "-q")
        path.write_bytes(skill("other 0"))  # the same size, and by the clock the same file
        os.utime(path, last_year)
        cached = await lab.scan(service, "in", "--json")
        rehashed = await lab.scan(service, "in", "--rehash", "--json")
        aged = await lab.scan(service, "in", "--max-age", "0", "--json")
    outcomes = [done.summary["counts"] for done in (cached, rehashed, aged)]
    assert [(c["scanned"], c["reused"]) for c in outcomes] == [(0, 1), (1, 0), (1, 0)]
    assert sorted(service.creates.values()) == [1, 2]


async def test_files_that_grow_shrink_and_go_while_they_wait(lab: Lab) -> None:
    """While the service holds up the first submissions, the files behind them change."""
    skills(lab.inputs, 30)
    async with lab.service() as service:
        service.hold()
        running = await lab.start(
            *("scan", "in", "-o", lab.report, "--json", "--endpoint", service.url),
            *("--first-poll", "50ms", "--poll-interval", "100ms", "--rate", "0"),
        )
        await until(lambda: len(service.creates) == SUBMITS)
        waiting = [path for path in sorted(lab.inputs.iterdir()) if digest(path) not in service.creates]
        grown, shrunk, gone = waiting[:3]
        before = digest(grown)
        grown.write_bytes(skill("a longer text than there was before"))
        shrunk.write_bytes(shrunk.read_bytes()[:50])
        gone.unlink()
        service.release()
        done = await running.done()
    rows = by_path(lab.rows_of(30))
    assert (rows[grown.name]["outcome"], rows[grown.name]["sha256"]) == ("scanned", digest(grown))
    assert code_of(rows[shrunk.name]) == "not-a-zip"
    assert code_of(rows[gone.name]) == "missing"
    assert done.code == 3
    assert before not in service.creates
    assert set(service.creates) == {row["sha256"] for row in rows.values() if row["outcome"] == "scanned"}
