"""The report file: gone on with, refused, replaced; and what the commands show of it."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_lab import FAST, Lab, by_path, code_of, skills, until


async def test_an_output_that_is_there(lab: Lab) -> None:
    """Refused when finished or foreign; replaced as a whole with --overwrite, or not at all."""
    skills(lab.inputs, 3)
    (lab.path / "empty").mkdir()
    foreign = lab.path / "foreign.txt"
    foreign.write_text("not ours")
    async with lab.service() as service:
        first = await lab.scan(service, "in", "-o", lab.report)
        kept = lab.report.read_bytes()
        refused, other, nothing, missing = await asyncio.gather(
            lab.scan(service, "in", "-o", lab.report),
            lab.scan(service, "in", "-o", foreign),
            lab.scan(service, "empty", "-o", lab.report, "--overwrite"),
            lab.scan(service, "in", "-o", "nosuch/r.jsonl"),
        )
        assert lab.report.read_bytes() == kept
        replaced = await lab.scan(service, "in", "-o", lab.report, "--overwrite", "-q")
        listed = await lab.run("status", "--json")
    assert first.code == replaced.code == 0
    assert replaced.out == replaced.err == ""
    assert (refused.code, other.code, nothing.code, missing.code) == (2, 2, 5, 2)
    assert "is the finished report of run" in refused.err
    assert "--overwrite" in refused.err
    assert "no report of this ledger" in other.err
    assert "no *.zip file matched" in nothing.err
    assert "its directory does not exist" in missing.err
    assert foreign.read_text() == "not ours"
    assert {row["outcome"] for row in lab.rows_of(3)} == {"reused"}
    assert sorted(path.name for path in lab.path.glob("report*")) == ["report.jsonl"]
    states = [json.loads(line)["state"] for line in listed.out.splitlines()]
    assert states == ["complete"] * 3, "a refused command leaves no run behind"


async def test_an_empty_file_is_no_report_to_keep(lab: Lab) -> None:
    skills(lab.inputs, 1)
    lab.report.touch()  # as a run leaves it that is killed while it begins
    async with lab.service() as service:
        done = await lab.scan(service, "in", "-o", lab.report)
    assert done.code == 0, done.err
    assert len(lab.rows_of(1)) == 1


async def test_no_wait_then_a_run_that_fetches(lab: Lab) -> None:
    skills(lab.inputs, 3)
    async with lab.service() as service:
        service.detector.gate.clear()
        sent = await lab.scan(service, "in", "-o", lab.report, "--no-wait", "--json")
        assert {code_of(row) for row in lab.rows_of(3)} == {"no-verdict-yet"}
        overdue = await lab.scan(service, "in", "-o", lab.report, "--deadline", "0", "--json")
        service.detector.gate.set()
        fetched = await lab.scan(service, "in", "-o", lab.report, "--json")
    assert (sent.code, overdue.code, fetched.code) == (3, 3, 0)
    assert sent.summary["state"] == "incomplete"
    assert sent.summary["run_id"] == overdue.summary["run_id"] == fetched.summary["run_id"]
    assert {row["outcome"] for row in lab.rows_of(3)} == {"scanned"}
    assert set(service.creates.values()) == {1}


async def test_two_runs_on_one_output(lab: Lab) -> None:
    skills(lab.inputs, 2)
    async with lab.service() as service:
        service.detector.gate.clear()
        running = await lab.start("scan", "in", "-o", lab.report, "--json", "--endpoint", service.url, *FAST)
        await until(lambda: len(service.creates) == 2)
        second, over = await asyncio.gather(
            lab.scan(service, "in", "-o", lab.report),
            lab.scan(service, "in", "-o", lab.report, "--overwrite"),
        )
        service.detector.gate.set()
        done = await running.done()
    assert done.code == 0
    assert {second.code, over.code} == {2}
    assert "another run is writing this report" in second.err
    assert {row["outcome"] for row in lab.rows_of(2)} == {"scanned"}


async def test_resume_by_id_from_elsewhere_and_from_standard_input(lab: Lab) -> None:
    """A list on standard input and relative paths are found again, wherever the resuming shell is."""
    skills(lab.inputs, 3)
    elsewhere = lab.path / "elsewhere"
    elsewhere.mkdir()
    listed = "".join(f"in/skill-{n:04}.zip\n" for n in range(3))
    async with lab.service() as service:
        service.detector.gate.clear()
        first = await lab.scan(service, "-", "--no-wait", "--json", text=listed)
        second = await lab.scan(service, "in", "--no-wait", "--json", "-o", lab.report)
        table = await lab.run("status", env={"COLUMNS": "30"})
        service.detector.gate.set()
        run_id = first.summary["run_id"]
        by_id = await lab.run("resume", run_id, "--json", *FAST, cwd=elsewhere)
        latest, again, one = await asyncio.gather(
            lab.run("resume", "--json", *FAST, cwd=elsewhere),
            lab.run("resume", run_id),
            lab.run("status", run_id, "--json"),
        )
    assert (by_id.code, latest.code, again.code) == (0, 0, 2)
    assert "is complete" in again.err
    assert by_id.summary["run_id"] == run_id
    assert latest.summary["run_id"] == second.summary["run_id"]
    lab.rows_of(3, Path(first.summary["report"]))
    lab.rows_of(3)
    assert [line.split()[0] for line in table.out.splitlines()] == ["run", second.summary["run_id"], run_id]
    shown = json.loads(one.out)
    assert (shown["state"], shown["waiting"], shown["sources"]) == ("complete", 0, ["-"])
    assert set(service.creates.values()) == {1}


async def test_overwrite_is_resumed_too(lab: Lab) -> None:
    skills(lab.inputs, 2)
    lab.report.write_text("older\n")
    async with lab.service() as service:
        service.detector.gate.clear()
        left = await lab.scan(service, "in", "-o", lab.report, "--overwrite", "--no-wait", "--json")
        service.detector.gate.set()
        done = await lab.scan(service, "in", "-o", lab.report, "--json")
    assert (left.code, done.code) == (3, 0)
    assert left.summary["run_id"] == done.summary["run_id"]
    assert {row["outcome"] for row in lab.rows_of(2)} == {"scanned"}
    assert sorted(path.name for path in lab.path.glob("report*")) == ["report.jsonl"]


async def test_the_embedded_endpoint_from_the_samples_to_the_table(lab: Lab) -> None:
    samples = Path(__file__).parent.parent / "samples" / "benign"
    count = len(list(samples.glob("*.zip")))
    first = await lab.run("scan", str(samples), "-o", lab.report, env={"BATCHSCAN_DETECTOR_WORKERS": "2"})
    again = await lab.run("scan", str(samples), "--json")
    assert (first.code, again.code) == (0, 0)
    assert f"scanned       {count:>6,}" in first.out or f"{count}" in first.out
    assert "nothing was found" in first.out
    assert {row["endpoint"] for row in lab.rows_of(count)} == {"embedded"}
    assert again.summary["counts"]["reused"] == count
    assert again.summary["requests"] == {}


async def test_fail_on_and_its_place_among_the_codes(lab: Lab) -> None:
    """1 only when nothing is missing; 3 before 1."""
    for name in ("evil", "odd", "fine"):
        skills(lab.inputs / name, 1, name)
    async with lab.service() as service:
        await lab.scan(service, "in", "-q")
        results = await asyncio.gather(
            lab.scan(service, "in/odd", "in/fine", "--fail-on", "malicious"),
            lab.scan(service, "in/odd", "in/fine", "--fail-on", "suspicious"),
        )
        evil = await lab.scan(service, "in", "--fail-on", "malicious")
        (lab.inputs / "text.zip").write_text("no ZIP")
        both = await lab.scan(service, "in", "--fail-on", "malicious", "--json")
    assert [done.code for done in results] == [0, 1]
    assert (evil.code, both.code) == (1, 3)
    assert both.summary["verdicts"] == {"malicious": 1, "suspicious": 1, "benign": 1}


async def test_a_service_that_refuses_the_run(lab: Lab) -> None:
    """Exit 4 with a row for every input: a wrong key, no quota, nobody there."""
    skills(lab.inputs, 3)
    (lab.inputs / "text.zip").write_text("no ZIP")

    def refused(name: str) -> tuple[str, ...]:
        return ("in", "-o", f"{name}.jsonl", "--state-dir", name, "--json")

    async with lab.service(total_quota=0) as service:
        key = {"TENCENTCLOUD_SECRET_KEY": "WrongKey0123456789"}
        free = socket.create_server(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        free.close()
        wrong, quota, gone = await asyncio.gather(
            lab.scan(service, *refused("key"), env=key),
            lab.scan(service, *refused("quota")),
            lab.run(
                *("scan", *refused("gone"), "--endpoint", nobody), env={"BATCHSCAN_UNREACHABLE_S": "0.5"}
            ),
        )
    for done, name, code in (
        (wrong, "key", "AuthFailure.SignatureFailure"),
        (quota, "quota", "quota"),
        (gone, "gone", "unreachable"),
    ):
        rows = by_path(lab.rows_of(4, lab.path / f"{name}.jsonl"))
        assert done.code == 4, (name, done.err)
        assert done.summary["state"] == "incomplete"
        assert done.summary["error"]["code"] == code
        assert {code_of(row) for path, row in rows.items() if path != "text.zip"} == {code}
        assert code_of(rows["text.zip"]) == "not-a-zip"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 KiB."""
    small = tmp_path / "small"
    small.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"no small file system can be made here: {made.stderr.decode().strip()}")
    yield small
    subprocess.run(["umount", "-l", str(small)], check=True)


async def test_a_full_disk(lab: Lab, small: Path) -> None:
    """The report's disk is full: exit 3 and what to do; with room again the run is resumed."""
    skills(lab.inputs, 60)
    ballast = small / "ballast"
    ballast.write_bytes(b"x" * 8192)
    async with lab.service() as service:
        full = await lab.scan(service, "in", "-o", small / "r.jsonl")
        ballast.unlink()
        still = await lab.run("resume", *FAST)
        report = small / "r.jsonl"
        whole = report.read_bytes()
        report.unlink()
        report.symlink_to(lab.report)  # somewhere with room
        lab.report.write_bytes(whole)
        done = await lab.run("resume", "--json", *FAST)
    lab.rows_of(60)
    assert (full.code, still.code, done.code) == (3, 3, 0)
    for failed in (full, still):
        assert "No space left on device" in failed.err
        assert "batchscan resume" in failed.err
    assert set(service.creates.values()) == {1}
