"""SARIF: valid by its schema, read by a reader of others, and within what GitHub takes."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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
from sarif import loader

from batchscan.formats import sarif
from batchscan.models import Outcome, RiskLevel, Row, Rule

SARIF = validator("sarif-schema-2.1.0.json")


def convert(rows: Iterable[Row], **options: Any) -> dict[str, Any]:
    """Convert, and check what holds for every file: the schema, and GitHub's required fields and limits."""
    content = write("sarif", rows, **options)
    document: dict[str, Any] = json.loads(content)
    SARIF.validate(document)
    assert content.decode().replace("\n", "").isprintable()
    run: dict[str, Any]
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["id"].strip()
        assert 0 < len(rule["shortDescription"]["text"]) <= 1024
        assert 0 < len(rule["fullDescription"]["text"]) <= 1024
        assert len(rule["help"]["text"]) > 100
        assert len(rule.get("properties", {}).get("tags", ())) <= 10
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert 0 < len(result["message"]["text"]) <= 6_000
        (location,) = result["locations"]
        assert location["physicalLocation"]["region"] == dict.fromkeys(
            ("startLine", "startColumn", "endLine", "endColumn"), 1
        )
        check_uri(location["physicalLocation"]["artifactLocation"]["uri"])
        assert len(json.dumps(result)) < 25_000
        assert len(result.get("properties", {}).get("rules", ())) <= 50
    return run


def check_uri(uri: str) -> None:
    assert urlsplit(uri) == ("", "", uri, "", ""), "no scheme, no authority, no query, no fragment"
    assert uri.isascii()
    assert not uri.startswith("/")
    for segment in uri.split("/"):
        assert unquote(segment) not in {"", ".", ".."}


def uri_of(row: Row) -> str:
    (result,) = convert([row])["results"]
    uri: str = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    return uri


def test_the_samples_as_results(sample_rows: list[Row], tmp_path: Path) -> None:
    run = convert(sample_rows)
    found = {result["properties"]["path"]: result for result in run["results"]}
    assert set(found) == {row.path for row in sample_rows if row.verdict is RiskLevel.MALICIOUS}
    (row,) = (row for row in sample_rows if row.path.endswith("credential-exfiltration.zip"))
    result = found[row.path]
    assert result["level"] == "error"
    assert result["ruleId"] == row.primary_rule
    assert result["properties"]["rules"] == [rule.id for rule in row.rules]
    assert (result["properties"]["sha256"], result["properties"]["score"]) == (row.sha256, row.score)
    assert result["message"]["text"].startswith(
        "Malicious skill: Network access or data exfiltration (90003)"
    )
    assert row.summary is not None
    assert row.summary in result["message"]["text"]
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["properties"]["verdicts"] == {"malicious": 9, "suspicious": 0, "benign": 7}
    seen = {rule.id for row in sample_rows if row.verdict is RiskLevel.MALICIOUS for rule in row.rules}
    assert seen <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}

    file = tmp_path / "samples.sarif"
    file.write_bytes(write("sarif", sample_rows))
    read = loader.load_sarif_file(str(file))
    assert read.get_distinct_tool_names() == ["batchscan"]
    assert read.get_report().get_issue_count_for_severity("error") == 9
    assert {record["Location"] for record in read.get_records()} == set(found)


def test_levels_and_severities_of_the_same_rule() -> None:
    run = convert([finding("a.zip"), finding("b.zip", RiskLevel.SUSPICIOUS), finding("c", RiskLevel.BENIGN)])
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    assert [(r["ruleId"], r["level"], r["rank"]) for r in run["results"]] == [
        ("90005", "error", 95.0),
        ("90005/suspicious", "warning", 50.0),
    ]
    assert rules["90005"]["properties"]["security-severity"] == "9.5"
    assert rules["90005/suspicious"]["properties"]["security-severity"] == "5.5"


def test_an_alert_stays_over_runs_and_engines_and_changes_with_the_content() -> None:
    first = finding("a.zip", sha256="1" * 64)
    later = finding(
        "a.zip",
        sha256="1" * 64,
        run_id="other",
        engine_version=9,
        endpoint="intl",
        score=1,
        summary="otherwise",
        outcome=Outcome.REUSED,
        scanned_at=None,
    )
    changed = finding("a.zip", sha256="2" * 64)
    moved = finding("b.zip", sha256="1" * 64)

    def alert(row: Row) -> tuple[Any, ...]:
        (result,) = convert([row])["results"]
        return result["ruleId"], result["locations"], result["partialFingerprints"]

    assert alert(first) == alert(later)
    assert alert(first) != alert(changed)
    assert alert(first) != alert(moved)
    assert alert(first)[2]["primaryLocationLineHash"] == f"{'1' * 64}:1"


@pytest.mark.parametrize(
    ("source", "path", "line", "uri"),
    [
        ("skills", "a b/c#%.zip", None, "skills/a%20b/c%23%25.zip"),
        ("./skills/", "a.zip", None, "skills/a.zip"),
        (".", "a.zip", None, "a.zip"),
        ("../skills", "a.zip", None, "a.zip"),
        ("/srv/skills", "a.zip", None, "a.zip"),
        ("in/one.zip", "in/one.zip", None, "in/one.zip"),
        ("lists/night.txt", "a.zip", 3, "lists/a.zip"),
        ("lists/night.txt", "/srv/a.zip", 3, "srv/a.zip"),
        ("-", "../a.zip", 1, "_up_/a.zip"),
        ("s", "c:x\\y.zip", None, "s/c%3Ax%5Cy.zip"),
        ("/s", "技.zip", None, "%E6%8A%80.zip"),
    ],
)
def test_where_an_alert_is(source: str, path: str, line: int | None, uri: str) -> None:
    assert uri_of(finding(path, source=source, manifest_line=line)) == uri


def test_hostile_rows_stay_data() -> None:
    """Whatever a row says: valid, no link and no placeholder in a message, no bearer link, bounded."""
    rows = hostile_rows()
    run = convert(rows)
    assert len(run["results"]) == HOSTILE_FINDINGS + 1
    uris = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run["results"]
    }
    assert len(uris) >= HOSTILE_FINDINGS - 1, "different paths stay different"
    content = write("sarif", rows)
    assert b"secret.example" not in content
    assert len(content) < 1_000_000
    for result in run["results"]:
        text = result["message"]["text"]
        for escaped in ("\\[", "\\]", "{{", "}}"):
            text = text.replace(escaped, "")
        assert not set(text) & set("[]{}")


def test_missing_verdicts_are_never_silent() -> None:
    """GitHub reads results only: a report with holes has one of level error, and says it everywhere else."""
    rows = [
        finding("c.zip", RiskLevel.BENIGN),
        missing("p.zip", Outcome.PENDING),
        missing("r.zip", Outcome.REJECTED, "not-a-zip"),
    ]
    run = convert(rows)
    (result,) = run["results"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    (told,) = invocation["toolExecutionNotifications"]
    assert (told["descriptor"]["id"], told["level"]) == ("no-verdict", "error")
    assert (result["ruleId"], result["level"]) == ("incomplete", "error")
    for text in (told["message"]["text"], result["message"]["text"]):
        assert "2 of 3 inputs have no verdict: 1 rejected, 1 pending" in text
        assert "1 not-a-zip" in text
    other = convert([*rows, missing("q.zip", Outcome.FAILED)], state="incomplete")["results"][0]
    assert other["partialFingerprints"] == result["partialFingerprints"], "one alert, night after night"
    for state, rows in (("running", [finding(level=RiskLevel.BENIGN)]), ("complete", [])):
        assert convert(rows, state=state)["results"][0]["ruleId"] == "incomplete"
    assert convert([finding(level=RiskLevel.BENIGN)], state="complete")["results"] == []


def test_the_worst_are_kept_and_the_cut_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif, "RESULTS_LIMIT", 5)
    rows = [finding(f"s{n}.zip", RiskLevel.SUSPICIOUS, score=n) for n in range(3)]
    rows += [finding(f"m{n}.zip", score=n) for n in range(4)]
    run = convert(rows)
    kept = [result["properties"]["path"] for result in run["results"]]
    assert kept == ["s0.zip", *(f"m{n}.zip" for n in range(4))]
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["descriptor"]["id"] == "results-cut"
    assert told["message"]["text"].startswith("2 findings are left out")
    assert run["properties"]["resultsLeftOut"] == 2
    assert len(convert([*rows, missing("p.zip", Outcome.PENDING)])["results"]) == 5, (
        "with the one about holes"
    )


def test_a_full_file_fits_through_the_upload() -> None:
    """A tenth of a full file, with texts of usual length that compress badly, takes a tenth of 10 MB."""
    words = [f"{n:x}" for n in range(4000, 6000)]
    rows = [
        finding(
            f"author-{n % 977}/skill-{n}.zip",
            primary_rule=f"9{n % 300:04}",
            rules=(Rule(f"9{n % 300:04}", "A rule", "AI", "what hit"),),
            summary=" ".join(words[(n * k) % 2000] for k in range(1, 60)),
        )
        for n in range(2_500)
    ]
    content = write("sarif", rows)
    assert content.count(b'"ruleId"') == 2_500
    assert len(gzip.compress(content)) < 1_000_000


def test_suppressed_findings_are_shown_as_accepted() -> None:
    run = convert([finding("a.zip"), finding("b.zip")], suppress=lambda row: row.path == "a.zip")
    accepted, other = run["results"]
    assert accepted["suppressions"] == [
        {
            "kind": "external",
            "status": "accepted",
            "justification": SHOWN_REASON,
            "properties": {"owner": "sec@example.org", "expires": "2027-01-31"},
        }
    ]
    assert "suppressions" not in other
    assert run["properties"]["suppressed"] == 1


def test_the_same_report_gives_the_same_bytes() -> None:
    rows = hostile_rows()
    assert write("sarif", rows) == write("sarif", rows)
    later = write("sarif", rows, made_at=MADE_AT.replace(year=2027))
    assert later.replace(b'"endTimeUtc":"2027-', b'"endTimeUtc":"2026-') == write("sarif", rows)


def test_the_schema_refuses_what_is_not_sarif(sample_rows: list[Row]) -> None:
    document = json.loads(write("sarif", sample_rows))
    document["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        SARIF.validate(document)
