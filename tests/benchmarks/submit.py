"""CPU and wall per submission, by size: ours, the official SDK, and the floor, in turn in every round."""

import shutil
from pathlib import Path

from figures import Check, Finding, Table
from lab import Lab, Sink, sink
from measure import python, run
from tree import make_tree
from worker import TASKS, THREADS, WARM

SIZES = {"2 KB": 2_000, "20 KB": 20_000, "1 MB": 1_000_000, "7 MB": 6_990_000}
_COUNTS = {"2 KB": 1000, "20 KB": 1000, "1 MB": 120, "7 MB": 30}
_QUICK = 10

FLOOR, EXCHANGE = "floor", "aiohttp alone"
OURS, RUN = "batchscan, client", "batchscan, whole run"
UNSIGNED, UVLOOP, RUN_UVLOOP = f"{OURS}, body unsigned", f"{OURS}, uvloop", f"{RUN}, uvloop"
SDK, SDK_THREADS, SDK_ASYNC = "SDK, sequential", f"SDK, {THREADS} threads", f"SDK, async, {TASKS} tasks"
_WAYS = {
    FLOOR: "floor",
    EXCHANGE: "exchange",
    OURS: "ours",
    UNSIGNED: "ours-unsigned",
    UVLOOP: "ours-uvloop",
    SDK: "sdk",
    SDK_THREADS: "sdk-threads",
    SDK_ASYNC: "sdk-async",
}
_CPU, _RATE = "CPU ms", "files/s"

_ON_UVLOOP = "import uvloop; uvloop.install(); from batchscan.cli import main; main()"


def bench(lab: Lab) -> Finding:
    """Submit the same trees in every way, to a sink in another process."""
    table = Table()
    with sink(lab) as server:
        for name, size in SIZES.items():
            count = _QUICK if lab.quick else _COUNTS[name]
            trees = lab.work / f"submit-{size}"
            tree = make_tree(trees / "all", count + WARM, size, by_digest=True)
            one = make_tree(trees / "one", 1, size, first=10**6, by_digest=True)
            for _ in range(lab.rounds):
                for case, way in _WAYS.items():
                    done = run(python("worker.py", way, server.url, tree), lab.env).json
                    _enter(table, f"{name}: {case}", done["cpu_s"], done["wall_s"], done["count"])
                for case in (RUN, RUN_UVLOOP):
                    _whole_run(lab, table, f"{name}: {case}", server, (one, tree), count + WARM)
            for case in (EXCHANGE, OURS, RUN, SDK_THREADS, SDK_ASYNC):
                table.ratio(f"{name}: {case}", f"{name}: {SDK}", _CPU, name="CPU vs SDK sequential")
            for case in (EXCHANGE, OURS, RUN, SDK):
                table.ratio(f"{name}: {case}", f"{name}: {FLOOR}", _CPU, name="CPU vs floor")
            for case in (OURS, RUN):
                table.ratio(f"{name}: {case}", f"{name}: {SDK_THREADS}", _RATE, name="rate vs SDK threads")
            for case, plain in ((UNSIGNED, OURS), (UVLOOP, OURS), (RUN_UVLOOP, RUN)):
                table.ratio(f"{name}: {case}", f"{name}: {plain}", _CPU, name="CPU vs as it is")
    return Finding(
        about=f"{', '.join(f'{c} x {s}' for s, c in _COUNTS.items()) if not lab.quick else _QUICK} files,"
        " plain HTTP on loopback, connections kept alive by all",
        series=table.series(),
        checks=_checks(table),
    )


def _whole_run(
    lab: Lab, table: Table, case: str, server: Sink, sources: tuple[Path, Path], count: int
) -> None:
    """A real ``batchscan scan --no-wait``, less one over one file, so that start-up is not in it."""
    used = []
    for source in sources:
        place = lab.work / "submit-run"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        report = place / "report.jsonl"
        argv = lab.scan(
            source, "--rate", "0", "--no-wait", url=server.url, state=place / "state", report=report
        )
        if case.endswith(RUN_UVLOOP):
            argv[1:3] = ["-c", _ON_UVLOOP]
        done = run(argv, lab.env, codes=(3,))  # 3: submitted, but no verdict yet
        used.append(done)
    least, most = used
    _enter(table, case, most.cpu_s - least.cpu_s, most.wall_s - least.wall_s, count - 1)


def _enter(table: Table, case: str, cpu_s: float, wall_s: float, count: int) -> None:
    table.enter(case, _CPU, cpu_s / count * 1e3)
    table.enter(case, _RATE, count / wall_s)


def _checks(table: Table) -> list[Check]:
    found = []
    for case in (OURS, RUN):
        for size in ("7 MB", "20 KB"):
            at = f"{size}: {case}"
            ratio = table.median(at, "CPU vs SDK sequential")
            found.append(Check(f"CPU for one submission, {size} ZIP, of the SDK's", 1 / 3, ratio, True, at))
        for size in ("7 MB", "20 KB"):
            at = f"{size}: {case}"
            ratio = table.median(at, "rate vs SDK threads")
            found.append(Check("unthrottled throughput, of the SDK's with 8 threads", 3, ratio, False, at))
    return found
