"""Two reports compared: each input of both is of exactly one class, and nothing unknown is called fixed."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import RUN

from batchscan.baseline import Baseline
from batchscan.changes import Change, Comparison, Content, Item, Place
from batchscan.compare import Side, changes_between, compare, side_of
from batchscan.errors import ReportError, UsageError
from batchscan.ledger.runs import RunRecord, RunRequest
from batchscan.models import Candidate, Outcome, Problem, RiskLevel, Row, Rule, RunState, Verdict
from batchscan.pairing import Input, Pair, open_workspace
from batchscan.report.rows import build_row, encode_row

M, S, B = RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS, RiskLevel.BENIGN
LEVELS = {"M": M, "S": S, "B": B}
ENGINE = 20260501


def row(told: str, *, engine: int = ENGINE, endpoint: str = "intl", run: str = RUN, score: int = 50) -> Row:
    """A row from ``source/path:line content verdict rules``, as ``in/a.zip h1 M 90002,90003``.

    Content ``-`` was not read, verdict ``-`` is none.
    """
    name, content, level, *rules = told.split()
    source, _, rest = name.partition("/")
    path, _, line = rest.partition(":")
    verdict = None
    if level != "-":
        hits = tuple(Rule(r, None, "STATIC", "d") for r in (rules[0].split(",") if rules else ()))
        verdict = Verdict(level=LEVELS[level], engine_version=engine, score=score, rules=hits)
    return build_row(
        run_id=run,
        endpoint=endpoint,
        candidate=Candidate(source=source, path=path, line=int(line) if line else None),
        outcome=Outcome.FAILED if verdict is None else Outcome.SCANNED,
        size=1,
        digest=None if content == "-" else content.encode().ljust(32, b"\0"),
        verdict=verdict,
        problem=Problem("InternalError", "x") if verdict is None else None,
    )


def side(rows: Iterable[Row], *, name: str = "x", **more: Any) -> Side:
    return Side(name=name, rows=rows, **more)


def told(*rows: str) -> Side:
    return side([row(text) for text in rows])


def compared(before: Side, after: Side) -> tuple[Comparison, list[Item]]:
    with compare(before, after) as found:
        return found.comparison, list(found.items())


def counts(comparison: Comparison) -> dict[str, int]:
    return {str(change): count for change, count in comparison.counts.items() if count}


CASES = {
    "a finding in a new input": (["in/a h1 B"], ["in/a h1 B", "in/b h2 M"], {"new": 1, "unchanged": 1}),
    "benign, then a finding": (["in/a h1 B"], ["in/a h1 S"], {"new": 1}),
    "a finding, then benign": (["in/a h1 M"], ["in/a h1 B"], {"fixed": 1}),
    "fixed by other content": (["in/a h1 M"], ["in/a h2 B"], {"fixed": 1}),
    "worse": (["in/a h1 S"], ["in/a h1 M"], {"changed-verdict": 1}),
    "milder": (["in/a h1 M"], ["in/a h1 S"], {"changed-verdict": 1}),
    "other rules": (["in/a h1 M 1,2"], ["in/a h1 M 2,3"], {"changed-rules": 1}),
    "the same rules in another order": (["in/a h1 M 1,2"], ["in/a h1 M 2,1,2"], {"still-there": 1}),
    "removed": (["in/a h1 M", "in/b h2 B"], ["in/c h3 B"], {"gone": 2, "added": 1}),
    "failed before": (["in/a h1 -"], ["in/a h1 M"], {"unknown": 1}),
    "failed now": (["in/a h1 M"], ["in/a h1 -"], {"unknown": 1}),
    "not readable now": (["in/a h1 M"], ["in/a - -"], {"unknown": 1}),
    "added, and failed": (["in/b h2 B"], ["in/b h2 B", "in/a h1 -"], {"unknown": 1, "unchanged": 1}),
    "failed, and removed": (["in/b h2 B", "in/a h1 -"], ["in/b h2 B"], {"unknown": 1, "unchanged": 1}),
    "moved": (["in/a h1 M", "in/b h2 B"], ["in/x/a h1 M", "in/b h2 B"], {"still-there": 1, "unchanged": 1}),
    "moved to another source": (
        ["in/a h1 M", "out/b h2 B"],
        ["out/a h1 M", "out/b h2 B", "in/c h3 B"],
        {"still-there": 1, "unchanged": 1, "added": 1},
    ),
    "moved, and a finding since": (["in/a h1 B"], ["in/x h1 M"], {"new": 1}),
    "moved away, and another finding in its place": (
        ["in/a h1 M"],
        ["in/old/a h1 M", "in/a h2 M"],
        {"still-there": 1, "new": 1},
    ),
    "two that changed names": (
        ["in/a h1 M", "in/b h2 B"],
        ["in/a h2 B", "in/b h1 M"],
        {"still-there": 1, "unchanged": 1},
    ),
    "other content, a finding both times": (["in/a h1 M"], ["in/a h2 M"], {"still-there": 1}),
    "a copy added": (["in/a h1 M"], ["in/a h1 M", "in/b h1 M"], {"still-there": 2}),
    "a copy removed": (["in/a h1 M", "in/b h1 M"], ["in/a h1 M"], {"still-there": 2}),
    "a copy of what had no verdict": (["in/a h1 -"], ["in/a h1 -", "in/b h1 M"], {"unknown": 2}),
    "a copy of what had several verdicts": (
        ["in/a h1 S", "in/b h1 M", "in/c h1 -"],
        ["in/a h1 S", "in/b h1 M", "in/c h1 S", "in/d h1 M"],
        {"still-there": 3, "unknown": 1},
    ),
    "a copy in the place of something benign": (
        ["in/a h1 M", "in/b h2 B"],
        ["in/a h1 M", "in/b h1 M"],
        {"still-there": 1, "new": 1},
    ),
    "a copy removed while the other is benign now": (["in/a h1 M", "in/b h1 M"], ["in/a h1 B"], {"fixed": 2}),
    "one path in two sources": (
        ["in/a h1 M", "out/a h2 B"],
        ["in/a h1 M", "out/a h3 M"],
        {"still-there": 1, "new": 1},
    ),
    "one removed of one path in two sources": (
        ["in/a h1 M", "out/a h2 M", "out/b h3 B"],
        ["in/a h1 M", "out/b h3 B"],
        {"still-there": 1, "gone": 1, "unchanged": 1},
    ),
    "a directory with the day in its name": (
        ["mon/a h1 M", "mon/b h2 B"],
        ["tue/a h1 M", "tue/b h3 M"],
        {"still-there": 1, "new": 1},
    ),
    "lines with one path": (
        ["list/a:1 h1 M", "list/a:4 h1 M"],
        ["list/a:1 h1 M", "list/a:5 h1 M"],
        {"still-there": 2},
    ),
    "a line inserted before": (
        ["list/a:1 h1 M", "list/b:2 h2 B"],
        ["list/c:1 h3 B", "list/a:2 h1 M", "list/b:3 h2 B"],
        {"still-there": 1, "unchanged": 1, "added": 1},
    ),
    "lines that could not be read": (
        ["list/a:1 - -", "list/a:2 - -"],
        ["list/a:1 - -"],
        {"unknown": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_class_of_each_input(case: str) -> None:
    before, after, expected = CASES[case]
    comparison, items = compared(told(*before), told(*after))
    assert counts(comparison) == expected
    listed = Counter(str(item.change) for item in items)
    assert listed == {name: n for name, n in expected.items() if name not in {"added", "unchanged"}}


def only(before: Sequence[str], after: Sequence[str]) -> Item:
    _, items = compared(told(*before), told(*after))
    (item,) = items
    return item


def test_where_it_is_and_what_it_holds_is_said() -> None:
    moved = only(["in/a h1 M 1,2"], ["in/x h1 S 2,3"])
    assert (moved.place, moved.content, moved.direction) == (Place.MOVED, Content.SAME, "milder")
    assert (moved.rules_added, moved.rules_removed) == (("3",), ("1",))
    assert moved.before is not None
    assert (moved.before.path, moved.seen.path, moved.fresh) == ("a", "x", False)
    changed = only(["in/a h1 M"], ["in/a h2 M"])
    assert (changed.place, changed.content, changed.fresh) == (Place.SAME, Content.CHANGED, True)
    unread = only(["in/a h1 M"], ["in/a - -"])
    assert (unread.place, unread.content) == (Place.SAME, Content.UNKNOWN)
    assert (unread.seen.error_code, unread.seen.outcome) == ("InternalError", Outcome.FAILED)


def test_copies_are_shown_with_what_they_are_copies_of() -> None:
    added, kept = compared(told("in/a h1 M"), told("in/a h1 M", "in/b h1 M"))[1][::-1]
    assert (added.place, added.seen.path, added.fresh, kept.place) == (
        Place.COPY_ADDED,
        "b",
        False,
        Place.SAME,
    )
    assert added.before is not None
    assert added.before.path == "a"
    items = compared(told("in/a h1 M", "in/b h1 M"), told("in/a h1 M"))[1]
    removed = next(item for item in items if item.place is Place.COPY_REMOVED)
    assert removed.seen.path == "b"
    assert removed.after is not None
    assert removed.after.path == "a"


def test_a_score_is_no_class_of_its_own() -> None:
    comparison, (item,) = compared(side([row("in/a h1 M", score=5)]), side([row("in/a h1 M", score=35)]))
    assert counts(comparison) == {"still-there": 1}
    assert item.before is not None
    assert (item.before.score, item.seen.score, comparison.changed) == (5, 35, False)


def test_what_lacks_rows_proves_nothing_by_absence() -> None:
    whole, part = ["in/a h1 M", "in/b h2 B"], ["in/c h3 M"]
    forth, _ = compared(told(*whole), side([row(text) for text in part], whole=False))
    assert counts(forth) == {"unknown": 2, "new": 1}
    back, items = compared(side([row(text) for text in part], whole=False), told(*whole))
    assert counts(back) == {"unknown": 2, "gone": 1}
    assert (forth.undecided, back.undecided) == (2, 0), "what it is now, and what it was then"
    assert [item.seen.path for item in items if item.fresh] == ["a"]
    assert forth.incomplete
    assert back.incomplete
    assert any("may lack rows" in warning for warning in forth.warnings)
    both, _ = compared(side([], whole=False), side([], whole=False))
    assert both.incomplete
    assert both.changed


def test_fewer_rows_than_inputs_are_not_whole() -> None:
    rows = [row("in/a h1 B")]
    assert changes_between(side(rows, inputs=2), side(rows, inputs=1)).before.whole is False
    assert changes_between(side(rows, inputs=1), side([], inputs=0)).after.whole is False, (
        "nothing is no report"
    )


def test_engines_and_services_that_differ_are_said() -> None:
    old, new = side([row("in/a h1 B")]), side([row("in/a h1 B", engine=ENGINE + 1, run=RUN + "z")])
    assert changes_between(old, new).warnings == (
        "the engines differ, 20260501 before and 20260502 after: a changed verdict may be the engine's",
    )
    here = side([row("in/a h1 B", endpoint="embedded", run=RUN + "z")])
    (warning,) = changes_between(side([row("in/a h1 B")]), here).warnings
    assert "different services judged, intl before and embedded after" in warning
    assert changes_between(old, old).warnings == ("both sides are the same run",)
    (turned,) = changes_between(side([row("in/a h1 B", run="2")]), side([row("in/a h1 B", run="1")])).warnings
    assert "the first report is the newer one" in turned


def test_the_worst_comes_first() -> None:
    then = "in/gone h0 M,in/milder h1 M,in/fixed h2 M,in/still h3 M,in/rules h4 S 1,in/q h5 B"
    now = "in/milder h1 S,in/fixed h2 B,in/still h3 M,in/rules h4 S 2,in/q h5 -,in/s h6 S,in/m h7 M"
    after = [row(text) for text in now.split(",")]
    comparison, items = compared(told(*then.split(",")), side(after))
    assert [item.seen.path for item in items] == ["m", "s", "q", "milder", "rules", "fixed", "gone", "still"]
    assert [item.seen.path for item in comparison.worst] == ["m", "s"]
    assert comparison.gone_findings == 1
    assert (comparison.worse, comparison.milder, comparison.undecided) == (0, 1, 1)
    assert len(changes_between(told("in/z h9 B"), side(after), worst=1).worst) == 1


def test_reports_on_disk(tmp_path: Path) -> None:
    whole, torn, empty, broken = (tmp_path / name for name in ("whole", "torn", "empty", "broken"))
    lines = [encode_row(row(text)) for text in ("in/a h1 M", "in/b h2 B")]
    whole.write_bytes(b"".join(lines))
    torn.write_bytes(b"".join(lines)[:-9])
    empty.touch()
    broken.write_bytes(lines[0] + b"{}\n" + lines[1])

    def against(name: str) -> Comparison:
        report = tmp_path / name
        return changes_between(side_of("whole", whole, None), side_of(name, report, None))

    assert counts(against("whole")) == {"still-there": 1, "unchanged": 1}
    assert counts(against("torn")) == {"still-there": 1, "unknown": 1}
    assert against("torn").after.whole is False
    assert counts(against("empty")) == {"unknown": 2}
    with pytest.raises(ReportError, match="line 2"):
        against("broken")
    with pytest.raises(UsageError, match="cannot be read"):
        against("missing")


@pytest.mark.parametrize(
    ("state", "summary", "whole"),
    [
        (RunState.COMPLETE, None, True),
        (RunState.COMPLETE, '{"inputs": 2, "skipped": {"filtered": 7}, "later": 1}', True),
        (RunState.INCOMPLETE, '{"inputs": 2}', True),  # pending inputs have their rows
        (RunState.INTERRUPTED, '{"inputs": 2}', False),
        (RunState.RUNNING, None, False),
        (RunState.COMPLETE, '{"inputs": 3}', False),  # the file was cut between two lines
        (RunState.COMPLETE, '{"inputs": 2, "skipped": {"unreadable-directory": 1}}', False),
    ],
)
def test_what_the_ledger_knows_of_the_run_counts(
    tmp_path: Path, state: RunState, summary: str | None, whole: bool
) -> None:
    report = tmp_path / "report"
    report.write_bytes(b"".join(encode_row(row(text)) for text in ("in/a h1 M", "in/b h2 B")))
    record = RunRecord(
        id=1,
        run_id=RUN,
        scope=1,
        state=state,
        started_at=0.0,
        finished_at=None,
        request=RunRequest(sources=("in",), directory="/", endpoint="intl"),
        report=report,
        counts={},
        summary=summary,
    )
    found = changes_between(told("in/c h3 M"), side_of("now", report, record))
    assert found.after.whole is whole
    assert counts(found)["gone" if whole else "unknown"] == 1


LINES = [None, 1, 2]
unique = st.tuples(
    st.sampled_from(["in", "out", "mon", "tue"]), st.sampled_from("abcd"), st.sampled_from(LINES)
)
contents = st.sampled_from(["h1", "h2", "h3", "h4", "-"])
outcomes = st.sampled_from(["M 1", "M 1,2", "S 1", "S 3", "B", "B", "-"])


@st.composite
def reports(draw: st.DrawFn) -> list[Row]:
    found = draw(st.dictionaries(unique, st.tuples(contents, outcomes), max_size=9))
    made = []
    for (source, path, line), (content, outcome) in found.items():
        judged = "-" if content == "-" else outcome
        made.append(row(f"{source}/{path}{'' if line is None else f':{line}'} {content} {judged}"))
    return made


MIRRORED = {
    Change.CHANGED_VERDICT, Change.CHANGED_RULES, Change.UNKNOWN, Change.STILL_THERE, Change.UNCHANGED
}  # fmt: skip


@given(reports(), reports(), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_each_input_once_and_the_other_way_round_the_mirror(
    one: list[Row], other: list[Row], one_whole: bool, other_whole: bool, chance: random.Random
) -> None:
    shuffled = [*one]
    chance.shuffle(shuffled)
    forth = changes_between(side(one, whole=one_whole), side(other, whole=other_whole))
    again = changes_between(side(shuffled, whole=one_whole), side(other, whole=other_whole))
    back = changes_between(side(other, whole=other_whole), side(one, whole=one_whole))
    assert forth.counts == again.counts, "the order of rows does not matter"
    for change in MIRRORED:
        assert forth.counts[change] == back.counts[change]
    assert (forth.worse, forth.milder, forth.moved) == (back.milder, back.worse, back.moved)
    assert (forth.copies_added, forth.copies_removed) == (back.copies_removed, back.copies_added)
    came, went = (Change.NEW, Change.ADDED), (Change.FIXED, Change.GONE)
    assert sum(forth.counts[change] for change in came) == sum(back.counts[change] for change in went)
    pairs = _pairs(one, other)
    assert sum(forth.counts.values()) == len(pairs)
    assert Counter(_mirror(pair) for pair in pairs) == Counter(_ranks(pair) for pair in _pairs(other, one))
    firsts = [pair.before for pair in pairs if pair.before and pair.place is not Place.COPY_ADDED]
    seconds = [pair.after for pair in pairs if pair.after and pair.place is not Place.COPY_REMOVED]
    assert sorted(firsts) == list(range(1, len(one) + 1))
    assert len(seconds) == len(set(seconds)) == len(other)


@given(reports(), reports())
def test_what_a_baseline_does_not_cover_is_fresh(before: list[Row], after: list[Row]) -> None:
    baseline = Baseline(before)
    found = changes_between(side(before), side(after)).fresh
    for level in (M, S):
        assert found[level] >= sum(r.verdict is level and not baseline.covers(r) for r in after)


def _pairs(one: list[Row], other: list[Row]) -> list[Pair]:
    from batchscan.sides import take_in

    with open_workspace() as workspace:
        take_in(workspace, 0, side(one))
        take_in(workspace, 1, side(other))
        return list(workspace.pairs())


def _ranks(pair: Pair) -> tuple[int | None, int | None, bool, str]:
    return pair.before_rank, pair.after_rank, pair.same_rules, pair.place


def _mirror(pair: Pair) -> tuple[int | None, int | None, bool, str]:
    turned = {Place.COPY_ADDED: Place.COPY_REMOVED, Place.COPY_REMOVED: Place.COPY_ADDED}
    return pair.after_rank, pair.before_rank, pair.same_rules, turned.get(pair.place, pair.place)


def test_many_sources_and_what_is_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchscan.pairing._SOURCES_REMEMBERED", 3)
    rows = [row(f"s{n}/a h{n} M") for n in range(20)]
    assert counts(changes_between(side(rows), side(rows[::-1]))) == {"still-there": 20}
    spoilt = encode_row(rows[0]).replace(b'"score":50', b'"score":99999999999999999999')
    from batchscan.report.lines import decode_row

    with pytest.raises(ReportError, match="for a number"):
        changes_between(side([decode_row(spoilt, Path("x"), 1)]), side(rows))


def test_no_room_for_the_rows() -> None:
    rows = (Input("in", f"{n}" * 50, None, None, None, None, None, b"") for n in range(1000))

    def fill() -> None:
        with open_workspace() as workspace:
            workspace._database.execute("PRAGMA max_page_count = 20")
            workspace.load(0, rows)

    with pytest.raises(UsageError, match="TMPDIR"):
        fill()
