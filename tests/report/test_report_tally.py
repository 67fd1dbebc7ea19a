"""The tally: adds up rows and keeps the worst, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st
from report_samples import judged, unjudged

from batchscan.models import Outcome, RiskLevel, Rule
from batchscan.report.tally import OTHER_CODES, WORST_LIMIT, Tally


def test_counts() -> None:
    tally = Tally()
    for row in (
        judged("a", RiskLevel.MALICIOUS),
        judged("b", outcome=Outcome.REUSED),
        judged("c", outcome=Outcome.REUSED, verdict={}),
        unjudged("d", Outcome.REJECTED, "not-a-zip"),
        unjudged("e", Outcome.PENDING, "deadline"),
        unjudged("f", Outcome.PENDING, "deadline"),
    ):
        tally.add(row)
    assert tally.inputs == 6
    assert tally.outcomes == {Outcome.SCANNED: 1, Outcome.REUSED: 2, Outcome.REJECTED: 1, Outcome.PENDING: 2}
    assert tally.verdicts == {RiskLevel.MALICIOUS: 1, RiskLevel.BENIGN: 2}
    assert tally.errors == {"not-a-zip": 1, "deadline": 2}
    assert tally.engine_versions == {20260501}


def test_the_worst_name_their_rule() -> None:
    tally = Tally()
    rules = (Rule("90002", "Other", "AI", ""), Rule("90001", "Credential theft", "AI", "reads keys"))
    tally.add(judged("a", RiskLevel.MALICIOUS, verdict={"score": 3, "primary_rule": "90001", "rules": rules}))
    tally.add(judged("b", RiskLevel.SUSPICIOUS, verdict={"primary_rule": "90009", "rules": rules}))
    first, second = tally.worst
    assert (first.path, first.verdict, first.score) == ("a", RiskLevel.MALICIOUS, 3)
    assert (first.primary_rule, first.rule_name) == ("90001", "Credential theft")
    assert first.sha256 == judged("a").sha256
    assert (second.primary_rule, second.rule_name) == ("90009", None)


def test_a_content_is_listed_once_and_counted_each_time() -> None:
    tally = Tally()
    for copy in range(50):
        tally.add(judged(f"{copy}", RiskLevel.MALICIOUS, duplicate_of="0" if copy else None))
    assert [finding.path for finding in tally.worst] == ["0"]
    assert tally.verdicts[RiskLevel.MALICIOUS] == 50


@given(
    st.lists(
        st.tuples(st.sampled_from(RiskLevel), st.none() | st.integers(0, 9), st.text("abc")), max_size=40
    )
)
def test_the_worst_are_the_first_of_a_full_sort(found: list[tuple[RiskLevel, int | None, str]]) -> None:
    tally = Tally()
    for level, score, path in found:
        tally.add(judged(path, level, verdict={"score": score}))
    order = [RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS]
    expected = sorted(
        (order.index(level), 100 if score is None else score, path)
        for level, score, path in found
        if level in order
    )
    worst = [(order.index(f.verdict), 100 if f.score is None else f.score, f.path) for f in tally.worst]
    assert worst == expected[:WORST_LIMIT]


def test_error_codes_are_bounded() -> None:
    tally = Tally()
    for number in range(200):
        tally.add(unjudged(code=f"code-{number}"))
        tally.add(unjudged(code="code-0"))
    assert len(tally.errors) == 65
    assert tally.errors["code-0"] == 201
    assert tally.errors[OTHER_CODES] == 136
    assert sum(tally.errors.values()) == 400
