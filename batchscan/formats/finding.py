"""What the machine formats say of a finding in the same words: its identity, its title, its texts.

Identity: a finding is "this content at this path is bad". It holds no run, endpoint, engine, rule or verdict,
so the same skill keeps its alert from night to night and over engines, and changed content is a new alert:
what somebody dismissed does not cover bytes that nobody has seen.
"""

import hashlib
import re
from typing import Any, Final

import msgspec

from batchscan.models import RiskLevel, Row
from batchscan.report.text import encodable, printable, printable_json

TEXT_LIMIT: Final = 4_000
"""Characters of a text of the service, where the format does not know a tighter limit."""

RULES_LIMIT: Final = 50
"""Rules, capabilities or notes that are listed for one row."""

PATH_LIMIT: Final = 4_096
"""Characters of a path as data; what is longer cannot be a file (PATH_MAX)."""

_PASSED_ON_LIMIT_BYTES = 4_096
_SCORE_MAX = 100
_SHA256 = re.compile("[0-9a-f]{64}")
_encoder = msgspec.json.Encoder()


def is_finding(row: Row) -> bool:
    """Whether the row has a verdict that somebody should act on."""
    return row.verdict is RiskLevel.MALICIOUS or row.verdict is RiskLevel.SUSPICIOUS


def finding_id(row: Row) -> str:
    """Name a finding: 64 hex digits, the same for the same path and content in every report and format."""
    return _digest("finding", row.path, str(row.sha256))


def event_id(row: Row) -> str:
    """Name that a run told of a finding: 64 hex digits, another one for every run."""
    return _digest("event", row.run_id, row.source, row.path, str(row.sha256))


def content_digest(row: Row) -> str | None:
    """Give the SHA-256 of the content in hex; None where the row has none, or what is none."""
    return row.sha256 if row.sha256 is not None and _SHA256.fullmatch(row.sha256) else None


def engine(row: Row) -> str | None:
    """Give the engine's version as text: it may be a number that other programs cannot hold."""
    return None if row.engine_version is None else shown(str(row.engine_version), 40)


def headline(row: Row) -> str:
    """Say it in one line: ``Malicious skill: Prompt injection (90005)``."""
    title = f"{row.verdict or 'unjudged'} skill".capitalize()
    if row.primary_rule is None:
        return title
    name = next((rule.name for rule in row.rules if rule.id == row.primary_rule and rule.name), None)
    rule = shown(row.primary_rule, 64)
    return f"{title}: {shown(name, 100)} ({rule})" if name else f"{title}: rule {rule}"


def shown(text: str, limit: int = TEXT_LIMIT) -> str:
    """Make a text of others safe to show: one line, nothing invisible, at most ``limit`` characters."""
    cut = printable(text[: limit + 1])
    return cut if len(cut) <= limit else cut[: limit - 1] + "…"


def safety_score(row: Row) -> int | None:
    """Give the score, 0..100, higher is safer; None where the row has none, or one that cannot be."""
    return row.score if row.score is not None and 0 <= row.score <= _SCORE_MAX else None


def rule_ids(row: Row) -> list[str]:
    """List the rules that hit, each once, the first ones only."""
    return [shown(name, 100) for name in list(dict.fromkeys(rule.id for rule in row.rules))[:RULES_LIMIT]]


def passed_on(row: Row) -> dict[str, Any]:
    """Give what a manifest said of the input, ``id`` and ``metadata``, unless it is large."""
    given = {"id": row.id, "metadata": row.metadata}
    return {
        name: value
        for name, value in given.items()
        if value is not None and len(_encoder.encode(value)) <= _PASSED_ON_LIMIT_BYTES
    }


def whole_path(row: Row) -> str:
    """Give the path as data, not as a text to show: as it is, but no longer than a path can be."""
    return encodable(row.path[:PATH_LIMIT])


def to_json(value: object) -> bytes:
    """Encode one object in one line that is safe on a terminal, too."""
    return printable_json(_encoder.encode(value))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(("batchscan/1", *parts)).encode(errors="surrogatepass")).hexdigest()
