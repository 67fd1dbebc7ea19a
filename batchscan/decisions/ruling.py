"""What a policy says of one row. Pure: the time is given, nothing is read.

The strictest of what verdict, rules and score ask for holds. Two things loosen: a suppression, which stands
for all three, and ``rules.allow``, which stands for the verdict ``suspicious``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from batchscan.decisions.policy import Action, Policy, strictness
from batchscan.models import Outcome, RiskLevel, Row
from batchscan.report.rows import JUDGED
from batchscan.suppressions import Suppression


class Reason(msgspec.Struct, frozen=True):
    """Why: ``code`` is for programs and does not change its meaning, ``message`` is for people."""

    code: str
    message: str


class Ruling(msgspec.Struct, frozen=True):
    """What to do about a skill.

    Attributes:
        action: allow, warn or block.
        reason: the one that asked for it; of several, the first in the order of the documentation.
        expires_at: until when it holds unless it blocks, RFC 3339; None for what has no verdict.
    """

    action: Action
    reason: Reason
    expires_at: str | None = None


NO_VERDICT: Final = frozenset(
    {
        *("pending", "failed", "rejected", "incomplete-row", "verdict-expired"),
        *("endpoint-not-taken", "engine-too-old", "embedded-only"),
    }
)
"""Codes of the reasons why there is no verdict that counts."""

SUPPRESSED: Final = "suppressed"
"""Code of the reason that an accepted finding decided."""


def rule(row: Row, policy: Policy, suppression: Suppression | None, now: datetime) -> Ruling:
    """Apply a policy.

    Args:
        row: the input.
        policy: what the operator wants.
        suppression: what holds for the finding of the row.
        now: with its zone.
    """
    unknown = _unknown(row, policy, now)
    if unknown is not None:
        return Ruling(policy.pending if unknown.code == "pending" else policy.unknown, unknown)
    expires_at = row.expires_at
    action, reason = max(_asked(row, policy), key=lambda one: strictness(one[0]))  # of equals the first
    if suppression is not None and strictness(policy.suppressed) <= strictness(action):
        action = policy.suppressed
        message = f"The finding was accepted by {suppression.owner} until {suppression.expires}"
        reason = Reason(SUPPRESSED, message)
        expires_at = min(str(expires_at), f"{suppression.expires}T23:59:59Z", key=moment)
    not_enough = row.endpoint == "embedded" and not policy.embedded_may_allow
    if not_enough and strictness(action) < strictness(policy.unknown):
        why = Reason("embedded-only", "Only the embedded endpoint judged it, which is not enough")
        return Ruling(policy.unknown, why)
    return Ruling(action, reason, expires_at)


def rules_of(row: Row) -> tuple[str, ...]:
    """The ids of the rules that hit, each once, in the order of the row."""
    found = dict.fromkeys(hit.id for hit in row.rules)
    if row.primary_rule is not None:
        found[row.primary_rule] = None
    return tuple(found)


def _unknown(row: Row, policy: Policy, now: datetime) -> Reason | None:
    """Say why there is no verdict that counts, None where there is one."""
    if row.outcome not in JUDGED:
        why = "" if row.error is None else f": {row.error.code}"
        return Reason(
            row.outcome.value, f"There is no verdict{' yet' if row.outcome is Outcome.PENDING else ''}{why}"
        )
    if row.verdict is None or row.sha256 is None:
        return Reason("incomplete-row", "The row does not say which content was judged, or how")
    if row.expires_at is None or moment(row.expires_at) <= now:
        return Reason("verdict-expired", f"The verdict ended: {row.expires_at or 'no end is known'}")
    if policy.endpoints and row.endpoint not in policy.endpoints:
        return Reason("endpoint-not-taken", f"The verdict is of {row.endpoint}, whose verdicts do not count")
    least = policy.minimum_engine.get(row.endpoint)
    if least is not None and (row.engine_version is None or row.engine_version < least):
        return Reason("engine-too-old", f"The verdict is of engine {row.engine_version}, older than {least}")
    return None


def _asked(row: Row, policy: Policy) -> Iterator[tuple[Action, Reason]]:
    """What the verdict, the rules and the score ask for, in this order."""
    rules = rules_of(row)
    verdict = RiskLevel(str(row.verdict))
    loose = verdict is RiskLevel.SUSPICIOUS or (
        verdict is RiskLevel.MALICIOUS and "malicious" in policy.may_allow
    )
    if loose and rules and policy.rules_allow.issuperset(rules):
        yield Action.ALLOW, Reason("rule-allowed", f"The policy allows its rules: {', '.join(rules)}")
    else:
        action: Action = getattr(policy, verdict.value)
        yield action, Reason(verdict.value, f"The verdict is {verdict.value}")
    for action, listed in ((Action.BLOCK, policy.rules_block), (Action.WARN, policy.rules_warn)):
        found = [name for name in rules if name in listed]
        if found:
            yield action, Reason(f"rule-{action.value}", f"By the policy for {', '.join(found)}")
    for action, below in ((Action.BLOCK, policy.block_below), (Action.WARN, policy.warn_below)):
        if (row.score or 0) < below:
            yield action, Reason(f"score-{action.value}", f"The score is {row.score}, below {below}")


def moment(text: str) -> datetime:
    """Read RFC 3339; what is no time is long ago."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
