"""What the view shows of a run, whether it is under way or has ended: its state in words, a tone, numbers.

Nothing is green while a verdict is missing. Pure.
"""

from typing import Any, Final

import msgspec

from batchscan.models import Outcome, RiskLevel
from batchscan.pages.charts import Segment, bar
from batchscan.pages.judges import Judge, judge_of
from batchscan.pages.rendering import middle_cut
from batchscan.report.summary import Summary, conclusion
from batchscan.service.documents import Run
from batchscan.service.events_api import ENDS

_NAMED: Final = 3
_PATH: Final = 160
_TONES: Final = {"bold red": "bad", "red": "warn", "yellow": "warn", "green": "good"}
_WORDS: Final = {
    "queued": "waits for its turn",
    "running": "under way",
    "complete": "complete",
    "incomplete": "incomplete",
    "cancelled": "cancelled",
    "failed": "failed",
    "interrupted": "interrupted",
}


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run as pages show it.

    Attributes:
        words: of its state.
        ended: nothing more will happen to it by itself.
        what: it scans.
        found: inputs; ``whole``: no further ones will come.
        done: inputs that have their row.
        figures: kind and number of verdicts, and of rows without one (``missing``); of inputs, once the run
            has ended.
        bar: the same and what is to come, as shares.
        can_end: somebody may ask for its end, and nobody has.
    """

    run_id: str
    state: str
    words: str
    ended: bool
    origin: str
    what: list[str]
    more: int
    judge: Judge
    queued_at: str | None
    began_at: str | None
    ended_at: str | None
    found: int
    whole: bool
    done: int
    figures: list[tuple[str, int]]
    bar: list[Segment]
    can_end: bool
    cancelled: bool
    problem: tuple[str, str] | None


class Headline(msgspec.Struct, frozen=True):
    """What a run comes to, in a sentence or two."""

    tone: str
    title: str
    lead: str


def line_of(run: Run) -> RunLine:
    """Take from a run what a line shows."""
    outcomes, verdicts, found, whole = _numbers(run)
    done, ended = sum(outcomes.values()), run.state in ENDS
    figures = [(str(level), verdicts.get(level, 0)) for level in RiskLevel]
    # what has no row when the run has ended has no verdict either
    figures.append(("missing", max(0, (found if ended else done) - sum(verdicts.values()))))
    what = [*run.sources, *(f"manifest {name}" for name in run.manifests)]
    if run.rescan is not None:
        what = [f"again: {run.rescan.removeprefix('--')}"]
    state = "cancelling" if run.cancelled and not ended else run.state
    return RunLine(
        run_id=run.run_id,
        state=state,
        words="is being ended" if state == "cancelling" else _WORDS[run.state],
        ended=ended,
        origin="a caller" if run.origin == "api" else run.origin,
        what=[middle_cut(each, _PATH) for each in what[:_NAMED]],
        more=max(0, len(what) - _NAMED),
        judge=judge_of(run.endpoint),
        queued_at=run.queued_at,
        began_at=run.began_at,
        ended_at=run.ended_at,
        found=found,
        whole=whole,
        done=done,
        figures=figures,
        bar=bar([*figures, ("rest", 0 if ended else max(0, found - done))]),
        can_end=run.state in ("queued", "running") and not run.cancelled,
        cancelled=run.cancelled,
        problem=None if run.problem is None else (run.problem.code, middle_cut(run.problem.message, 600)),
    )


def headline_of(line: RunLine, summary: Summary | None) -> Headline:
    """Say where a run stands, or what it came to."""
    inputs = f"{line.found:,} input{'' if line.found == 1 else 's'}"
    if line.state == "queued":
        return Headline("calm", "Waiting for its turn", "It begins when a place is free.")
    if not line.ended:
        counted = f"{line.done:,} of {inputs}" if line.whole else f"{inputs} found so far, {line.done:,} done"
        title = "It is being ended" if line.state == "cancelling" else "Under way"
        return Headline("calm", f"{title}: {counted}", "")
    if line.state == "failed":
        code, message = line.problem or ("failed", "")
        return Headline("bad", f"The run failed: {code}", message)
    told, tone = ("", "warn") if summary is None else _told(summary)
    if line.state == "cancelled":
        return Headline("warn", f"The run was ended: {line.done:,} of {inputs} have a row", told)
    if line.state in ("incomplete", "interrupted"):
        why = "" if line.problem is None else f"{line.problem[0]}: {line.problem[1]} "
        return Headline("warn", f"The run is {line.state}: {line.done:,} of {inputs} have a row", why + told)
    return Headline(tone, _title(line, inputs), told)


def _title(line: RunLine, inputs: str) -> str:
    numbers = dict(line.figures)
    found = [f"{numbers[kind]:,} {kind}" for kind in ("malicious", "suspicious") if numbers[kind]]
    without = (
        f"{numbers['missing']:,} of {inputs} {'has' if numbers['missing'] == 1 else 'have'} no verdict"
        if numbers["missing"]
        else ""
    )
    if found:
        return f"{' and '.join(found)} among {inputs}" + (f"; {without}" if without else "")
    if without:
        return without[0].upper() + without[1:]
    return f"Nothing was found in {inputs}" if line.found else "No input was found, so nothing was judged"


def _told(summary: Summary) -> tuple[str, str]:
    sentence, style = conclusion(summary)
    tone = _TONES.get(style, "calm")
    return sentence, "warn" if summary.inputs != sum(summary.verdicts.values()) else tone


def _numbers(run: Run) -> tuple[dict[str, int], dict[str, int], int, bool]:
    """Outcomes, verdicts, inputs, and whether no further inputs will come."""
    if run.progress is not None:
        now = run.progress
        return now.outcomes, now.verdicts, now.found, now.discovery_done
    told: dict[str, Any] = run.summary or {}
    outcomes: dict[str, int] = {outcome: told.get("counts", {}).get(outcome, 0) for outcome in Outcome}
    verdicts: dict[str, int] = {level: told.get("verdicts", {}).get(level, 0) for level in RiskLevel}
    return outcomes, verdicts, max(told.get("inputs", 0), sum(outcomes.values())), bool(told)
