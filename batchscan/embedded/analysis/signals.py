"""What a judgement is made of: one observation each, already in the service's terms.

Three sources produce signals (the archive's shape, opaque bytes, the detection library); one
function, ``mapping.judge``, turns all of them into a ``Detection``.
"""

from enum import StrEnum

import msgspec

from batchscan.models import RiskLevel


class FusedRule(StrEnum):
    """The service's fused rule ids (vendor: RuleCatalog in DescribeSkillScanResult)."""

    SUPPLY_CHAIN = "90001"
    COMMAND = "90002"
    NETWORK = "90003"
    FILES = "90004"
    PROMPT = "90005"
    REMOTE_SCRIPT = "90006"
    OBFUSCATION = "90007"
    OTHER = "90008"


class Signal(msgspec.Struct, frozen=True):
    """One observation that speaks against a skill.

    Attributes:
        level: ``malicious`` or ``suspicious``; what this signal alone makes of the skill.
        rule: the fused rule it counts under.
        text: one line for a person, with the file it is about; never file content.
    """

    level: RiskLevel
    rule: FusedRule
    text: str
