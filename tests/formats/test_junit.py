"""JUnit XML: valid by the schema of Jenkins, read by junitparser, and red while a verdict is missing."""

import io
from collections import Counter
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree as ET

import junitparser
import pytest
from formats_lab import (
    MADE_AT,
    SCHEMAS,
    SHOWN_REASON,
    finding,
    hostile_rows,
    missing,
    write,
)
from xsd_check import Schema

from batchscan.formats.junit import WHOLE
from batchscan.models import Outcome, RiskLevel, Row

JENKINS = Schema(SCHEMAS / "junit-10.xsd")


def convert(rows: Iterable[Row], **options: Any) -> junitparser.TestSuite:
    """Convert, and check what holds for every file: the schema, and counts that are those of the cases."""
    content = write("junit", rows, **options)
    root = ET.fromstring(content)
    assert JENKINS.problems(root) == []
    suite: junitparser.TestSuite
    (suite,) = junitparser.JUnitXml.fromfile(io.BytesIO(content))
    kinds = Counter(type(result).__name__ for case in suite for result in case.result)
    assert suite.tests == len(list(suite))
    assert (suite.failures, suite.errors, suite.skipped) == (
        kinds["Failure"],
        kinds["Error"],
        kinds["Skipped"],
    )
    (inner,) = root
    for name in ("tests", "failures", "errors"):
        assert root.get(name) == inner.get(name)
    return suite


def cases(suite: junitparser.TestSuite) -> dict[str, tuple[str, str] | None]:
    """Name -> kind and type of its result; None where it passed."""
    return {
        str(case.name): (type(case.result[0]).__name__, str(case.result[0].type)) if case.result else None
        for case in suite
    }


def test_the_samples_as_cases(sample_rows: list[Row]) -> None:
    suite = convert(sample_rows, state="complete")
    found = cases(suite)
    assert len(found) == len(sample_rows) + 1
    assert found.pop(WHOLE) is None
    for row in sample_rows:
        expected = ("Failure", "malicious") if row.verdict is RiskLevel.MALICIOUS else None
        assert found[row.path] == expected, row.path
    (case,) = (case for case in suite if str(case.name).endswith("credential-exfiltration.zip"))
    assert case.classname == "batchscan.malicious"
    (result,) = case.result
    assert result.message == "Malicious skill: Network access or data exfiltration (90003)"
    (row,) = (row for row in sample_rows if row.path == case.name)
    for part in (row.summary, row.mitigation, row.sha256, "safety score: 15 of 100", "90003, 90004"):
        assert str(part) in str(result.text)


def test_what_each_outcome_becomes() -> None:
    rows = [
        finding("m.zip"),
        finding("s.zip", RiskLevel.SUSPICIOUS),
        finding("b.zip", RiskLevel.BENIGN),
        finding("ok.zip"),
        missing("r.zip", Outcome.REJECTED, "not-a-zip"),
        missing("f.zip", Outcome.FAILED, "InternalError"),
        missing("p.zip", Outcome.PENDING),
    ]
    suite = convert(rows, suppress=lambda row: row.path == "ok.zip")
    assert cases(suite) == {
        WHOLE: ("Error", "incomplete"),
        "m.zip": ("Failure", "malicious"),
        "s.zip": ("Failure", "suspicious"),
        "b.zip": None,
        "ok.zip": ("Skipped", "suppressed-malicious"),
        "r.zip": ("Error", "rejected"),
        "f.zip": ("Error", "failed"),
        "p.zip": ("Skipped", "pending"),
    }
    (accepted,) = (case.result[0] for case in suite if case.name == "ok.zip")
    assert accepted.message == f"Accepted until 2027-01-31 by sec@example.org: {SHOWN_REASON}"
    (rejected,) = (case.result[0] for case in suite if case.name == "r.zip")
    assert rejected.message == "rejected: not-a-zip"


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ([missing("p.zip", Outcome.PENDING)], None),
        ([finding("b.zip", RiskLevel.BENIGN)], "running"),
        ([], "complete"),
    ],
)
def test_skipped_is_not_all_that_says_that_a_verdict_is_missing(rows: list[Row], state: str | None) -> None:
    """Whoever shows the file takes skipped for green."""
    suite = convert(rows, state=state)
    assert cases(suite)[WHOLE] == ("Error", "incomplete")
    assert suite.errors == 1


def test_the_same_path_in_two_sources_is_two_cases() -> None:
    """GitLab shows only the first one of a name."""
    rows = [finding("a.zip", RiskLevel.BENIGN, source="one"), finding("a.zip", source="two")]
    assert cases(convert(rows)) == {WHOLE: None, "one: a.zip": None, "two: a.zip": ("Failure", "malicious")}


def test_hostile_rows_stay_text() -> None:
    """Characters that XML 1.0 cannot hold are shown escaped, and a name cannot end an attribute."""
    rows = hostile_rows()
    suite = convert(rows)
    assert suite.tests == len(rows) + 1
    found = [str(case.name).partition(": ")[2] for case in suite]
    assert "\\x1b[31mred\\x1b[0m.zip" in found
    assert "x\\x00\\x0b\\ufffe\\uffff.zip" in found
    assert "line\\nbreak\\r.zip" in found
    assert "\\u202etxt.exe\\u202c.zip" in found
    assert "]]><script>alert('&\"')</script>.zip" in found
    content = write("junit", rows)
    assert b"secret.example" not in content
    assert len(content) < 2_000_000
    assert content.decode().replace("\n", "").isprintable()


def test_the_same_report_gives_the_same_bytes() -> None:
    rows = hostile_rows()
    assert write("junit", rows) == write("junit", rows)
    later = write("junit", rows, made_at=MADE_AT.replace(year=2027))
    assert later.replace(b'timestamp="2027-', b'timestamp="2026-') == write("junit", rows)


@pytest.mark.parametrize(
    "broken",
    [
        '<testsuites><testsuite name="x" tests="1" failures="0"/></testsuites>',
        '<testsuites><testcase name="x"/></testsuites>',
        '<testsuites time="soon"/>',
        '<testsuites extra="1"/>',
        "<testsuites>text</testsuites>",
        "<suites/>",
    ],
)
def test_the_schema_refuses_what_is_not_junit(broken: str) -> None:
    assert len(JENKINS.problems(ET.fromstring(broken))) == 1
