"""The row: what the schema promises holds for whatever is put in."""

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from report_samples import RUN, judged, rows, unjudged

from batchscan.errors import ReportError
from batchscan.models import ROW_SCHEMA, Candidate, Outcome, Problem, RiskLevel, Row, Verdict
from batchscan.report.lines import decode_row
from batchscan.report.rows import JUDGED, ScanFacts, build_row, encode_row, result_schema, rfc3339

SCHEMA = Draft202012Validator(result_schema())
VERDICT = Verdict(level=RiskLevel.BENIGN, engine_version=1)
PROBLEM = Problem("deadline", "too late")


def plain(row: Row) -> dict[str, Any]:
    decoded = json.loads(encode_row(row))
    assert isinstance(decoded, dict)
    return decoded


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(result_schema())


@given(st.sampled_from(Outcome).flatmap(rows))
def test_every_row_is_one_line_that_the_schema_accepts_and_that_reads_back(row: Row) -> None:
    line = encode_row(row)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    SCHEMA.validate(json.loads(line))
    assert encode_row(decode_row(line, Path("r.jsonl"), 1)) == line


@pytest.mark.parametrize("outcome", Outcome)
def test_keys_are_those_of_the_schema_in_the_order_of_the_record(outcome: Outcome) -> None:
    row = judged(outcome=outcome) if outcome in JUDGED else unjudged(outcome=outcome)
    assert list(plain(row)) == list(Row.__struct_fields__)
    assert set(plain(row)) == set(result_schema()["properties"])


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": None},
        {"error": {"code": "x", "message": "y", "request_id": None}},
        {"sha256": "AB" * 32},
        {"sha256": None},
        {"verdict": "harmless"},
        {"score": 101},
        {"outcome": "pending"},
        {"scanned_at": "2026-06-18 08:00:00"},
        {"skill": {"name": None, "description": None}},
        {"schema": "batchscan.result/2"},
    ],
)
def test_the_schema_refuses_what_the_row_must_not_be(change: dict[str, Any]) -> None:
    row = plain(judged())
    SCHEMA.validate(row)
    with pytest.raises(ValidationError):
        SCHEMA.validate(row | change)


@pytest.mark.parametrize("key", Row.__struct_fields__)
def test_the_schema_misses_every_key(key: str) -> None:
    row = plain(judged())
    del row[key]
    with pytest.raises(ValidationError, match=f"'{key}' is a required property"):
        SCHEMA.validate(row)


def test_the_schema_lets_keys_be_added() -> None:
    SCHEMA.validate(plain(judged()) | {"added_later": 1})


@pytest.mark.parametrize(
    ("outcome", "verdict", "problem", "digest", "message"),
    [
        (Outcome.SCANNED, None, None, bytes(32), "scanned needs a verdict"),
        (Outcome.REUSED, None, None, bytes(32), "reused needs a verdict"),
        (Outcome.REUSED, VERDICT, PROBLEM, bytes(32), "reused cannot have an error"),
        (Outcome.SCANNED, VERDICT, None, None, "scanned needs the digest"),
        (Outcome.SCANNED, VERDICT, None, b"ab" * 32, "32 bytes, not 64"),
        (Outcome.PENDING, VERDICT, PROBLEM, bytes(32), "pending cannot have a verdict"),
        (Outcome.PENDING, None, None, None, "pending needs an error"),
        (Outcome.REJECTED, None, None, None, "rejected needs an error"),
        (Outcome.FAILED, None, None, None, "failed needs an error"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(
    outcome: Outcome, verdict: Verdict | None, problem: Problem | None, digest: bytes | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_row(
            run_id=RUN,
            endpoint="embedded",
            candidate=Candidate(source="s", path="p"),
            outcome=outcome,
            size=1,
            digest=digest,
            verdict=verdict,
            problem=problem,
        )


def test_all_that_is_known_reaches_the_row() -> None:
    row = plain(
        build_row(
            run_id=RUN,
            endpoint="intl",
            candidate=Candidate(
                source="m.jsonl", path="x/a.zip", line=7, id="id-1", metadata={"team": ["é"]}
            ),
            outcome=Outcome.REUSED,
            size=42,
            digest=bytes.fromhex("ab" * 32),
            notes=("symlink", "encrypted", "symlink"),
            duplicate_of="x/first.zip",
            verdict=Verdict(
                level=RiskLevel.SUSPICIOUS,
                engine_version=3,
                score=40,
                file_count=5,
                report_url="https://r/?s=1",
            ),
            facts=ScanFacts(attempts=2, polls=3, submitted_at=0.0, expires_at=86400.25),
        )
    )
    assert row["manifest_line"] == 7
    assert (row["id"], row["metadata"]) == ("id-1", {"team": ["é"]})
    assert row["sha256"] == "ab" * 32
    assert row["notes"] == ["symlink", "encrypted"]
    assert (row["verdict"], row["score"], row["skill"]["file_count"]) == ("suspicious", 40, 5)
    assert (row["duplicate_of"], row["report_url"]) == ("x/first.zip", "https://r/?s=1")
    assert (row["attempts"], row["polls"]) == (2, 3)
    assert (row["submitted_at"], row["expires_at"]) == ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00.250Z")


def test_metadata_without_a_bottom_does_not_break_the_encoder() -> None:
    deep: Any = "bottom"
    for _ in range(900):
        deep = [deep]
    candidate = Candidate(source="m", path="p", metadata=deep)
    row = build_row(
        run_id=RUN,
        endpoint="embedded",
        candidate=candidate,
        outcome=Outcome.FAILED,
        size=None,
        digest=None,
        problem=PROBLEM,
    )
    assert b"nested deeper than 64 levels" in encode_row(row)


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00Z"),
        (1780012800.0, "2026-05-29T00:00:00Z"),
        (1780012799.9996, "2026-05-29T00:00:00Z"),
        (1780012799.25, "2026-05-28T23:59:59.250Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (-62135596800.0, "0001-01-01T00:00:00Z"),
        (253402300800.0, None),
        (1e300, None),
        (math.nan, None),
        (-math.inf, None),
    ],
)
def test_rfc3339(epoch: float | None, text: str | None) -> None:
    assert rfc3339(epoch) == text


def test_rows_of_one_input_are_equal_byte_for_byte() -> None:
    assert encode_row(judged()) == encode_row(judged())
    assert msgspec.json.decode(encode_row(judged()))["path"] == "a.zip"


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [("failed", "benign"), ("pending", "malicious"), ("rejected", "benign"), ("scanned", None)],
)
def test_a_line_whose_outcome_and_verdict_contradict_each_other_is_no_row(
    outcome: str, verdict: str | None
) -> None:
    """Or what failed would be counted as benign."""
    line = {"run_id": "r", "path": "a.zip", "source": "in", "endpoint": "embedded", "outcome": outcome}
    content = msgspec.json.encode({"schema": ROW_SCHEMA, **line, "verdict": verdict})
    with pytest.raises(ReportError, match=f"line 1: is {outcome} and has"):
        decode_row(content, Path("report.jsonl"), 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"sha256": "zz"}, "line 7: has 'zz' for a SHA-256"),
        ({"sha256": ""}, "line 7: has '' for a SHA-256"),
        ({"sha256": "AB" * 32}, "for a SHA-256"),
        ({"sha256": "ab " * 32}, "for a SHA-256"),
        ({"sha256": "ab" * 33}, "for a SHA-256"),
        ({"sha256": "ab" * 32 + "\n"}, "for a SHA-256"),
        ({"sha256": "\u202e\x1b[2J"}, r"has '\\u202e\\x1b[2J' for a SHA-256"),
        ({"error": {"code": "too-late", "message": "m"}}, "line 7: is scanned and has an error"),
    ],
)
def test_a_line_that_binds_its_verdict_to_nothing_or_has_an_error_is_no_row(
    changes: dict[str, Any], told: str
) -> None:
    content = msgspec.json.encode(plain(judged()) | changes)
    with pytest.raises(ReportError) as refused:
        decode_row(content, Path("report.jsonl"), 7)
    assert told in str(refused.value)
