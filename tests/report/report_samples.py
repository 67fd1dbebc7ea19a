"""Rows to write: a few made by hand, and strategies that make them of anything."""

from typing import Any

from hypothesis import strategies as st

from batchscan.models import (
    Candidate,
    Capability,
    Outcome,
    Problem,
    RiskLevel,
    Row,
    Rule,
    Verdict,
)
from batchscan.report.rows import JUDGED, ScanFacts, build_row

RUN = "20260618T080000-a1b2c3"


def judged(path: str = "a.zip", level: RiskLevel = RiskLevel.BENIGN, run_id: str = RUN, **more: Any) -> Row:
    verdict = Verdict(level=level, engine_version=20260501, **more.pop("verdict", {}))
    return build_row(
        run_id=run_id,
        endpoint="embedded",
        candidate=Candidate(source="skills", path=path),
        outcome=more.pop("outcome", Outcome.SCANNED),
        size=20,
        digest=more.pop("digest", path.encode().ljust(32, b"\0")[:32]),
        verdict=verdict,
        **more,
    )


def unjudged(
    path: str = "b.zip", outcome: Outcome = Outcome.PENDING, code: str = "deadline", run_id: str = RUN
) -> Row:
    return build_row(
        run_id=run_id,
        endpoint="embedded",
        candidate=Candidate(source="skills", path=path),
        outcome=outcome,
        size=None,
        digest=None,
        problem=Problem(code, "said the test"),
    )


texts = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["\udc80", "a\ud800b", "\x1b[31m", "\u202etxt.zip", "\n", "技能"]
)
some = st.none() | texts
epochs = st.none() | st.floats() | st.floats(0, 4e9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
candidates = st.builds(
    Candidate,
    source=texts,
    path=texts,
    line=st.none() | st.integers(1, 10**9),
    id=json_values,
    metadata=json_values,
)
problems = st.builds(Problem, texts, texts, some)
verdicts = st.builds(
    Verdict,
    level=st.sampled_from(RiskLevel),
    engine_version=st.integers(-(2**63), 2**63 - 1),
    score=st.none() | st.integers(0, 100),
    skill_name=some,
    skill_description=some,
    file_count=st.none() | st.integers(0, 10**6),
    primary_rule=some,
    rules=st.lists(st.builds(Rule, texts, some, texts, texts), max_size=2).map(tuple),
    capabilities=st.lists(st.builds(Capability, texts, texts), max_size=2).map(tuple),
    summary=some,
    mitigation=some,
    report_url=some,
    scanned_at=epochs,
)
counts = st.integers(0, 10**6)


@st.composite
def rows(draw: st.DrawFn, outcome: Outcome) -> Row:
    """Build a row of ``outcome`` of the wildest values that the stages may hand over."""
    judged = outcome in JUDGED
    digests = st.binary(min_size=32, max_size=32)
    return build_row(
        run_id=RUN,
        endpoint=draw(texts),
        candidate=draw(candidates),
        outcome=outcome,
        size=draw(st.none() | counts),
        digest=draw(digests if judged else st.none() | digests),
        notes=tuple(draw(st.lists(texts, max_size=3))),
        duplicate_of=draw(some),
        verdict=draw(verdicts) if judged else None,
        facts=draw(st.builds(ScanFacts, counts, counts, epochs, epochs)),
        problem=None if judged else draw(problems),
    )
