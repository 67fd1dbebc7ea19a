"""The port between the embedded endpoint and a detection library.

A detector judges the bytes of one ZIP. It either returns a ``Detection`` or raises
``DetectionError``; the endpoint turns the latter into FAILED. "Could not tell" is never benign.
"""

from typing import Protocol

import msgspec


class DetectionError(Exception):
    """The content could not be judged: the detector crashed, ran out of time or out of memory."""


class RuleHit(msgspec.Struct, frozen=True):
    """One rule that fired; ``rule_id`` is one of the service's fused ids ``90001`` to ``90008``."""

    rule_id: str
    description: str


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement in the service's terms.

    Attributes:
        risk_level: ``malicious``, ``suspicious`` or ``benign``; benign means nothing was found.
        score: 0 to 100, higher is safer.
        file_count: entries that are not directories, the billed amount.
        skill_name, skill_description: from the skill's front matter, empty when there is none.
        primary_rule_id: the worst rule, empty when nothing fired.
        hits: rules that fired, worst first, bounded in number and length.
        capabilities: ``(id, name)`` pairs.
        description, mitigation: one paragraph each for a person.
    """

    risk_level: str
    score: int
    file_count: int
    skill_name: str = ""
    skill_description: str = ""
    primary_rule_id: str = ""
    hits: tuple[RuleHit, ...] = ()
    capabilities: tuple[tuple[str, str], ...] = ()
    description: str = ""
    mitigation: str = ""


class Detector(Protocol):
    """Judges ZIPs, several at a time; owns whatever processes it needs."""

    @property
    def concurrency(self) -> int:
        """How many ZIPs it judges at the same time."""

    async def detect(self, content: bytes) -> Detection:
        """Judge one ZIP.

        Raises:
            DetectionError: it could not be judged.
        """

    async def aclose(self) -> None:
        """End its processes and remove its temporary files."""
