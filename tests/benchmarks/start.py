"""Start-up: ``--help``, ``--version``, and the time from the program's start to its first request."""

import shutil
import sys
from pathlib import Path

from figures import Check, Finding, Table
from lab import Lab, Sink, sink
from measure import Child, python, run
from tree import make_tree
from worker import WARM

_HELP_S = 0.25
_PER_ROUND = 5


def bench(lab: Lab) -> Finding:
    """Start the program again and again, in turn with Python itself and with the SDK."""
    table = Table()
    commands: dict[str, list[str | Path]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "batchscan --version": [sys.executable, "-m", "batchscan", "--version"],
        "batchscan --help": [sys.executable, "-m", "batchscan", "--help"],
        "batchscan scan --help": [sys.executable, "-m", "batchscan", "scan", "--help"],
        "SDK, import": [sys.executable, "-c", "from tencentcloud.csip.v20221121 import csip_client"],
    }
    tree = make_tree(lab.work / "start", WARM + 1, by_digest=True)
    with sink(lab) as server:
        for argv in commands.values():
            run(argv, lab.env)  # byte code and file cache are there for all
        for _ in range(lab.rounds * (1 if lab.quick else _PER_ROUND)):
            for case, argv in commands.items():
                used = run(argv, lab.env, limit_s=60)
                table.add(case, wall_ms=used.wall_s * 1e3, CPU_ms=used.cpu_s * 1e3)
            _first_request(lab, table, "batchscan, to its first request", server, _scan(lab, server, tree))
            peer = python("worker.py", "sdk", server.url, tree)
            _first_request(lab, table, "SDK script, to its first request", server, peer)
    help_ms = table.median("batchscan --help", "wall ms")
    return Finding(
        about="caches warm, byte code compiled",
        series=table.series(),
        checks=[Check("batchscan --help, s", _HELP_S, help_ms / 1e3, True, "batchscan --help")],
    )


def _scan(lab: Lab, server: Sink, tree: Path) -> list[str | Path]:
    place = lab.work / "start-run"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    state, report = place / "state", place / "report.jsonl"
    return lab.scan(tree, "--rate", "0", "--no-wait", url=server.url, state=state, report=report)


def _first_request(lab: Lab, table: Table, case: str, server: Sink, argv: list[str | Path]) -> None:
    server.arrivals()
    with Child(argv, lab.env) as child:
        used = child.wait(60, codes=(0, 3))
    first = server.arrivals()[0]
    table.add(case, wall_ms=(first - child.began) * 1e3, CPU_ms=used.cpu_s * 1e3, RSS_MB=used.rss_mb)
