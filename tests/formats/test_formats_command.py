"""`batchscan report` and its machine formats, by the real program; and that the help names them all."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_type_hints

import pytest
from formats_lab import finding, hostile_rows, missing, write

from batchscan import cli_reports
from batchscan.errors import ReportError
from batchscan.formats.registry import FORMATS
from batchscan.models import Outcome, Row
from batchscan.report.lines import read_rows
from batchscan.report.rows import encode_row
from batchscan.suppressions import Audit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MACHINE = ("defectdojo", "junit", "ocsf", "sarif")


def run(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "batchscan", *words],
        check=False,
        capture_output=True,
        timeout=50,
        cwd=cwd,
        env=os.environ | {"HOME": str(cwd), "PYTHONIOENCODING": "ascii"},
    )


def test_the_help_names_the_formats_that_there_are() -> None:
    option = get_type_hints(cli_reports.report, include_extras=True)["formats"].__metadata__[0]
    *some, last = sorted(FORMATS)
    assert f"What to write: {', '.join(some)} or {last}." in option.help


def test_all_machine_formats_in_one_run_over_a_hostile_report(tmp_path: Path) -> None:
    """Keys of a later version, escapes, a megabyte of name; the same bytes as made here at that moment."""
    report = tmp_path / "report.jsonl"
    rows = hostile_rows()
    lines = [json.loads(encode_row(row)) | {"added_later": ["x"]} for row in rows]
    report.write_text("".join(json.dumps(line) + "\n" for line in lines))  # \u escapes, unlike ours
    words = [word for name in MACHINE for word in ("--format", name)]
    done = run("report", report, *words, "-o", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    written = {name: (tmp_path / f"report{FORMATS[name].suffix}").read_bytes() for name in MACHINE}
    first = json.loads(written["ocsf"].partition(b"\n")[0])
    made_at = EPOCH + timedelta(milliseconds=first["time"])
    for name in MACHINE:
        assert written[name] == write(name, rows, made_at=made_at, audit=Audit()), name


@pytest.mark.parametrize("broken", [rb"\ud800", rb"a\udc80b", b"\xff", b"\xed\xa0\x80", rb"\ud800\u0041"])
def test_half_a_character_is_an_error_with_its_line(tmp_path: Path, broken: bytes) -> None:
    report = tmp_path / "report.jsonl"
    good = encode_row(finding("good.zip"))
    report.write_bytes(good + encode_row(finding("HERE.zip")).replace(b"HERE", broken))
    rows = read_rows(report)
    assert next(rows).path == "good.zip"
    with pytest.raises(ReportError, match=r"report\.jsonl, line 2: is not a row of a report"):
        next(rows)


@pytest.mark.parametrize("name", MACHINE)
@pytest.mark.parametrize(
    "rows", [[], [finding(score=None, rules=(), primary_rule=None)], [missing("p.zip", Outcome.PENDING)]]
)
def test_little_or_nothing_to_say_is_a_whole_document(name: str, rows: list[Row]) -> None:
    content = write(name, rows).decode()
    assert content.endswith("\n") or not content
    if name in {"defectdojo", "sarif"}:
        json.loads(content)
