"""An unchanged night: every file is known and has a verdict; the floor is ``find`` seeing them all."""

import sqlite3
from pathlib import Path

from figures import Check, Finding, Table
from lab import Lab, Sink, sink
from measure import BenchmarkError, python, run
from tree import make_tree

_SMALL, _LARGE = 100_000, 1_000_000
_LEDGER = "ledger.sqlite3"


def bench(lab: Lab) -> Finding:
    """Scan known trees in turn with ``find -printf`` of the same tree."""
    table = Table()
    sizes = lab.counts(1000, 10_000, _SMALL, _LARGE)
    with sink(lab) as server:
        for count in sizes:
            tree, state = _known_tree(lab, count)
            _find(lab, tree)  # the caches are warm for all
            for _ in range(lab.rounds):
                _night(lab, table, f"{count:,} files: batchscan", server, tree, state, count)
                found_s = _find(lab, tree)
                table.add(f"{count:,} files: find", wall_s=found_s, us_per_file=found_s / count * 1e6)
            table.ratio(
                f"{count:,} files: batchscan", f"{count:,} files: find", "wall s", name="wall vs find"
            )
    return Finding(
        about="ZIPs of about 200 bytes, 1,000 to a directory, caches warm",
        series=table.series(),
        checks=_checks(table, sizes),
    )


def _known_tree(lab: Lab, count: int) -> tuple[Path, Path]:
    """A tree and the state directory of a ledger that has a verdict for each of its files."""
    tree = make_tree(lab.work / f"night-{count}", count)
    state = lab.work / f"night-{count}.state"
    state.mkdir(mode=0o700, exist_ok=True)
    run(python("seed.py", state / _LEDGER, tree), lab.env, limit_s=3600)
    return tree, state


def _night(lab: Lab, table: Table, case: str, server: Sink, tree: Path, state: Path, count: int) -> None:
    # The scope is the endpoint's host and port, and the port is another one each time.
    with sqlite3.connect(state / _LEDGER) as ledger:
        ledger.execute("UPDATE scope SET name = ?", (f"default@{server.url.removeprefix('http://')}",))
    ledger.close()
    report = lab.work / "night.jsonl"
    report.unlink(missing_ok=True)
    done = run(lab.scan(tree, url=server.url, state=state, report=report), lab.env, limit_s=1200)
    summary, calls = done.json, len(server.arrivals())
    if summary["counts"].get("reused") != count:
        raise BenchmarkError(f"not an unchanged night: {summary['counts']} of {count}")
    table.add(
        case,
        wall_s=done.wall_s,
        us_per_file=done.wall_s / count * 1e6,
        CPU_s=done.cpu_s,
        RSS_MB=done.rss_mb,
        API_calls=calls,
        report_MB=report.stat().st_size / 1e6,
    )
    report.unlink()


def _find(lab: Lab, tree: Path) -> float:
    return run(["find", tree, "-name", "*.zip", "-printf", "%p %s %T@ %i\n"], lab.env).wall_s


def _checks(table: Table, sizes: tuple[int, ...]) -> list[Check]:
    found = []
    large = f"{_LARGE:,} files: batchscan"
    if _LARGE in sizes:
        found = [
            Check("unchanged night, 1,000,000 files: wall s", 30, table.median(large, "wall s"), True, large),
            Check(
                "unchanged night, 1,000,000 files: RSS MB", 250, table.median(large, "RSS MB"), True, large
            ),
            Check("unchanged night: API calls, worst round", 0, table.worst(large, "API calls"), True, large),
        ]
    if _LARGE in sizes and _SMALL in sizes:
        small = f"{_SMALL:,} files: batchscan"
        ratio = table.median(large, "us per file") / table.median(small, "us per file")
        found.append(Check("cost per file at 1,000,000, of that at 100,000", 1.2, ratio, True, large))
    return found
