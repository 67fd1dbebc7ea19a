"""The default engine: skilltotal's static analysis of an unpacked skill.

Only ``analyze_directory`` is used: it reads files, runs nothing and needs no network. The library
is young, so what it says is read defensively: a finding of a class that is not known here counts as
suspicious, and a file that it did not account for is a gap.
"""

import re
from pathlib import Path
from typing import NamedTuple

from skilltotal.agent_skill import SKILL_MISMATCH_FINDING_ID, parse_skill_frontmatter
from skilltotal.engine import analyze_directory
from skilltotal.models import (
    UNANALYZED_TITLES,
    Component,
    Finding,
    NeedsReview,
    Report,
    Severity,
    ThreatClass,
)
from skilltotal.rules import get_rules

from batchscan.embedded.analysis.mapping import CATEGORY_RULES, RULE_RULES
from batchscan.embedded.analysis.names import printable
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.models import RiskLevel

_HARMFUL_RULES = frozenset(
    rule.id for rule in get_rules() if rule.threat_class is ThreatClass.MALICIOUS_INDICATOR
)
# The library sets evidence aside by the folder it lies in ("… (test code only)", "… (documentation
# only)"), because a package's tests or examples do not run. An agent may read and run any file of a
# skill, so for signs of intent that is no excuse. What it sets aside by content (a comment, a string
# that is only printed) stays aside.
_PATH_EXCUSE = " only)"
_SHELL_TOOL = re.compile(r"\b(?:bash|shell)\b", re.IGNORECASE)
_BLOCK_SCALARS = frozenset({">", ">-", ">+", "|", "|-", "|+"})


class Analysis(NamedTuple):
    """What an engine says about one skill; ``capabilities`` are the library's ids."""

    signals: list[Signal]
    capabilities: list[str]


def front_matter(text: str) -> tuple[str, str]:
    """``(name, description)`` of a SKILL.md; empty where there is none."""
    fields = parse_skill_frontmatter(text.removeprefix("\ufeff"))
    if fields is None:
        return "", ""
    description = fields["description"]
    if description in _BLOCK_SCALARS:
        description = _block_scalar(text)
    return fields["name"], description


def _block_scalar(text: str) -> str:
    """The indented lines below ``description: >``, folded: the library reads single lines only."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.lower().startswith("description:"):
            break
    block = []
    for line in lines:
        if line.strip() and not line[0].isspace():
            break
        block.append(line.strip())
    return " ".join(block).strip()


def analyze(root: Path, file_count: int) -> Analysis:
    """Analyse the ``file_count`` files below ``root``.

    Raises:
        Exception: whatever the library raises; the worker turns it into a failed judgement.
    """
    component = Component(name="skill", type="agent_skill", source="skill")
    report: Report = analyze_directory(root, component)
    findings = [finding for finding in report.findings if not _is_declared(finding, root)]
    signals = [signal for finding in findings for signal in _from_finding(finding)]
    signals += [signal for note in report.needs_review for signal in _from_note(note)]
    looked_at = sum(
        report.metadata[key] for key in ("files_indexed", "files_skipped_binary", "files_skipped_large")
    )
    if looked_at < file_count:
        text = f"{file_count - looked_at} files were set aside and not analysed"
        signals.append(Signal(RiskLevel.SUSPICIOUS, FusedRule.OBFUSCATION, text))
    return Analysis(signals, [capability.value for capability in report.capabilities])


def _is_declared(finding: Finding, root: Path) -> bool:
    """Whether the skill declares a shell, which covers all that its own scripts do.

    The library reads ``allowed-tools`` as a comma-separated list of bare names; the Agent Skills format
    also has spaces between them and patterns behind them (``Bash(git:*) Read``).
    """
    if finding.id != SKILL_MISMATCH_FINDING_ID:
        return False
    text = (root / finding.evidence[0].file).read_text("utf-8", "replace")
    fields = parse_skill_frontmatter(text) or {}
    tools = " ".join(fields.get("allowed_tools") or ())
    return _SHELL_TOOL.search(tools) is not None


def _from_finding(finding: Finding) -> list[Signal]:
    if finding.threat_class is ThreatClass.CAPABILITY:
        return []
    # Critical without a sign of intent: credentials are read and something is sent, in one program.
    harmful = finding.threat_class is ThreatClass.MALICIOUS_INDICATOR or finding.severity is Severity.CRITICAL
    level = RiskLevel.MALICIOUS if harmful else RiskLevel.SUSPICIOUS
    first = finding.evidence[0]
    text = f"{finding.title} ({finding.id}, {printable(first.file)}:{first.line_start})"
    return [Signal(level, _fused(finding.id, finding.category), text)]


def _from_note(note: NeedsReview) -> list[Signal]:
    where = f" ({printable(note.file)})" if note.file else ""
    if note.title in UNANALYZED_TITLES:
        return [Signal(RiskLevel.SUSPICIOUS, FusedRule.OBFUSCATION, f"{note.title}{where}")]
    rule_id = note.reason.split(" ", 1)[0]
    if rule_id in _HARMFUL_RULES and note.title.endswith(_PATH_EXCUSE):
        return [Signal(RiskLevel.SUSPICIOUS, _fused(rule_id, note.category), f"{note.title}{where}")]
    return []


def _fused(rule_id: str, category: str) -> FusedRule:
    return RULE_RULES.get(rule_id) or CATEGORY_RULES.get(category, FusedRule.OTHER)
