"""The decision table of a comparison, held against the page that explains it."""

from pathlib import Path

import pytest

from batchscan.changes import Change, Content, Sight, is_fresh, judge

PAGE = Path(__file__).parents[2] / "docs" / "decisions" / "compare.md"
MIRROR = {
    Change.NEW: {Change.FIXED, Change.GONE},
    Change.FIXED: {Change.NEW},
    Change.ADDED: {Change.GONE},
    Change.GONE: {Change.NEW, Change.ADDED},
}


def cells(line: str) -> list[str]:
    return [cell.strip(" *`") for cell in line.strip().strip("|").split("|")]


def documented() -> dict[tuple[Sight, Sight], Change]:
    lines = PAGE.read_text(encoding="utf-8").split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("| before, after |"))
    columns = [Sight(cell) for cell in cells(lines[start])[1:]]
    table = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        before, *found = cells(line)
        for after, cell in zip(columns, found, strict=True):
            if cell:
                table[Sight(before), after] = Change(cell)
    return table


TABLE = documented()


def test_the_page_has_every_case() -> None:
    """All but the two that are no input at all."""
    nothing = {Sight.ABSENT, Sight.UNSEEN}
    assert TABLE.keys() == {(a, b) for a in Sight for b in Sight if not {a, b} <= nothing}


@pytest.mark.parametrize(("before", "after"), sorted(TABLE))
def test_the_table_is_the_one_of_the_page(before: Sight, after: Sight) -> None:
    expected = TABLE[before, after]
    assert judge(before, after) is expected
    with_other_rules = Change.CHANGED_RULES if expected is Change.STILL_THERE else expected
    assert judge(before, after, same_rules=False) is with_other_rules


@pytest.mark.parametrize(("before", "after"), sorted(TABLE))
def test_the_other_way_round_it_is_the_mirror(before: Sight, after: Sight) -> None:
    change = TABLE[before, after]
    assert TABLE[after, before] in MIRROR.get(change, {change})


def test_only_verdicts_of_both_sides_say_fixed() -> None:
    """Absent is not fixed, and neither is failed."""
    fixed = {pair for pair, change in TABLE.items() if change is Change.FIXED}
    assert fixed == {(Sight.MALICIOUS, Sight.BENIGN), (Sight.SUSPICIOUS, Sight.BENIGN)}


@pytest.mark.parametrize(
    ("before", "after", "content", "fresh"),
    [
        (Sight.MALICIOUS, Sight.MALICIOUS, Content.SAME, False),
        (Sight.MALICIOUS, Sight.SUSPICIOUS, Content.SAME, False),
        (Sight.SUSPICIOUS, Sight.MALICIOUS, Content.SAME, True),
        (Sight.MALICIOUS, Sight.MALICIOUS, Content.CHANGED, True),
        (Sight.BENIGN, Sight.SUSPICIOUS, Content.SAME, True),
        (Sight.NO_VERDICT, Sight.MALICIOUS, Content.SAME, True),
        (Sight.ABSENT, Sight.MALICIOUS, Content.UNKNOWN, True),
        (Sight.UNSEEN, Sight.SUSPICIOUS, Content.UNKNOWN, True),
        (Sight.MALICIOUS, Sight.BENIGN, Content.CHANGED, False),
        (Sight.MALICIOUS, Sight.NO_VERDICT, Content.SAME, False),
    ],
)
def test_what_is_fresh(before: Sight, after: Sight, content: Content, fresh: bool) -> None:
    assert is_fresh(before, after, content) is fresh
