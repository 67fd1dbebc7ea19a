"""The short form of the soak; ``python tests/soak/run.py --minutes 30`` is the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
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
    finished = [run for run in Left(work).runs if run.state == "complete" and not run.rescan and run.rows()]
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
