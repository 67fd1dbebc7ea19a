"""A cold scan: new files, no cap, an empty ledger, against an instant engine in another process."""

import shutil
from pathlib import Path

from figures import Check, Finding, Table
from lab import Lab, stub_engine
from measure import BenchmarkError, python, run
from tree import make_tree
from worker import THREADS

_PEER_FILES = 2000
_RSS_FILES = 100_000


def bench(lab: Lab) -> Finding:
    """Scan new trees with a new ledger and a new engine each time; the SDK does the same calls."""
    table = Table()
    sizes = lab.counts(200, 10_000, 100_000)
    for count in sizes:
        tree = make_tree(lab.work / f"cold-{count}", count)
        case = f"{count:,} files"
        for _ in range(lab.rounds):
            _ours(lab, table, f"{case}: batchscan", tree, count)
            _peer(lab, table, f"{case}: SDK, {THREADS} threads", tree, min(count, _PEER_FILES))
        table.ratio(f"{case}: batchscan", f"{case}: SDK, {THREADS} threads", "files/s", name="rate vs SDK")
    checks = []
    for count in sizes:
        at = f"{count:,} files: batchscan"
        if count >= _RSS_FILES:
            checks.append(Check("memory, 100,000 new files, MB", 200, table.median(at, "RSS MB"), True, at))
    return Finding(
        about="ZIPs of about 200 bytes, plain HTTP on loopback; the SDK, without ledger and report, has the"
        f" first {_PEER_FILES:,} files",
        series=table.series(),
        checks=checks,
    )


def _fresh(lab: Lab) -> Path:
    place = lab.work / "cold-run"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def _ours(lab: Lab, table: Table, case: str, tree: Path, count: int) -> None:
    place = _fresh(lab)
    with stub_engine(lab, place / "engine.sqlite3") as engine:
        argv = lab.scan(
            tree,
            *("--rate", "0", "--first-poll", "50ms", "--poll-interval", "200ms"),
            url=engine.url,
            state=place / "state",
            report=place / "report.jsonl",
        )
        done = run(argv, lab.env, limit_s=3600)
        theirs = engine.end()
    summary = done.json
    if summary["counts"].get("scanned") != count:
        raise BenchmarkError(f"not a cold scan: {summary['counts']} of {count}")
    ledger = sum(file.stat().st_size for file in (place / "state").glob("ledger.sqlite3*"))
    table.add(
        case,
        **{"files/s": count / done.wall_s},
        CPU_ms_per_file=done.cpu_s / count * 1e3,
        calls_per_file=sum(summary["requests"].values()) / count,
        RSS_MB=done.rss_mb,
        ledger_MB=ledger / 1e6,
        ledger_bytes_per_file=ledger / count,
        report_bytes_per_file=(place / "report.jsonl").stat().st_size / count,
        engine_CPU_ms_per_file=theirs.cpu_s / count * 1e3,
    )


def _peer(lab: Lab, table: Table, case: str, tree: Path, count: int) -> None:
    with stub_engine(lab, _fresh(lab) / "engine.sqlite3") as engine:
        used = run(python("worker.py", "sdk-poll", engine.url, tree, str(count)), lab.env)
        done = used.json
    table.add(
        case,
        **{"files/s": done["count"] / done["wall_s"]},
        CPU_ms_per_file=done["cpu_s"] / done["count"] * 1e3,
        RSS_MB=used.rss_mb,
    )
