"""Polling at 20 submissions a second: polls per verdict, and how long a verdict lies ready before its row.

No clock is measured, so one round is enough. The program's own parts in simulated time (``simulate``) have an
hour of submissions; a model without queues (``waits.model``) has a day, at these and at other settings.
Where the settings are the same, both must agree.
"""

from figures import Finding, Table
from lab import Lab
from measure import python, run
from tree import make_tree
from waits import ABOUT

_RATE = 20 * 0.99  # pacing's own margin
_DAY_S = 86_400
_SETTINGS = ((5, 5), (60, 15), (120, 30), (180, 30), (300, 60))  # first poll, interval, s
_SIMULATED = 72_000  # an hour of submissions


def bench(lab: Lab) -> Finding:
    """Simulate the program, and a day of other settings."""
    table = Table()
    (count,) = lab.counts(500, _SIMULATED)
    tree = make_tree(lab.work / f"poll-{count}", count)
    found = run(python("simulate.py", tree), lab.env, limit_s=3600).json
    settings = found.pop("first poll s"), found.pop("interval s")
    for metric, value in found.items():
        table.enter(f"the program, {_named(*settings)}", metric, value)
    modelled = 2000 if lab.quick else int(_DAY_S * _RATE)
    for first_s, interval_s in _SETTINGS:
        case = f"model, {_named(first_s, interval_s)}"
        table.enter(case, "verdicts", modelled)
        told = run(python("waits.py", str(first_s), str(interval_s), str(modelled)), lab.env).json
        for metric, value in told.items():
            table.enter(case, metric, value)
        table.enter(case, "polls/s", table.median(case, "polls per verdict") * _RATE)
    return Finding(about=f"20 submissions a second, at the service {ABOUT}", series=table.series())


def _named(first_s: float, interval_s: float) -> str:
    return f"first poll {first_s:g} s, then every {interval_s:g} s"
