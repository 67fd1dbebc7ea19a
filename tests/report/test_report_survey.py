"""What a report adds up to, in memory that its rows cannot make grow."""

import pytest
from report_samples import judged, unjudged

from batchscan.models import Outcome, RiskLevel, Row, Rule
from batchscan.report import survey
from batchscan.report.survey import NO_SCORE, Survey


def surveyed(*rows: Row) -> Survey:
    found = Survey()
    for row in rows:
        found.add(row)
    return found


def bad(
    path: str, score: int | None = None, level: RiskLevel = RiskLevel.MALICIOUS, **verdict: object
) -> Row:
    return judged(path, level, verdict={"score": score, **verdict})


def test_rules_are_counted_once_a_row_and_the_primary_one_is_a_rule() -> None:
    hit = (Rule("1", None, "AI", ""), Rule("1", "One", "STATIC", ""), Rule("2", "Two", "AI", ""))
    found = surveyed(
        bad("a.zip", rules=hit, primary_rule="9"),
        bad("b.zip", rules=hit[:1], primary_rule="1"),
        bad("c.zip", None, RiskLevel.BENIGN, rules=hit),
        unjudged(),
    )
    assert found.rules == {"9": 1, "1": 2, "2": 1}
    assert found.rule_names == {"9": None, "1": "One", "2": "Two"}
    assert (found.findings(), found.missing()) == (2, 1)


def test_names_beyond_the_limit_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "NAMES_LIMIT", 2)
    rows = [bad(f"{n}.zip", primary_rule=str(n), rules=(Rule(str(n), f"n{n}", "AI", ""),)) for n in range(4)]
    found = surveyed(*rows, rows[0])
    assert found.cut
    assert found.rules == {"0": 2, "1": 1}
    assert found.rule_names == {"0": "n0", "1": "n1"}


def test_the_worst_are_taken_by_level_then_score_then_order() -> None:
    rows = [
        bad("s.zip", 1, RiskLevel.SUSPICIOUS),
        bad("m90.zip", 90),
        bad("none.zip"),
        bad("m5.zip", 5),
        bad("m5-again.zip", 5),
        judged("b.zip"),
        unjudged("f.zip", Outcome.FAILED),
    ]
    found = surveyed(*rows)

    def taken(limit: int) -> tuple[list[str], int]:
        cut = found.worst_first(limit)
        return [row.path for row in rows if cut.take(row)], cut.left_out

    assert taken(1) == (["m5.zip"], 4)
    assert taken(3) == (["m90.zip", "m5.zip", "m5-again.zip"], 2)
    assert taken(4) == (["m90.zip", "none.zip", "m5.zip", "m5-again.zip"], 1)
    assert taken(5) == ([row.path for row in rows[:5]], 0)
    assert taken(0) == ([], 5)


def test_a_score_that_cannot_be_is_none() -> None:
    rows = [bad(f"{score}.zip", score) for score in (0, 100, 101, -1, 10**30)]
    found = surveyed(*rows)
    level = RiskLevel.MALICIOUS
    assert found.scores == {(level, 0): 1, (level, 100): 1, (level, NO_SCORE): 3}
    cut = found.worst_first(2)
    assert [row.score for row in rows if cut.take(row)] == [0, 100]
