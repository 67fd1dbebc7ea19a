"""The summary: one record for machines, one block for people that nothing in a file name can forge."""

import io
import json
import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from report_samples import RUN, texts

from batchscan.models import Outcome, Problem, RiskLevel, RunState
from batchscan.report.console import StreamConsole, open_console
from batchscan.report.summary import Summary, conclusion, encode_summary, render, summary_schema
from batchscan.report.tally import Finding
from batchscan.report.text import displayable, duration, encodable, printable, printable_lines

SCHEMA = Draft202012Validator(summary_schema())
LONG = "skills/" + "x" * 300 + ".zip"
GREEN = re.compile(r"\x1b\[(?:\d+;)*32m")


def summary(**change: Any) -> Summary:
    fields: dict[str, Any] = {
        "run_id": RUN,
        "state": RunState.COMPLETE,
        "exit_code": 0,
        "report": "out/report.jsonl",
        "endpoint": "embedded",
        "engine_versions": [20260501],
        "counts": {Outcome.SCANNED: 1200},
        "verdicts": {RiskLevel.BENIGN: 1200},
        "billed_files": 3214,
        "requests": {"CreateSkillScan": 1200},
        "throttled": 0,
        "retries": 0,
        "elapsed_s": 75.0,
        "inputs": 1200,
        "skipped": {},
    }
    return Summary(**fields | change)


def finding(path: str) -> Finding:
    return Finding(path, RiskLevel.MALICIOUS, 3, "90001", "Credential theft", "ab" * 32)


def shown(record: Summary, **console: Any) -> str:
    file = io.StringIO()
    render(record, StreamConsole(file=file, **console))
    return file.getvalue()


def test_every_outcome_and_level_is_always_there() -> None:
    record = json.loads(encode_summary(summary(counts={}, verdicts={})))
    assert record["counts"] == dict.fromkeys(["scanned", "reused", "rejected", "failed", "pending"], 0)
    assert record["verdicts"] == dict.fromkeys(["malicious", "suspicious", "benign"], 0)
    assert list(record) == list(Summary.__struct_fields__)
    assert set(record) == set(summary_schema()["properties"])
    assert encode_summary(summary()).count(b"\n") == 1


def test_the_schema_accepts_summaries_and_refuses_others() -> None:
    Draft202012Validator.check_schema(summary_schema())
    full = summary(
        error=Problem("quota", "none left"), worst=(finding("a"),), skipped={"unreadable-directory": 1}
    )
    record = json.loads(encode_summary(full))
    SCHEMA.validate(record)
    SCHEMA.validate(json.loads(encode_summary(summary(report=None))))
    wrong: dict[str, Any]
    for wrong in ({"counts": {"scanned": 1}}, {"verdicts": {}}, {"state": "done"}, {"requests": {"a": -1}}):
        with pytest.raises(ValidationError):
            SCHEMA.validate(record | wrong)
    for key in record:
        with pytest.raises(ValidationError):
            SCHEMA.validate({k: v for k, v in record.items() if k != key})


def test_what_a_person_reads() -> None:
    text = shown(
        summary(
            counts={Outcome.SCANNED: 1200, Outcome.PENDING: 4},
            verdicts={RiskLevel.MALICIOUS: 2, RiskLevel.BENIGN: 1198},
            state=RunState.INCOMPLETE,
            throttled=3,
            inputs=1204,
            skipped={"unreadable-directory": 1},
            worst=(finding("skills/evil.zip"),),
            error=Problem("budget", "reached"),
        )
    )
    lines = [line.rstrip() for line in text.splitlines()]
    assert "scanned    1,200  malicious        2" in lines
    assert "pending        4" in lines
    assert "malicious      3  skills/evil.zip  90001 Credential theft" in lines
    assert "billed files: 3,214" in lines
    assert "API calls: 1,200 (CreateSkillScan 1,200; 3 throttled)" in lines
    assert "skipped, no inputs: unreadable-directory 1" in lines
    assert "elapsed: 1 min 15 s" in lines
    assert "report: out/report.jsonl" in lines
    assert "error: budget: reached" in lines
    assert (
        lines[-1] == f"Incomplete: inputs have no verdict (4 pending). Go on with `batchscan resume {RUN}`."
    )


def test_a_pipe_gets_whole_paths_and_no_colour() -> None:
    text = shown(summary(worst=(finding(LONG),), report=LONG))
    assert text.count(LONG) == 2
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 200])
def test_a_terminal_gets_lines_that_fit_and_all_of_the_path(width: int) -> None:
    text = shown(summary(worst=(finding(LONG),)), force_terminal=True, width=width, color_system=None)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.count("x") >= 300
    assert "malicious" in text


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(summary(), force_terminal=True, color_system="standard")
    assert not GREEN.search(text)


@given(texts)
def test_a_hostile_name_is_shown_and_does_nothing(name: str) -> None:
    hostile = name + "\x1b[2J\r\n\u202e[red]:bomb:[/]"
    text = shown(summary(worst=(finding(hostile),), report=hostile, endpoint=hostile))
    assert not set(text) & set("\x1b\r\u202e")
    assert text.count(r"\x1b[2J\r\n\u202e[red]:bomb:[/]") == 3
    assert len(text.splitlines()) == len(shown(summary(worst=(finding("a"),))).splitlines())


def test_a_terminal_that_knows_only_ascii() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    render(summary(worst=(finding("技能.zip"),)), open_console(file))
    file.flush()
    assert rb"\u6280\u80fd.zip" in raw.getvalue()


NEVER_GREEN: list[dict[str, Any]] = [
    {"state": RunState.INTERRUPTED},
    {"state": RunState.RUNNING},
    {"state": RunState.INCOMPLETE, "counts": {Outcome.PENDING: 1}},
    {"counts": {Outcome.SCANNED: 1199, Outcome.FAILED: 1}},
    {"counts": {Outcome.SCANNED: 1199, Outcome.REJECTED: 1}},
    {"counts": {Outcome.SCANNED: 1199}},
    {"counts": {}, "inputs": 0},
    {"verdicts": {RiskLevel.MALICIOUS: 1}},
    {"verdicts": {RiskLevel.SUSPICIOUS: 1}},
    {"skipped": {"unreadable-directory": 1}},
    {"error": Problem("AuthFailure", "no")},
    {"exit_code": 3},
]


@pytest.mark.parametrize("change", NEVER_GREEN)
def test_never_green_over_missing_verdicts(change: dict[str, Any]) -> None:
    console: dict[str, Any] = {"force_terminal": True, "color_system": "standard", "width": 100}
    assert GREEN.search(shown(summary(), **console))
    assert not GREEN.search(shown(summary(**change), **console))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "Every input has a verdict, and nothing was found."),
        ({"verdicts": {RiskLevel.MALICIOUS: 2, RiskLevel.SUSPICIOUS: 1}}, "2 malicious and 1 suspicious"),
        ({"counts": {Outcome.SCANNED: 1190, Outcome.FAILED: 9, Outcome.REJECTED: 1}}, "9 failed, 1 rejected"),
        ({"counts": {}}, "Incomplete: inputs have no verdict (1,200 without a row yet). Go on with"),
        ({"state": RunState.INTERRUPTED}, f"the run has not ended. Go on with `batchscan resume {RUN}`"),
        ({"inputs": 0, "counts": {}}, "No input was found"),
        ({"skipped": {"unreadable-directory": 2, "filtered": 1}}, "2 directories could not be read"),
        ({"skipped": {"filtered": 1}}, "nothing was found"),
    ],
)
def test_the_last_sentence_says_what_to_do(change: dict[str, Any], sentence: str) -> None:
    assert sentence in conclusion(summary(**change))[0]


def test_a_broken_pipe_is_an_error_like_others_and_ends_no_process() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w")
    with pytest.raises(BrokenPipeError):
        render(summary(), open_console(file))
    with pytest.raises(BrokenPipeError):
        file.close()


@given(st.text(st.characters()))
def test_text_is_made_safe(text: str) -> None:
    assert printable(text).isprintable()
    assert printable_lines(text).count("\n") == text.count("\n")
    assert displayable(text, "ascii").isascii()
    assert json.loads(json.dumps(encodable(text)).encode()) == encodable(text)
    encodable(text).encode()
    if text.isprintable():
        assert printable(text) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (3.25, "3.2 s"),
        (59.94, "59.9 s"),
        (245, "4 min 05 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_duration_never_says_sixty() -> None:
    assert duration(59.97) == "1 min 00 s"
    assert duration(3599.7) == "1 h 00 min"
