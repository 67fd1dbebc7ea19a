"""Killed, stopped, frozen, left alone: the run goes on, and all is as if nothing had happened."""

import asyncio
import platform
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from torture_checks import (
    Tree,
    check_report,
    check_submissions,
    essence,
    in_doubt,
    ledger_copy,
    make_tree,
    promise,
)
from torture_lab import FAST, Lab, Program, Server

from batchscan.ledger.verify import verify

MOMENTS = ("start", "any time", "received", "answered", "polled", "report grows", "fsync")
AT_THE_SERVER = ("received", "answered", "polled")
DRAWN_WITHIN_S = 10.0
EACH = 40
SUBMITS = 16
"""How many submissions of one process may be under way, and so be in doubt when it is killed."""

LEASE_S = 300.0
_SYNCS = {"x86_64": ("74", "75"), "aarch64": ("82", "83")}.get(platform.machine(), ())
_WATCHED_S = 30.0


def sees_fsync() -> bool:
    """Whether this kernel tells which call a process is in."""
    return bool(_SYNCS) and Path("/proc/self/syscall").exists()


async def kills(
    path: Path, *, count: int, seed: int, moments: Sequence[str] = MOMENTS, skills: int = 400
) -> Counter[str]:
    """Kill ``count`` times in all, up to ``EACH`` times each run; returns what was counted."""
    rng = random.Random(f"kills/{seed}")
    figures: Counter[str] = Counter()
    number = 0
    while figures["kills"] < count:
        goal = min(EACH, count - figures["kills"])
        tree = make_tree(path / f"{number}" / "in", skills, first=number * 100_000)
        figures += await _campaign(path / f"{number}", tree, goal, rng, moments, replacing=number % 3 == 2)
        number += 1
    return figures


async def _campaign(
    path: Path, tree: Tree, goal: int, rng: random.Random, moments: Sequence[str], *, replacing: bool
) -> Counter[str]:
    """One run, killed up to ``goal`` times and gone on with, against one that is left alone."""
    lab, server = Lab(path), Server(path / "server")
    await server.start("Create:delay=0.03")
    try:
        figures = await _killed(lab, tree, server, goal, rng, moments, replacing=replacing)
        stats = await server.tell("stats")
        promise(stats["billed_units"] == len(tree.digests), f"billed {stats['billed_units']}")
        calm, alone = path / "calm.jsonl", Lab(path, path / "calm-state")
        code, program = await alone.run(*alone.scan(tree, server, report=calm))
        promise(code == 3, f"exit {code}: {program.err}")  # 3: some inputs are no ZIP
    finally:
        lab.end()
        await server.stop()
    found, wanted = (essence(check_report(report, tree, path)) for report in (lab.report, calm))
    promise(found == wanted, "unlike the run that was left alone")
    return figures + Counter({"inputs": tree.inputs, "digests": len(tree.digests), "runs": 1})


async def _killed(
    lab: Lab,
    tree: Tree,
    server: Server,
    goal: int,
    rng: random.Random,
    moments: Sequence[str],
    *,
    replacing: bool,
) -> Counter[str]:
    figures: Counter[str] = Counter()
    doubtful: Counter[str] = Counter()
    scan = lab.scan(tree, server, *(["--overwrite"] if replacing else []))
    resume: list[str | Path] = ["resume", *FAST]
    if replacing:
        lab.report.write_text("last night's\n")
    going, resumable = True, False
    while going and figures["kills"] < goal:
        moment = rng.choice(moments)
        program = await lab.start(*(resume if resumable and rng.random() < 0.5 else scan))
        await _kill(program, moment, lab, server, rng, len(tree.digests))
        code = await program.code()
        if code == -signal.SIGKILL:
            figures += Counter({"kills": 1, f"killed: {moment}": 1})
        else:
            promise(code == 3, f"exit {code}: {program.err}")
            going = False
        if replacing and going:
            promise(lab.report.read_text() == "last night's\n" or _is_whole(lab.report, tree), "not replaced")
        with ledger_copy(lab.state) as copy:
            doubtful.update(in_doubt(copy))
            state = None if copy is None else _run_state(copy)
            resumable, going = state is not None, going and state != "complete"  # killed when all was done
            if copy is not None:
                promise(not (found := verify(copy).faults), found)
        await server.tell("arm", group=0, moment="", after=0)
    if going:
        code, program = await lab.run(*(resume if resumable else scan))
        promise(code == 3, f"exit {code}: {program.err}")
    figures["submitted again"] = check_submissions(server.creates(), tree, doubtful)
    figures["in doubt at a kill"] = doubtful.total()
    return figures


async def _kill(
    program: Program, moment: str, lab: Lab, server: Server, rng: random.Random, skills: int
) -> None:
    """Kill at a moment, or come too late; how soon depends on how much there is to do."""
    if moment in AT_THE_SERVER:
        await server.tell("arm", group=program.pid, moment=moment, after=rng.randint(1, 3 * skills // 20))
        return
    if moment in ("start", "any time"):
        await asyncio.sleep(rng.uniform(0.0, 0.8) if moment == "start" else rng.uniform(0.5, 2.5))
    elif moment == "report grows":
        size, more = _report_size(lab.report), rng.randint(1, 75 * skills)
        await asyncio.to_thread(_watch, program, lambda: _report_size(lab.report) >= size + more)
    else:
        await asyncio.sleep(rng.uniform(0.0, 1.5))
        await asyncio.to_thread(_watch, program, lambda: _in_fsync(program.pid))
    program.send(signal.SIGKILL)


def _watch(program: Program, happens: Callable[[], bool]) -> None:
    """Look, without a rest worth the name, until it happens or the program is over."""
    end = time.monotonic() + _WATCHED_S
    while not happens() and not program.over and time.monotonic() < end:
        time.sleep(0.0002)


def _in_fsync(pid: int) -> bool:
    """Whether a thread of the process is inside fsync or fdatasync, by the kernel's word."""
    for task in Path(f"/proc/{pid}/task").glob("*/syscall"):
        with suppress(OSError):
            if task.read_text().partition(" ")[0] in _SYNCS:
                return True
    return False


def _report_size(report: Path) -> int:
    """Bytes of the report, or of the one that will replace it."""
    found = [report, *report.parent.glob(f"{report.name}.*.partial")]
    sizes = [0]
    for path in found:
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def _is_whole(report: Path, tree: Tree) -> bool:
    return report.read_bytes().count(b"\n") == tree.inputs


def _run_state(copy: Path) -> str | None:
    """How far the ledger's one run came; None when it was not begun."""
    with closing(sqlite3.connect(copy)) as ledger:
        if ledger.execute("SELECT 1 FROM sqlite_master WHERE name = 'run'").fetchone() is None:
            return None
        found = ledger.execute("SELECT state FROM run").fetchone()
        return None if found is None else str(found[0])


async def drains(path: Path, *, count: int, seed: int, skills: int = 400) -> Counter[str]:
    """Stop with SIGTERM and SIGINT; nothing at all may be submitted again."""
    rng = random.Random(f"drains/{seed}")
    figures: Counter[str] = Counter()
    slowest = 0.0
    number = 0
    while figures["signals"] < count:
        lab = Lab(path / f"{number}")
        tree = make_tree(lab.path / "in", skills, first=5_000_000 + number * 100_000)
        server = Server(lab.path / "server")
        await server.start("Create:delay=0.03")
        try:
            for _ in range(15):
                program = await lab.start(*lab.scan(tree, server))
                wanted = rng.choice((signal.SIGTERM, signal.SIGINT))
                await lab.begun(program)
                await asyncio.sleep(rng.uniform(0.0, 2.0))
                program.send(wanted)
                began = time.monotonic()
                code = await program.code(DRAWN_WITHIN_S + 5)
                if code == 3:
                    break
                slowest = max(slowest, time.monotonic() - began)
                if code == -wanted:  # the run was over, and Python had put the handlers away
                    break
                promise(code == 128 + wanted, f"exit {code} after {wanted.name}: {program.err}")
                figures += Counter({"signals": 1, wanted.name: 1})
            code, program = await lab.run(*lab.scan(tree, server))
            promise(code in {2, 3}, f"exit {code}: {program.err}")  # 2: it was complete already
            check_report(lab.report, tree, lab.path)
            again = check_submissions(server.creates(), tree, Counter())
        finally:
            lab.end()
            await server.stop()
        number += 1
        figures += Counter({"inputs": tree.inputs, "runs": 1, "submitted again": again})
    promise(slowest <= DRAWN_WITHIN_S, f"drained within {slowest:.1f} s")
    figures["slowest drain, ms"] = round(slowest * 1000)
    return figures


async def server_dies(path: Path, *, count: int, seed: int, skills: int = 600) -> Counter[str]:
    """Kill the server under a run and start it again; the run is not even interrupted."""
    rng = random.Random(f"server/{seed}")
    lab = Lab(path)
    tree = make_tree(path / "in", skills, first=8_000_000)
    server = Server(path / "server")
    await server.start("Create:delay=0.03")
    try:
        program = await lab.start(*lab.scan(tree, server))
        for number in range(1, count + 1):
            goal = skills * number // (count + 2)
            await server.taken(goal, program)
            await asyncio.sleep(rng.uniform(0.0, 0.05))
            await server.kill()
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            await server.start("Create:delay=0.03")
        code = await program.code()
        promise(code == 3, f"exit {code}: {program.err}")
        check_report(lab.report, tree, path)
        creates = server.creates()
    finally:
        lab.end()
        await server.stop()
    again = check_submissions(creates, tree, Counter(dict.fromkeys(tree.digests, count)))
    promise(again <= SUBMITS * count, f"{again} submitted again after {count} deaths")
    return Counter({"deaths of the server": count, "inputs": tree.inputs, "submitted again": again})


async def frozen(path: Path, *, truly: bool, skills: int = 120) -> Counter[str]:
    """Freeze a process in the middle of submissions for longer than its lease; another one goes on.

    Args:
        path: where.
        truly: wait for the lease to end; else end it by hand, in the ledger.
        skills: inputs.
    """
    lab = Lab(path)
    tree = make_tree(path / "in", skills, first=9_000_000)
    server = Server(path / "server")
    await server.start()
    other = path / "other.jsonl"
    try:
        await server.tell("hold")
        first = await lab.start(*lab.scan(tree, server))
        await server.taken(SUBMITS, first)
        first.send(signal.SIGSTOP)
        began = time.monotonic()
        with ledger_copy(lab.state) as copy:
            doubtful = Counter(in_doubt(copy))
        await server.tell("release")
        second = await lab.start(*lab.scan(tree, server, report=other))
        if not truly:
            _end_leases(lab.state)
        code = await second.code(LEASE_S + 60)
        promise(code == 3, f"exit {code}: {second.err}")
        waited = time.monotonic() - began
        first.send(signal.SIGCONT)
        code = await first.code()
        promise(code == 3, f"exit {code}: {first.err}")
        for report in (lab.report, other):
            check_report(report, tree, path)
        again = check_submissions(server.creates(), tree, doubtful)
    finally:
        lab.end()
        await server.stop()
    promise(not truly or waited > LEASE_S, "the claims of a living process were taken")
    return Counter({"frozen, s": round(waited), "inputs": 2 * tree.inputs, "submitted again": again})


def _end_leases(state: Path) -> None:
    ledger = sqlite3.connect(state / "ledger.sqlite3", timeout=10)
    with ledger:
        ledger.execute("UPDATE scan SET next_at = 0 WHERE state = 'submitting'")
    ledger.close()
