"""The gates of the commands: what fails a run, what does not count, and which code comes first."""

import asyncio
import os
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest
from cli_lab import FAST, Lab, digest, skill, skills

ACCEPT = '[[suppression]]\nsha256 = "{}"\nreason = "reviewed"\nowner = "ann"\nexpires = {}\n'


async def test_only_what_is_new_and_stands_fails_the_run(lab: Lab) -> None:
    """A baseline by file and by run, and a suppression; the summary says what did not count, and why."""
    accepted = skills(lab.inputs / "accepted", 1, "evil accepted")[0]
    skills(lab.inputs / "old", 2, "evil old")
    skills(lab.inputs / "odd", 1, "odd")
    file = lab.path / "accepted.toml"
    file.write_text(ACCEPT.format(digest(accepted), "2999-01-01") + ACCEPT.format("ab" * 32, "2999-01-01"))
    gate = ("--fail-on", "malicious", "--suppressions", file)
    async with lab.service() as service:
        first = await lab.scan(service, "in/old", "-o", lab.report, "--json", *gate)
        run_id = first.summary["run_id"]
        same, by_run = await asyncio.gather(
            lab.scan(service, "in", "--json", *gate, "--baseline", lab.report),
            lab.scan(service, "in", *gate, "--baseline", run_id),
        )
        (lab.inputs / "new.zip").write_bytes(skill("evil new"))
        new = await lab.scan(service, "in", "--json", *gate, "--baseline", run_id)
    assert [done.code for done in (first, same, by_run, new)] == [1, 0, 0, 1]
    assert first.summary["gate"]["counted"] == {"malicious": 2, "suspicious": 0}
    assert same.summary["gate"] == {
        "fail_on": "malicious",
        "fail_on_incomplete": False,
        "baseline": str(lab.report),
        "suppressions": str(file),
        "counted": {"malicious": 0, "suspicious": 1},
        "known": {"malicious": 2, "suspicious": 0},
        "suppressed": {"malicious": 1, "suspicious": 0},
        "reached": False,
    }
    assert same.summary["verdicts"]["malicious"] == 3, "what does not count is shown all the same"
    assert (
        "gate, fail on malicious: not reached; counted: 0 malicious, 1 suspicious; known from the baseline:"
        " 2 malicious, 0 suspicious; suppressed: 1 malicious, 0 suspicious" in by_run.out
    )
    assert new.summary["gate"]["counted"]["malicious"] == 1
    assert "a suppression met no finding" in same.err


async def test_a_gate_counts_the_rows_that_a_resumed_report_had(lab: Lab) -> None:
    """What was judged before the interruption counts as well, and the baseline is asked about it."""
    skills(lab.inputs, 1, "evil")
    skills(lab.inputs, 1, "fine")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", "old.jsonl", "-q")
        (lab.inputs / "text.zip").write_text("no ZIP")
        skills(lab.inputs, 1, "late")
        service.detector.gate.clear()
        left = await lab.scan(
            service, "in", "-o", lab.report, "--no-wait", "--json", "--fail-on", "malicious"
        )
        service.detector.gate.set()
        baseline = ("--fail-on", "malicious", "--baseline", "old.jsonl")
        done = await lab.run("resume", "--json", *baseline, *FAST)
    assert (left.code, left.summary["gate"]["reached"]) == (3, True), "3 comes before 1"
    assert (done.code, done.summary["state"]) == (3, "complete")
    assert done.summary["gate"]["known"]["malicious"] == 1
    assert done.summary["gate"]["counted"]["malicious"] == 0


async def test_a_gate_that_cannot_be_used_is_refused_before_anything_is_sent(lab: Lab) -> None:
    skills(lab.inputs, 1)
    bad = lab.path / "bad.toml"
    bad.write_text("[[suppression]]\nreason = 1\n")
    async with lab.service() as service:
        refused = await asyncio.gather(
            lab.scan(service, "in", "--baseline", "nosuch.jsonl"),
            lab.scan(service, "in", "--baseline", bad),
            lab.scan(service, "in", "--suppressions", bad),
            lab.scan(service, "in", "--fail-on", "new-malicious"),
        )
        assert service.arrivals == 0
    assert [done.code for done in refused] == [2] * 4
    assert not (lab.state / "reports").exists()
    assert "--fail-on malicious with --baseline" in refused[-1].err


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="root, who can read all, drops to nobody"
)
async def test_a_directory_that_cannot_be_read_is_incomplete_if_that_is_asked(open_lab: Lab) -> None:
    lab, nobody = open_lab, ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    skills(lab.inputs, 1)
    (lab.inputs / "locked").mkdir(mode=0)
    lab.state.mkdir(parents=True)
    for place in (lab.state, lab.home):
        os.chown(place, 65534, 65534)
    if not await can_start(nobody):
        pytest.skip("this interpreter cannot be run by another user")
    async with lab.service() as service:
        plain = await lab.scan(service, "in", wrapped=nobody)
        asked = await lab.scan(service, "in", "--fail-on-incomplete", "--json", wrapped=nobody)
    assert (plain.code, asked.code) == (0, 3), plain.err
    assert "but 1 directories could not be read" in plain.out
    assert asked.summary["skipped"] == {"unreadable-directory": 1}


async def can_start(wrapped: tuple[str, ...]) -> bool:
    command = (*wrapped, sys.executable, "-c", "import batchscan.cli")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


async def test_report_holds_a_report_against_a_gate(lab: Lab) -> None:
    """0 whatever it says, 1 and 3 where that is asked for; a format is written all the same."""
    skills(lab.inputs, 2, "evil")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", "old.jsonl", "-q")
        (lab.inputs / "text.zip").write_text("no ZIP")
        (lab.inputs / "new.zip").write_bytes(skill("evil new"))
        await lab.scan(service, "in", "-o", lab.report, "-q")
    plain, failed, known, missing, nothing = await asyncio.gather(
        lab.run("report", lab.report, "--format", "csv"),
        lab.run("report", lab.report, "--format", "csv", "-o", "out.csv", "--fail-on", "malicious"),
        lab.run("report", "old.jsonl", "--fail-on", "malicious", "--baseline", "old.jsonl"),
        lab.run("report", lab.report, "--fail-on", "malicious", "--fail-on-incomplete"),
        lab.run("report", lab.report),
    )
    assert [done.code for done in (plain, failed, known, missing, nothing)] == [0, 1, 0, 3, 2]
    assert plain.out.count("\n") == 5
    assert (lab.path / "out.csv").read_text("utf-8-sig").count("\n") == 5
    assert known.out == ""
    assert "not reached; counted: 0 malicious, 0 suspicious; known from the baseline: 2 mal" in known.err
    assert "the report is incomplete" in missing.err
    assert "name a --format" in nothing.err


async def test_a_report_of_a_run_that_has_not_ended_is_incomplete(lab: Lab) -> None:
    """Rows may be missing that nobody can see in the file: the ledger knows."""
    skills(lab.inputs, 2)
    async with lab.service() as service:
        done = await lab.scan(service, "in", "-o", lab.report, "-q")
        other = lab.path / "moved.jsonl"
        other.write_bytes(lab.report.read_bytes())
        with closing(sqlite3.connect(lab.state / "ledger.sqlite3")) as ledger:
            ledger.execute("UPDATE run SET state = 'interrupted'")
            ledger.commit()
    assert done.code == 0
    known, copied, unknown = await asyncio.gather(
        lab.run("report", lab.report, "--fail-on-incomplete"),
        lab.run("report", other, "--fail-on-incomplete"),
        lab.run("report", other, "--fail-on-incomplete", "--state-dir", "elsewhere"),
    )
    assert (known.code, copied.code, unknown.code) == (3, 3, 0), "the rows say whose they are"
    assert "state=interrupted" in known.err or '"interrupted"' in known.err
    assert "not known here" in unknown.err


async def test_a_report_with_fewer_rows_than_its_run_had_inputs_is_incomplete(lab: Lab) -> None:
    """Cut at a line's end it looks whole by itself, empty it names no run: no gate and no format is green."""
    skills(lab.inputs, 3)
    async with lab.service() as service:
        done = await lab.scan(service, "in", "-o", lab.report, "-q")
    assert done.code == 0
    cut, empty = lab.path / "cut.jsonl", lab.path / "empty.jsonl"
    cut.write_bytes(lab.report.read_bytes().splitlines(keepends=True)[0])
    empty.touch()
    formats = ("--format", "markdown", "--format", "sarif", "--format", "junit")
    whole, lacking, nothing, decided = await asyncio.gather(
        lab.run("report", lab.report, "--fail-on-incomplete"),
        lab.run("report", cut, "--fail-on-incomplete", *formats, "-o", lab.path),
        lab.run("report", empty, "--fail-on-incomplete"),
        lab.run("decide", cut, "-o", "decisions.json"),
    )
    assert [run.code for run in (whole, lacking, nothing, decided)] == [0, 3, 3, 3]
    assert "fewer rows than its run had inputs" in decided.err
    for suffix in (".md", ".sarif", ".junit.xml"):
        assert "the run had 2 more inputs than the report has rows" in (lab.path / f"cut{suffix}").read_text()


async def test_an_output_does_not_take_the_place_of_what_is_read_or_of_another_output(lab: Lab) -> None:
    skills(lab.inputs, 1, "evil")
    async with lab.service() as service:
        await lab.scan(service, "in", "-o", lab.report, "-q")
    old, policy = lab.path / "old.jsonl", lab.path / "policy.toml"
    shutil.copy(lab.report, old)
    policy.write_text('[verdicts]\nmalicious = "block"\n')
    before = old.read_bytes(), policy.read_text()
    csv = ("--format", "csv", "-o")
    refused = await asyncio.gather(
        lab.run("report", lab.report, *csv, old, "--fail-on", "malicious", "--baseline", old),
        lab.run("decide", lab.report, "-o", policy, "--policy", policy),
        lab.run("report", lab.report, *csv, "x", "--format", "markdown", "-o", lab.path / "x"),
    )
    assert [run.code for run in refused] == [2, 2, 2]
    assert (old.read_bytes(), policy.read_text()) == before
    assert not (lab.path / "x").exists()
