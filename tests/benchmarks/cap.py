"""The cap: the rate reached and the most starts in any second, as the server sees them."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from figures import Check, Finding, Table
from lab import Lab, Sink, sink
from measure import Child, python, run
from tree import make_tree

RATE = 20
_PARTS = 4
_COUNTS = {"20 KB": (20_000, 600), "7 MB": (6_990_000, 400)}
_QUICK = 60


def bench(lab: Lab) -> Finding:
    """Submit at the cap from one process and from four, which share a state directory."""
    table = Table()
    with sink(lab) as server:
        for name, (size, usual) in _COUNTS.items():
            count = _QUICK if lab.quick else usual
            root = lab.work / f"cap-{size}"
            parts = [
                make_tree(root / f"part-{part}", count // _PARTS, size, first=part * count, by_digest=True)
                for part in range(_PARTS)
            ]
            for _ in range(lab.rounds):
                for groups in ([parts], [[part] for part in parts]):
                    processes = "1 process" if len(groups) == 1 else f"{len(groups)} processes"
                    _enter(table, f"{name}: batchscan, {processes}", _arrivals(lab, server, groups))
                if name == "20 KB":
                    run(python("worker.py", "limited", server.url, root), lab.env)
                    _enter(table, f"{name}: AsyncLimiter(20, 1)", server.arrivals())
    return Finding(
        about=f"cap {RATE}/s, {' and '.join(f'{c} x {s}' for s, (_, c) in _COUNTS.items())} files"
        if not lab.quick
        else f"cap {RATE}/s, {_QUICK} files",
        series=table.series(),
        checks=_checks(table),
    )


def _arrivals(lab: Lab, server: Sink, groups: Sequence[Sequence[Path]]) -> list[float]:
    place = lab.work / "cap-run"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                Child(
                    lab.scan(
                        *group,
                        "--rate",
                        str(RATE),
                        "--no-wait",
                        url=server.url,
                        state=place / "state",
                        report=place / f"report-{number}.jsonl",
                    ),
                    lab.env,
                )
            )
            for number, group in enumerate(groups)
        ]
        for child in children:
            child.wait(600, codes=(3,))
    return server.arrivals()


def _enter(table: Table, case: str, arrivals: list[float]) -> None:
    table.add(
        case,
        starts=len(arrivals),
        **{"starts/s": (len(arrivals) - 1) / (arrivals[-1] - arrivals[0])},
        most_in_any_second=most_in_any_second(arrivals),
        **{f"least ms of {RATE + 1} starts": least_span_s(arrivals, RATE + 1) * 1e3},
    )


def most_in_any_second(times: Sequence[float]) -> int:
    """The most of the ascending ``times`` in any span of one second, its end left out."""
    most, first = 0, 0
    for last, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def least_span_s(times: Sequence[float], count: int) -> float:
    """The least time, seconds, between the first and the last of so many of the ascending ``times``."""
    return min(last - first for first, last in zip(times, times[count - 1 :], strict=False))


def _checks(table: Table) -> list[Check]:
    found = []
    for size in _COUNTS:
        for processes in ("1 process", f"{_PARTS} processes"):
            at = f"{size}: batchscan, {processes}"
            reached = table.median(at, "starts/s") / RATE
            found.append(Check("cap: rate reached while there is work, of 20/s", 0.98, reached, False, at))
            worst = table.worst(at, "most in any second")
            found.append(Check("cap: most starts in any sliding second, worst round", RATE, worst, True, at))
    return found
