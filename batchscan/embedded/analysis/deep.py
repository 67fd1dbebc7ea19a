"""The optional second engine: Cisco's skill scanner on top of the default one (``batchscan[deep]``).

Both engines' observations count. The scanner is slow to load and is reused for all skills of a worker.
"""

import atexit
from pathlib import Path

from skill_scanner import SkillScanner
from skill_scanner.core.exceptions import SkillLoadError
from skill_scanner.core.models import Finding, Severity
from skill_scanner.core.scan_policy import ScanPolicy

from batchscan.embedded.analysis import static
from batchscan.embedded.analysis.names import printable
from batchscan.embedded.analysis.signals import FusedRule, Signal
from batchscan.models import RiskLevel

# Where the scanner itself draws its line (``ScanResult.is_safe``): medium is any use of the network.
_COUNTED = frozenset({Severity.CRITICAL, Severity.HIGH})
# Its severity says how dangerous a technique is, not what it is for: starting a process can be
# critical. A sign of intent takes both.
_INTENT = frozenset({"malware", "prompt_injection", "supply_chain_attack", "unicode_steganography"})
_CATEGORY_RULES = {
    "prompt_injection": FusedRule.PROMPT,
    "command_injection": FusedRule.COMMAND,
    "data_exfiltration": FusedRule.NETWORK,
    "unauthorized_tool_use": FusedRule.COMMAND,
    "obfuscation": FusedRule.OBFUSCATION,
    "hardcoded_secrets": FusedRule.FILES,
    "social_engineering": FusedRule.PROMPT,
    "malware": FusedRule.OTHER,
    "skill_discovery_abuse": FusedRule.PROMPT,
    "transitive_trust_abuse": FusedRule.REMOTE_SCRIPT,
    "autonomy_abuse": FusedRule.PROMPT,
    "tool_chaining_abuse": FusedRule.COMMAND,
    "unicode_steganography": FusedRule.PROMPT,
    "supply_chain_attack": FusedRule.SUPPLY_CHAIN,
}


class DeepEngine:
    """The scanner, loaded once; closed when the process ends."""

    def __init__(self) -> None:
        self._scanner = SkillScanner(policy=ScanPolicy.from_preset("quiet"))
        atexit.register(self._scanner.close)

    def analyze(self, root: Path, file_count: int) -> static.Analysis:
        """What both engines say about the skill below ``root``.

        Raises:
            RuntimeError: an analyzer of the scanner failed: the skill was not looked at as it should be.
        """
        found = static.analyze(root, file_count)
        try:
            result = self._scanner.scan_skill(root, lenient=True)
        except SkillLoadError:
            unloadable = Signal(
                RiskLevel.SUSPICIOUS, FusedRule.OTHER, "not loadable as a skill by the deep engine"
            )
            return static.Analysis([*found.signals, unloadable], found.capabilities)
        if result.analyzers_failed:
            names = ", ".join(
                sorted(str(failure.get("analyzer", "?")) for failure in result.analyzers_failed)
            )
            raise RuntimeError(f"analyzers of the deep engine failed: {names}")
        signals = [signal for finding in result.findings for signal in _from_finding(finding)]
        return static.Analysis([*found.signals, *signals], found.capabilities)


def _from_finding(finding: Finding) -> list[Signal]:
    if finding.severity not in _COUNTED:
        return []
    harmful = finding.severity is Severity.CRITICAL and finding.category.value in _INTENT
    level = RiskLevel.MALICIOUS if harmful else RiskLevel.SUSPICIOUS
    where = f", {printable(finding.file_path)}:{finding.line_number or 1}" if finding.file_path else ""
    rule = _CATEGORY_RULES.get(finding.category.value, FusedRule.OTHER)
    return [Signal(level, rule, f"{printable(finding.title)} ({finding.rule_id}{where})")]
