"""The numbers that the HTML page draws, taken from what is known of a whole report. Pure."""

from typing import Final

import msgspec

from batchscan.formats.entry import PAST_RUNS, Context
from batchscan.models import Outcome, RiskLevel
from batchscan.pages.charts import Segment, Strip, bar, strip
from batchscan.pages.rendering import day, middle_cut, prose
from batchscan.report.survey import NO_SCORE, SEVERITY

RULES_SHOWN: Final = 10
"""Rules in the chart."""

_STRIP_PX: Final = 44.0
_MISSING: Final = "missing"
_BINS: Final = [*((low, low + 9) for low in range(0, 90, 10)), (90, 100)]

_OUTCOMES: Final = {
    Outcome.SCANNED: "judged in this run",
    Outcome.REUSED: "judged before",
    Outcome.REJECTED: "cannot be taken",
    Outcome.FAILED: "given up",
    Outcome.PENDING: "not judged yet",
}


class Share(msgspec.Struct, frozen=True):
    """A line of a chart that is a table: its bar is ``width`` percent of the widest one."""

    name: str
    note: str | None
    count: int
    width: float


class Chart(msgspec.Struct, frozen=True):
    """Strips with the labels that their columns share."""

    labels: list[str]
    strips: list[Strip]


def figures(context: Context) -> list[tuple[str, int, float, int]]:
    """Verdicts: kind, inputs, their share in percent, and how many are accepted."""
    survey = context.survey
    numbers = [(str(level), survey.tally.verdicts[level], survey.suppressed[level]) for level in SEVERITY]
    numbers.append((_MISSING, survey.missing(), 0))
    total = max(1, survey.tally.inputs)
    return [(kind, number, 100 * number / total, accepted) for kind, number, accepted in numbers]


def verdict_bar(context: Context) -> list[Segment]:
    """Share out all inputs among the verdicts and those that have none."""
    return bar([(kind, number) for kind, number, _, _ in figures(context)])


def scores(context: Context) -> Chart | None:
    """Count inputs by score, a strip for each verdict; None where nothing was judged."""
    counts = context.survey.scores
    if not counts:
        return None
    labels = [f"{low}–{high}" for low, high in _BINS]
    unscored = any(score == NO_SCORE for _, score in counts)
    strips = []
    for level in SEVERITY:
        numbers = [0] * len(_BINS) + [0] * unscored
        for (found, score), number in counts.items():
            if found is level:
                numbers[_bin(score)] += number
        if any(numbers):
            every = [*labels, "none"] if unscored else labels
            strips.append(strip(level, every, numbers, _STRIP_PX, texts=True))
    return Chart([*labels, "none"] if unscored else labels, strips)


def _bin(score: int) -> int:
    return len(_BINS) if score == NO_SCORE else min(len(_BINS) - 1, max(0, score) // 10)


def rules(context: Context) -> list[Share]:
    """Name the rules that hit in most findings."""
    names = context.survey.rule_names
    top = sorted(context.survey.rules.items(), key=lambda item: (-item[1], item[0]))[:RULES_SHOWN]
    return _shares(
        [(middle_cut(rule, 60), prose(names.get(rule), 120), number) for rule, number in top],
    )


def outcomes(context: Context) -> list[Share]:
    """Count what became of the inputs."""
    counts = context.survey.tally.outcomes
    return _shares([(str(outcome), note, counts[outcome]) for outcome, note in _OUTCOMES.items()])


def _shares(lines: list[tuple[str, str | None, int]]) -> list[Share]:
    most = max((number for _, _, number in lines), default=0)
    return [
        Share(name, note, number, round(100 * number / most, 2) if most else 0)
        for name, note, number in lines
    ]


def trend(context: Context) -> Chart | None:
    """How the last runs over the same inputs ended; None where there are fewer than two."""
    past = () if context.run is None else context.run.past[-PAST_RUNS:]
    if len(past) < 2:  # noqa: PLR2004 - one point is no trend
        return None
    labels = [day(run.started_at) for run in past]
    numbers = {
        str(RiskLevel.MALICIOUS): [run.summary.verdicts[RiskLevel.MALICIOUS] for run in past],
        str(RiskLevel.SUSPICIOUS): [run.summary.verdicts[RiskLevel.SUSPICIOUS] for run in past],
        _MISSING: [run.summary.inputs - sum(run.summary.verdicts.values()) for run in past],
    }
    strips = [strip(kind, labels, counts, _STRIP_PX, texts=False) for kind, counts in numbers.items()]
    return Chart(labels, strips)
