"""DefectDojo: what its parser of generic findings takes and demands.

The parser is a part of DefectDojo and needs all of it, so no independent reader runs here.
"""

import json
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest
from formats_lab import (
    HOSTILE_FINDINGS,
    MADE_AT,
    SHOWN_REASON,
    finding,
    hostile_rows,
    missing,
    validator,
    write,
)

from batchscan.models import Outcome, RiskLevel, Row

GENERIC = validator("defectdojo-generic-findings.json")


def convert(rows: Iterable[Row], **options: Any) -> list[dict[str, Any]]:
    content = write("defectdojo", rows, **options)
    assert content.decode().replace("\n", "").isprintable()
    document = json.loads(content)
    GENERIC.validate(document)
    findings: list[dict[str, Any]] = document["findings"]
    return findings


def test_the_samples_as_findings(sample_rows: list[Row]) -> None:
    found = {one["file_path"]: one for one in convert(sample_rows, state="complete")}
    assert set(found) == {row.path for row in sample_rows if row.verdict is RiskLevel.MALICIOUS}
    (row,) = (row for row in sample_rows if row.path.endswith("credential-exfiltration.zip"))
    one = found[row.path]
    assert one["title"].startswith(
        "Malicious skill: Network access or data exfiltration (90003) in malicious/"
    )
    assert (one["severity"], one["vuln_id_from_tool"]) == ("Critical", "90003")
    assert str(row.sha256) in one["description"]
    assert "Sensitive-data access combined with network egress" in one["severity_justification"]
    assert one["mitigation"] == row.mitigation
    assert row.scanned_at is not None
    assert one["date"] == row.scanned_at[:10]
    assert (one["active"], one["verified"], one["risk_accepted"]) == (True, False, False)


def test_a_finding_is_known_again_by_its_id_and_by_default() -> None:
    """By default DefectDojo compares title, path and description: no run, engine or score is in them."""

    def identity(row: Row) -> tuple[str, ...]:
        (one,) = convert([row])
        return one["unique_id_from_tool"], one["title"], one["file_path"], one["description"]

    first = identity(finding("a.zip", sha256="1" * 64))
    later = finding(
        "a.zip",
        sha256="1" * 64,
        run_id="next",
        engine_version=9,
        endpoint="intl",
        score=1,
        summary="otherwise",
        mitigation=None,
        scanned_at="2027-01-01T00:00:00Z",
    )
    assert identity(later) == first
    assert identity(finding("a.zip", sha256="2" * 64))[0] != first[0]
    assert identity(finding("b.zip", sha256="1" * 64))[0] != first[0]
    worse = identity(finding("a.zip", RiskLevel.SUSPICIOUS, sha256="1" * 64))
    assert (worse[0], worse[1] == first[1]) == (first[0], False)


def test_verdicts_and_severities() -> None:
    found = convert(
        [finding("m.zip"), finding("s.zip", RiskLevel.SUSPICIOUS), finding("b", RiskLevel.BENIGN)]
    )
    assert [(one["severity"], one["tags"]) for one in found] == [
        ("Critical", ["batchscan", "malicious"]),
        ("Medium", ["batchscan", "suspicious"]),
    ]


def test_suppressed_findings_are_accepted_risks() -> None:
    (one,) = convert([finding()], suppress=lambda _: True)
    assert (one["active"], one["risk_accepted"], one["severity"]) == (False, True, "Critical")
    assert "suppressed" in one["tags"]
    expected = "Accepted until 2027-01-31 by sec@example.org: " + SHOWN_REASON.replace("\\", "\\\\").replace(
        "<", "&lt;"
    )
    assert one["severity_justification"].startswith(expected)


def test_missing_verdicts_are_one_finding_that_stays_the_same() -> None:
    assert convert([finding(level=RiskLevel.BENIGN)], state="complete") == []
    (one,) = convert([missing("p.zip", Outcome.PENDING), missing("r.zip", Outcome.REJECTED, "not-a-zip")])
    later = MADE_AT.replace(year=2027)
    (other,) = convert([missing("q.zip", Outcome.FAILED)], state="incomplete", made_at=later)
    assert "2 of 2 inputs have no verdict: 1 rejected, 1 pending" in one["severity_justification"]
    for name in ("title", "description", "unique_id_from_tool"):
        assert one[name] == other[name]
    assert one["active"] is True


def test_hostile_rows_stay_text() -> None:
    """DefectDojo renders the texts as Markdown: nothing in them is a link, an image or a tag."""
    rows = hostile_rows()
    found = convert(rows)
    assert len(found) == HOSTILE_FINDINGS + 1
    for one in found:
        for name in ("description", "severity_justification", "mitigation"):
            text = one.get(name, "").replace("\\\\", "")
            for active in "[]()<`!":
                assert text.count(active) == text.count(f"\\{active}")
    content = write("defectdojo", rows)
    assert b"secret.example" not in content
    assert len(content) < 2_000_000
    assert write("defectdojo", rows) == content, "the same report gives the same bytes"


def test_the_schema_refuses_what_the_parser_refuses() -> None:
    (one,) = convert([finding()])
    for broken in ({"severity": "critical"}, {"risk": 1}, {"title": ""}, {"title": "x" * 512}):
        with pytest.raises(jsonschema.ValidationError):
            GENERIC.validate({"findings": [one | broken]})
    del one["description"]
    with pytest.raises(jsonschema.ValidationError):
        GENERIC.validate({"findings": [one]})
