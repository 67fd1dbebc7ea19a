"""Rows to convert, hostile ones among them, and a way to convert them without a file."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema

from batchscan.formats.entry import Context, Entry
from batchscan.formats.registry import find_format
from batchscan.models import Capability, Outcome, Problem, RiskLevel, Row, Rule, Skill
from batchscan.report.survey import Survey
from batchscan.suppressions import Audit, Suppression

SCHEMAS = Path(__file__).parent / "schemas"
MADE_AT = datetime(2026, 6, 18, 8, 0, tzinfo=UTC)
RUN = "20260618T080000-a1b2c3"
ACCEPTED = Suppression(reason="looked at, <ours>\u202e", owner="sec@example.org", expires="2027-01-31")
SHOWN_REASON = "looked at, <ours>\\u202e"

HOSTILE_NAMES = (
    "a b#c%d?e.zip",
    "../../etc/passwd.zip",
    "/abs/olute.zip",
    "C:\\temp\\x.zip",
    "javascript:alert(1)//.zip",
    "//evil.example/x.zip",
    "\x1b[31mred\x1b[0m.zip",
    "\u202etxt.exe\u202c.zip",
    "line\nbreak\r.zip",
    "tag\U000e0041\U000e0042.zip",
    "x\x00\x0b\ufffe\uffff.zip",
    "bytes\\x80\\udcff.zip",
    "技能/模板.zip",
    "]]><script>alert('&\"')</script>.zip",
    "[here](https://evil.example) ![i](https://evil.example/i.png) {0}.zip",
    "=cmd|'/c calc'!A0.zip",
    "./a/./b//c/..zip",
    ".",
    "",
    "p" * 1_000_000,
)


HOSTILE_FINDINGS = len(HOSTILE_NAMES) + 2


def finding(path: str = "a.zip", level: RiskLevel = RiskLevel.MALICIOUS, **more: Any) -> Row:
    values: dict[str, Any] = {
        "run_id": RUN,
        "path": path,
        "source": "/srv/skills",
        "size": 20,
        "sha256": hashlib.sha256(path.encode()).hexdigest(),
        "outcome": Outcome.SCANNED,
        "verdict": level,
        "score": {"malicious": 5, "suspicious": 50, "benign": 100}[level],
        "endpoint": "embedded",
        "engine_version": 20260501,
        "primary_rule": "90005",
        "rules": (Rule("90005", "Prompt injection", "STATIC", "said the test"),),
        "summary": "It does harm.",
        "mitigation": "Look at it.",
        "scanned_at": "2026-06-18T08:00:00.250Z",
    }
    return Row(**(values | more))


def missing(path: str, outcome: Outcome, code: str = "deadline") -> Row:
    problem = Problem(code, "said <the> test\x1b")
    return Row(
        run_id=RUN, path=path, source="/srv/skills", outcome=outcome, endpoint="embedded", error=problem
    )


def hostile_rows(names: Sequence[str] = HOSTILE_NAMES) -> list[Row]:
    """Rows as somebody may have made them up: every text of the service and of authors is wild."""
    wild = [
        finding(
            name,
            RiskLevel.SUSPICIOUS if number % 2 else RiskLevel.MALICIOUS,
            source=("/srv", "in", "../up", "", name)[number % 5],
            score=(None, -1, 101, 10**30, 0, 100)[number % 6],
            primary_rule=(name, None, "", "90005", "incomplete")[number % 5],
            rules=(Rule(name, name, name, name), Rule("incomplete", None, "AI", "")) * (number % 3),
            skill=Skill(name, name, -1),
            summary=name,
            mitigation=name,
            notes=(name,),
            report_url="https://secret.example/bearer",
            engine_version=(10**30, -1, None)[number % 3],
            scanned_at=(name, "2026-13-99T99:99:99Z", None, "2026-06-18T08:00:00Z", "2026-06-18T08:00:00")[
                number % 5
            ],
            size=(10**30, -5, None)[number % 3],
            duplicate_of=name,
            id=name,
            metadata={name: [name] * 3},
            run_id=name,
            endpoint=name,
        )
        for number, name in enumerate(names)
    ]
    many = tuple(Rule(f"r{n}", None, "AI", "") for n in range(120))
    able = tuple(Capability(f"c{n}", "") for n in range(120))
    wild.append(finding("many.zip", rules=many, capabilities=able, notes=tuple(map(str, range(120)))))
    long = "l" * 1_000_000
    wild.append(finding(long + "/" + long, primary_rule=long, rules=(Rule(long, long, "AI", ""),)))
    codes = [missing(name, Outcome.FAILED, name) for name in names]
    return [*wild, *codes, missing("p.zip", Outcome.PENDING), missing("r.zip", Outcome.REJECTED, "not-a-zip")]


def write(
    format_name: str,
    rows: Iterable[Row],
    suppress: Callable[[Row], bool] = lambda _: False,
    *,
    made_at: datetime = MADE_AT,
    state: str | None = None,
    audit: Audit | None = None,
) -> bytes:
    """Convert rows as the command does: two passes, then the end."""
    rows = list(rows)
    found = Survey()
    for row in rows:
        found.add(row, suppressed=suppress(row))
    out = io.BytesIO()
    context = Context(survey=found, name="report.jsonl", made_at=made_at, state=state, audit=audit)
    writer = find_format(format_name).opener()(out, context)
    for row in rows:
        writer.add(Entry(row, ACCEPTED if suppress(row) else None))
    writer.finish()
    return out.getvalue()


def validator(name: str) -> Any:
    schema = json.loads((SCHEMAS / name).read_bytes())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)
