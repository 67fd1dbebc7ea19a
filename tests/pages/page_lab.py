"""Reports of every kind to make pages of, and the browser that looks at them."""

import hashlib
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import msgspec

from batchscan.compare import Side, changes_between
from batchscan.formats.entry import Changes, Context, Entry, PastRun, RunFacts
from batchscan.formats.html_page import open_writer
from batchscan.models import (
    Candidate,
    Capability,
    Outcome,
    Problem,
    RiskLevel,
    Row,
    Rule,
    RunState,
    Verdict,
)
from batchscan.report.rows import ScanFacts, build_row
from batchscan.report.summary import Summary
from batchscan.report.survey import Survey
from batchscan.suppressions import Suppression

# Of the browser: it asks nobody for anything.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUN = "20261124T044336Z-a1958e71"
STARTED = datetime(2026, 11, 24, 4, 43, 36, tzinfo=UTC).timestamp()
RULES = (
    ("90006", "Remote script download and execution", "pin and review what it fetches"),
    ("90005", "Prompt injection", "remove the instructions that are hidden from the user"),
    ("90003", "Network access or data exfiltration", "keep it from reading keys and sending them"),
    ("90007", "Obfuscated or hidden content", "replace encoded code by its source"),
    ("90011", "Privilege escalation", "run it without the rights it asks for"),
)
ACCEPTED = Suppression(
    reason="Known red-team fixture, kept for training", owner="sec-eng", expires="2027-01-31"
)
HOSTILE = (
    "<script>document.title='owned'</script>.zip",
    "\"quoted\" 'name' onload=alert(1) <img src=x onerror=alert(1)>.zip",
    "invoice\u202egpj.piz",
    "</style></table></main><h1>All good</h1>.zip",
    "{{ 7 * 7 }}{% raw %}.zip",
    "שלום-עולם/حزمة.zip",
    "a\x1b[31m\u200bb\u2028c\nd.zip",
    "deep/" + "n" * 4080 + ".zip",
)


def judged(path: str, level: RiskLevel = RiskLevel.BENIGN, score: int | None = 100, **changes: Any) -> Row:
    """Make a row with a verdict; what is wrong with the skill depends on its path."""
    dice = random.Random(path)
    hits = dice.sample(RULES, dice.choice((1, 1, 1, 2, 3))) if level is not RiskLevel.BENIGN else []
    rules = tuple(
        Rule(number, name, dice.choice(("AI", "STATIC")), f"{name} in SKILL.md:{dice.randint(3, 80)}")
        for number, name, _ in hits
    )
    verdict = {
        "level": level,
        "engine_version": 20260501,
        "score": score,
        "skill_name": path.rpartition("/")[2].removesuffix(".zip")[:60],
        "skill_description": "Joins and splits PDF files.",
        "file_count": dice.randint(1, 9),
        "primary_rule": rules[0].id if rules else None,
        "rules": rules,
        "capabilities": (Capability("command_execution", "Runs commands"),),
        "summary": f"Judged {level}: {rules[0].description}." if rules else "Nothing was found.",
        "mitigation": f"Do not install it; {hits[0][2]}." if hits else None,
        "scanned_at": STARTED + dice.random() * 3000,
        **changes.pop("verdict", {}),
    }
    return build_row(
        **{
            "run_id": RUN,
            "endpoint": "intl",
            "candidate": Candidate(source="skills", path=path),
            "outcome": Outcome.SCANNED,
            "size": dice.randint(300, 90_000),
            "digest": hashlib.sha256(path.encode(errors="surrogatepass")).digest(),
            "verdict": Verdict(**verdict),
            "facts": ScanFacts(attempts=1, polls=3, submitted_at=STARTED, expires_at=STARTED + 90 * 86400),
            **changes,
        }
    )


def unjudged(path: str, outcome: Outcome, code: str, message: str = "said the test") -> Row:
    """Make a row without a verdict."""
    return build_row(
        run_id=RUN,
        endpoint="intl",
        candidate=Candidate(source="skills", path=path),
        outcome=outcome,
        size=100,
        digest=None,
        problem=Problem(code, message),
    )


def night(number: int, findings: float = 0.3) -> Iterator[Row]:
    """Make so many rows with verdicts, a part of them findings."""
    for i in range(number):
        dice = random.Random(i)
        path = f"marketplace/{dice.choice(('acme', 'zeta', 'open-tools', 'kappa'))}/skill-{i:06}.zip"
        if dice.random() >= findings:
            yield judged(path, score=dice.choice((100, 100, 96, 90, 84)))
        elif dice.random() < 0.5:
            yield judged(path, RiskLevel.MALICIOUS, dice.randint(0, 39))
        else:
            yield judged(path, RiskLevel.SUSPICIOUS, dice.randint(35, 75), notes=("nested-archive",))


def failures() -> list[Row]:
    """Make rows without a verdict, for several reasons."""
    rejected, pending = Outcome.REJECTED, Outcome.PENDING
    late = "no verdict within 100 min of its submission"
    return [
        unjudged("broken/text.zip", rejected, "not-a-zip", "no ZIP end record in the last 65,558 bytes"),
        unjudged("broken/empty.zip", rejected, "empty", "the file has 0 bytes; a ZIP has at least 22"),
        unjudged("broken/huge.zip", rejected, "too-large", "8000000 bytes; at most 7000000 are taken"),
        unjudged("late/a.zip", pending, "deadline", late),
        unjudged("late/b.zip", pending, "deadline", late),
        unjudged("lost/c.zip", Outcome.FAILED, "scan-failed", "the service could not scan it"),
    ]


def survey_of(rows: Iterable[Row], suppressed: frozenset[str] = frozenset()) -> Survey:
    """Count rows, as the first pass does."""
    survey = Survey()
    for row in rows:
        survey.add(row, suppressed=row.path in suppressed)
    return survey


def summary_of(survey: Survey, **changes: Any) -> Summary:
    """Make the summary that such a run ends with."""
    fields: dict[str, Any] = {
        "run_id": RUN,
        "state": RunState.COMPLETE,
        "exit_code": 3 if survey.missing() else 0,
        "report": "night.jsonl",
        "endpoint": "intl",
        "engine_versions": sorted(survey.tally.engine_versions),
        "counts": dict(survey.tally.outcomes),
        "verdicts": dict(survey.tally.verdicts),
        "billed_files": 131,
        "requests": {"CreateSkillScan": 40},
        "throttled": 0,
        "retries": 0,
        "elapsed_s": 1834.0,
        "inputs": survey.tally.inputs,
        "skipped": {},
    }
    return Summary(**(fields | changes))


def nights_before(survey: Survey, nights: int) -> tuple[PastRun, ...]:
    """Make the ends of runs of the nights before, and of this one."""
    past = []
    for before in range(nights, 0, -1):
        dice = random.Random(before)
        verdicts = {
            level: max(0, number + dice.randint(-3, 2)) for level, number in survey.tally.verdicts.items()
        }
        inputs = sum(verdicts.values()) + dice.choice((0, 0, 0, 0, 2, 5))
        changes = {"verdicts": verdicts, "inputs": inputs, "run_id": f"before-{before}"}
        past.append(PastRun(STARTED - before * 86400, summary_of(survey, **changes)))
    return (*past, PastRun(STARTED, summary_of(survey)))


def changes_of(before: list[Row], after: list[Row], *, whole: bool = True) -> Changes:
    """Compare with the night before."""
    before = [msgspec.structs.replace(row, run_id="20261123T044337Z-77b00c21") for row in before]
    sides = (Side(name="before", rows=before, whole=whole), Side(name="after", rows=after))
    return Changes(
        run_id="20261123T044337Z-77b00c21",
        started_at=STARTED - 86400,
        comparison=changes_between(*sides, worst=2000),
    )


def context_of(survey: Survey, state: RunState | None = RunState.COMPLETE, **changes: Any) -> Context:
    """Say what is known of such a report."""
    run = None
    if state is not None:
        run = RunFacts(
            run_id=RUN,
            started_at=STARTED,
            finished_at=None if state is RunState.RUNNING else STARTED + 1834,
            summary=changes.pop("summary", summary_of(survey, state=state)),
            past=nights_before(survey, changes.pop("nights", 0)),
            changes=changes.pop("changes", None),
        )
    made_at = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)
    return Context(survey=survey, name="night.jsonl", made_at=made_at, state=state, run=run, **changes)


def page_of(
    rows: list[Row],
    state: RunState | None = RunState.COMPLETE,
    suppressed: frozenset[str] = frozenset(),
    **changes: Any,
) -> str:
    """Write the page of a report; the findings at the paths ``suppressed`` are accepted."""
    out = BytesIO()
    writer = open_writer(out, context_of(survey_of(rows, suppressed), state, **changes))
    for row in rows:
        writer.add(Entry(row, ACCEPTED if row.path in suppressed else None))
    writer.finish()
    return out.getvalue().decode()
