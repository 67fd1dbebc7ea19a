"""The file of decisions: exactly one for each row, valid, whole; and what is kept of the one before."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import judged, rows, unjudged

from batchscan.decisions.deciding import Decider
from batchscan.decisions.document import (
    Counts,
    Decision,
    DecisionsWriter,
    Head,
    SuppressionCounts,
    decisions_schema,
    read_decisions,
    read_head,
)
from batchscan.decisions.grace import Memory, remembered
from batchscan.decisions.policy import Action, Policy
from batchscan.decisions.ruling import Reason
from batchscan.errors import ReportError, UsageError
from batchscan.models import Outcome, RiskLevel, Row, Rule
from batchscan.report.rows import ScanFacts, encode_row
from batchscan.suppressions import Suppression

NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
DAY = timedelta(days=1)
LATER = ScanFacts(expires_at=(NOW + 60 * DAY).timestamp())
HEAD = Head(
    run_id="r",
    run_state="complete",
    report="r.jsonl",
    made_at="2026-11-24T08:00:00Z",
    policy_fingerprint="ab" * 32,
    counts=Counts(),
)
SCHEMA = jsonschema.Draft202012Validator(
    decisions_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
ACCEPTED = Suppression(reason="reviewed", owner="ann", expires="2026-12-31")


def nothing(_: Row) -> None:
    return None


def write(path: Path, decisions: list[Decision], **head: Any) -> Path:
    counts = Counts(inputs=len(decisions))
    with path.open("wb") as file:
        writer = DecisionsWriter(file, HEAD)
        for decision in decisions:
            writer.add(decision)
        writer.finish(msgspec.structs.replace(HEAD, **({"counts": counts} | head)))
    return path


def report(path: Path, *made: Row) -> Path:
    path.write_bytes(b"".join(map(encode_row, made)))
    return path


def pending(digest: bytes = b"a" * 32, outcome: Outcome = Outcome.PENDING, path: str = "a.zip") -> Row:
    return msgspec.structs.replace(unjudged(path, outcome), sha256=digest.hex())


def found(level: RiskLevel, path: str = "a.zip", digest: bytes = b"a" * 32, *rules: str) -> Row:
    hits = tuple(Rule(name, None, "STATIC", "x") for name in rules)
    return judged(path, level, digest=digest, verdict={"rules": hits, "score": 40}, facts=LATER)


class Nights:
    """One night after the other: a report, a policy, and the decisions of the night before."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.previous: Path | None = None

    def decide(
        self, now: datetime, *made: Row, grace: int = 3, suppression: Suppression | None = None, **policy: Any
    ) -> list[Decision]:
        file = report(self.directory / "report.jsonl", *made)
        wanted = Policy(grace_days=grace, **policy)

        def suppressor(row: Row) -> Suppression | None:
            return suppression if row.verdict else None

        if self.previous is None:
            decider = Decider(wanted, suppressor, Memory(), now)
            decisions = [decider.decide(row) for row in made]
        else:
            with remembered(self.previous, file, grace * DAY, now) as memory:
                decider = Decider(wanted, suppressor, memory, now)
                decisions = [decider.decide(row) for row in made]
        text = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.previous = write(self.directory / "decisions.json", decisions, made_at=text)
        SCHEMA.validate(json.loads(self.previous.read_bytes()))
        return decisions

    def actions(self, now: datetime, *made: Row, **how: Any) -> list[tuple[str, str]]:
        return [(d.decision.value, d.reason.code) for d in self.decide(now, *made, **how)]


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


@settings(deadline=None)
@given(
    made=st.lists(st.sampled_from(Outcome).flatmap(rows), min_size=1, max_size=4),
    policy=st.builds(
        Policy,
        suspicious=st.sampled_from(Action),
        block_below=st.integers(0, 100),
        embedded_may_allow=st.booleans(),
    ),
    suppression=st.none() | st.just(ACCEPTED),
)
def test_every_input_has_exactly_one_decision(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[Row],
    policy: Policy,
    suppression: Suppression | None,
) -> None:
    made = [msgspec.json.decode(encode_row(row), type=Row) for row in made]
    decider = Decider(policy, lambda row: suppression if row.verdict else None, Memory(), NOW)
    file = write(tmp_path_factory.getbasetemp() / "any.json", [decider.decide(row) for row in made])
    document = json.loads(file.read_bytes())
    SCHEMA.validate(document)

    def identity(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["path"], one["source"], one["manifest_line"], one["id"], one["sha256"]

    assert [identity(d) for d in document["decisions"]] == [identity(json.loads(encode_row(r))) for r in made]
    for decision, row in zip(document["decisions"], made, strict=True):
        if row.verdict is None:
            assert decision["decision"] == "block"
    assert list(read_decisions(file)) == msgspec.convert(document["decisions"], list[Decision])


def test_the_order_of_the_keys_is_that_of_the_schema(tmp_path: Path) -> None:
    decision = Decider(Policy(), nothing, Memory(), NOW).decide(found(RiskLevel.BENIGN))
    document = json.loads(write(tmp_path / "d.json", [decision, decision]).read_bytes())
    SCHEMA.validate(document)
    assert list(document) == decisions_schema()["required"]
    item = decisions_schema()["properties"]["decisions"]["items"]
    assert list(document["decisions"][1]) == item["required"] == list(item["properties"])


def test_the_head_has_room_for_the_largest_counts(tmp_path: Path) -> None:
    counts = Counts(**dict.fromkeys(Counts.__struct_fields__, 10**12))
    entries = SuppressionCounts(**dict.fromkeys(SuppressionCounts.__struct_fields__, 10**12))
    file = write(tmp_path / "d.json", [], counts=counts, suppressions=entries)
    assert read_head(file).counts == counts
    assert json.loads(file.read_bytes())["decisions"] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda _: "", "its first line is not their head"),
        (lambda text: json.dumps(json.loads(text)), "its first line is not their head"),
        (lambda text: text.replace("decisions/1", "decisions/2"), "its schema is 'batchscan.decisions/2'"),
        (lambda text: text.replace('"run_id":"r",', ""), "missing required field `run_id`"),
        (lambda text: text.removesuffix("]}\n"), "it is cut off, or changed: 2 of 2 decisions"),
        (lambda text: "\n".join(text.split("\n")[:2]) + "\n]}\n", "it is cut off, or changed: 1 of 2"),
        (lambda text: text.replace('"decision":"allow"', '"decision":"open"'), "line 2: Invalid enum value"),
        (lambda text: text.replace('"path"', '"path', 1), "line 2: JSON is malformed"),
    ],
)
def test_what_is_no_file_of_decisions(tmp_path: Path, change: Any, told: str) -> None:
    decision = Decider(Policy(), nothing, Memory(), NOW).decide(found(RiskLevel.BENIGN))
    file = write(tmp_path / "d.json", [decision, decision])
    assert len(list(read_decisions(file))) == 2
    file.write_text(change(file.read_text()))
    with pytest.raises(UsageError) as refused:
        list(read_decisions(file))
    assert str(refused.value).startswith(
        f"{file}: these are no decisions as `batchscan decide` writes them ("
    )
    assert told in str(refused.value)


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read \(No such file"):
        read_head(tmp_path / "none.json")
    with pytest.raises(UsageError, match="it is not a regular file"):
        read_head(tmp_path)


@pytest.mark.parametrize("outcome", list(Outcome)[2:])
def test_a_decision_is_kept_while_there_is_no_new_verdict(nights: Nights, outcome: Outcome) -> None:
    a, b, c, d = (letter * 32 for letter in (b"a", b"b", b"c", b"d"))
    nights.decide(
        NOW,
        found(RiskLevel.BENIGN, "a.zip", a),
        found(RiskLevel.SUSPICIOUS, "b.zip", b),
        found(RiskLevel.MALICIOUS, "c.zip", c),
    )
    kept = nights.decide(
        NOW + DAY,
        *(pending(digest, outcome, path) for digest, path in ((a, "moved.zip"), (b, "b.zip"), (c, "c.zip"))),
        pending(d, outcome, "a.zip"),  # the same name, other content
    )
    if outcome is Outcome.REJECTED:
        assert [(d.decision, d.reason.code) for d in kept] == [("block", "rejected")] * 4
        return
    assert [(d.decision.value, d.reason.code) for d in kept] == [
        ("allow", "carried"),
        ("warn", "carried"),
        ("block", "carried"),
        ("block", outcome.value),
    ]
    carried = kept[1].carried
    assert carried is not None
    assert (carried.verdict, carried.score, carried.engine_version) == ("suspicious", 40, 20260501)
    assert (carried.decided_at, carried.until) == ("2026-11-24T08:00:00Z", "2026-11-27T08:00:00Z")
    assert kept[1].expires_at == carried.until
    assert kept[1].verdict is None


def test_the_end_of_the_grace_is_not_put_off_by_carrying(nights: Nights) -> None:
    nights.decide(NOW, found(RiskLevel.BENIGN))
    kept = []
    for night in (1, 2, 3):
        (decision,) = nights.decide(NOW + night * DAY - timedelta(minutes=1), pending(), grace=3)
        kept.append((decision.decision.value, decision.carried and decision.carried.until))
    assert kept == [("allow", "2026-11-27T08:00:00Z")] * 3
    assert nights.actions(NOW + 3 * DAY, pending()) == [("block", "pending")]
    assert nights.actions(NOW + 3 * DAY, pending()) == [("block", "pending")], "nothing is left to carry"


def test_a_longer_grace_does_not_lengthen_one_that_runs_and_a_shorter_one_shortens_it(nights: Nights) -> None:
    nights.decide(NOW, found(RiskLevel.BENIGN))
    nights.decide(NOW + DAY, pending(), grace=2)
    (longer,) = nights.decide(NOW + DAY, pending(), grace=90)
    assert longer.carried is not None
    assert longer.carried.until == "2026-11-26T08:00:00Z"
    assert nights.actions(NOW + DAY, pending(), grace=1) == [("block", "pending")]


def test_a_clock_that_was_ahead_gives_no_more_days(nights: Nights) -> None:
    nights.decide(NOW + 30 * DAY, found(RiskLevel.BENIGN))
    (kept,) = nights.decide(NOW, pending())
    assert kept.carried is not None
    assert kept.carried.until == "2026-11-27T08:00:00Z"


def test_of_several_decisions_on_the_same_content_the_strictest_is_kept(nights: Nights) -> None:
    for order in (1, -1):
        made = [found(RiskLevel.BENIGN), found(RiskLevel.MALICIOUS, "b.zip"), found(RiskLevel.SUSPICIOUS)]
        nights.previous = None
        nights.decide(NOW, *made[::order])
        assert nights.actions(NOW + DAY, pending()) == [("block", "carried")]


def test_a_strict_decision_whose_grace_is_over_does_not_stand_before_a_milder_one(nights: Nights) -> None:
    nights.decide(NOW, found(RiskLevel.MALICIOUS))
    nights.decide(NOW + 2 * DAY, pending(), found(RiskLevel.BENIGN, "b.zip"))
    assert nights.actions(NOW + 4 * DAY, pending()) == [("allow", "carried")]


def test_what_rested_on_no_verdict_is_not_kept(nights: Nights) -> None:
    how = {"pending": Action.ALLOW, "unknown": Action.ALLOW, "may_allow": frozenset({"pending", "unknown"})}
    old = msgspec.structs.replace(
        found(RiskLevel.BENIGN, digest=b"b" * 32), expires_at="2026-01-01T00:00:00Z"
    )
    assert nights.actions(NOW, pending(), old, **how) == [("allow", "pending"), ("allow", "verdict-expired")]
    assert nights.actions(NOW + DAY, pending(), pending(b"b" * 32)) == [("block", "pending")] * 2


@pytest.mark.parametrize(
    ("level", "today", "kept"),
    [
        (RiskLevel.SUSPICIOUS, {"suspicious": Action.BLOCK}, ("block", "carried")),
        (RiskLevel.SUSPICIOUS, {"suspicious": Action.ALLOW}, ("warn", "carried")),
        (RiskLevel.SUSPICIOUS, {"rules_block": frozenset({"1"})}, ("block", "carried")),
        (RiskLevel.BENIGN, {"warn_below": 50}, ("warn", "carried")),
        (RiskLevel.BENIGN, {"minimum_engine": {"embedded": 20260502}}, ("block", "pending")),
        (RiskLevel.BENIGN, {"embedded_may_allow": False}, ("block", "pending")),
    ],
)
def test_what_is_kept_also_has_to_stand_before_the_policy_of_today(
    nights: Nights, level: RiskLevel, today: dict[str, Any], kept: tuple[str, str]
) -> None:
    nights.decide(NOW, found(level, "a.zip", b"a" * 32, "1"))
    assert nights.actions(NOW + DAY, pending(), **today) == [kept]


def test_an_accepted_finding_is_kept_only_while_it_is_accepted(nights: Nights) -> None:
    made = found(RiskLevel.MALICIOUS)
    assert nights.actions(NOW, made, suppression=ACCEPTED) == [("allow", "suppressed")]
    (kept,) = nights.decide(NOW + DAY, pending(), suppression=ACCEPTED)
    assert (kept.decision, kept.suppression) == ("allow", ACCEPTED)
    assert nights.actions(NOW + DAY, pending()) == [("block", "carried")]


def test_a_report_that_is_torn_stops_the_look_up(nights: Nights, tmp_path: Path) -> None:
    nights.decide(NOW, found(RiskLevel.BENIGN))
    assert nights.previous is not None
    torn = report(tmp_path / "torn.jsonl", pending())
    torn.write_bytes(torn.read_bytes()[:-5])
    with (
        pytest.raises(ReportError, match="is cut off"),
        remembered(nights.previous, torn, DAY, NOW),
    ):
        pytest.fail("not reached")


def test_a_temporary_directory_that_cannot_be_used(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    nights.decide(NOW, found(RiskLevel.BENIGN))

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(
        UsageError, match=r"\(database or disk is full\); make room in the temporary directory"
    ):
        nights.decide(NOW + DAY, pending())


def test_the_reason_says_what_is_missing() -> None:
    decision = Decider(Policy(), nothing, Memory(), NOW).decide(pending())
    assert decision.reason == Reason("pending", "There is no verdict yet: deadline")
