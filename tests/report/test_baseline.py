"""The baseline: what counts as known from before."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import judged, unjudged

from batchscan.baseline import Baseline
from batchscan.errors import UsageError
from batchscan.models import RiskLevel
from batchscan.report.rows import encode_row

BENIGN, SUSPICIOUS, MALICIOUS = RiskLevel.BENIGN, RiskLevel.SUSPICIOUS, RiskLevel.MALICIOUS
SEVERITY = (BENIGN, SUSPICIOUS, MALICIOUS)
CONTENT, OTHER = b"\x07" * 32, b"\x07" * 31 + b"\x08"


@pytest.mark.parametrize(
    ("before", "now", "known"),
    [
        (MALICIOUS, MALICIOUS, True),
        (MALICIOUS, SUSPICIOUS, True),
        (SUSPICIOUS, SUSPICIOUS, True),
        (SUSPICIOUS, MALICIOUS, False),
        (BENIGN, SUSPICIOUS, False),
        (BENIGN, MALICIOUS, False),
        (MALICIOUS, BENIGN, False),  # no finding, so nothing that could be known
    ],
)
def test_a_finding_is_known_when_it_was_as_bad_or_worse(
    before: RiskLevel, now: RiskLevel, known: bool
) -> None:
    baseline = Baseline([judged("a.zip", before, digest=CONTENT)])
    assert baseline.covers(judged("moved/a.zip", now, digest=CONTENT)) is known
    assert not baseline.covers(judged("a.zip", now, digest=OTHER)), "other content is judged anew"


def test_what_had_no_verdict_is_not_known() -> None:
    baseline = Baseline([unjudged("a.zip")])
    assert not baseline.covers(judged("a.zip", MALICIOUS))
    assert not baseline.covers(unjudged("a.zip"))
    assert (baseline.missing, baseline.findings, list(baseline.endpoints)) == (1, 0, ["embedded"])


@given(
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32) | st.just(CONTENT), st.sampled_from(RiskLevel)),
        max_size=40,
    ),
    st.data(),
)
def test_it_knows_what_a_dictionary_would(rows: list[tuple[bytes, RiskLevel]], data: st.DataObject) -> None:
    """Of one content with several verdicts the worst counts."""
    worst: dict[bytes, int] = {}
    for digest, level in rows:
        worst[digest] = max(worst.get(digest, 0), SEVERITY.index(level))
    baseline = Baseline(judged("x", level, digest=digest) for digest, level in rows)
    digests = st.sampled_from([OTHER, *worst])
    for _ in range(5):
        digest, now = data.draw(digests), data.draw(st.sampled_from(RiskLevel))
        expected = now is not BENIGN and worst.get(digest, 0) >= SEVERITY.index(now)
        assert baseline.covers(judged("y", now, digest=digest)) is expected
    assert baseline.findings == sum(level > 0 for level in worst.values())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        (b"not ours\n", "line 1: is not a row"),
        (encode_row(judged("a.zip", MALICIOUS))[:-9], "is cut off"),
        (encode_row(judged("a.zip", MALICIOUS)).replace(b'"sha256":"', b'"sha256":"x'), "for a SHA-256"),
    ],
)
def test_a_baseline_that_cannot_be_used(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    """A baseline cut off would let what it lacks count as new; it is refused instead."""
    report = tmp_path / "baseline.jsonl"
    if content is not None:
        report.write_bytes(content)
    with pytest.raises(UsageError, match=complaint):
        Baseline.load(report)
