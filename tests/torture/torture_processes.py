"""Several processes on one state directory: one cap, no digest twice, nobody starved, no one's death felt."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

from torture_checks import (
    Tree,
    check_report,
    check_submissions,
    check_verdict,
    in_doubt,
    ledger_copy,
    make_tree,
    promise,
    read_rows,
    skill_zip,
)
from torture_lab import Lab, Program, Server

CAP = 20
PROCESSES = 4
SUBMITS = 16
LEASE_S = 300.0
_SOON_S = 60.0


def _part(trees: list[Tree]) -> Tree:
    """Several trees, given together."""
    return Tree(
        tuple(arg for tree in trees for arg in tree.args),
        sum(tree.inputs for tree in trees),
        frozenset().union(*(tree.digests for tree in trees)),
    )


async def together(path: Path, *, skills: int = 240, rate: int = CAP) -> Counter[str]:
    """Four at once over overlapping directories, at a service that has the cap itself.

    Args:
        path: where.
        skills: in each of the five directories; each process scans two of them.
        rate: the cap.
    """
    lab, server = Lab(path), Server(path / "server", site="intl" if rate == CAP else "embedded")
    trees = [
        make_tree(path / f"in{number}", skills, first=number * skills, mixed=False)
        for number in range(PROCESSES + 1)
    ]
    parts = [_part(trees[number : number + 2]) for number in range(PROCESSES)]
    await server.start()
    try:
        reports = [path / f"report-{number}.jsonl" for number in range(PROCESSES)]
        programs = [
            await lab.start(*lab.scan(part, server, "--rate", str(rate), report=report))
            for part, report in zip(parts, reports, strict=True)
        ]
        for program, part, report in zip(programs, parts, reports, strict=True):
            code = await program.code(600)
            promise(code == 0, f"exit {code}: {program.err}")
            promise(not program.err, program.err)  # no word of a lock, above all
            check_report(report, part, path)
        stats = await server.tell("stats")
        creates = server.creates()
    finally:
        lab.end()
        await server.stop()
    check_submissions(creates, _part(trees), Counter())
    shares = sorted(program.summary["requests"]["CreateSkillScan"] for program in programs)
    promise(shares[0] >= sum(shares) / PROCESSES / 4, f"starved: {shares}")
    figures = _check_cap(stats, rate) + Counter(
        {"processes": PROCESSES, "inputs": sum(p.inputs for p in parts), "digests": len(creates)}
    )
    return figures + Counter({f"share {number}": share for number, share in enumerate(shares, 1)})


def _check_cap(stats: dict[str, object], rate: int) -> Counter[str]:
    """In no sliding second more than the cap, as far as the server's own delays let it tell."""
    times, lag_s = stats["arrivals"], stats["lag_s"]
    assert isinstance(times, list)
    assert isinstance(lag_s, float)
    spans = [later - earlier for earlier, later in zip(times, times[rate:], strict=False)]
    shortest = min(spans, default=1.0)
    promise(shortest > 1.0 - lag_s, f"{rate + 1} submissions within {shortest:.3f} s, lag {lag_s:.3f} s")
    peak = max((sum(at - 1.0 < t <= at for t in times) for at in times), default=0)
    achieved = 0 if len(times) < 2 else (len(times) - 1) / (times[-1] - times[0])
    return Counter(
        {
            "most in any second": peak,
            "server's lag, ms": round(lag_s * 1000),
            "per 100 s": round(100 * achieved),
        }
    )


async def overlap(path: Path, *, skills: int = 300) -> Counter[str]:
    """The same job started twice by mistake: it costs nothing extra. Twice on one report: refused."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills)
    other = path / "other.jsonl"
    await server.start("Create:delay=0.02")
    try:
        await server.tell("hold")
        first = await lab.start(*lab.scan(tree, server))
        await server.taken(1, first)
        code, third = await lab.run(*lab.scan(tree, server), limit_s=_SOON_S)
        promise(code == 2, f"exit {code} on a report that is being written: {third.err}")
        promise("another run is writing this report" in third.err, third.err)
        second = await lab.start(*lab.scan(tree, server, report=other))
        await server.taken(2 * SUBMITS, second)  # what the first one has claimed, the second one leaves alone
        await server.tell("release")
        for program, report in ((first, lab.report), (second, other)):
            code = await program.code()
            promise(code == 3, f"exit {code}: {program.err}")
            check_report(report, tree, path)
        stats = await server.tell("stats")
    finally:
        lab.end()
        await server.stop()
    check_submissions(server.creates(), tree, Counter())
    promise(stats["billed_units"] == len(tree.digests), f"billed {stats['billed_units']}")
    return Counter({"processes": 2, "inputs": 2 * tree.inputs, "refused": 1})


async def one_dies(path: Path, *, skills: int = 300) -> Counter[str]:
    """One of three is killed within submissions: the others take them over, long before its lease ends."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills)
    reports = [path / f"report-{number}.jsonl" for number in range(3)]
    await server.start("Create:delay=0.02")
    try:
        await server.tell("hold")
        victim, *others = programs = [
            await lab.start(*lab.scan(tree, server, report=report)) for report in reports
        ]
        await server.taken(40, victim)
        victim.send(signal.SIGKILL)
        await victim.code()
        with ledger_copy(lab.state) as copy:
            doubtful = Counter(in_doubt(copy))
        began = time.monotonic()
        await server.tell("release")
        for program in others:
            code = await program.code(LEASE_S)
            promise(code == 3, f"exit {code}: {program.err}")
        took = time.monotonic() - began
        promise(took < _SOON_S, f"the others took {took:.0f} s")
        code, again = await lab.run(*lab.scan(tree, server, report=reports[0]))
        promise(code == 3, f"exit {code}: {again.err}")
        for report in reports:
            check_report(report, tree, path)
    finally:
        lab.end()
        await server.stop()
    extra = check_submissions(server.creates(), tree, doubtful)
    return Counter(
        {
            "processes": len(programs),
            "inputs": 3 * tree.inputs,
            "others were done after, ms": round(took * 1000),
            "submitted again": extra,
        }
    )


async def swapped(path: Path, *, seconds: float = 5.0, skills: int = 60) -> Counter[str]:
    """Files are swapped all the time while they are scanned: what is sent is always what the row says."""
    lab, server = Lab(path), Server(path / "server")
    tree = make_tree(path / "in", skills, mixed=False)
    files = sorted((path / "in").rglob("*.zip"))
    await server.start("Create:delay=0.05")
    number = swaps = 0
    try:
        program: Program = await lab.start(*lab.scan(tree, server, "--rate", "30"))
        end = time.monotonic() + seconds
        while time.monotonic() < end and not program.over:
            for file in files:
                number += 1
                beside = file.with_suffix(".new")
                beside.write_bytes(skill_zip(2_000_000 + number))
                beside.replace(file)
                swaps += 1
            await asyncio.sleep(0.2)
        code = await program.code()
        promise(code in {0, 3}, f"exit {code}: {program.err}")
        rows = _rows_of_swapped(lab.report, skills)
        creates = server.creates()
    finally:
        lab.end()
        await server.stop()
    promise(rows <= creates.keys(), "a row has a verdict on content that was never sent")
    promise(set(creates.values()) <= {1}, "submitted again")
    return Counter({"inputs": skills, "swaps": swaps, "sent": len(creates), "verdicts": len(rows)})


def _rows_of_swapped(report: Path, inputs: int) -> set[str]:
    """Digests that have a verdict; each verdict is that of the digest, each row without one says why."""
    judged = set()
    for row in read_rows(report, inputs).values():
        if row["verdict"] is None:
            promise(row["error"]["code"] == "changing", row["error"])
        else:
            check_verdict(row)
            judged.add(row["sha256"])
    return judged
