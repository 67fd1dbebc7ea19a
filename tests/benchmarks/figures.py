"""What a benchmark finds: one value per round, so that medians, spread and ratios are worked out later."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec


class Series(msgspec.Struct, frozen=True):
    """One figure of one case, once per round.

    Attributes:
        case: what was measured: a line of the table.
        metric: which figure of it: a column, with its unit.
        values: one for each round, in their order.
    """

    case: str
    metric: str
    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Check(msgspec.Struct, frozen=True):
    """A budget and what was found.

    Attributes:
        what: the budget, as the design words it.
        budget: the bound.
        found: the figure held against it.
        most: whether the bound is an upper one.
        of: which case it was found at.
    """

    what: str
    budget: float
    found: float
    most: bool
    of: str

    @property
    def met(self) -> bool:
        return self.found <= self.budget if self.most else self.found >= self.budget


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """All that one benchmark found.

    Attributes:
        about: settings of this run that its figures depend on, in words.
        series: the figures.
        checks: budgets they decide.
    """

    about: str
    series: list[Series]
    checks: list[Check] = []


class Table:
    """Collects figures round by round."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = {}

    def add(self, case: str, **metrics: float) -> None:
        """Enter one round's figures; a metric's name is written with ``_`` for spaces."""
        for name, value in metrics.items():
            self.enter(case, name.replace("_", " "), value)

    def enter(self, case: str, metric: str, value: float) -> None:
        self._values.setdefault((case, metric), []).append(value)

    def ratio(self, case: str, peer: str, metric: str, *, name: str, inverse: bool = False) -> None:
        """Add the ratio of a case to its peer, round by round, under the metric ``name``."""
        ours, theirs = self._values[case, metric], self._values[peer, metric]
        self._values[case, name] = [(b / a if inverse else a / b) for a, b in zip(ours, theirs, strict=True)]

    def median(self, case: str, metric: str) -> float:
        return statistics.median(self._values[case, metric])

    def worst(self, case: str, metric: str) -> float:
        return max(self._values[case, metric])

    def series(self) -> list[Series]:
        return [Series(case, metric, values) for (case, metric), values in self._values.items()]


def shown(value: float) -> str:
    """A number with three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """Median, and the least and the most where they differ."""
    middle, least, most = shown(statistics.median(values)), shown(min(values)), shown(max(values))
    return middle if least == most else f"{middle} ({least}..{most})"


def table(series: Iterable[Series]) -> str:
    """A Markdown table: a line per case, a column per metric."""
    found = {(one.case, one.metric): spread(one.values) for one in series}
    cases = list(dict.fromkeys(case for case, _ in found))
    metrics = list(dict.fromkeys(metric for _, metric in found))
    lines = [["case", *metrics], ["---", *("---:" for _ in metrics)]]
    lines += [[case, *(found.get((case, metric), "") for metric in metrics)] for case in cases]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
