"""From observations to a verdict in the service's terms: the tables, and one pure function.

``malicious`` needs a sign of intent, ``suspicious`` is everything a person should look at, and
``benign`` is what is left: all was looked at and nothing was found. The reasons for the tables and
their limits are in ``docs/detection.md``. Raise ``MAPPING_VERSION`` with every change of judgement
in this package, so that stored verdicts are known to be old.
"""

from collections.abc import Iterable

from batchscan.embedded.analysis.names import printable
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.embedded.detection import Detection, RuleHit
from batchscan.models import RiskLevel

MAPPING_VERSION = 1

_MAX_HITS = 50
_MAX_HIT_CHARS = 400
_MAX_NAME_CHARS = 120
_MAX_DESCRIPTION_CHARS = 1024
_SHOWN_REASONS = 3

# Severity of the levels, worst first.
_ORDER = {RiskLevel.MALICIOUS: 0, RiskLevel.SUSPICIOUS: 1}
# Score of a skill with one hit, what every further one takes off, and where it ends.
_SCORES = {RiskLevel.MALICIOUS: (20, 5, 0), RiskLevel.SUSPICIOUS: (65, 5, 30)}
# A clean skill loses a little for each thing it can do, and is still well above the others.
_CLEAN_SCORE, _CAPABILITY_COST, _CLEAN_FLOOR = 100, 2, 80

# skilltotal's rule categories.
CATEGORY_RULES: dict[str, FusedRule] = {
    "agent_config": FusedRule.COMMAND,
    "agent_instructions": FusedRule.REMOTE_SCRIPT,
    "clipboard_hijack": FusedRule.OTHER,
    "command_injection": FusedRule.COMMAND,
    "defense_evasion": FusedRule.COMMAND,
    "dynamic_code_execution": FusedRule.COMMAND,
    "execution_context": FusedRule.OTHER,
    "exfiltration_path": FusedRule.NETWORK,
    "filesystem": FusedRule.FILES,
    "hidden_unicode": FusedRule.PROMPT,
    "install_time_execution": FusedRule.SUPPLY_CHAIN,
    "least_privilege": FusedRule.OTHER,
    "malware_convergence": FusedRule.OTHER,
    "mcp": FusedRule.PROMPT,
    "network_egress": FusedRule.NETWORK,
    "network_exposure": FusedRule.NETWORK,
    "obfuscation": FusedRule.OBFUSCATION,
    "prompt_surface": FusedRule.PROMPT,
    "secret_exposure": FusedRule.FILES,
    "sensitive_path": FusedRule.FILES,
    "shell_execution": FusedRule.COMMAND,
    "supply_chain": FusedRule.SUPPLY_CHAIN,
    "unsafe_deserialization": FusedRule.COMMAND,
}
# skilltotal's rules that say more than their category does.
RULE_RULES: dict[str, FusedRule] = {
    "ST-AGENT-API-REDIRECT": FusedRule.NETWORK,
    "ST-AGENT-AUTORUN-REMOTE": FusedRule.REMOTE_SCRIPT,
    "ST-AGENT-CRED-HELPER-EXEC": FusedRule.NETWORK,
    "ST-AGENT-GITCONFIG-EXEC-REMOTE": FusedRule.REMOTE_SCRIPT,
    "ST-ARCHIVE-PASSWORD-EXTRACT": FusedRule.REMOTE_SCRIPT,
    "ST-INSTALL-NPM-REMOTE-EXEC": FusedRule.REMOTE_SCRIPT,
    "ST-MCP-AUTO-APPROVE": FusedRule.COMMAND,
    "ST-MCP-OVERBROAD-SCOPE": FusedRule.OTHER,
    "ST-MCP-SERVER-HIDDEN-EXEC": FusedRule.COMMAND,
    "ST-MCP-STATIC-AUTH-EXEC": FusedRule.COMMAND,
    "ST-PS-DOWNLOAD-EXEC": FusedRule.REMOTE_SCRIPT,
    "ST-SHELL-PIPE-EXEC": FusedRule.REMOTE_SCRIPT,
    "ST-SHELL-PIPE-EXEC-NODE": FusedRule.REMOTE_SCRIPT,
    "ST-SHELL-PIPE-EXEC-PY": FusedRule.REMOTE_SCRIPT,
}
# skilltotal's capabilities; ``prompt_surface_risk`` is left out: it is a risk, not an ability.
CAPABILITIES: dict[str, tuple[str, str]] = {
    "filesystem_read": ("file_read", "Reads files"),
    "filesystem_write": ("file_write", "Writes or deletes files"),
    "shell_execution": ("command_execution", "Runs commands"),
    "network_egress": ("network_access", "Uses the network"),
    "install_time_execution": ("install_script", "Runs code when installed"),
    "dynamic_code_execution": ("dynamic_code", "Runs code built at run time"),
    "mcp_tools_detected": ("mcp_tools", "Offers MCP tools"),
    "delegated_authentication": ("delegated_auth", "Signs in on the user's behalf"),
    "scoped_identity": ("scoped_identity", "Uses short-lived credentials"),
}
MITIGATIONS: dict[FusedRule, str] = {
    FusedRule.SUPPLY_CHAIN: "Review its install scripts, dependencies and sources before it is installed.",
    FusedRule.COMMAND: "Check every command it runs and where its arguments come from.",
    FusedRule.NETWORK: "Check which data it sends and to whom; rotate credentials that it may have read.",
    FusedRule.FILES: "Check which files outside of its own directory it touches, and why.",
    FusedRule.PROMPT: "Read its instructions as an agent does, hidden characters included.",
    FusedRule.REMOTE_SCRIPT: "Do not let it download and run code; pin and review what it fetches.",
    FusedRule.OBFUSCATION: "Ask its author for readable sources of what could not be looked into.",
    FusedRule.OTHER: "Review the findings before it is used.",
}
_BENIGN_TEXT = "All of its content was looked at and nothing was found. That is no proof of safety."


def judge(
    signals: Iterable[Signal],
    *,
    file_count: int,
    capabilities: Iterable[str] = (),
    name: str = "",
    description: str = "",
) -> Detection:
    """Fuse all observations about one skill; ``capabilities`` are the library's ids."""
    distinct = sorted(
        dict.fromkeys(signals), key=lambda signal: (_ORDER[signal.level], signal.rule, signal.text)
    )
    abilities = tuple(CAPABILITIES[key] for key in sorted(set(capabilities)) if key in CAPABILITIES)
    level = distinct[0].level if distinct else RiskLevel.BENIGN
    return Detection(
        risk_level=level.value,
        score=_score(level, distinct, len(abilities)),
        file_count=file_count,
        skill_name=_one_line(name, _MAX_NAME_CHARS),
        skill_description=_one_line(description, _MAX_DESCRIPTION_CHARS),
        primary_rule_id=distinct[0].rule.value if distinct else "",
        hits=tuple(
            RuleHit(signal.rule.value, f"[{signal.level}] {_one_line(signal.text, _MAX_HIT_CHARS)}")
            for signal in distinct[:_MAX_HITS]
        ),
        capabilities=abilities,
        description=_describe(level, distinct),
        mitigation=" ".join(dict.fromkeys(MITIGATIONS[signal.rule] for signal in distinct)),
    )


def _score(level: RiskLevel, signals: list[Signal], abilities: int) -> int:
    if level is RiskLevel.BENIGN:
        return max(_CLEAN_FLOOR, _CLEAN_SCORE - _CAPABILITY_COST * abilities)
    first, further, floor = _SCORES[level]
    return max(floor, first - further * (len(signals) - 1))


def _describe(level: RiskLevel, signals: list[Signal]) -> str:
    if not signals:
        return _BENIGN_TEXT
    shown = "; ".join(_one_line(signal.text, _MAX_HIT_CHARS) for signal in signals[:_SHOWN_REASONS])
    more = len(signals) - _SHOWN_REASONS
    return f"Judged {level.value}: {shown}" + (f"; and {more} more." if more > 0 else ".")


def _one_line(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    safe = "".join(printable(char) for char in flat[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
