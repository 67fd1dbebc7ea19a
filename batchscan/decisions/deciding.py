"""From a row to its decision: the policy's ruling, or where that has no verdict to rest on, the grace."""

from collections.abc import Callable
from datetime import datetime

import msgspec

from batchscan.decisions.document import Carried, Decision
from batchscan.decisions.grace import GRACED, Held, Memory
from batchscan.decisions.policy import Policy, strictness
from batchscan.decisions.ruling import NO_VERDICT, SUPPRESSED, Reason, Ruling, rule, rules_of
from batchscan.models import Outcome, Row, Rule
from batchscan.suppressions import Suppression


class Decider:
    """Decides on the rows of one report.

    Args:
        policy: what the operator wants.
        suppressor: gives the suppression of a row's finding.
        memory: what was decided before.
        now: with its zone; the same for all rows.
    """

    def __init__(
        self, policy: Policy, suppressor: Callable[[Row], Suppression | None], memory: Memory, now: datetime
    ) -> None:
        self._policy = policy
        self._suppressor = suppressor
        self._memory = memory
        self._now = now

    def decide(self, row: Row) -> Decision:
        """Decide on one row."""
        suppression = self._suppressor(row)
        ruling = rule(row, self._policy, suppression, self._now)
        if row.outcome in GRACED and row.sha256 is not None:
            held = self._memory.find(row.sha256)
            if held is not None:
                return self._carry(row, held, ruling)
        return _decision(row, ruling, suppression if ruling.reason.code == SUPPRESSED else None)

    def _carry(self, row: Row, held: Held, now: Ruling) -> Decision:
        """Keep the decision of before, unless what is wanted and accepted today makes it stricter."""
        carried = held.carried
        before = msgspec.structs.replace(
            row,
            outcome=Outcome.REUSED,
            verdict=carried.verdict,
            score=carried.score,
            rules=tuple(Rule(name, None, "", "") for name in carried.rules),
            endpoint=carried.endpoint,
            engine_version=carried.engine_version,
            expires_at=carried.until,
        )
        suppression = self._suppressor(before)
        again = rule(before, self._policy, suppression, self._now)
        if again.reason.code in NO_VERDICT:
            return _decision(row, now, None)
        action = max(held.action, again.action, key=strictness)
        why = (
            f"{now.reason.message}; what was decided on {carried.decided_at} is kept until {carried.until}:"
            f" {again.reason.message}"
        )
        ruling = Ruling(action, Reason("carried", why), again.expires_at)
        return _decision(row, ruling, suppression if again.reason.code == SUPPRESSED else None, carried)


def _decision(
    row: Row, ruling: Ruling, suppression: Suppression | None, carried: Carried | None = None
) -> Decision:
    return Decision(
        path=row.path,
        source=row.source,
        manifest_line=row.manifest_line,
        id=row.id,
        sha256=row.sha256,
        decision=ruling.action,
        reason=ruling.reason,
        verdict=row.verdict,
        score=row.score,
        rules=rules_of(row),
        endpoint=row.endpoint,
        engine_version=row.engine_version,
        expires_at=ruling.expires_at,
        suppression=suppression,
        carried=carried,
    )
