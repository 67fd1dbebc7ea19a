"""The head of the HTML page: is there anything bad, can the run be trusted, what is to be done. Pure.

A page is never green over a missing verdict: what makes a run incomplete goes before what it found, and a
run that cannot be known to have ended is not called good.
"""

from enum import StrEnum
from typing import Final

import msgspec

from batchscan.advice import advise
from batchscan.changes import Change
from batchscan.formats.entry import Changes, Context
from batchscan.models import Outcome, RiskLevel, RunState
from batchscan.pages.rendering import minute, plural

_UNREAD: Final = "unreadable-directory"  # the one reason to skip that may hide inputs
_CODES_SHOWN: Final = 6


class Tone(StrEnum):
    """How the page begins; each has a colour, a sign and words of its own."""

    BAD = "bad"
    WARN = "warn"
    CALM = "calm"
    GOOD = "good"


class Missing(msgspec.Struct, frozen=True):
    """Inputs without a verdict for one reason."""

    code: str
    count: int
    advice: str


class Headline(msgspec.Struct, frozen=True):
    """What is read first.

    Attributes:
        title: the answer in one line.
        lead: sentences that belong to it.
        missing: why verdicts are missing, the most frequent reasons first.
        more_codes: how many reasons there are beyond those.
        steps: what to do, most urgent first.
    """

    tone: Tone
    title: str
    lead: list[str]
    missing: list[Missing]
    more_codes: int
    steps: list[str]


def make_headline(context: Context) -> Headline:
    """Say what a report comes to."""
    return _Reading(context).headline()


def missing_by_code(context: Context) -> list[Missing]:
    """List why verdicts are missing, the most frequent reasons first."""
    errors = context.survey.tally.errors
    return [Missing(code, number, advise(code)) for code, number in errors.most_common()]


class _Reading:
    """The facts of one report that its headline depends on."""

    def __init__(self, context: Context) -> None:
        survey = context.survey
        self._context = context
        self._inputs = survey.tally.inputs
        self._missing = survey.missing()
        self._found = {
            level: survey.tally.verdicts[level] for level in (RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS)
        }
        self._open = {level: number - survey.suppressed[level] for level, number in self._found.items()}
        run = context.run
        self._changes = None if run is None else run.changes
        summary = None if run is None else run.summary
        self._unread = 0 if summary is None else summary.skipped.get(_UNREAD, 0)
        self._rowless = 0 if summary is None else max(0, summary.inputs - self._inputs)
        self._problem = None if summary is None else summary.error
        self._unfinished = context.state in (RunState.RUNNING, RunState.INTERRUPTED)
        self._resumable = self._unfinished or context.state == RunState.INCOMPLETE

    def headline(self) -> Headline:
        tone, title = self._title()
        missing = missing_by_code(self._context)
        return Headline(
            tone,
            title,
            self._lead(),
            missing[:_CODES_SHOWN],
            max(0, len(missing) - _CODES_SHOWN),
            self._steps(),
        )

    def _title(self) -> tuple[Tone, str]:
        inputs, state = plural(self._inputs, "input"), self._context.state
        if state == RunState.RUNNING:
            title = f"The run has not ended: {inputs} so far"
        elif state == RunState.INTERRUPTED:
            title = f"The run was interrupted after {inputs}"
        elif not self._inputs:
            title = "No input was found, so nothing was judged"
        elif self._missing == self._inputs:
            title = f"Nothing was judged: {self._missing:,} of {inputs} {_have(self._missing)} no verdict"
        elif self._missing:
            title = f"Incomplete: {self._missing:,} of {inputs} {_have(self._missing)} no verdict"
        elif self._rowless:
            title = f"Incomplete: the run had {plural(self._rowless, 'more input')} than the report has rows"
        elif self._unread or state == RunState.INCOMPLETE:
            title = "Incomplete: not everything could be looked at"
        else:
            return self._verdict_title()
        return Tone.WARN, title

    def _verdict_title(self) -> tuple[Tone, str]:
        malicious, suspicious = self._open[RiskLevel.MALICIOUS], self._open[RiskLevel.SUSPICIOUS]
        if malicious:
            title = f"{plural(malicious, 'malicious skill')} among {plural(self._inputs, 'input')}"
            return Tone.BAD, title + self._newly()
        if suspicious:
            return Tone.WARN, f"{plural(suspicious, 'suspicious skill')}, none malicious"
        if sum(self._found.values()):
            accepted = plural(sum(self._found.values()), "accepted finding")
            return Tone.CALM, f"Nothing open: {accepted} among {plural(self._inputs, 'input')}"
        known = self._context.state is not None and self._problem is None
        tone = Tone.GOOD if known else Tone.CALM
        return tone, f"Nothing was found in {plural(self._inputs, 'input')}"

    def _newly(self) -> str:
        """How many malicious skills are new, where that is known: accepted ones are not told apart there."""
        if self._changes is None or self._context.survey.suppressed[RiskLevel.MALICIOUS]:
            return ""
        new = self._changes.comparison.fresh[RiskLevel.MALICIOUS]
        if new >= self._open[RiskLevel.MALICIOUS]:
            return ", new since the run before"
        if new:
            return f", {new:,} of them new"
        return ", none of them new" if not self._changes.comparison.incomplete else ""

    def _lead(self) -> list[str]:
        lines = []
        judged = self._inputs - self._missing
        found = [plural(number, f"{level} skill") for level, number in self._found.items() if number]
        whole = not (self._missing or self._unread or self._rowless or self._resumable)
        if self._inputs and whole:
            lines.append("Every input has a verdict.")
        elif judged:
            lines.append(f"Of the {judged:,} with a verdict: {' and '.join(found) or 'no finding'}.")
        elif self._inputs:
            lines.append("No statement about these skills can be made. That nothing was found means nothing.")
        if self._changes is not None:
            lines.append(_since(self._changes))
        accepted = self._context.survey.suppressed.total()
        if accepted and sum(self._open.values()):
            lines.append(f"{plural(accepted, 'finding')} {_have(accepted)} been accepted by a suppression.")
        audit = self._context.audit
        if audit is not None and audit.told():
            lines.append(audit.told())
        if self._unread:
            unread = plural(self._unread, "directory", "directories")
            lines.append(f"{unread} could not be read: inputs in there have no row.")
        if self._problem is not None:
            lines.append(f"{self._problem.code}: {self._problem.message}")
        if self._context.state is None:
            lines.append("Whether the run ended is not known: the ledger has no run that wrote this report.")
        return lines

    def _steps(self) -> list[str]:
        steps = []
        malicious, suspicious = self._open[RiskLevel.MALICIOUS], self._open[RiskLevel.SUSPICIOUS]
        if malicious:
            steps.append(f"Keep {plural(malicious, 'malicious skill')} from being installed.")
        if suspicious:
            steps.append(f"Review {plural(suspicious, 'suspicious skill')} before trusting any.")
        if self._resumable:
            run = "" if self._context.run is None else f" {self._context.run.run_id}"
            running = self._context.state == RunState.RUNNING
            when = "When nothing works on it any more, go" if running else "Go"
            steps.append(f"{when} on with the run: `batchscan resume{run}`.")
        outcomes = self._context.survey.tally.outcomes
        if outcomes[Outcome.FAILED] or outcomes[Outcome.REJECTED]:
            steps.append("Treat inputs without a verdict as unknown, not as safe.")
        if not self._inputs and not self._resumable:
            steps.append("Check the sources and the patterns of `--include` and `--exclude`.")
        if self._unread:
            steps.append("Give the user that scans the right to read every directory, then scan again.")
        return steps


def _since(changes: Changes) -> str:
    """Say in a sentence what changed."""
    found = changes.comparison
    new = [plural(number, f"{level} skill") for level, number in found.fresh.items() if number]
    told = f"Since the run of {minute(changes.started_at)}: {' and '.join(new) or 'no finding'} new"
    unknown = found.counts[Change.UNKNOWN]
    return f"{told}; {plural(unknown, 'input')} cannot be compared." if unknown else f"{told}."


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
