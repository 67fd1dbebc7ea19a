"""What a report does not say: inputs without a verdict, and a run that has not ended.

A format that holds only findings would look better the more is missing. So each of them says it in a place
that its reader shows.
"""

import msgspec

from batchscan.formats.entry import Context
from batchscan.formats.finding import shown
from batchscan.models import Outcome, RunState

_WITHOUT_VERDICT = (Outcome.REJECTED, Outcome.FAILED, Outcome.PENDING)
_NEXT = "Nothing is known of them: an alert that is gone may be one of these. `batchscan resume` goes on."


class Shortfall(msgspec.Struct, frozen=True):
    """What is missing, in words.

    Attributes:
        title: one line that does not change from night to night.
        counts: how many of what, by outcome and by error code.
        advice: what it means and what to do.
    """

    title: str
    counts: tuple[str, ...]
    advice: str

    def text(self) -> str:
        """Say all of it in one paragraph."""
        return f"{self.title}. {'; '.join(self.counts)}. {self.advice}"


def find_shortfall(context: Context) -> Shortfall | None:
    """Tell what is missing in a report; None if every input has a verdict and its run is complete."""
    found = context.survey
    missing = found.missing()
    counts = []
    if missing:
        outcomes = found.tally.outcomes
        parts = ", ".join(f"{outcomes[name]} {name}" for name in _WITHOUT_VERDICT if outcomes[name])
        counts.append(f"{missing} of {found.tally.inputs} inputs have no verdict: {parts}")
        codes = sorted(found.tally.errors.items(), key=lambda item: (-item[1], item[0]))
        counts.append("by code: " + ", ".join(f"{number} {shown(code, 80)}" for code, number in codes[:20]))
    if context.state not in {None, RunState.COMPLETE}:
        counts.append(f"the run is {context.state}")
    counts.extend(context.gaps.told())
    if found.tally.inputs == 0:
        counts.append("the report has no rows")
    return Shortfall("Scan incomplete: inputs without a verdict", tuple(counts), _NEXT) if counts else None
