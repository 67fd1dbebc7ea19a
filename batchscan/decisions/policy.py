"""The policy: what is allowed, warned of and blocked. What is not known blocks unless it says so twice."""

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

_FINGERPRINTED: Final = b"batchscan.policy/1\n"


class Action(StrEnum):
    """What the marketplace does with a skill, from the mildest on."""

    ALLOW = "allow"
    WARN = "warn"
    BLOCK = "block"


_STRICTNESS: Final = {action: rank for rank, action in enumerate(Action)}


def strictness(action: Action) -> int:
    """Rank an action: 0 allows, 2 blocks."""
    return _STRICTNESS[action]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from what is known of a skill. ``docs/enforcement.md`` says it for people.

    Attributes:
        malicious, suspicious, benign: by verdict.
        unknown: no verdict that counts: rejected, failed, expired, an engine or endpoint that is not taken.
        pending: no verdict yet.
        suppressed: a finding that was accepted, see ``suppressions``.
        may_allow: which of ``malicious``, ``unknown`` and ``pending`` may be allowed at all.
        block_below, warn_below: scores below are treated at least so; 0 is no threshold, no score is 0.
        rules_block, rules_warn: a skill with one of these rules is treated at least so.
        rules_allow: suspicious skills whose rules are all among these are allowed.
        endpoints: whose verdicts count; none named: everybody's.
        embedded_may_allow: whether a verdict of the embedded endpoint is enough not to block.
        minimum_engine: the oldest engine version whose verdicts count, by endpoint.
        grace_days: how long a decision outlives its verdict while there is no new one; 0 is not at all.
    """

    malicious: Action = Action.BLOCK
    suspicious: Action = Action.WARN
    benign: Action = Action.ALLOW
    unknown: Action = Action.BLOCK
    pending: Action = Action.BLOCK
    suppressed: Action = Action.ALLOW
    may_allow: frozenset[str] = frozenset()
    block_below: int = 0
    warn_below: int = 0
    rules_block: frozenset[str] = frozenset()
    rules_warn: frozenset[str] = frozenset()
    rules_allow: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    embedded_may_allow: bool = True
    minimum_engine: dict[str, int] = {}
    grace_days: int = 0

    def fingerprint(self) -> str:
        """The SHA-256 of what the policy says, in hex; how its file says it does not matter."""
        return hashlib.sha256(_FINGERPRINTED + msgspec.json.encode(self, order="sorted")).hexdigest()

    def dangers(self) -> Iterator[str]:
        """Say where it lets pass what is bad or not known."""
        for name in PERILOUS:
            action: Action = getattr(self, name)
            if action is not Action.BLOCK:
                yield f"the policy does not block what is {name}: it is {_DONE[action]}"
        if self.rules_allow and "malicious" in self.may_allow:
            yield "the policy allows what is malicious by rules that it allows"


PERILOUS: Final = ("malicious", "unknown", "pending")
"""What is allowed only by a policy that says twice that it is."""

_DONE: Final = {Action.ALLOW: "allowed", Action.WARN: "only warned of"}
