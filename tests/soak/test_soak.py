"""The short form of the soak; ``python tests/soak/run.py --minutes 30`` is the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from soak_checks import check_engine, check_growth, check_log, check_schedules, check_stop, check_streams
from soak_lab import HERE
from soak_left import Findings, Left
from soak_rows import check_rows


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a soak of a few seconds has left."""
    place = tmp_path_factory.mktemp("soak")
    small = ("--minutes", "0.15", "--files", "12", "--streams", "20", "--pause", "0.2")
    done = subprocess.run(
        [sys.executable, HERE / "run.py", *small, "--work-dir", place],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| `status --verify` | exit 0 |" in done.stdout
    return place


def broken_rows(work: Path, report: Path, text: str) -> str:
    """What the check of the rows says of a report that is spoilt."""
    whole, found = report.read_text(), Findings()
    report.write_text(text)
    check_rows(Left(work), found)
    report.write_text(whole)
    return "\n".join(found.broken)


@pytest.mark.timeout(180)
def test_a_short_soak_holds_and_its_checks_see_what_is_spoilt(work: Path) -> None:
    # Of a schedule: its trees are known file by file, those of a caller only by their number.
    runs = [run for run in Left(work).runs if run.origin.startswith("schedule ") and not run.rescan]
    finished = [run for run in runs if run.state == "complete" and run.rows()]
    report = max((run.report for run in finished if run.report), key=lambda path: path.stat().st_size)
    text = report.read_text()
    lines = text.splitlines(keepends=True)
    judged = next(line for line in lines if json.loads(line)["verdict"] == "benign")
    assert broken_rows(work, report, text) == ""
    assert "1 doubled rows" in broken_rows(work, report, text + judged)
    assert "has no row" in broken_rows(work, report, text.replace(judged, ""))
    wrong = judged.replace('"verdict":"benign"', '"verdict":"malicious"')
    assert "instead of ('benign'" in broken_rows(work, report, text.replace(judged, wrong))
    other = judged.replace(json.loads(judged)["sha256"], "0" * 64)
    assert "never had the content" in broken_rows(work, report, text.replace(judged, other))


@pytest.mark.timeout(180)
def test_the_checks_see_what_a_bad_service_would_leave(work: Path) -> None:
    left, found = Left(work), Findings()
    due = {"event": "schedule-due", "schedule": "one", "due": "2020-01-01T00:00:00Z", "level": "info"}
    crash = {"event": "a part of the service has ended", "level": "error"}
    left.log += f"{json.dumps(due)}\n" * 2 + f"{json.dumps(crash)}\nTraceback (most recent call last):\n"
    reader = next(note for note in left.notes("numbers") if len(note["numbers"]) > 3)
    reader["numbers"] = [*reader["numbers"][:1], *reader["numbers"][2:]]
    reader["reader"] = "comes back 99"
    left.stopped["seconds"] = 10.1
    stats = work / "stats-end.json"
    whole = stats.read_text()
    counted = json.loads(whole)
    counted["actions"]["CreateSkillScan"]["peak_per_second"] = 21
    stats.write_text(json.dumps(counted))
    for check in (check_schedules, check_log, check_streams, check_stop, check_engine):
        check(left, found)
    stats.write_text(whole)
    broken = "\n".join(found.broken)
    for told in (
        "schedule one: 00:00 was decided 2 times",
        "schedule one: 00:00 was not due",
        "logged: {'event': 'a part of the service has ended'",
        "on stderr: ['Traceback",
        "reader comes back 99: 1 changes of runs did not come",
        "took 10.1 s to stop",
        "21 submissions in a second",
    ):
        assert told in broken, broken


@pytest.mark.timeout(180)
def test_the_checks_see_what_grows(work: Path) -> None:
    left, even = Left(work), Findings()
    left.stopping["at"] = left.began["at"] + 1800
    times = [left.began["at"] + 5 * number for number in range(360)]
    usual = {"rss": 150e6, "descriptors": 70, "threads": 15, "cpu_s": 0}
    left.samples = [{"at": at, **usual} for at in times]
    left.tasks = [{"at": at, "tasks": 100, "objects": 50_000} for at in times]
    check_growth(left, even)
    assert even.broken == []
    filling = [min(number, len(times) // 2) for number in range(len(times))]
    left.samples = [
        {"at": at, **usual, "rss": 150e6 + 3e5 * fill} for at, fill in zip(times, filling, strict=True)
    ]
    check_growth(left, even)
    assert even.broken == [], "what has filled by the middle, and then stays"
    left.samples = [
        {
            "at": at,
            "rss": 150e6 + 6000 * number * 5,
            "descriptors": 70 + number // 30,
            "threads": 15,
            "cpu_s": 0,
        }
        for number, at in enumerate(times)
    ]
    left.tasks = [
        {"at": at, "tasks": 100 + number // 40, "objects": 50_000} for number, at in enumerate(times)
    ]
    grown = Findings()
    check_growth(left, grown)
    assert [each.partition(":")[0] for each in grown.broken] == [
        "RSS grows by 21.6 MB/h",
        "descriptors grow",
        "tasks grow",
    ], grown.broken
