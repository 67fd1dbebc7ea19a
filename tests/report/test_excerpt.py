"""Pages of a report: every row that is meant is on one of them, once, and no more is read than is allowed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchscan.errors import ReportError, UsageError
from batchscan.models import Candidate, Outcome, Problem, RiskLevel, Row, Rule, Verdict
from batchscan.report.excerpt import NO_VERDICT, ROWS, Excerpt, Wanted, read_excerpt
from batchscan.report.rows import build_row, encode_row

RUN = "20261124T044336Z-a1958e71"
LEVELS = (*RiskLevel, None)


def row(number: int, level: RiskLevel | None) -> Row:
    """A row whose texts depend on its number."""
    rules = (Rule(f"9000{number % 3}", "A rule", "STATIC", f'says "verdict":"malicious" {number}'),)
    verdict = None if level is None else Verdict(level=level, engine_version=20260501, score=5, rules=rules)
    return build_row(
        run_id=RUN,
        endpoint="intl",
        candidate=Candidate(source="skills", path=f"Dir/skill-{number}.zip"),
        outcome=Outcome.SCANNED if level else Outcome.REJECTED,
        size=1,
        digest=bytes(32),
        verdict=verdict,
        problem=Problem("not-a-zip", "no ZIP") if level is None else None,
    )


def written(path: Path, rows: list[Row], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(map(encode_row, rows)) + tail)
    return path


def pages(report: Path, wanted: Wanted, most_bytes: int = 1 << 30) -> Iterator[Excerpt]:
    start: int | None = 0
    while start is not None:
        page = read_excerpt(report, RUN, wanted, start=start, most_bytes=most_bytes)
        yield page
        start = page.after


@given(
    levels=st.lists(st.sampled_from(LEVELS), max_size=130),
    chosen=st.sets(st.sampled_from([*map(str, RiskLevel), NO_VERDICT])),
    most_bytes=st.sampled_from((1, 5000, 1 << 30)),
)
def test_every_row_that_is_meant_is_shown_once(
    tmp_path_factory: pytest.TempPathFactory,
    levels: list[RiskLevel | None],
    chosen: set[str],
    most_bytes: int,
) -> None:
    rows = [row(number, level) for number, level in enumerate(levels)]
    report = written(tmp_path_factory.mktemp("excerpt") / "r.jsonl", rows)
    found = list(pages(report, Wanted(verdicts=frozenset(chosen)), most_bytes))
    meant = [each.path for each in rows if not chosen or (each.verdict or NO_VERDICT) in chosen]
    assert [each.path for page in found for each in page.rows] == meant
    assert all(len(page.rows) <= ROWS for page in found)
    assert sum(page.looked_at for page in found) == len(rows)


def test_words_and_rules_are_looked_for_in_all_that_is_shown(tmp_path: Path) -> None:
    report = written(tmp_path / "r.jsonl", [row(n, RiskLevel.SUSPICIOUS) for n in range(9)] + [row(9, None)])

    def found(**wanted: object) -> list[str]:
        (page,) = pages(report, Wanted(**wanted))  # type: ignore[arg-type]
        return [each.path.removeprefix("Dir/skill-").removesuffix(".zip") for each in page.rows]

    assert found(words=("skill-4",)) == ["4"]
    assert found(words=("dir/", "rule", " 7")) == ["7"]
    assert found(rule="90001") == ["1", "4", "7"]
    assert found(rule="90001", words=("skill-7",)) == ["7"]
    assert found(words=("not-a-zip",)) == ["9"]
    assert found(verdicts=frozenset({"malicious"})) == []  # though the texts of all rows hold these bytes


def test_a_report_that_grows_or_was_cut_off_is_read_as_far_as_it_has_rows(tmp_path: Path) -> None:
    rows = [row(n, RiskLevel.BENIGN) for n in range(ROWS + 3)]
    report = written(tmp_path / "r.jsonl", rows, tail=encode_row(row(99, RiskLevel.BENIGN))[:-40])
    first, second = pages(report, Wanted())
    assert (len(first.rows), len(second.rows), second.after) == (ROWS, 3, None)
    (empty,) = pages(written(tmp_path / "none.jsonl", []), Wanted())
    assert (empty.rows, empty.size) == ([], 0)


def test_a_long_way_to_the_next_row_is_gone_in_steps(tmp_path: Path) -> None:
    rows = [*(row(n, RiskLevel.BENIGN) for n in range(5000)), row(5000, RiskLevel.MALICIOUS)]
    report = written(tmp_path / "r.jsonl", rows)
    found = list(pages(report, Wanted(verdicts=frozenset({"malicious"})), most_bytes=1 << 20))
    assert len(found) > 2
    assert [len(page.rows) for page in found[:-1]] == [0] * (len(found) - 1)
    assert found[-1].rows[0].path == "Dir/skill-5000.zip"


def test_what_is_not_the_report_of_the_run_is_not_shown(tmp_path: Path) -> None:
    report = written(tmp_path / "r.jsonl", [row(1, RiskLevel.BENIGN)])
    with pytest.raises(ReportError, match="is not the report of run 2026-other any more"):
        read_excerpt(report, "2026-other", Wanted())
    with pytest.raises(UsageError, match="has no report"):
        read_excerpt(tmp_path / "nosuch", RUN, Wanted())
    for start in (1, 10**9):
        with pytest.raises(UsageError, match="has changed since that page"):
            read_excerpt(report, RUN, Wanted(), start=start)
    with pytest.raises(ReportError, match="is not a row"):
        read_excerpt(written(tmp_path / "x.jsonl", [], encode_row(row(1, None))[:80] + b"\n"), RUN, Wanted())
