"""OCSF: each line valid by the schema of 1.5.0 and by the models of py-ocsf-models."""

import json
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest
from formats_lab import HOSTILE_FINDINGS, RUN, SHOWN_REASON, finding, hostile_rows, missing, validator, write
from py_ocsf_models.events.findings.detection_finding import DetectionFinding

from batchscan.models import Outcome, RiskLevel, Row

CLASS_2004 = validator("ocsf-1.5.0-detection-finding.json")


def convert(rows: Iterable[Row], **options: Any) -> list[dict[str, Any]]:
    """Convert, and check what holds for every line: the schema, the models, and captions beside their ids."""
    events = []
    for line in write("ocsf", rows, **options).decode().splitlines():
        assert line.isprintable()
        assert len(line) < 40_000
        event: dict[str, Any] = json.loads(line)
        assert len(event["finding_info"].get("related_analytics", ())) <= 50
        CLASS_2004.validate(event)
        read = DetectionFinding.model_validate(event)
        assert read.type_uid == read.class_uid * 100 + read.activity_id == 200401
        assert read.severity_id.name == event["severity"]
        assert read.status_id is not None
        assert read.status_id.name == event["status"]
        events.append(event)
    return events


def test_the_samples_as_events(sample_rows: list[Row]) -> None:
    events = {
        event["evidences"][0]["file"]["path"]: event for event in convert(sample_rows, state="complete")
    }
    assert set(events) == {row.path for row in sample_rows if row.verdict is RiskLevel.MALICIOUS}
    (row,) = (row for row in sample_rows if row.path.endswith("credential-exfiltration.zip"))
    event = events[row.path]
    info = event["finding_info"]
    assert info["title"] == "Malicious skill: Network access or data exfiltration (90003)"
    assert info["desc"] == row.summary
    assert info["analytic"]["uid"] == "90003"
    assert [analytic["uid"] for analytic in info["related_analytics"]] == ["90004"]
    assert event["remediation"]["desc"] == row.mitigation
    assert event["evidences"][0]["file"]["hashes"][0]["value"] == row.sha256
    assert {observable["value"] for observable in event["observables"]} == {
        row.sha256,
        "credential-exfiltration.zip",
    }
    assert event["metadata"]["correlation_uid"] == row.run_id
    assert event["metadata"]["version"] == "1.5.0"
    assert event["unmapped"]["capabilities"] == ["file_read", "network_access"]
    assert event["unmapped"]["engine_version"] == str(row.engine_version)


def test_verdicts_and_severities() -> None:
    malicious, suspicious = convert(
        [finding("m.zip"), finding("s.zip", RiskLevel.SUSPICIOUS), finding("b.zip", RiskLevel.BENIGN)]
    )
    assert (malicious["severity"], suspicious["severity"]) == ("Critical", "Medium")
    assert [event["evidences"][0]["verdict"] for event in (malicious, suspicious)] == [
        "Security Risk",
        "Suspicious",
    ]
    assert (malicious["risk_score"], suspicious["risk_score"]) == (95, 50)
    assert malicious["unmapped"]["security_score"] == 5
    assert malicious["is_alert"] is True
    assert malicious["time"] == 1_781_769_600_250


def test_a_finding_keeps_its_uid_and_an_event_does_not() -> None:
    first, again = convert([finding()]), convert([finding(run_id="next", engine_version=9, score=1)])
    changed = convert([finding(sha256="2" * 64)])
    assert first[0]["finding_info"]["uid"] == again[0]["finding_info"]["uid"]
    assert first[0]["finding_info"]["uid"] != changed[0]["finding_info"]["uid"]
    assert first[0]["metadata"]["uid"] != again[0]["metadata"]["uid"]


def test_a_quiet_night_is_told_from_one_without_verdicts() -> None:
    assert convert([finding(level=RiskLevel.BENIGN)], state="complete") == []
    (event,) = convert([finding(level=RiskLevel.BENIGN), missing("p.zip", Outcome.PENDING)])
    assert event["finding_info"]["uid"] == "batchscan-incomplete"
    assert event["finding_info"]["desc"] == "1 of 2 inputs have no verdict: 1 pending; by code: 1 deadline"
    assert (event["severity"], event["is_alert"]) == ("High", True)
    assert event["metadata"]["uid"] == f"batchscan-incomplete-{RUN}"
    (running,) = convert([finding(level=RiskLevel.BENIGN)], state="running")
    assert running["unmapped"]["state"] == "running"


def test_suppressed_findings_are_told_and_raise_no_alert() -> None:
    (event,) = convert([finding()], suppress=lambda _: True)
    assert (event["status"], event["is_alert"], event["severity"]) == ("Suppressed", False, "Critical")
    assert event["comment"] == f"Accepted until 2027-01-31: {SHOWN_REASON}"
    assert event["unmapped"]["suppression"]["owner"] == "sec@example.org"


def test_what_a_manifest_said_is_passed_on_unless_it_is_large() -> None:
    (event,) = convert([finding(id=7, metadata={"team": "a"})])
    assert (event["unmapped"]["id"], event["unmapped"]["metadata"]) == (7, {"team": "a"})
    (event,) = convert([finding(metadata=["x"] * 5_000)])
    assert "metadata" not in event["unmapped"]


def test_hostile_rows_stay_data() -> None:
    events = convert(hostile_rows())
    assert len(events) == HOSTILE_FINDINGS + 1
    content = write("ocsf", hostile_rows())
    assert b"secret.example" not in content
    assert len(content) < 1_000_000
    assert write("ocsf", hostile_rows()) == content, "the same report gives the same bytes"


def test_the_schema_refuses_what_is_not_a_detection_finding() -> None:
    (event,) = convert([finding()])
    for broken in (
        {"class_uid": 2001},
        {"severity_id": 7},
        {"verdict": "malicious"},
        {"finding_info": {"title": "no uid"}},
        {"evidences": [{"verdict_id": 8}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            CLASS_2004.validate(event | broken)
